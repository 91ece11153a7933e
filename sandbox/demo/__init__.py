"""`make demo`: the whole product on this machine, against both stand-ins."""
