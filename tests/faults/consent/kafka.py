"""Time, crashes and Kafka as the simulation has them: topics that keep what they were given, offsets that were committed, sleepers."""

from __future__ import annotations

import asyncio
import heapq
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, Generic, TypeVar

from bridge.consent.guard import Ask, Ledger
from bridge.memory import MemoryState
from bridge.model.errors import RejectError
from bridge.model.events import Headers, Record
from bridge.model.state import Known

E = TypeVar("E")
START = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)


class Crash(BaseException):
    """The process was killed here. No code of the product catches it."""


class Life:
    """One process. `steps` so many until it is killed; None: it lives on. Dead once, all it does is dying."""

    def __init__(self, steps: int | None = None) -> None:
        self.left, self.dead, self.taken = steps, False, 0

    def step(self) -> None:
        self.taken += 1
        if self.left is not None:
            self.left -= 1
            self.dead = self.dead or self.left < 0
        if self.dead:
            raise Crash


class Time:
    """True time in milliseconds since START, and those that sleep until a moment of it."""

    def __init__(self) -> None:
        self.now, self.woken = 0, False
        self._sleepers: list[tuple[int, int, asyncio.Future[None]]] = []
        self._number = 0

    def pass_ms(self, milliseconds: int) -> None:
        """Who sleeps until then may go on."""
        self.now += milliseconds
        while self._sleepers and self._sleepers[0][0] <= self.now:
            waiter = heapq.heappop(self._sleepers)[2]
            if not waiter.done():
                waiter.set_result(None)
                self.woken = True

    def next_waking(self) -> int | None:
        """When the first sleeper is due."""
        while self._sleepers and self._sleepers[0][2].done():
            heapq.heappop(self._sleepers)
        return self._sleepers[0][0] if self._sleepers else None

    async def wake_all(self) -> None:
        """Nobody sleeps any more: what was left over of a process that was killed ends."""
        while (waking := self.next_waking()) is not None:
            self.pass_ms(max(0, waking - self.now))
            for _ in range(3):
                await asyncio.sleep(0)

    async def sleep(self, seconds: float) -> None:
        self._number += 1
        waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        heapq.heappush(self._sleepers, (self.now + max(1, int(seconds * 1000)), self._number, waiter))
        await waiter


class Clock:
    """See bridge.model.clock.Clock: somebody's clock, `ahead_ms` before true time."""

    def __init__(self, time: Time, ahead_ms: int = 0) -> None:
        self.time, self.ahead_ms = time, ahead_ms

    def now(self) -> datetime:
        return START + timedelta(milliseconds=self.time.now + self.ahead_ms)

    def monotonic(self) -> float:
        return 1000.0 + self.time.now / 1000

    async def sleep(self, seconds: float) -> None:
        await self.time.sleep(seconds)


class Decoder(Generic[E]):
    """See bridge.kafka.avro.Decoder. A record's value is the number under which the event lies here."""

    def __init__(self, kafka: Kafka) -> None:
        self._kafka = kafka

    async def decode(self, value: bytes | None) -> Any:
        return self._kafka.events[int(value or b"0")]


@dataclass(slots=True)
class Kafka:
    """`committed` by topic; each topic has one partition and one group of consumers."""

    time: Time
    topics: dict[str, list[Record]] = field(default_factory=lambda: defaultdict(list))
    events: list[Any] = field(default_factory=lambda: [None])
    committed: dict[str, int] = field(default_factory=lambda: defaultdict(int))
    letters: list[tuple[Record, RejectError]] = field(default_factory=list)
    asks: list[tuple[Ask, datetime]] = field(default_factory=list)
    states: dict[str, dict[tuple[int, str], Known]] = field(default_factory=lambda: defaultdict(dict))

    def publish(self, topic: str, key: str, event: Any, headers: Headers) -> Record:
        self.events.append(event)
        value = str(len(self.events) - 1).encode()
        return self.append(Record(topic, 0, -1, 0, key.encode(), value, tuple(headers)))

    def append(self, record: Record) -> Record:
        """The record at the end of its topic, at the broker's time."""
        log = self.topics[record.topic]
        moment = int(START.timestamp() * 1000) + self.time.now
        placed = Record(record.topic, 0, len(log), moment, record.key, record.value, record.headers)
        log.append(placed)
        return placed

    def event(self, record: Record) -> Any:
        return self.events[int(record.value or b"0")]

    def lag(self, topics: Sequence[str]) -> int:
        return sum(len(self.topics[each]) - self.committed[each] for each in topics)


class State(MemoryState):
    """See bridge.kafka.state.KafkaState: `known` is what has reached Kafka. The process may die before and after that."""

    def __init__(self, known: dict[tuple[int, str], Known], life: Life) -> None:
        super().__init__()
        self.known, self._life = known, life

    def contacts(self) -> int:
        return sum("/" not in key for _, key in self.known)

    def records_of(self, table: str) -> int:
        return sum(key.startswith(f"{table}/") for _, key in self.known)

    async def put(self, partition: int, key: str, known: Known) -> None:
        self._life.step()
        await super().put(partition, key, Known.from_json(known.to_json()))
        self._life.step()


class LedgerGuard:
    """See bridge.kafka.guard.KafkaGuard: the ledger is read from its beginning by each process, at the broker's time."""

    def __init__(self, kafka: Kafka, life: Life) -> None:
        self._kafka, self._life = kafka, life
        self._ledger, self._read = Ledger(), 0

    async def passes(self, ask: Ask) -> bool:
        self._life.step()
        self._kafka.asks.append((ask, START + timedelta(milliseconds=self._kafka.time.now)))
        verdict = False
        for asked, at in self._kafka.asks[self._read :]:
            verdict = self._ledger.take(asked, at)
        self._read = len(self._kafka.asks)
        self._life.step()
        return verdict
