"""Writes to `control.workflows` and `control.audit` that no other instance of control can interleave with.

All instances share one transactional id: whoever initialises it fences the others, so a commit that succeeds was made by somebody who
had seen everything before it.
"""

from __future__ import annotations

import json
import random
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from typing import Any, TypeVar

from confluent_kafka import KafkaException, Producer

from bridge.kafka.client import FencedError, Names, client_config, error_for
from bridge.kafka.producer import PARTITIONER
from bridge.kafka.reader import TopicReader
from bridge.kafka.settings import KafkaSettings
from bridge.model.errors import HaltError, RetryError
from bridge.model.events import Record

T = TypeVar("T")
GIVE_UP_S = 8.0  # of a command in all
LEAST_S = 1.0  # for a question to Kafka, however late it is

View = dict[str, Any]
Write = tuple[str, str, Mapping[str, Any] | None]  # bare topic, key, JSON value (None: tombstone)


class _Doubtful(Exception):
    """Decided on what may be out of date by now."""


class CommandLog:
    """Blocks, so use it on one thread. Raises RetryError or HaltError."""

    def __init__(self, settings: KafkaSettings, partitions: int) -> None:
        self._settings, self._names, self._partitions = settings, Names(settings), partitions
        self._topic = self._names.topic("control.workflows")
        self._producer: Producer | None = None
        self._next = [0] * partitions
        self._view: View = {}
        self._rng = random.Random()

    def transact(self, command: Callable[[View], tuple[T, Sequence[Write | Record]]]) -> T:
        """Runs `command` on everything in `control.workflows` (key → JSON) and commits what it wants written; a Record goes to its
        topic (bare) and partition as it is. It may run again, if another instance came in between or a commit got no answer, so it
        has to recognise its own writes. What it raises ends the transaction with nothing written."""
        deadline = time.monotonic() + GIVE_UP_S
        while True:
            try:
                return self._attempt(command, deadline)
            except _Doubtful:
                self._producer = None
            except HaltError:  # refused in the middle of a transaction: that client is of no use any more
                self._producer = None
                raise
            except (FencedError, RetryError) as exc:
                self._producer = None
                if time.monotonic() > deadline:
                    if isinstance(exc, RetryError):
                        raise
                    raise RetryError(f"Kafka, writing a command: {exc.code}", code="kafka_unavailable") from exc
                time.sleep(self._rng.uniform(0.01, 0.2))  # two instances that displace each other must not do it in step

    def _attempt(self, command: Callable[[View], tuple[T, Sequence[Write | Record]]], deadline: float) -> T:
        """A commit proves that nobody came in between. A command that refuses, or that has nothing to write, proves nothing: it is
        believed only when we have just become the owner. Raises _Doubtful otherwise."""
        just_now = self._own(deadline)
        try:
            result, writes = command(dict(self._view))
        except Exception as exc:
            if just_now:
                raise
            raise _Doubtful from exc
        if writes:
            self._commit(writes, deadline)
        elif not just_now:
            raise _Doubtful
        return result

    def _own(self, deadline: float) -> bool:
        """Whether we have become the owner only now: other instances are fenced then, what they committed is complete, and read."""
        if self._producer is not None:
            return False
        producer = Producer(
            client_config(self._settings, transactional_id=self._names.transactional_id("control"), partitioner=PARTITIONER, linger_ms=0)
        )
        try:
            producer.init_transactions(_left_s(deadline))
        except KafkaException as exc:
            raise error_for(exc, "writing a command") from exc
        self._read_on()
        self._producer = producer
        return True

    def _read_on(self) -> None:
        """What has been written since we read last, by others or by ourselves."""
        with closing(TopicReader(self._settings)) as reader:
            for number in range(self._partitions):
                low, high = reader.range(self._topic, number)
                for message in reader.read(self._topic, number, max(low, self._next[number]), high):
                    self._view[(message.key() or b"").decode()] = json.loads(message.value() or b"null")
                    self._next[number] = (message.offset() or 0) + 1

    def _commit(self, writes: Sequence[Write | Record], deadline: float) -> None:
        assert self._producer is not None
        try:
            self._producer.begin_transaction()
            for write in writes:
                self._produce(self._producer, write)
            self._producer.commit_transaction(_left_s(deadline))
        except KafkaException as exc:
            raise error_for(exc, "writing a command") from exc
        # read back from Kafka this would come a moment too late: a transaction is complete only some time after its commit
        self._view |= {each[1]: each[2] for each in writes if not isinstance(each, Record) and each[0] == "control.workflows"}

    def _produce(self, producer: Producer, write: Write | Record) -> None:
        if isinstance(write, Record):
            topic = self._names.topic(write.topic)
            producer.produce(topic, write.value, write.key, partition=write.partition, headers=list(write.headers))
        else:
            topic, key, value = write
            producer.produce(self._names.topic(topic), None if value is None else json.dumps(value).encode(), key.encode())


def _left_s(deadline: float) -> float:
    return max(LEAST_S, deadline - time.monotonic())
