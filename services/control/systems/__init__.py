"""Dynamics and Campaign as control asks them: metadata, connection tests, drafts, plans."""
