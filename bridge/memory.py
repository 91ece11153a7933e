"""In-memory twins of what the two loops need from Kafka and the registry. They pass the tests of the real ones, in tests/contract/.

For tests and trials of the loops without a broker: nothing here outlives its process.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from bridge.consent.guard import Ask, Ledger
from bridge.flow.reader import Cursor
from bridge.kafka.client import FencedError
from bridge.kafka.dead_letters import fingerprint
from bridge.model.clock import Clock
from bridge.model.errors import RejectError, RetryError
from bridge.model.events import Outgoing, Record
from bridge.model.state import Known


class MemoryState:
    """Twin of bridge.kafka.state.KafkaState. Every partition is ours until it is lost; what was put stays."""

    def __init__(self) -> None:
        self.known: dict[tuple[int, str], Known] = {}
        self._lost: set[int] = set()

    def get(self, partition: int, key: str) -> Known | None:
        self._check(partition)
        return self.known.get((partition, key))

    async def put(self, partition: int, key: str, known: Known) -> None:
        self._check(partition)
        self.known[partition, key] = known

    async def gain(self, partitions: Sequence[int]) -> None:
        self._lost.difference_update(partitions)

    def lose(self, partition: int) -> None:
        self._lost.add(partition)

    def _check(self, partition: int) -> None:
        if partition in self._lost:
            raise RetryError("the partition is not ours any more", code="released")


@dataclass(frozen=True, slots=True)
class Letter:
    """One dead letter: the record as it was, and why it is here."""

    record: Record
    error: RejectError
    attempts: int
    first_failed_at: datetime
    failed_at: datetime

    @property
    def fingerprint(self) -> str:
        return fingerprint(self.error)


class MemoryDeadLetters:
    """Twin of bridge.kafka.dead_letters.KafkaDeadLetters."""

    def __init__(self) -> None:
        self.letters: list[Letter] = []

    async def put(self, record: Record, error: RejectError, *, attempts: int, first_failed_at: datetime, failed_at: datetime) -> None:
        self.letters.append(Letter(record, error, attempts, first_failed_at, failed_at))


@dataclass
class MemoryLog:
    """What publishers have brought out: events in order, and the cursors after them. `owner` has published last or may do so."""

    events: list[Outgoing] = field(default_factory=list)
    cursors: dict[str, Mapping[str, Any]] = field(default_factory=dict)
    owner: MemoryPublisher | None = None

    def of(self, topic: str) -> list[Outgoing]:
        return [event for event in self.events if event.topic == topic]


class MemoryPublisher:
    """Twin of bridge.kafka.publisher.TransactionalPublisher with its encoders (bridge.flow.reader.Publisher).

    Whoever is made last for a log owns it; those before are fenced.
    """

    def __init__(self, log: MemoryLog | None = None) -> None:
        self.log = MemoryLog() if log is None else log
        self.log.owner = self

    async def publish(self, events: Sequence[Outgoing], cursor_key: str, cursor: Cursor | None) -> None:
        if self.log.owner is not self:
            raise FencedError("another publisher has taken over", code="fenced")
        page, position = list(events), None if cursor is None else json.loads(json.dumps(cursor))  # what cannot be kept raises here
        self.log.events.extend(page)
        if position is None:
            self.log.cursors.pop(cursor_key, None)
        else:
            self.log.cursors[cursor_key] = position


class MemoryRegistry:
    """Twin of bridge.kafka.registry.HttpRegistry. Compares schemas as wholes: any later version is taken for compatible."""

    def __init__(self) -> None:
        self._ids: dict[str, int] = {}
        self._schemas: dict[int, dict[str, Any]] = {}

    def register(self, subject: str, schema: dict[str, Any]) -> int:
        number = self._ids.setdefault(json.dumps(schema, sort_keys=True), len(self._ids) + 1)
        self._schemas[number] = schema
        return number

    def schema(self, schema_id: int) -> dict[str, Any]:
        if schema_id not in self._schemas:
            raise RejectError(f"nobody registered schema {schema_id}", code="unknown_schema", stage="decode")
        return self._schemas[schema_id]


class MemoryGuard:
    """Twin of bridge.kafka.guard.KafkaGuard. Several instances share one by sharing its `entries`; a new one reads them again."""

    def __init__(self, clock: Clock, entries: list[tuple[Ask, datetime]] | None = None) -> None:
        self._clock, self.entries = clock, [] if entries is None else entries

    async def passes(self, ask: Ask) -> bool:
        self.entries.append((ask, self._clock.now()))
        ledger, verdict = Ledger(), False
        for each, at in self.entries:
            verdict = ledger.take(each, at)
        return verdict
