"""What control reads from Kafka and keeps to answer from, and what it writes there."""
