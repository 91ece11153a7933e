"""Writes to `control.workflows` and `control.audit` that no other instance of control can interleave with.

All instances share one transactional id: whoever initialises it fences the others, so a commit that succeeds was made by somebody who
had seen everything before it.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from typing import Any, TypeVar

from confluent_kafka import KafkaException, Producer

from bridge.errors import RetryError
from bridge.events import Record
from bridge.kafka.client import FencedError, Names, client_config, error_for
from bridge.kafka.producer import PARTITIONER
from bridge.kafka.reader import TopicReader
from bridge.settings import KafkaSettings

T = TypeVar("T")
TIMEOUT_S = 10
TRIES = 5

View = dict[str, Any]
Write = tuple[str, str, Mapping[str, Any] | None]  # bare topic, key, JSON value (None: tombstone)


class CommandLog:
    """Blocks, so use it on one thread. Raises RetryError or HaltError."""

    def __init__(self, settings: KafkaSettings, partitions: int) -> None:
        self._settings, self._names, self._partitions = settings, Names(settings), partitions
        self._producer: Producer | None = None
        self._view: View = {}

    def transact(self, command: Callable[[View], tuple[T, Sequence[Write | Record]]]) -> T:
        """Runs `command` on everything in `control.workflows` (key → JSON) and commits what it wants written; a Record goes to its
        topic (bare) and partition as it is. It may run again if another instance came in between. What it raises ends the
        transaction with nothing written."""
        for _ in range(TRIES):
            try:
                self._own()
                result, writes = command(dict(self._view))
                if writes:
                    self._commit(writes)
                return result
            except FencedError:
                self._producer = None
            except RetryError:
                self._producer = None
                raise
        raise RetryError("Kafka, writing a command: other instances of control kept coming first", code="kafka_unavailable")

    def _own(self) -> None:
        if self._producer is not None:
            return
        producer = Producer(
            client_config(self._settings, transactional_id=self._names.transactional_id("control"), partitioner=PARTITIONER, linger_ms=0)
        )
        try:
            producer.init_transactions(TIMEOUT_S)
        except KafkaException as exc:
            raise error_for(exc, "writing a command") from exc
        self._view = self._read()
        self._producer = producer

    def _read(self) -> View:
        topic, view = self._names.topic("control.workflows"), View()
        with closing(TopicReader(self._settings)) as reader:
            for number in range(self._partitions):
                for message in reader.read(topic, number, *reader.range(topic, number)):
                    view[(message.key() or b"").decode()] = json.loads(message.value() or b"null")
        return view

    def _commit(self, writes: Sequence[Write | Record]) -> None:
        assert self._producer is not None
        try:
            self._producer.begin_transaction()
            for write in writes:
                self._produce(self._producer, write)
            self._producer.commit_transaction(TIMEOUT_S)
        except KafkaException as exc:
            raise error_for(exc, "writing a command") from exc
        self._view |= {each[1]: each[2] for each in writes if not isinstance(each, Record) and each[0] == "control.workflows"}

    def _produce(self, producer: Producer, write: Write | Record) -> None:
        if isinstance(write, Record):
            topic = self._names.topic(write.topic)
            producer.produce(topic, write.value, write.key, partition=write.partition, headers=list(write.headers))
        else:
            topic, key, value = write
            producer.produce(self._names.topic(topic), None if value is None else json.dumps(value).encode(), key.encode())
