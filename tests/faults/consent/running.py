"""One writer process around the product's own loop: what its consumer does with records, offsets and a kill."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Sequence
from datetime import datetime

from bridge.flow.offsets import OffsetLedger
from bridge.flow.ports import Handler
from bridge.flow.waits import LetterLimit
from bridge.flow.writer import Writer
from bridge.model.errors import HaltError, RejectError
from bridge.model.events import Headers, Record
from tests.faults.consent.kafka import Clock, Crash, Kafka, Life, State

QUIET = 5  # turns of the loop without a step of the process: nothing more comes of it until time passes
PARK_BUDGET_S = 86_400.0


class Letters:
    """See bridge.flow.ports.DeadLetters."""

    def __init__(self, kafka: Kafka, life: Life) -> None:
        self._kafka, self._life = kafka, life

    async def put(self, record: Record, error: RejectError, *, attempts: int, first_failed_at: datetime, failed_at: datetime) -> None:
        self._life.step()
        self._kafka.letters.append((record, error))
        self._life.step()


class WriterProcess:
    """Begins where the last one has committed, with the state that has reached Kafka."""

    def __init__(
        self, handler: Handler[object], topics: Sequence[str], state: State, kafka: Kafka, clock: Clock, life: Life, seed: int
    ) -> None:
        self._topics, self._kafka, self.life = tuple(topics), kafka, life
        self._ledger = OffsetLedger()
        self._next = {topic: kafka.committed[topic] for topic in topics}
        for topic in topics:
            self._ledger.own((topic, 0), self._next[topic])
        self.writer = Writer(
            handler,
            state,
            Letters(kafka, life),
            self._requeue,
            self._ledger,
            LetterLimit(10_000, 1.1),
            clock,
            random.Random(seed),
            concurrency=1,
            park_budget_s=PARK_BUDGET_S,
        )
        self._task, self._begun = asyncio.create_task(self.writer.run()), False

    async def slice(self, most: int) -> None:
        """Takes up to `most` new records of each topic and works until nothing more comes of it. Raises Crash or HaltError."""
        records: list[Record] = []
        for topic in self._topics:
            new = self._kafka.topics[topic][self._next[topic] : self._next[topic] + most]
            self._next[topic] += len(new)
            for record in new:
                self._ledger.read(record.position, record.offset, record.timestamp_ms)
            records += new
        if records or not self._begun:
            self._begun = True
            self.writer.offer(records)
            await self.settle()
        for (topic, _), offset in self._ledger.commitable().items():
            self.life.step()
            self._kafka.committed[topic] = offset
            self._ledger.committed({(topic, 0): offset})

    async def settle(self) -> None:
        """Works until nothing more comes of it without time."""
        still, seen = 0, (-1, -1)
        while still < QUIET and not self.life.dead:
            await asyncio.sleep(0)
            now = (self.life.taken, self._ledger.waiting())
            still, seen = (still + 1, seen) if now == seen else (0, now)
        if self.life.dead:
            raise Crash
        if self._task.done():
            self._task.result()
            raise HaltError("the writer ended", code="ended", hint="", origin="service")

    @property
    def waiting(self) -> bool:
        """Whether it has records in hand."""
        return self._ledger.waiting() > 0

    async def end(self) -> None:
        """Killed, or stopped: what is not committed comes again."""
        self.life.dead = True
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)

    async def _requeue(self, record: Record, headers: Headers) -> None:
        self.life.step()
        self._kafka.append(Record(record.topic, 0, -1, 0, record.key, record.value, tuple(headers)))
        self.life.step()
