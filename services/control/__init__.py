"""Says what should run and tells what does run: REST API over `control.workflows`, heartbeats and lag."""
