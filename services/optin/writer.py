"""`python -m services.optin.writer`: tells each system what was decided of contacts' opt-out flags."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Callable, Sequence

from bridge.campaign.client import CampaignClient
from bridge.campaign.settings import CampaignSettings
from bridge.consent.settings import ConsentSettings
from bridge.dynamics.client import DynamicsClient
from bridge.dynamics.identity import WhoAmI
from bridge.dynamics.metadata import read_table
from bridge.dynamics.secured import checked
from bridge.dynamics.settings import DynamicsSettings
from bridge.flow.settings import WriterSettings
from bridge.http.gate import Pause
from bridge.kafka.avro import Decoder, Encoder, load_schema
from bridge.kafka.client import Names
from bridge.kafka.registry import HttpRegistry
from bridge.kafka.settings import KafkaSettings
from bridge.kafka.topics import Topic, Topics, optin_topics, outcomes_topic
from bridge.model.clock import Clock, SystemClock
from bridge.model.desired import Desired, Workflow
from bridge.model.events import OptStatusDecided, OptStatusObserved, event_headers
from bridge.observe.settings import ServiceSettings
from bridge.observe.telemetry import Telemetry
from bridge.process.entry import main
from bridge.process.writing import Shared, WriterRun
from services.optin.contacts import Contacts
from services.optin.handler import Decided, OptinHandler
from services.optin.observing import Observing
from services.optin.profiles import Profiles
from services.optin.running import running_config

OBSERVATIONS = "optin.observations"


class OptinWriting:
    """See bridge.process.writing.Writing."""

    workflow: Workflow = "optin"

    def __init__(
        self,
        kafka: KafkaSettings,
        service: ServiceSettings,
        dynamics: DynamicsSettings,
        campaign: CampaignSettings,
        limits: WriterSettings,
        consent: ConsentSettings,
        desired: Desired,
        clock: Clock,
        pauses: tuple[Pause, Pause],
    ) -> None:
        self._kafka, self._limits, self._consent, self._clock = kafka, limits, consent, clock
        _, self._pairs = running_config(desired)
        self.pauses: Sequence[Pause] = pauses
        self._dynamics = DynamicsClient(dynamics, clock, origin="target", pause=pauses[0], patient=True)
        self._campaign = CampaignClient(campaign, clock, pause=pauses[1])
        self._produced_by = f"optin-writer/{service.instance_id}"
        self.topics: Sequence[Topic] = optin_topics(consent.decisions_days)[1:]
        self.workers = max(dynamics.concurrency, campaign.concurrency)

    async def handler(self, shared: Shared) -> OptinHandler:
        flags = [pair.dynamics for pair in self._pairs]
        described = await read_table(self._dynamics, "contact", flags, tracked=False, also=["modifiedby"])
        table = await checked(self._dynamics, described, writes=flags)
        user = (await WhoAmI(self._dynamics, self._clock).ask()).user if table.also else None
        registry, schema = HttpRegistry(self._kafka), load_schema("OptStatusObserved")
        names = Names(self._kafka)
        topic, outcomes = names.topic(OBSERVATIONS), names.topic(outcomes_topic().name)
        encoder = Encoder(schema, await asyncio.to_thread(registry.register, f"{topic}-value", schema))
        await asyncio.to_thread(Topics(self._kafka).ensure, [optin_topics()[0], outcomes_topic(self._consent.decisions_days)])
        producer = shared.producer

        async def observe(event: OptStatusObserved, version: int | None, *, own: bool) -> None:
            headers = event_headers("live", "" if version is None else str(version), self._produced_by)
            headers += [("read-back", b"1")] if own else []
            await producer.send(topic, event.contact_key.encode(), encoder.encode(event), headers)

        async def note(contact: str, places: Sequence[str], outcome: str, status: int | None) -> None:
            at = self._clock.now().isoformat()
            for place in places:
                value = {"decision": place, "outcome": outcome, "status": status, "at": at}
                await producer.send(outcomes, contact.encode(), json.dumps(value).encode())

        observing = Observing(self._pairs, observe, self._clock)
        contacts = Contacts(self._dynamics, table.set_name, flags, user, observing)
        profiles = Profiles(self._campaign, self._dynamics, observing)
        decoder = Decoder(registry, load_schema("OptStatusDecided"), OptStatusDecided)
        budget = self._limits.park_budget_s
        return OptinHandler(contacts, profiles, observing, decoder, note, self._clock, park_budget_s=budget)

    def lanes(self, topic: str) -> Sequence[bool]:
        return [True, False]

    def calls(self) -> int:
        return self._dynamics.calls + self._campaign.calls

    async def close(self) -> None:
        await self._dynamics.close()
        await self._campaign.close()


def make(
    kafka: KafkaSettings,
    service: ServiceSettings,
    telemetry: Telemetry,
    dynamics: DynamicsSettings,
    campaign: CampaignSettings,
    limits: WriterSettings,
    consent: ConsentSettings,
) -> Callable[[Desired], WriterRun[Decided]]:
    clock, meter = SystemClock(), telemetry.metrics.meter
    pauses = (Pause(meter("dynamics"), "Dynamics"), Pause(meter("campaign"), "Campaign"))

    def run(desired: Desired) -> WriterRun[Decided]:
        writing = OptinWriting(kafka, service, dynamics, campaign, limits, consent, desired, clock, pauses)
        return WriterRun(kafka, service, limits, writing, desired.revision or 0, clock, telemetry.tracer)

    return run


if __name__ == "__main__":
    sys.exit(main("optin", "writer", [DynamicsSettings, CampaignSettings, WriterSettings, ConsentSettings], make))
