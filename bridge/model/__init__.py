"""Plain data that every room may use: events, errors, configuration, desired state. No outside, no other room."""
