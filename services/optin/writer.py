"""`python -m services.optin.writer`: tells each system what was decided of contacts' opt-out flags."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable, Sequence

from bridge.avro import Decoder, Encoder, load_schema
from bridge.campaign.client import CampaignClient
from bridge.clock import Clock, SystemClock
from bridge.desired import Desired, Workflow
from bridge.dynamics.client import DynamicsClient
from bridge.dynamics.metadata import read_table
from bridge.entry import main
from bridge.events import OptStatusDecided, OptStatusObserved, event_headers
from bridge.http import Pause
from bridge.kafka.client import Names
from bridge.kafka.producer import KafkaProducer
from bridge.kafka.registry import HttpRegistry
from bridge.kafka.topics import Topic, optin_topics
from bridge.rooms import CampaignSettings, DynamicsSettings, WriterSettings
from bridge.settings import KafkaSettings, ServiceSettings
from bridge.telemetry import Telemetry
from bridge.writing import WriterRun
from services.optin.handler import Decided, OptinHandler
from services.optin.running import running_config

OBSERVATIONS = "optin.observations"


class OptinWriting:
    """See bridge.writing.Writing."""

    workflow: Workflow = "optin"

    def __init__(
        self,
        kafka: KafkaSettings,
        service: ServiceSettings,
        dynamics: DynamicsSettings,
        campaign: CampaignSettings,
        limits: WriterSettings,
        desired: Desired,
        clock: Clock,
        pauses: tuple[Pause, Pause],
    ) -> None:
        self._kafka, self._limits, self._clock = kafka, limits, clock
        _, self._pairs = running_config(desired)
        self._dynamics = DynamicsClient(dynamics, clock, origin="target", pause=pauses[0], patient=True)
        self._campaign = CampaignClient(campaign, clock, pause=pauses[1])
        self._produced_by = f"optin-writer/{service.instance_id}"
        self._producer: KafkaProducer | None = None
        self.topics: Sequence[Topic] = optin_topics()[1:]
        self.workers = max(dynamics.concurrency, campaign.concurrency)

    async def handler(self) -> OptinHandler:
        table = await read_table(self._dynamics, "contact", [pair.dynamics for pair in self._pairs], tracked=False)
        registry, schema = HttpRegistry(self._kafka), load_schema("OptStatusObserved")
        topic = Names(self._kafka).topic(OBSERVATIONS)
        encoder = Encoder(schema, await asyncio.to_thread(registry.register, f"{topic}-value", schema))
        producer = self._producer = KafkaProducer(self._kafka)

        async def observe(event: OptStatusObserved, version: int | None, *, own: bool) -> None:
            headers = event_headers("live", "" if version is None else str(version), self._produced_by)
            headers += [("read-back", b"1")] if own else []
            await producer.send(topic, event.contact_key.encode(), encoder.encode(event), headers)

        decoder = Decoder(registry, load_schema("OptStatusDecided"), OptStatusDecided)
        clients = (self._dynamics, self._campaign)
        budget = self._limits.park_budget_s
        return OptinHandler(*clients, table.set_name, self._pairs, decoder, observe, self._clock, park_budget_s=budget)

    def lanes(self, topic: str) -> Sequence[bool]:
        return [True, False]

    def calls(self) -> int:
        return self._dynamics.calls + self._campaign.calls

    async def close(self) -> None:
        await self._dynamics.close()
        await self._campaign.close()
        if self._producer is not None:
            await asyncio.to_thread(self._producer.close)


def make(
    kafka: KafkaSettings,
    service: ServiceSettings,
    telemetry: Telemetry,
    dynamics: DynamicsSettings,
    campaign: CampaignSettings,
    limits: WriterSettings,
) -> Callable[[Desired], WriterRun[Decided]]:
    clock, meter = SystemClock(), telemetry.metrics.meter
    pauses = (Pause(meter("dynamics")), Pause(meter("campaign")))

    def run(desired: Desired) -> WriterRun[Decided]:
        writing = OptinWriting(kafka, service, dynamics, campaign, limits, desired, clock, pauses)
        return WriterRun(kafka, service, limits, writing, desired.revision or 0, clock, telemetry.tracer)

    return run


if __name__ == "__main__":
    sys.exit(main("optin", "writer", [DynamicsSettings, CampaignSettings, WriterSettings], make))
