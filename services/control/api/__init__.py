"""The REST API: its routes, what stands before them, and how errors become problems. Thin: check, ask or command, answer."""
