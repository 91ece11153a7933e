"""`python -m services.ingress.writer`: brings Campaign to the state of the changes in Kafka."""

from __future__ import annotations

import asyncio
import random
import sys
from collections.abc import Callable, Sequence

from bridge.avro import Decoder, load_schema
from bridge.campaign.client import CampaignClient
from bridge.campaign.metadata import missing_fields, read_resource
from bridge.clock import Clock, SystemClock
from bridge.config import IngressConfig, TableMapping, canonical_flag
from bridge.desired import Desired
from bridge.entry import main
from bridge.events import ChangeEvent, Headers, Record
from bridge.flow.offsets import OffsetLedger, Position
from bridge.flow.waits import LetterLimit
from bridge.flow.writer import Writer
from bridge.kafka.client import Names
from bridge.kafka.dead_letters import KafkaDeadLetters
from bridge.kafka.producer import KafkaProducer
from bridge.kafka.records import KafkaRecords, Lease
from bridge.kafka.registry import HttpRegistry
from bridge.kafka.state import KafkaState
from bridge.kafka.topics import Topics, ingress_topics, workflow_topics
from bridge.mapping import Mapper
from bridge.rooms import CampaignSettings, WriterSettings
from bridge.service import Report
from bridge.settings import KafkaSettings, ServiceSettings
from bridge.state import Digests
from services.ingress.decide import Change
from services.ingress.handler import LIVE, IngressHandler, Target

WRITTEN = ("created", "updated")
UNCHANGED = ("unchanged", "stale", "incomplete", "delete_ignored")


class Taker:
    """Between the consumer's thread and the writer: partitions come with their part of the state."""

    def __init__(self, writer: Writer[Change], state: KafkaState) -> None:
        self._writer, self._state = writer, state

    def offer(self, records: Sequence[Record]) -> None:
        self._writer.offer(records)

    def full(self, topic: str) -> bool:
        return self._writer.full(topic.startswith(LIVE))

    async def gain(self, partitions: Sequence[int]) -> None:
        await self._state.gain(partitions)

    async def release(self, positions: Sequence[Position]) -> None:
        await self._writer.release(positions)
        for partition in {partition for _, partition in positions}:
            self._state.lose(partition)


class WriterRun:
    """See bridge.service.Run."""

    def __init__(
        self,
        kafka: KafkaSettings,
        service: ServiceSettings,
        campaign: CampaignSettings,
        limits: WriterSettings,
        desired: Desired,
        clock: Clock,
    ) -> None:
        self._kafka, self._service, self._campaign, self._limits = kafka, service, campaign, limits
        self._revision, self._clock = desired.revision or 0, clock
        self._tables = IngressConfig.model_validate(desired.config).tables
        self._writer: Writer[Change] | None = None
        self._client: CampaignClient | None = None
        self.ready = False

    async def run(self) -> None:
        client = self._client = CampaignClient(self._campaign, self._clock)
        producer = KafkaProducer(self._kafka)
        state = KafkaState(self._kafka, "ingress", self._service.state_dir, producer)
        ledger, lease = OffsetLedger(), Lease()
        try:
            handler = await self._handler(client)
            writer = self._writer = self._build(handler, state, producer, ledger, lease)
            topics = [topic.name for topic in ingress_topics([table.source for table in self._tables])]
            records = KafkaRecords(self._kafka, "ingress", self._service.instance_id, topics, Taker(writer, state), ledger, lease)
            await self._consume(writer, records)
        finally:
            state.close()
            await asyncio.to_thread(producer.close)
            await client.close()

    async def _consume(self, writer: Writer[Change], records: KafkaRecords) -> None:
        """Until one of the two fails or we are cancelled; either way: no new calls, drain, commit, leave."""
        tasks = [asyncio.create_task(records.run()), asyncio.create_task(writer.run())]
        try:
            self.ready = True
            done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                task.result()
        finally:
            writer.halt()
            await records.close()
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _handler(self, client: CampaignClient) -> IngressHandler:
        """Topics and metadata: what is wrong with the configuration shows here, before anything is written."""
        topics = ingress_topics([table.source for table in self._tables])
        await asyncio.to_thread(Topics(self._kafka).ensure, [*topics, *workflow_topics("ingress")])
        targets = await asyncio.gather(*(self._target(client, table) for table in self._tables))
        decoder = Decoder(HttpRegistry(self._kafka), load_schema("ChangeEvent"), ChangeEvent)
        by_table = {target.table.source: target for target in targets}
        return IngressHandler(by_table, client, decoder, Digests(self._campaign.digest_secret()), self._clock)

    async def _target(self, client: CampaignClient, table: TableMapping) -> Target:
        resource = await read_resource(client, table.target)
        wanted = [table.key.target, *(canonical_flag(field.target) for field in table.fields)]
        if (problem := missing_fields(resource, wanted)) is not None:
            raise problem
        fields = resource.only(wanted)
        return Target(table, resource, fields, Mapper(table, fields))

    def _build(
        self, handler: IngressHandler, state: KafkaState, producer: KafkaProducer, ledger: OffsetLedger, lease: Lease
    ) -> Writer[Change]:
        names = Names(self._kafka)

        async def requeue(record: Record, headers: Headers) -> None:
            await producer.send(names.topic(record.topic), record.key, record.value, headers, record.partition)

        return Writer(
            handler,
            state,
            KafkaDeadLetters(self._kafka, "ingress", self._revision, producer),
            requeue,
            ledger,
            LetterLimit(self._limits.dead_letters_in_a_row, self._limits.dead_letter_ratio),
            self._clock,
            random.Random(),
            concurrency=self._campaign.concurrency,
            park_budget_s=self._limits.park_budget_s,
            lease_check=lease.check,
        )

    def told(self, desired: Desired) -> None:
        """Replays are the reader's."""

    def report(self) -> Report:
        if self._writer is None or self._client is None:
            return Report()
        counted = self._writer.counters
        written_at = self._writer.last_written_at
        return Report(
            counters={
                "written": sum(counted[outcome] for outcome in WRITTEN),
                "unchanged": sum(counted[outcome] for outcome in UNCHANGED),
                "filtered": counted["filtered"],
                "deleted": counted["deleted"],
                "dead_lettered": counted["dead_lettered"],
                "target_calls": self._client.calls,
            },
            parked=self._writer.parked(),
            last_written_at=written_at.isoformat() if written_at else None,
            trouble=self._writer.trouble,
        )


def make(
    kafka: KafkaSettings, service: ServiceSettings, campaign: CampaignSettings, limits: WriterSettings
) -> Callable[[Desired], WriterRun]:
    clock = SystemClock()
    return lambda desired: WriterRun(kafka, service, campaign, limits, desired, clock)


if __name__ == "__main__":
    sys.exit(main("ingress", "writer", [CampaignSettings, WriterSettings], make))
