"""What a process says of itself: log, metrics, traces."""
