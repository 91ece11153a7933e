"""Measurements, by hand: `make bench`. One table, and the same as JSON; numbers of one run are compared with each other only."""
