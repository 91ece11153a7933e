"""Calls over HTTP: one client, tokens, answers."""
