"""The life of a service: start, run, stop, health; readers and writers put together."""
