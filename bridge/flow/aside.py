"""Keys that wait for something else while others pass: in hand, or at the end of their topics."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Coroutine, Sequence
from functools import partial
from itertools import islice
from typing import Any, Generic, TypeVar

from bridge.clock import Clock
from bridge.errors import ParkError, RetryError
from bridge.events import Record
from bridge.flow.crowd import Rounds, must_go_round, sent_round
from bridge.flow.failures import PARKED_ROUND, parked_since
from bridge.flow.jobs import Job, JobQueue
from bridge.flow.offsets import OffsetLedger
from bridge.flow.parking import goes_to_the_end, is_back
from bridge.flow.patience import Patience
from bridge.flow.ports import Requeue
from bridge.log import log

E = TypeVar("E")
# Keys that wait in memory, some 4 kB each; the others wait at the end of their topics, and take turns. With those that are on their way
# there they are never 20,000.
IN_HAND = 18_000
AT_ONCE = 500  # records that are published again


class Aside(Generic[E]):
    """For one writer. `settle`: the records of a job are dealt with here. `halt`: ends the run. `most`: keys in hand."""

    def __init__(
        self,
        queue: JobQueue[E],
        ledger: OffsetLedger,
        requeue: Requeue,
        patience: Patience,
        clock: Clock,
        settle: Callable[[Job[E]], None],
        halt: Callable[[Exception], None],
        park_budget_s: float,
        most: int,
    ) -> None:
        self._queue, self._ledger, self._requeue, self._patience, self._clock = queue, ledger, requeue, patience, clock
        self._settle, self._halt, self._park_budget_s, self._most = settle, halt, park_budget_s, most
        self._rounds, self._turned_away = Rounds(), deque[Record]()
        self._tasks: set[asyncio.Task[None]] = set()

    def park(self, job: Job[E], exc: RetryError, wait_s: float) -> None:
        """Only this key waits. Its records stay uncommitted, so that a restart reads them again, or go to the end of their topic."""
        crowded = isinstance(exc, ParkError) and self._crowded()
        self._queue.park(job, exc.waits_for if isinstance(exc, ParkError) else frozenset())
        log("record_parked", "debug", key=job.key, code=exc.code, attempts=job.failures.count)
        self._begin(partial(self._later, job, 0.0 if crowded else wait_s, job.failures.count, crowded))

    def turns_away(self, record: Record, key: str) -> bool:
        """Whether a record that has just been read waits on at the end of its topic, since there is no room in hand."""
        if self._queue.has(record.partition, key):
            return False
        its_turn = record.header(PARKED_ROUND) is not None or not self._rounds.are_on(record.topic, self._clock.now())
        if its_turn and not self._crowded():
            return False
        if not must_go_round(record, parked_since([record]), self._clock.now(), self._park_budget_s):
            return False
        self._rounds.turned_away(record, self._clock.now())
        self._turned_away.append(record)
        if len(self._turned_away) == 1:
            self._begin(self._send_round)
        return True

    @property
    def turned_away(self) -> int:
        """How many of them have not been published again yet."""
        return len(self._turned_away)

    def rests(self, topic: str) -> bool:
        """Whether nothing of this topic should be read for a moment; asked from the consumer's thread."""
        return self._rounds.rests(topic, self._clock.now())

    def stop(self) -> None:
        for task in self._tasks:
            task.cancel()

    def _crowded(self) -> bool:
        return self._queue.parked() >= self._most

    def _begin(self, work: Callable[[], Coroutine[Any, Any, None]]) -> None:
        task = asyncio.create_task(self._guarded(work))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _guarded(self, work: Callable[[], Coroutine[Any, Any, None]]) -> None:
        try:
            await work()
        except RetryError as exc:  # only at a stop: all of it is read again
            log("record_retried", "debug", code=exc.code)
        except Exception as exc:
            self._halt(exc)

    async def _later(self, job: Job[E], seconds: float, count: int, crowded: bool) -> None:
        await self._clock.sleep(seconds)
        if job.dropped or not job.asleep or job.failures.count != count:  # what it waited for has come, and perhaps gone
            return
        try:
            since, now, budget_s = job.failures.parked_since, self._clock.now(), self._park_budget_s
            behind = self._ledger.settled_behind
            if since is not None and (crowded or goes_to_the_end(job.records[0], since, now, budget_s, behind)):
                await self._to_the_end(job)
            else:
                self._queue.ready(job)
        except RetryError:  # Kafka is away: it stays where it is
            self._queue.ready(job)

    async def _to_the_end(self, job: Job[E]) -> None:
        """Publishes the records in hand again behind all others. What arrives for the key meanwhile goes with them: older must not come
        behind newer."""
        job.asleep, published = False, 0
        while published < len(job.records):
            record = job.records[published]
            await self._requeue(record, job.failures.requeue_headers(record))
            published += 1
            if published == len(job.records) and job.arrived and not is_back(job.arrived[0]) and not job.dropped:
                self._queue.decoded(job)
        log("record_requeued", "debug", key=job.key, attempts=job.failures.count)
        if not job.dropped:
            self._queue.unpark(job)
            self._settle(job)

    async def _send_round(self) -> None:
        """Publishes what was turned away behind all others, many at once."""
        while self._turned_away:
            some = list(islice(self._turned_away, AT_ONCE))
            ours = [record for record in some if self._ledger.owns(record.position)]

            async def again(records: Sequence[Record] = ours) -> None:
                await asyncio.gather(*(self._requeue(record, sent_round(record.headers)) for record in records))

            await self._patience.until_done(again)
            for record in some:
                self._turned_away.popleft()
                self._ledger.settle(record.position, record.offset)
