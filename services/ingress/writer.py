"""`python -m services.ingress.writer`: brings Campaign to the state of the changes in Kafka."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable, Sequence

from bridge.avro import Decoder, load_schema
from bridge.campaign.client import CampaignClient
from bridge.campaign.metadata import missing_fields, read_resource
from bridge.clock import Clock, SystemClock
from bridge.config import IngressConfig, TableMapping, canonical_flag
from bridge.desired import Desired, Workflow
from bridge.entry import main
from bridge.events import ChangeEvent
from bridge.http import Pause
from bridge.kafka.registry import HttpRegistry
from bridge.kafka.topics import Topic, ingress_topics
from bridge.mapping import Mapper
from bridge.rooms import CampaignSettings, WriterSettings
from bridge.settings import KafkaSettings, ServiceSettings
from bridge.state import Digests
from bridge.telemetry import Telemetry
from bridge.writing import WriterRun
from services.ingress.decide import Change
from services.ingress.handler import LIVE, IngressHandler, Target


class IngressWriting:
    """See bridge.writing.Writing."""

    workflow: Workflow = "ingress"

    def __init__(self, kafka: KafkaSettings, campaign: CampaignSettings, desired: Desired, clock: Clock, pause: Pause) -> None:
        self._kafka, self._campaign, self._clock = kafka, campaign, clock
        self._tables = IngressConfig.model_validate(desired.config).tables
        self._client = CampaignClient(campaign, clock, pause=pause)
        self.topics: Sequence[Topic] = ingress_topics([table.source for table in self._tables])
        # More than calls at once: what waits for Kafka to take its state must not leave a call unmade.
        self.workers = campaign.concurrency + max(1, campaign.concurrency // 2)

    async def handler(self) -> IngressHandler:
        targets = await asyncio.gather(*(self._target(table) for table in self._tables))
        decoder = Decoder(HttpRegistry(self._kafka), load_schema("ChangeEvent"), ChangeEvent)
        by_table = {target.table.source: target for target in targets}
        return IngressHandler(by_table, self._client, decoder, Digests(self._campaign.digest_secret()))

    def lanes(self, topic: str) -> Sequence[bool]:
        return [topic.startswith(LIVE)]

    def calls(self) -> int:
        return self._client.calls

    async def close(self) -> None:
        await self._client.close()

    async def _target(self, table: TableMapping) -> Target:
        resource = await read_resource(self._client, table.target)
        wanted = [table.key.target, *(canonical_flag(field.target) for field in table.fields)]
        if (problem := missing_fields(resource, wanted)) is not None:
            raise problem
        fields = resource.only(wanted)
        return Target(table, resource, fields, Mapper(table, fields))


def make(
    kafka: KafkaSettings, service: ServiceSettings, telemetry: Telemetry, campaign: CampaignSettings, limits: WriterSettings
) -> Callable[[Desired], WriterRun[Change]]:
    clock, pause = SystemClock(), Pause(telemetry.metrics.meter("campaign"))

    def run(desired: Desired) -> WriterRun[Change]:
        writing = IngressWriting(kafka, campaign, desired, clock, pause)
        return WriterRun(kafka, service, limits, writing, desired.revision or 0, clock, telemetry.tracer)

    return run


if __name__ == "__main__":
    sys.exit(main("ingress", "writer", [CampaignSettings, WriterSettings], make))
