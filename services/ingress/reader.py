"""`python -m services.ingress.reader`: reads the mapped tables of Dynamics and publishes their changes."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial

from bridge.consent.meaning import PROFILE, doubts_of_table
from bridge.dynamics.changes import TrackedTable
from bridge.dynamics.client import DynamicsClient
from bridge.dynamics.doubts import check_flags
from bridge.dynamics.epoch import SourceEpoch
from bridge.dynamics.identity import WhoAmI
from bridge.dynamics.metadata import read_table
from bridge.dynamics.secured import checked
from bridge.dynamics.settings import DynamicsSettings
from bridge.http.gate import Pause
from bridge.kafka.avro import Decoder, load_schema
from bridge.kafka.published import Published
from bridge.kafka.registry import HttpRegistry
from bridge.kafka.settings import KafkaSettings
from bridge.kafka.topics import Topic, ingress_topics
from bridge.model.clock import Clock, SystemClock
from bridge.model.config import IngressConfig, TableMapping
from bridge.model.desired import Desired, Workflow
from bridge.model.events import ChangeEvent
from bridge.model.flags import OPT_OUT_FLAGS, canonical_flag
from bridge.observe.settings import ServiceSettings
from bridge.observe.telemetry import Telemetry
from bridge.process.entry import main
from bridge.process.reading import ReaderRun
from services.ingress.feed import TableFeed
from services.ingress.reconcile import Reconciliation


class IngressReading:
    """See bridge.process.reading.Reading: a feed for each mapped table."""

    workflow: Workflow = "ingress"
    schema = "ChangeEvent"
    transactional = True

    def __init__(
        self, kafka: KafkaSettings, service: ServiceSettings, dynamics: DynamicsSettings, desired: Desired, clock: Clock, pause: Pause
    ) -> None:
        self._service, self._dynamics, self._clock = service, dynamics, clock
        self._tables = {table.source: table for table in IngressConfig.model_validate(desired.config).tables}
        self._replays, self._epoch, self._generation = desired.replays, desired.epoch, desired.generation
        self._published = Published(kafka, "ingress", Decoder(HttpRegistry(kafka), load_schema("ChangeEvent"), ChangeEvent))
        self.pauses: Sequence[Pause] = (pause,)
        self._client = DynamicsClient(dynamics, clock, pause=pause, patient=True)
        self._who = WhoAmI(self._client, clock)
        self.topics: Sequence[Topic] = ingress_topics(list(self._tables))

    async def sources(self, partitions: Mapping[str, int]) -> Mapping[str, Callable[[], TableFeed]]:
        for table in self._tables.values():
            if table.target == PROFILE:
                await check_flags(self._client, table.source, partial(doubts_of_table, table))
        described = await asyncio.gather(*(self._describe(table) for table in self._tables.values()))
        tracked = dict(zip(self._tables, described, strict=True))
        return {f"dynamics:{name}": partial(self._feed, name, tracked[name], partitions) for name in self._tables}

    def counters(self) -> Mapping[str, int]:
        return {}

    def smaller(self, event: ChangeEvent) -> ChangeEvent:
        """Its opt-outs: the writer takes a row that lacks columns for incomplete, but for these. And the comparison after a load finds its
        version in the topics."""
        mapped = {field.source for field in self._tables[event.table].fields if canonical_flag(field.target) in OPT_OUT_FLAGS}
        flags = {name: value for name, value in event.fields.items() if name in mapped}
        return replace(event, fields=flags, labels={})

    def told(self, desired: Desired) -> None:
        self._replays, self._epoch = desired.replays, desired.epoch

    async def close(self) -> None:
        await self._client.close()

    async def _describe(self, table: TableMapping) -> TrackedTable:
        also = ("modifiedby",) if table.flags() else ()
        described = await read_table(self._client, table.source, table.columns(), also=also)
        described = await checked(self._client, described)
        return TrackedTable(self._client, described, self._dynamics.page_size, self._dynamics.zone)

    def _feed(self, name: str, tracked: TrackedTable, partitions: Mapping[str, int]) -> TableFeed:
        topics = {topic.name: partitions[topic.name] for topic in ingress_topics([name])}
        return TableFeed(
            tracked,
            lambda: self._describe(self._tables[name]),
            Reconciliation(self._published, name, topics, partitions["ingress.state"], self._service.own_dir("ingress-reader")),
            SourceEpoch(name, self._who, self._generation, lambda: self._epoch),
            self._clock,
            poll_interval_s=self._dynamics.poll_interval_s,
            tables=len(self._tables),
            produced_by=f"ingress-reader/{self._service.instance_id}",
            replay_asked=lambda: self._replays.get(name),
        )


def make(
    kafka: KafkaSettings, service: ServiceSettings, telemetry: Telemetry, dynamics: DynamicsSettings
) -> Callable[[Desired], ReaderRun]:
    clock, pause = SystemClock(), Pause(telemetry.metrics.meter("dynamics"), "Dynamics")

    def run(desired: Desired) -> ReaderRun:
        reading = IngressReading(kafka, service, dynamics, desired, clock, pause)
        return ReaderRun(kafka, service, reading, desired.revision, clock, telemetry.tracer)

    return run


if __name__ == "__main__":
    sys.exit(main("ingress", "reader", [DynamicsSettings], make))
