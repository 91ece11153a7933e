"""The writer loop: records in, one call at a time per key, many keys at once, offsets settled last (decisions D2, D4, D5, D7).

offer ─▶ one Job per key, merging what waits ─▶ workers, live before replay ─▶ Handler.write ─▶ state ─▶ offsets
         RetryError: the worker waits · ParkError: the key waits aside · RejectError: dead letters · HaltError: the run ends
"""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import Generic, TypeVar

from bridge.flow.aside import Aside
from bridge.flow.dead_lettering import DeadLettering
from bridge.flow.failures import Outage
from bridge.flow.job import Job
from bridge.flow.jobs import MOST_PARKED, JobQueue
from bridge.flow.offsets import OffsetLedger, Position
from bridge.flow.parking import is_a_letter, is_back
from bridge.flow.patience import Patience
from bridge.flow.ports import DeadLetters, Handler, Requeue, Result
from bridge.flow.shelf import Shelf
from bridge.flow.waits import LetterLimit
from bridge.model.clock import Clock
from bridge.model.errors import BridgeError, ParkError, RejectError, RetryError
from bridge.model.events import Record
from bridge.model.permission import call_guard
from bridge.model.state import Known, StateStore
from bridge.observe.log import log
from bridge.observe.tracing import OFF, Tracer

E = TypeVar("E")

CAPACITY = 4000  # records of one lane in hand before its topics are paused
DRAIN_S = 8.0  # a call under way gets so long to end when we have to stop


class Writer(Generic[E]):
    """One run of a writer. `most_parked` keys wait in memory, others in a file in `folder` (None: the system's own place)."""

    def __init__(
        self,
        handler: Handler[E],
        state: StateStore,
        dead_letters: DeadLetters,
        requeue: Requeue,
        ledger: OffsetLedger,
        limit: LetterLimit,
        clock: Clock,
        rng: random.Random,
        *,
        concurrency: int,
        park_budget_s: float,
        lease_check: Callable[[], None] = lambda: None,
        capacity: int = CAPACITY,
        most_parked: int = MOST_PARKED,
        folder: Path | None = None,
        tracer: Tracer = OFF,
    ) -> None:
        self._handler, self._state = handler, state
        self._ledger, self._limit, self._clock, self._rng = ledger, limit, clock, rng
        self._concurrency, self._park_budget_s, self._capacity = concurrency, park_budget_s, capacity
        self._lease_check, self._tracer = lease_check, tracer
        self._queue: JobQueue[E] = JobQueue(Shelf(folder), most_parked)
        self._stopping = asyncio.Event()
        self._patience = Patience(clock, rng, self._stopping, self._met)
        self._halted: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._aside = Aside(self._queue, ledger, requeue, clock, self._settle, self._halt, park_budget_s)
        self._outage = Outage()
        self.counters: Counter[str] = Counter()
        self._letters = DeadLettering(dead_letters, self._patience, clock, self.counters)
        self.last_written_at: datetime | None = None
        self.trouble: BridgeError | None = None

    def offer(self, records: Sequence[Record]) -> None:
        """Takes records in the order read."""
        for record in records:
            self.counters["read"] += not is_back(record)
            if self._ledger.owns(record.position):
                self._queue.add(record, self._handler.route(record))

    def full(self, live: bool) -> bool:
        """Whether enough records of this lane are in hand; asked from the consumer's thread."""
        return self._queue.in_hand[live] >= self._capacity

    async def release(self, positions: Sequence[Position]) -> None:
        """Drops what has not begun in these partitions and waits for the calls under way."""
        calling = self._queue.drop({partition for _, partition in positions})
        deadline = self._clock.monotonic() + DRAIN_S
        while any(job.calling for job in calling) and self._clock.monotonic() < deadline:
            await self._clock.sleep(0.02)
        for job in calling:
            job.late = job.calling

    async def run(self) -> None:
        """Works until cancelled. Raises HaltError. Either way what is under way is drained first."""
        workers = [asyncio.create_task(self._work()) for _ in range(self._concurrency)]
        self._aside.begin()
        try:
            await self._halted
        finally:
            await self.stop()
            for worker in workers:
                worker.cancel()
            await asyncio.gather(*workers, return_exceptions=True)

    def halt(self) -> None:
        """No new call begins from now on."""
        self._stopping.set()

    async def stop(self) -> None:
        """No new call begins; returns when those under way have ended (8 s at most)."""
        self.halt()
        await self.release([("", partition) for partition in self._queue.partitions()])
        self._aside.stop()
        self._queue.close()

    def in_work(self) -> int:
        """Records in hand that do not wait for something else."""
        return sum(self._queue.in_hand.values())

    def parked(self) -> int:
        """Keys that wait for something else."""
        return self._queue.parked()

    def opt_outs_waiting(self) -> int:
        """Opt-outs that could not be written yet."""
        return self._queue.opt_outs()

    async def _work(self) -> None:
        while not self._stopping.is_set():
            job = await self._queue.next()
            token = call_guard.set(lambda job=job: self._may_call(job))  # type: ignore[misc]
            job.calling = True
            try:
                await self._attempt(job)
            except RetryError as exc:  # only when stopping: the job is left as it is, uncommitted
                log("record_retried", "debug", key=job.key, code=exc.code)
            except Exception as exc:
                if not isinstance(exc, BridgeError) and job.latest is not None:
                    exc.add_note(f"{job.key} of {job.latest.topic}-{job.latest.partition}-{job.latest.offset}")
                self._halt(exc)
            finally:
                job.calling = False
                call_guard.reset(token)
            if job.dropped:
                self._queue.finish(job)
                self._queue.ended(job)

    def _halt(self, exc: Exception) -> None:
        """Ends the run: with a HaltError, or with a fault of our own, which is one as well."""
        self._stopping.set()
        if not self._halted.done():
            self._halted.set_exception(exc)

    def _may_call(self, job: Job[E]) -> None:
        """Asked last before every call to the target."""
        if job.dropped or self._stopping.is_set():
            raise RetryError("the partition is not ours any more", code="released")
        self._lease_check()

    def _still_ours(self, job: Job[E]) -> None:
        """An answer that comes after the partition went to somebody else is not noted: no state, no dead letter."""
        if job.late:
            raise RetryError("the partition is not ours any more", code="released")
        self._lease_check()

    async def _attempt(self, job: Job[E]) -> None:
        try:
            await self._take_up(job)
            if is_a_letter(job.latest, self._known(job)):
                self.counters["stale"] += len(job.records)
            elif job.event is not None:
                with self._tracer.span("write", job.latest) as span:
                    result = await self._handler.write(job.event, self._known(job))
                    span.outcome = result.outcome
                await self._keep(job, result)
                self._count(job, result)
            self._settle(job)
        except RetryError as exc:
            await self._failed(job, exc)
        except RejectError as exc:
            await self._reject(job, exc, job.failures.count + 1)

    def _known(self, job: Job[E]) -> Known | None:
        return self._state.get(job.partition, job.state_key)

    async def _take_up(self, job: Job[E]) -> None:
        """Decodes and merges what has arrived. What cannot be decoded is dead-lettered by itself."""
        if job.event is None:  # new, or it comes from the shelf
            job.arrived, job.records = job.records + job.arrived, []
        while job.arrived and not job.dropped:
            record = job.arrived[0]
            try:
                event = await self._handler.decode(record)
            except RejectError as exc:
                self._limit.set_aside()
                await self._letters.put(record, exc, 1, None, lambda: self._still_ours(job))
                self._ledger.settle(record.position, record.offset)
                if not job.dropped:
                    self._queue.discard(job)
                continue
            if not job.dropped:
                self._queue.decoded(job)
                job.event, newer = (event, True) if job.event is None else self._handler.merge(job.event, event)
                job.latest = record if newer else job.latest

    async def _keep(self, job: Job[E], result: Result) -> None:
        self._still_ours(job)  # the call may have taken long
        if (known := job.noted(result, self._clock.now())) is None:
            return
        await self._state.put(job.partition, job.state_key, known)

    def _count(self, job: Job[E], result: Result) -> None:
        """One outcome for each record; of those that waited together the newest has it, the others are `merged`."""
        self._limit.passed()
        self._outage.over()
        self.trouble = None
        self.counters[result.outcome] += 1
        self.counters["merged"] += len(job.records) - 1
        self.counters.update(result.more)
        if result.made:
            self._queue.wake(result.made)
        self.last_written_at = self._clock.now()

    def _settle(self, job: Job[E]) -> None:
        for record in job.records:
            self._ledger.settle(record.position, record.offset)
        self._queue.finish(job)

    async def _failed(self, job: Job[E], exc: RetryError) -> None:
        if job.dropped:
            return
        job.opt_outs = exc.opt_outs
        exc = self._outage.met(job.key, exc)
        wait_s = job.failures.wait_s(exc, job.records, self._clock.now(), self._park_budget_s, self._rng)
        if wait_s is None:
            given_up = RejectError(str(exc), code=exc.code, status=exc.status)
            given_up.opt_outs, self.trouble = job.opt_outs, None
            await self._reject(job, given_up, job.failures.count, in_vain=isinstance(exc, ParkError))
            return
        log("record_retried", "debug", key=job.key, code=exc.code, attempts=job.failures.count)
        self.trouble = self.trouble if isinstance(exc, ParkError) else exc
        if isinstance(exc, ParkError) or exc.attempts is not None:
            self._aside.park(job, exc, wait_s)
        else:
            await self._retry(job, exc, wait_s)

    async def _retry(self, job: Job[E], exc: RetryError, wait_s: float) -> None:
        """The outside is away: the worker waits with the job, and so the whole writer slows down."""
        job.calling = False
        await self._patience.pause(wait_s)
        if not job.dropped:
            self._queue.ready(job)

    async def _reject(self, job: Job[E], exc: RejectError, attempts: int, *, in_vain: bool = False) -> None:
        """`in_vain`: it has waited for what did not come. That is no sign that we are wrong, however many there are."""
        if job.dropped or job.event is None or job.latest is None:
            return
        if not in_vain:
            self._limit.set_aside()
        letters = list(job.records) if self._handler.sums else [job.latest]
        for record in letters:
            await self._letters.put(record, exc, attempts, job.failures.first_at, lambda: self._still_ours(job))
        self.counters["merged"] += len(job.records) - len(letters)
        known = self._handler.rejected(job.event, self._known(job))
        await self._patience.until_done(lambda: self._keep(job, Result("dead_lettered", replace(known, status=exc.status))))
        self._settle(job)

    def _met(self, exc: RetryError) -> None:
        self.trouble = exc
