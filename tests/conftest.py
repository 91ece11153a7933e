"""Fixtures for all kinds of tests. One real Kafka and one real schema registry serve the whole session; a topic prefix each keeps tests
apart."""

from __future__ import annotations

import signal
import tempfile
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from bridge.kafka.settings import KafkaSettings
from sandbox.kafka import LocalKafka
from sandbox.kafka.local import free_port


def pytest_configure() -> None:
    """A shell that starts the tests in the background has them ignore Ctrl-C, and what they start as well; some tests press it."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session")
def kafka() -> Iterator[LocalKafka]:
    """A running Kafka with its registry."""
    with tempfile.TemporaryDirectory(prefix="bridge-kafka-") as home:
        local = LocalKafka(Path(home), free_port(), free_port(), retention_check_ms=1000)
        try:
            local.up()
            yield local
        finally:
            local.down()


@pytest.fixture
def kafka_settings(kafka: LocalKafka) -> KafkaSettings:
    """Settings for the running Kafka, with a prefix of the test's own and three partitions."""
    return KafkaSettings(
        bootstrap_servers=kafka.bootstrap,
        registry_url=kafka.registry_url,
        topic_prefix=f"t{uuid.uuid4().hex[:8]}.",
        partitions=3,
    )


@pytest.fixture
def own_kafka(tmp_path: Path) -> Iterator[LocalKafka]:
    """A Kafka of the test's own, not started yet."""
    kafka = LocalKafka(tmp_path / "kafka", free_port(), free_port())
    yield kafka
    kafka.down()
