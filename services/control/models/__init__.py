"""The JSON of the control API (contracts/control-api.md), for the answers and for OpenAPI."""
