"""What waits for the writer: one job per key, and which job is next. Used from the event loop only."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Iterable
from typing import Generic, TypeVar

from bridge.flow.failures import Failures
from bridge.flow.job import Job, Place
from bridge.flow.parking import is_back
from bridge.flow.ports import Route
from bridge.flow.shelf import Shelf
from bridge.model.events import Record

E = TypeVar("E")
FIRST_TRIES = 9  # come before the next repeat of what was parked, while there are some
MOST_PARKED = 20_000  # keys in memory, 4 kB each; others lie on the shelf
BROUGHT = 500  # from the shelf at a time, so that the loop is not held up


class JobQueue(Generic[E]):
    """Jobs by key; `next` gives live ones first, and those that were parked after all others, but for one in ten.

    Of parked ones `most_parked` are in memory at most, a tenth of them up for their next try; others lie on the shelf.
    """

    def __init__(self, shelf: Shelf[E] | None = None, most_parked: int = MOST_PARKED) -> None:
        self._jobs: dict[Place, Job[E]] = {}
        self._shelf: Shelf[E] = Shelf() if shelf is None else shelf  # an empty one is false
        self._most_parked, self._at_once = most_parked, max(1, most_parked // 10)
        self.shelved = asyncio.Event()  # whether there are some on the shelf
        self._ready: dict[bool, deque[Job[E]]] = {True: deque(), False: deque()}
        self._repeats: deque[Job[E]] = deque()
        self._parked: set[Job[E]] = set()
        self._waiting: dict[str, set[Job[E]]] = {}  # by the keys that they wait for
        self._still_calling: dict[Place, Job[E]] = {}  # dropped, and their calls have not ended: the same key has to wait
        self._first_tries = 0  # since the last repeat
        self._signal = asyncio.Semaphore(0)
        self.in_hand = {True: 0, False: 0}

    def add(self, record: Record, route: Route) -> None:
        """Notes a record under its key; a job that is under way or waiting takes it up at its next attempt."""
        key, state_key, live = route
        place = (record.partition, key)
        job, due_s = self._jobs.get(place), None
        if job is None and (shelved := self._shelf.take(place)) is not None:
            job, due_s = shelved
            self._in_memory(job)
        if job is None:
            job = self._jobs[place] = Job(record.partition, key, state_key, live)
            if is_back(record):  # as if it had been here all the time
                self.park(job)
                job.queued, due_s = True, 0.0
        elif live and not job.live:
            self._prefer(job)
        job.arrived.append(record)
        self._count(job, 1)
        if not job.queued:
            self.ready(job)
        elif key in job.waits_for and not is_back(record):
            self.wake(key)
        if due_s is not None and job.asleep:
            self._aside_again(job, due_s)

    def _aside_again(self, job: Job[E], due_s: float) -> None:
        if due_s == 0 and len(self._repeats) < self._at_once and not self.crowded():
            self.ready(job)
        else:
            self.shelve(job, due_s)

    def ready(self, job: Job[E]) -> None:
        """The job may be attempted (again); one that is parked takes up room when its turn comes."""
        job.queued, job.asleep = True, False
        if job.place in self._still_calling:
            return
        (self._repeats if job.parked else self._ready[job.live]).append(job)
        self._signal.release()

    def wake(self, key: str) -> None:
        """What these wait for is there: they are as good as new."""
        for job in self._waiting.pop(key, ()):
            if job.asleep:
                self.unpark(job)
                self.ready(job)
        self._shelf.wake(key)

    async def next(self) -> Job[E]:
        while True:
            await self._signal.acquire()
            live = bool(self._ready[True])
            fresh = self._ready[live]
            repeat = bool(self._repeats) and (not fresh or self._first_tries >= FIRST_TRIES)
            job = (self._repeats if repeat else fresh).popleft()
            self._first_tries = 0 if repeat else self._first_tries + 1
            if not job.dropped and (repeat or job.live == live):  # else it was dropped, or moved to the other queue
                self.unpark(job)
                return job

    def decoded(self, job: Job[E]) -> None:
        """The first of the job's new records has become part of its event."""
        job.records.append(job.arrived.pop(0))

    def discard(self, job: Job[E]) -> None:
        """The first of the job's new records is settled by itself."""
        job.arrived.pop(0)
        self._count(job, -1)

    def park(self, job: Job[E], waits_for: frozenset[str] = frozenset()) -> None:
        """The job waits aside; it does not count as room taken, or what it waits for might never be read."""
        self._count(job, -job.size)
        job.parked, job.asleep, job.waits_for = True, True, waits_for
        self._in_memory(job)

    def crowded(self) -> bool:
        """Whether what is parked now belongs on the shelf: there must be room for those of there that are due."""
        return len(self._parked) > self._most_parked - self._at_once

    def shelve(self, job: Job[E], due_s: float) -> None:
        """The job sleeps on the shelf until this time of the monotonic clock. It is parked, and has no timer."""
        self._forget(job)
        del self._jobs[job.place]
        self._shelf.put(job, due_s)
        self.shelved.set()

    def due(self, now_s: float) -> list[Job[E]]:
        """Takes those from the shelf whose time has come, as far as there is room; they are asleep."""
        room = min(self._most_parked - len(self._parked), self._at_once - len(self._repeats), BROUGHT)
        jobs = self._shelf.due(now_s, room)
        for job in jobs:
            self._in_memory(job)
        if not self._shelf:
            self.shelved.clear()
        return jobs

    def _in_memory(self, job: Job[E]) -> None:
        """A parked job."""
        self._jobs[job.place] = job
        self._parked.add(job)
        for key in job.waits_for:
            self._waiting.setdefault(key, set()).add(job)

    def unpark(self, job: Job[E]) -> None:
        if job.parked:
            self._forget(job)
            job.parked = job.asleep = False
            self._count(job, job.size)

    def _forget(self, job: Job[E]) -> None:
        self._parked.discard(job)
        if job.timer is not None:
            job.timer.cancel()
            job.timer = None
        for key in job.waits_for:
            if key in self._waiting:
                self._waiting[key].discard(job)
                if not self._waiting[key]:
                    del self._waiting[key]

    def finish(self, job: Job[E]) -> None:
        """All its records are settled (or dropped); what arrived meanwhile is a new start."""
        self._count(job, -len(job.records))
        job.records, job.event, job.latest, job.failures = [], None, None, Failures()
        if job.dropped:
            return
        if job.arrived:
            self.ready(job)
        else:
            job.queued = False
            del self._jobs[job.place]

    def ended(self, job: Job[E]) -> None:
        """The call of a dropped job is over. If its partition has come back meanwhile, the key may be called again."""
        if self._still_calling.get(job.place) is job:
            del self._still_calling[job.place]
            if job.place in self._jobs:
                self.ready(self._jobs[job.place])

    def drop(self, partitions: Iterable[int]) -> list[Job[E]]:
        """Forgets the jobs of these partitions; gives those with an attempt under way."""
        gone = set(partitions)
        self._shelf.drop(gone)
        dropped = [job for job in self._jobs.values() if job.partition in gone]
        for job in dropped:
            del self._jobs[job.place]
            self._forget(job)
            self._count(job, -len(job.arrived))
            job.arrived.clear()
            job.dropped = True
            if job.calling:
                self._still_calling[job.place] = job
            else:
                self.finish(job)
        return [job for job in dropped if job.calling]

    def _prefer(self, job: Job[E]) -> None:
        """A live change has come for a key that waits in the replay lane."""
        self._count(job, -job.size)
        job.live = True
        self._count(job, job.size)
        if job in self._ready[False]:
            self._ready[True].append(job)
            self._signal.release()

    def _count(self, job: Job[E], records: int) -> None:
        if not job.parked:
            self.in_hand[job.live] += records

    def parked(self) -> int:
        """How many keys wait aside."""
        return len(self._parked) + len(self._shelf)

    def opt_outs(self) -> int:
        """How many opt-outs wait with a job that has failed."""
        return sum(job.opt_outs for job in self._jobs.values()) + self._shelf.opt_outs

    def partitions(self) -> set[int]:
        return {partition for partition, _ in self._jobs} | self._shelf.partitions()

    def close(self) -> None:
        """When all has been dropped."""
        self._shelf.close()
