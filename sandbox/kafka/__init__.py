"""Apache Kafka (KRaft, one node) and a schema registry as local processes, fetched by Maven. For the demo and the tests."""

from sandbox.kafka.local import LocalKafka, SandboxError

__all__ = ["LocalKafka", "SandboxError"]
