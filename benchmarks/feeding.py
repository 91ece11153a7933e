"""Change events and what is known of records straight into Kafka, by the product's own encoders: where a benchmark of the writer begins."""

from __future__ import annotations

import asyncio
import random
import uuid
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from typing import Any

from confluent_kafka import KafkaError, Message, Producer

from bridge.kafka.avro import Encoder, load_schema
from bridge.kafka.client import client_config
from bridge.kafka.partitioner import partition_for
from bridge.kafka.producer import PARTITIONER
from bridge.kafka.registry import HttpRegistry
from bridge.kafka.settings import KafkaSettings
from bridge.kafka.topics import Topics, ingress_topics, workflow_topics
from bridge.model.config import default_ingress
from bridge.model.events import ChangeEvent, Lane, Value, event_headers
from bridge.model.state import Digests, Known
from sandbox.dynamics import data

TABLE = "contact"
FIELDS = default_ingress().tables[0].fields  # eleven
AT = datetime(2026, 3, 1, 12, tzinfo=UTC)


def keys(number: int, seed: int = 1) -> list[str]:
    rng = random.Random(seed)
    return [str(uuid.UUID(int=rng.getrandbits(128), version=4)) for _ in range(number)]


def row(seed: int) -> dict[str, Value]:
    """The mapped columns of a made-up contact."""
    made = data.contact(random.Random(seed))
    return {field.source: made.get(field.source) for field in FIELDS}


def change(key: str, version: int, fields: dict[str, Value], lane: Lane = "live") -> ChangeEvent:
    return ChangeEvent(TABLE, key, "upsert", lane, version, AT, AT, fields)


def known(key: str, version: int, fields: dict[str, Value], digests: Digests) -> Known:
    """As the writer would keep it after an update with these values."""
    kept = digests.of({field.target: fields[field.source] for field in FIELDS})
    topic = f"ingress.changes.{TABLE}"
    return Known(
        version,
        exists=True,
        visible=True,
        outcome="updated",
        digests=kept,
        topic=topic,
        partition=3,
        offset=version,
        status=200,
        read_at=AT.isoformat(),
        settled_at=AT.isoformat(),
    )


class Feeder:
    """Blocks: call it on a thread while others measure. The topics are made as the services make them."""

    def __init__(self, kafka: KafkaSettings) -> None:
        counts = Topics(kafka).ensure([*ingress_topics([TABLE]), *workflow_topics("ingress")])
        self._prefix, self._partitions = kafka.topic_prefix, counts["ingress.state"]
        registry, schema = HttpRegistry(kafka), load_schema("ChangeEvent")
        subjects = [f"{kafka.topic_prefix}{topic.name}-value" for topic in ingress_topics([TABLE])]
        ids = [registry.register(subject, schema) for subject in subjects]  # one schema, so one id
        self._encoder = Encoder(schema, ids[0])
        more = {"enable_idempotence": True, "partitioner": PARTITIONER, "compression_type": "lz4", "linger_ms": 5}
        self._producer = Producer(client_config(kafka, queue_buffering_max_messages=200_000, **more))

    def changes(self, events: Iterable[ChangeEvent]) -> None:
        """Returns when Kafka has them all."""
        for event in events:
            topic = f"{self._prefix}ingress.{'changes' if event.lane == 'live' else 'replay'}.{TABLE}"
            headers = event_headers(event.lane, str(event.version), "benchmark/1")
            self._put(topic, event.key.encode(), self._encoder.encode(event), list(headers), -1)
        self._flush()

    def states(self, records: Iterable[tuple[str, Known]]) -> None:
        """What is known of each key, where the writer looks for it. Returns when Kafka has them all."""
        topic = f"{self._prefix}ingress.state"
        for key, each in records:
            self._put(topic, f"{TABLE}/{key}".encode(), each.to_json(), [], partition_for(key.encode(), self._partitions))
        self._flush()

    def _put(self, topic: str, key: bytes, value: bytes, headers: Any, partition: int) -> None:
        while True:
            try:
                self._producer.produce(topic, value, key, partition, self._delivered, headers=headers)
                self._producer.poll(0)
                return
            except BufferError:
                self._producer.poll(0.1)

    def _delivered(self, error: KafkaError | None, _: Message) -> None:
        assert error is None, error

    def _flush(self) -> None:
        left = self._producer.flush(60)
        assert left == 0, f"{left} records were not taken"


async def fed(feeder: Feeder, people: Sequence[str], version: int, lane: Lane = "live") -> None:
    """One change of each of these contacts: a new last name."""
    rows = [row(number) | {"lastname": f"Lovelace {version}"} for number in range(min(len(people), 1000))]
    events = (change(key, version, rows[number % len(rows)], lane) for number, key in enumerate(people))
    await asyncio.to_thread(feeder.changes, events)
