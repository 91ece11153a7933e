"""Opt In/Out: reader, resolver and writer."""
