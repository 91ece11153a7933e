"""`bridge`, the command line of the control plane. Talks to the REST API only, so it works from another machine (docs/cli.md)."""
