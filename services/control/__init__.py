"""Says what should run and tells what does run: a REST API and pages over `control.workflows`, heartbeats and lag."""
