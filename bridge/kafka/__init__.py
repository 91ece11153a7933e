"""The Kafka room: nothing outside it may import confluent_kafka."""
