"""One run of a writer, whichever workflow: consumer, writer loop, state, dead letters and offsets put together (decisions D2–D7)."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Generic, Protocol, TypeVar

from bridge.consent.guard import of_all
from bridge.flow.offsets import OffsetLedger, Position
from bridge.flow.ports import Handler
from bridge.flow.settings import WriterSettings
from bridge.flow.waits import LetterLimit
from bridge.flow.writer import Writer
from bridge.http.gate import Pause
from bridge.kafka.client import Names
from bridge.kafka.dead_letters import KafkaDeadLetters
from bridge.kafka.lease import Lease
from bridge.kafka.producer import KafkaProducer
from bridge.kafka.records import KafkaRecords
from bridge.kafka.settings import KafkaSettings
from bridge.kafka.state import KafkaState
from bridge.kafka.topics import Topic, Topics, workflow_topics
from bridge.model.clock import Clock
from bridge.model.desired import OUTCOMES, Desired, Workflow
from bridge.model.errors import BridgeError
from bridge.model.events import Headers, Record
from bridge.model.report import Report
from bridge.model.state import Known
from bridge.observe.settings import ServiceSettings
from bridge.observe.tracing import OFF, Tracer
from bridge.process.troubles import first_trouble

E = TypeVar("E")
COUNTED: Mapping[str, Sequence[str]] = {name: (name,) for name in (*OUTCOMES, "optout_kept")} | {"written": ("created", "updated")}
"""What the API tells: the outcomes of the loop that it is the sum of."""


@dataclass(frozen=True, slots=True)
class Shared:
    """What a handler may use of its run. `records_of`: how many records of a table are known, in the partitions of all instances. `keep`
    puts the state of a record (partition, key) before its call is over."""

    producer: KafkaProducer
    records_of: Callable[[str], int]
    keep: Callable[[int, str, Known], Awaitable[None]]


class Writing(Protocol[E]):
    """What is particular to a workflow's writer. `topics` are consumed; `workers` records are in work at once, at most. `pauses`: of the
    systems it calls."""

    workflow: Workflow
    topics: Sequence[Topic]
    workers: int
    pauses: Sequence[Pause]

    async def handler(self, shared: Shared) -> Handler[E]:
        """Once the topics are there. Raises HaltError for what is wrong with the configuration: nothing has been consumed then."""

    def lanes(self, topic: str) -> Sequence[bool]:
        """Where the records of this topic (without prefix) go: True before others, False after them."""

    def calls(self) -> int:
        """Calls of the target so far."""

    async def close(self) -> None: ...


class WriterListener(Generic[E]):
    """Between the consumer's thread and the writer: partitions come with their part of the state."""

    def __init__(self, writer: Writer[E], writing: Writing[E], state: KafkaState) -> None:
        self._writer, self._writing, self._state = writer, writing, state

    def offer(self, records: Sequence[Record]) -> None:
        self._writer.offer(records)

    def full(self, topic: str) -> bool:
        return any(self._writer.full(live) for live in self._writing.lanes(topic))

    async def gain(self, partitions: Sequence[int]) -> None:
        await self._state.gain(partitions)

    async def release(self, positions: Sequence[Position]) -> None:
        await self._writer.release(positions)
        for partition in {partition for _, partition in positions}:
            self._state.lose(partition)


class WriterRun(Generic[E]):
    """See bridge.service.Run. `revision`: of the running configuration, for dead letters."""

    def __init__(
        self,
        kafka: KafkaSettings,
        service: ServiceSettings,
        limits: WriterSettings,
        writing: Writing[E],
        revision: int,
        clock: Clock,
        tracer: Tracer = OFF,
    ) -> None:
        self._kafka, self._service, self._limits, self._writing = kafka, service, limits, writing
        self._revision, self._clock, self._tracer = revision, clock, tracer
        self._folder = service.own_dir(f"{writing.workflow}-writer")
        self._records: KafkaRecords | None = None
        self._writer: Writer[E] | None = None

    @property
    def ready(self) -> bool:
        """From the first assignment of the group on."""
        return self._records is not None and self._records.membership.joined

    async def run(self) -> None:
        writing = self._writing
        producer = KafkaProducer(self._kafka)
        state = KafkaState(self._kafka, writing.workflow, self._folder, producer)
        ledger, lease = OffsetLedger(), Lease()
        try:
            counts = await asyncio.to_thread(Topics(self._kafka).ensure, [*writing.topics, *workflow_topics(writing.workflow)])
            partitions = counts[f"{writing.workflow}.state"]
            counted = partial(self._counted, state, partitions)
            handler = await writing.handler(Shared(producer, counted, state.put))
            writer = self._writer = self._build(handler, state, producer, ledger, lease)
            topics = [topic.name for topic in writing.topics]
            listener = WriterListener(writer, writing, state)
            records = self._records = KafkaRecords(
                self._kafka, writing.workflow, self._service.instance_id, topics, listener, ledger, lease
            )
            await self._consume(writer, records)
        finally:
            state.close()
            await asyncio.to_thread(producer.close)
            await writing.close()

    @staticmethod
    def _counted(state: KafkaState, partitions: int, table: str) -> int:
        return of_all(state.records_of(table), state.owned() / partitions)

    async def _consume(self, writer: Writer[E], records: KafkaRecords) -> None:
        """Until one of the two fails or we are cancelled; either way: no new calls, drain, commit, leave."""
        tasks = [asyncio.create_task(records.run()), asyncio.create_task(writer.run())]
        try:
            done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                task.result()
        finally:
            writer.halt()
            await records.close()
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    def _build(self, handler: Handler[E], state: KafkaState, producer: KafkaProducer, ledger: OffsetLedger, lease: Lease) -> Writer[E]:
        names = Names(self._kafka)

        async def requeue(record: Record, headers: Headers) -> None:
            await producer.send(names.topic(record.topic), record.key, record.value, headers, record.partition)

        return Writer(
            handler,
            state,
            KafkaDeadLetters(self._kafka, self._writing.workflow, self._revision, producer),
            requeue,
            ledger,
            LetterLimit(self._limits.dead_letters_in_a_row, self._limits.dead_letter_ratio),
            self._clock,
            random.Random(),
            concurrency=self._writing.workers,
            park_budget_s=self._limits.park_budget_s,
            lease_check=lease.check,
            tracer=self._tracer,
            folder=self._folder,
        )

    def told(self, desired: Desired) -> None:
        """Replays are the reader's."""

    def report(self) -> Report:
        trouble, lasted_s = self._trouble()
        if self._writer is None:
            return Report(trouble=trouble, trouble_for_s=lasted_s)
        counted = self._writer.counters
        written_at = self._writer.last_written_at
        sums = {name: sum(counted[outcome] for outcome in outcomes) for name, outcomes in COUNTED.items()}
        return Report(
            counters={**sums, "target_calls": self._writing.calls(), "optouts_waiting": self._writer.opt_outs_waiting()},
            parked=self._writer.parked(),
            last_written_at=written_at.isoformat() if written_at else None,
            trouble=trouble,
            trouble_for_s=lasted_s,
            in_work=self._writer.in_work(),
            consumed={"read": counted["read"]},
            rebalances=self._records.rebalances if self._records is not None else 0,
        )

    def _trouble(self) -> tuple[BridgeError | None, float]:
        """What keeps the writer from its work, and how many seconds that is known to have lasted."""
        met = self._writer.trouble if self._writer is not None else None
        return first_trouble(met, self._records.membership if self._records else None, self._writing.pauses, self._clock)
