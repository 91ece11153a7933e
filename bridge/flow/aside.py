"""Keys that wait for something else while others pass."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from functools import partial
from typing import Any, Generic, TypeVar

from bridge.flow.job import Job
from bridge.flow.jobs import JobQueue
from bridge.flow.offsets import OffsetLedger
from bridge.flow.parking import goes_to_the_end, is_back
from bridge.flow.ports import Requeue
from bridge.model.clock import Clock
from bridge.model.errors import ParkError, RetryError
from bridge.observe.log import log

E = TypeVar("E")
LOOK_S = 0.25  # between two looks at the shelf, if there is something on it


class Aside(Generic[E]):
    """For one writer. `settle`: the records of a job are dealt with here. `halt`: ends the run."""

    def __init__(
        self,
        queue: JobQueue[E],
        ledger: OffsetLedger,
        requeue: Requeue,
        clock: Clock,
        settle: Callable[[Job[E]], None],
        halt: Callable[[Exception], None],
        park_budget_s: float,
    ) -> None:
        self._queue, self._ledger, self._requeue, self._clock = queue, ledger, requeue, clock
        self._settle, self._halt, self._park_budget_s = settle, halt, park_budget_s
        self._tasks: set[asyncio.Task[None]] = set()

    def park(self, job: Job[E], exc: RetryError, wait_s: float) -> None:
        """Only this key waits. Its records stay uncommitted, so that a restart reads them again, or go to the end of their topic."""
        self._queue.park(job, exc.waits_for if isinstance(exc, ParkError) else frozenset())
        log("record_parked", "debug", key=job.key, code=exc.code, attempts=job.failures.count)
        if self._queue.crowded():
            self._queue.shelve(job, self._clock.monotonic() + wait_s)
        else:
            job.timer = self._begin(partial(self._later, job, wait_s))

    def begin(self) -> None:
        """From now on what lies on the shelf takes its turns."""
        self._begin(self._bring)

    async def _bring(self) -> None:
        while True:
            await self._queue.shelved.wait()
            for job in self._queue.due(self._clock.monotonic()):
                self._begin(partial(self._turn, job))
            await self._clock.sleep(LOOK_S)

    def stop(self) -> None:
        for task in self._tasks:
            task.cancel()

    def _begin(self, work: Callable[[], Coroutine[Any, Any, None]]) -> asyncio.Task[None]:
        task = asyncio.create_task(self._guarded(work))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    async def _guarded(self, work: Callable[[], Coroutine[Any, Any, None]]) -> None:
        try:
            await work()
        except RetryError as exc:  # only at a stop: all of it is read again
            log("record_retried", "debug", code=exc.code)
        except Exception as exc:
            self._halt(exc)

    async def _later(self, job: Job[E], seconds: float) -> None:
        await self._clock.sleep(seconds)
        job.timer = None  # whoever wakes or drops it from now on must not end us
        await self._turn(job)

    async def _turn(self, job: Job[E]) -> None:
        if job.dropped or not job.asleep:
            return
        try:
            since, now, budget_s = job.failures.parked_since, self._clock.now(), self._park_budget_s
            behind = self._ledger.settled_behind
            if since is not None and goes_to_the_end(job.records[0], since, now, budget_s, behind):
                await self._to_the_end(job)
            else:
                self._queue.ready(job)
        except RetryError:  # Kafka is away: it stays where it is
            self._queue.ready(job)

    async def _to_the_end(self, job: Job[E]) -> None:
        """Publishes the records in hand again behind all others. What arrives for the key meanwhile goes with them: older must not come
        behind newer."""
        job.asleep = False
        for record in list(job.records):
            if job.dropped:  # whoever has the partition now reads it again
                return
            await self._requeue(record, job.failures.requeue_headers(record))
        while job.arrived and not job.dropped and not is_back(job.arrived[0]):
            record = job.arrived[0]
            await self._requeue(record, job.failures.requeue_headers(record))
            if not job.dropped:  # only now: what could not be published is written with the others
                self._queue.decoded(job)
        log("record_requeued", "debug", key=job.key, attempts=job.failures.count)
        if not job.dropped:
            self._queue.unpark(job)
            self._settle(job)
