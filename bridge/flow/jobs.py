"""What waits for the writer: one job per key, and which job is next. Used from the event loop only."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Generic, TypeVar

from bridge.flow.failures import Failures
from bridge.flow.parking import is_back
from bridge.flow.ports import Result
from bridge.model.events import Record
from bridge.model.state import Known

E = TypeVar("E")
FIRST_TRIES = 9  # come before the next repeat of what was parked, while there are some


@dataclass(slots=True, eq=False)
class Job(Generic[E]):
    """All that is to be done for one key. `event` is the merge of `records`; `arrived` has not been decoded yet."""

    partition: int
    key: str
    live: bool
    arrived: list[Record] = field(default_factory=list)
    records: list[Record] = field(default_factory=list)
    event: E | None = None
    latest: Record | None = None  # the record that counts: the one with the newest event
    failures: Failures = field(default_factory=Failures)
    parked: bool = False
    asleep: bool = False  # parked, and not up for its turn or on its way to the end of its topic
    waits_for: frozenset[str] = frozenset()  # keys, while it is parked
    calling: bool = False  # an attempt is under way
    queued: bool = False  # in a ready queue, with a worker or waiting for its time
    dropped: bool = False  # its partition is to be given away: no further call
    late: bool = False  # it has been given away while a call was under way
    opt_outs: int = 0  # opt-outs that wait with it since it failed

    @property
    def size(self) -> int:
        return len(self.arrived) + len(self.records)

    def noted(self, result: Result, now: datetime) -> Known | None:
        """What is known after an attempt, with where, when and how often; None leaves the state as it is."""
        latest = self.latest
        if result.known is None or latest is None:
            return None
        return replace(
            result.known,
            outcome=result.outcome,
            topic=latest.topic,
            partition=latest.partition,
            offset=latest.offset,
            attempts=self.failures.count + 1,
            read_at=datetime.fromtimestamp(latest.timestamp_ms / 1000, UTC).isoformat(),
            settled_at=now.isoformat(),
        )


class JobQueue(Generic[E]):
    """Jobs by key; `next` gives live ones first, and those that were parked after all others, but for one in ten."""

    def __init__(self) -> None:
        self._jobs: dict[tuple[int, str], Job[E]] = {}
        self._ready: dict[bool, deque[Job[E]]] = {True: deque(), False: deque()}
        self._repeats: deque[Job[E]] = deque()
        self._parked: set[Job[E]] = set()
        self._waiting: dict[str, set[Job[E]]] = {}  # by the keys that they wait for
        self._still_calling: dict[tuple[int, str], Job[E]] = {}  # dropped, and their calls have not ended: the same key has to wait
        self._first_tries = 0  # since the last repeat
        self._signal = asyncio.Semaphore(0)
        self.in_hand = {True: 0, False: 0}

    def add(self, record: Record, key: str, live: bool) -> None:
        """Notes a record under its key; a job that is under way or waiting takes it up at its next attempt."""
        place = (record.partition, key)
        job = self._jobs.get(place)
        if job is None:
            job = self._jobs[place] = Job(record.partition, key, live)
            if is_back(record):  # as if it had been here all the time
                self.park(job)
        elif live and not job.live:
            self._prefer(job)
        job.arrived.append(record)
        self._count(job, 1)
        if not job.queued:
            self.ready(job)
        elif key in job.waits_for and not is_back(record):
            self.wake(key)

    def ready(self, job: Job[E]) -> None:
        """The job may be attempted (again); one that is parked takes up room when its turn comes."""
        job.queued, job.asleep = True, False
        if (job.partition, job.key) in self._still_calling:
            return
        (self._repeats if job.parked else self._ready[job.live]).append(job)
        self._signal.release()

    def wake(self, key: str) -> None:
        """What these wait for is there: they are as good as new."""
        for job in self._waiting.pop(key, ()):
            if job.asleep:
                self.unpark(job)
                self.ready(job)

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
        self._parked.add(job)
        for key in waits_for:
            self._waiting.setdefault(key, set()).add(job)

    def unpark(self, job: Job[E]) -> None:
        if job.parked:
            self._forget(job)
            job.parked = job.asleep = False
            self._count(job, job.size)

    def _forget(self, job: Job[E]) -> None:
        self._parked.discard(job)
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
            del self._jobs[job.partition, job.key]

    def ended(self, job: Job[E]) -> None:
        """The call of a dropped job is over. If its partition has come back meanwhile, the key may be called again."""
        place = (job.partition, job.key)
        if self._still_calling.get(place) is job:
            del self._still_calling[place]
            if place in self._jobs:
                self.ready(self._jobs[place])

    def drop(self, partitions: Iterable[int]) -> list[Job[E]]:
        """Forgets the jobs of these partitions; gives those with an attempt under way."""
        gone = set(partitions)
        dropped = [job for job in self._jobs.values() if job.partition in gone]
        for job in dropped:
            del self._jobs[job.partition, job.key]
            self._forget(job)
            self._count(job, -len(job.arrived))
            job.arrived.clear()
            job.dropped = True
            if job.calling:
                self._still_calling[job.partition, job.key] = job
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
        return len(self._parked)

    def called_up(self) -> int:
        """How many of them are up for their next try."""
        return len(self._repeats)

    def opt_outs(self) -> int:
        """How many opt-outs wait with a job that has failed."""
        return sum(job.opt_outs for job in self._jobs.values())

    def partitions(self) -> set[int]:
        return {partition for partition, _ in self._jobs}
