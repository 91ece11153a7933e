"""Keys that wait for something else while others pass: in hand, or, where too many wait, in their topics.

    a try fails ─▶ in hand, until its next try ─▶ …
                └▶ no room: published again at the end of its topic, once ─▶ read there ─▶ rests ─▶ due: read again ─▶ a try …

What rests stays where it is, uncommitted, and costs its offset. It moves only where it holds back what others have settled behind it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Sequence
from functools import partial
from typing import Any, Generic, TypeVar

from bridge.flow.failures import first_place
from bridge.flow.jobs import Job, JobQueue
from bridge.flow.offsets import OffsetLedger
from bridge.flow.parking import goes_to_the_end, holds_back, is_back
from bridge.flow.patience import Patience
from bridge.flow.ports import OwnTopics
from bridge.flow.resting import Copies, Copy, Resting, Turn
from bridge.flow.waits import LONGEST_S
from bridge.model.clock import Clock
from bridge.model.errors import ParkError, RetryError
from bridge.model.events import Record
from bridge.observe.log import log

E = TypeVar("E")
IN_HAND = 18_000  # keys, some 4 kB each; with those whose turn it is they are never 20,000
AT_ONCE = 500  # keys that are called up for a try, those of their topics among them
LOOK_EVERY_S = 1.0


class Aside(Generic[E]):
    """For one writer. `take_up`: a record is to be tried. `halt`: ends the run. `most`: keys in hand."""

    def __init__(
        self,
        queue: JobQueue[E],
        ledger: OffsetLedger,
        topics: OwnTopics,
        patience: Patience,
        clock: Clock,
        take_up: Callable[[Record], Job[E]],
        halt: Callable[[Exception], None],
        park_budget_s: float,
        most: int,
    ) -> None:
        self._queue, self._ledger, self._topics, self._patience, self._clock = queue, ledger, topics, patience, clock
        self._take_up, self._halt, self._park_budget_s = take_up, halt, park_budget_s
        self._most, self._at_once = most, max(1, min(AT_ONCE, most))
        self._resting, self._copies = Resting(), Copies()
        self._turns: asyncio.Task[None] | None = None
        self._tasks: dict[asyncio.Task[None], Job[E] | None] = {}

    def park(self, job: Job[E], exc: RetryError, wait_s: float) -> None:
        """Only this key waits. Its records stay uncommitted, so that a restart reads them again, or go to the end of their topic."""
        log("record_parked", "debug", key=job.key, code=exc.code, attempts=job.failures.count)
        if isinstance(exc, ParkError) and self._is_crowded(job):
            self._begin(partial(self._let_go, job, self._clock.monotonic() + wait_s), job)
            return
        self._queue.park(job, exc.waits_for if isinstance(exc, ParkError) else frozenset())
        self._begin(partial(self._later, job, wait_s, job.failures.count), job)

    def takes(self, record: Record, key: str) -> bool:
        """Whether nothing is to be done now with a record that is back: it rests, or an earlier copy of it does."""
        if self._copies.is_void(record):
            self._ledger.settle(record.position, record.offset)
            return True
        copy = self._copies.read(record)
        if self._queue.has(record.partition, key) or (self.parked() < self._most and self._queue.called_up() < self._at_once):
            return False
        self._rest(record, copy.at_s if copy else 0.0, copy.opt_outs if copy else 0)
        return True

    def parked(self) -> int:
        """Keys that wait, wherever."""
        return self._queue.parked() + len(self._resting)

    def opt_outs(self) -> int:
        """In what rests."""
        return self._resting.opt_outs()

    def forget(self, partitions: set[int]) -> None:
        """They are not ours any more, and their jobs are dropped."""
        self._resting.forget(partitions)
        self._copies.forget(partitions)
        for task, job in self._tasks.items():
            if job is not None and job.dropped:
                task.cancel()

    def stop(self) -> None:
        for task in self._tasks:
            task.cancel()

    def _is_crowded(self, job: Job[E]) -> bool:
        """Whether this one has to make room: in a crowd those that have waited for a minute; what they wait for may take days, while the
        parent of a new child is often made in the next second."""
        if self._queue.parked() >= self._most:
            return True
        since = job.failures.parked_since or self._clock.now()
        return self.parked() >= self._most and (self._clock.now() - since).total_seconds() >= LONGEST_S

    def _begin(self, work: Callable[[], Coroutine[Any, Any, None]], job: Job[E] | None = None) -> asyncio.Task[None]:
        task = asyncio.create_task(self._guarded(work))
        self._tasks[task] = job
        task.add_done_callback(self._tasks.pop)
        return task

    async def _guarded(self, work: Callable[[], Coroutine[Any, Any, None]]) -> None:
        try:
            await work()
        except RetryError as exc:  # only at a stop: all of it is read again
            log("record_retried", "debug", code=exc.code)
        except Exception as exc:
            self._halt(exc)

    async def _later(self, job: Job[E], seconds: float, count: int) -> None:
        await self._clock.sleep(seconds)
        if job.dropped or not job.asleep or job.failures.count != count:  # what it waited for has come, and perhaps gone
            return
        since, now = job.failures.parked_since, self._clock.now()
        if since is not None and goes_to_the_end(job.records[0], since, now, self._park_budget_s, self._ledger):
            await self._let_go(job, None)
        else:
            self._queue.ready(job)

    async def _let_go(self, job: Job[E], at_s: float | None) -> None:
        """The records of a key go to the end of their topic and are tried again when they are read there; or they rest until `at_s`: then
        those that are there already stay. What arrives for the key meanwhile goes with them: older must not come behind newer."""
        job.asleep, stay, done = False, list[Record](), 0
        places = set[str]()
        try:
            while not job.dropped and (record := _next(job, done)) is not None:
                place = first_place(record)
                if place not in places and not _has_come_back(job, record):  # else another copy of it is enough
                    places.add(place)
                    if at_s is not None and is_back(record) and not holds_back(record, self._ledger):
                        stay.append(record)
                    else:
                        await self._publish(job, record, at_s)
                if done == len(job.records) and not job.dropped:  # only now: what could not be published is written with the others
                    self._queue.decoded(job)
                done += 1
        except RetryError:  # Kafka is away: all of it stays where it is
            await self._patience.pause(LOOK_EVERY_S)
            if not job.dropped:
                self._queue.ready(job)
            return
        if not job.dropped:  # else whoever has the partition now reads it again
            log("record_requeued", "debug", key=job.key, attempts=job.failures.count)
            self._put_down(job, at_s or 0.0, stay)

    async def _publish(self, job: Job[E], record: Record, at_s: float | None) -> None:
        offset = await self._topics.publish(record, job.failures.requeue_headers(record))
        if job.dropped or any((each.position, each.offset) == (record.position, offset) for each in job.arrived):
            return  # or it has been read before we heard of it
        self._copies.published(record, Copy(offset, at_s or 0.0, job.opt_outs))
        for each in job.arrived:
            if is_back(each):  # an earlier copy
                self._copies.read(each)

    def _put_down(self, job: Job[E], at_s: float, stay: Sequence[Record]) -> None:
        self._queue.unpark(job)
        for record in job.records:
            if record not in stay:
                self._ledger.settle(record.position, record.offset)
        for number, record in enumerate(stay):
            self._rest(record, at_s, 0 if number else job.opt_outs)
        self._queue.finish(job)

    def _rest(self, record: Record, at_s: float, opt_outs: int) -> None:
        self._resting.add(record.position, record.offset, at_s, opt_outs)
        if self._turns is None or self._turns.done():
            self._turns = self._begin(self._take_turns)

    async def _take_turns(self) -> None:
        """What rests comes back into hand when it is due, as far as it can be tried then."""
        while len(self._resting):
            room = self._queue.called_up() < self._at_once
            turn = self._resting.next(self._clock.monotonic(), self._at_once) if room else None
            if turn is None:
                await self._clock.sleep(LOOK_EVERY_S)
            else:
                await self._take(turn)

    async def _take(self, turn: Turn) -> None:
        records: list[Record] = []

        async def once() -> None:
            records[:] = await self._topics.read(turn.position, list(turn.offsets))

        await self._patience.until_done(once)
        if turn.offsets.keys() - {record.offset for record in records}:
            self._halt(RetryError("a record that waits has expired in its topic; the run begins again", code="waiting_expired"))
            return
        for record in records:
            if record.offset in turn.offsets:  # else its partition has gone meanwhile
                job = self._take_up(record)
                job.opt_outs = max(job.opt_outs, turn.offsets[record.offset])
        self._resting.taken()


def _next(job: Job[E], done: int) -> Record | None:
    """The first of its records that has not been let go; what came back by itself is a new start."""
    if done < len(job.records):
        return job.records[done]
    return job.arrived[0] if job.arrived and not is_back(job.arrived[0]) else None


def _has_come_back(job: Job[E], record: Record) -> bool:
    """Whether a copy of it is in hand, too."""
    return not is_back(record) and any(is_back(each) and first_place(each) == first_place(record) for each in [*job.records, *job.arrived])
