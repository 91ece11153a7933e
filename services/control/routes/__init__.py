"""The REST API (contracts/control-api.md), one module for each group of resources. Thin: check, ask or command, answer."""
