"""The processes of Campaign Bridge: thin, one folder per workflow, and control."""
