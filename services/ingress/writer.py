"""`python -m services.ingress.writer`: brings Campaign to the state of the changes in Kafka."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

from bridge.campaign.client import CampaignClient, records
from bridge.campaign.metadata import Resource, missing_fields, read_resource
from bridge.campaign.settings import CampaignSettings
from bridge.consent.guard import delete_limit, release_limit
from bridge.consent.meaning import doubts_of_table, refuse
from bridge.consent.settings import ConsentSettings
from bridge.flow.settings import WriterSettings
from bridge.http.gate import Pause
from bridge.kafka.avro import Decoder, load_schema
from bridge.kafka.guard import KafkaGuard
from bridge.kafka.registry import HttpRegistry
from bridge.kafka.settings import KafkaSettings
from bridge.kafka.settled import KafkaSettled
from bridge.kafka.topics import Topic, ingress_topics
from bridge.mapping.rows import Mapper
from bridge.model.clock import Clock, SystemClock
from bridge.model.config import IngressConfig, TableMapping
from bridge.model.desired import Desired, Workflow
from bridge.model.events import ChangeEvent
from bridge.model.flags import canonical_flag
from bridge.model.state import Digests
from bridge.observe.settings import ServiceSettings
from bridge.observe.telemetry import Telemetry
from bridge.process.entry import main
from bridge.process.writing import Shared, WriterRun
from services.ingress.children import Children, children_of
from services.ingress.consent import Consent
from services.ingress.decide import Change
from services.ingress.handler import LIVE, IngressHandler
from services.ingress.optin import PROFILE, Flags, OptIn
from services.ingress.publishing import Publishing
from services.ingress.target import Target

PAGE, LOOKED_AT = 500, 2000  # profiles


class IngressWriting:
    """See bridge.process.writing.Writing."""

    workflow: Workflow = "ingress"

    def __init__(
        self,
        kafka: KafkaSettings,
        campaign: CampaignSettings,
        consent: ConsentSettings,
        desired: Desired,
        clock: Clock,
        pause: Pause,
        optin: Flags,
        produced_by: str,
    ) -> None:
        self._kafka, self._campaign, self._consent, self._clock = kafka, campaign, consent, clock
        self._optin, self._produced_by = optin, produced_by
        self._guard: KafkaGuard | None = None
        self._tables = IngressConfig.model_validate(desired.config).tables
        self.pauses: Sequence[Pause] = (pause,)
        self._client = CampaignClient(campaign, clock, pause=pause)
        self.topics: Sequence[Topic] = ingress_topics([table.source for table in self._tables])
        # More than calls at once: what waits for Kafka to take its state must not leave a call unmade.
        self.workers = campaign.concurrency + max(1, campaign.concurrency // 2)

    async def handler(self, shared: Shared) -> IngressHandler:
        for table in self._tables:
            refuse(doubts_of_table(table, {}))
        targets = await asyncio.gather(*(self._target(table) for table in self._tables))
        registry = HttpRegistry(self._kafka)
        decoder = Decoder(registry, load_schema("ChangeEvent"), ChangeEvent)
        by_table = {target.table.source: target for target in targets}
        publishing = Publishing(self._kafka, registry, shared.producer, self._consent.decisions_days, self._produced_by)
        await publishing.open()
        self._guard = KafkaGuard(self._kafka, shared.producer)
        limits = GuardLimits(self._consent, shared.records_of)
        consent = Consent(self._client, self._guard, publishing.prove, limits, self._clock)
        optin = OptIn(publishing.observe, self._clock, self._optin)
        digests = Digests(self._campaign.digest_secret())
        settled = KafkaSettled(self._kafka, self.workflow, LIVE.removesuffix("."), self._clock)
        children = Children(children_of(targets), settled, self._clock)
        return IngressHandler(by_table, self._client, decoder, digests, consent, optin, self._clock, shared.keep, children)

    def lanes(self, topic: str) -> Sequence[bool]:
        return [topic.startswith(LIVE)]

    def calls(self) -> int:
        return self._client.calls

    async def close(self) -> None:
        if self._guard is not None:
            self._guard.close()
        await self._client.close()

    async def _target(self, table: TableMapping) -> Target:
        resource = await read_resource(self._client, table.target)
        wanted = [table.key.target, *(canonical_flag(field.target) for field in table.fields)]
        if (problem := missing_fields(resource, wanted)) is not None:
            raise problem
        fields = resource.only(wanted)
        capitals = table.target == PROFILE and self._campaign.keys_in_capitals != "no"
        if capitals and self._campaign.keys_in_capitals == "auto":
            capitals = await has_capitals(self._client, resource, table.key.target)
        return Target(table, resource, fields, Mapper(table, fields), capitals)


@dataclass(frozen=True, slots=True)
class GuardLimits:
    """See services.ingress.consent.Limits."""

    settings: ConsentSettings
    records_of: Callable[[str], int]

    def lowers(self) -> int:
        return release_limit(self.settings.release_limit, self.records_of("contact") if self.settings.release_limit is None else 0)

    def deletes(self, table: str) -> int:
        return delete_limit(self.settings.delete_limit, self.records_of(table) if self.settings.delete_limit is None else 0)


async def has_capitals(client: CampaignClient, resource: Resource, key: str) -> bool:
    """Whether there are profiles whose key an older integration wrote in capital letters: a look at the first ones. Keys are compared by
    letter in Campaign, so that such a profile would not be found, and a second one made."""
    page, seen = f"{resource.path}?_lineCount={PAGE}", 0
    while page and seen < LOOKED_AT:
        answer = await client.get(page)
        found = records(answer, resource.path)
        keys = [str(each.get(key) or "") for each in found]
        if any(each != each.lower() for each in keys):
            return True
        seen += len(keys)
        link = answer.get("next")
        page = str(link["href"]) if found and isinstance(link, dict) and link.get("href") else ""
    return False


def make(
    optin: Flags,
    kafka: KafkaSettings,
    service: ServiceSettings,
    telemetry: Telemetry,
    campaign: CampaignSettings,
    limits: WriterSettings,
    consent: ConsentSettings,
) -> Callable[[Desired], WriterRun[Change]]:
    clock, pause = SystemClock(), Pause(telemetry.metrics.meter("campaign"), "Campaign")
    produced_by = f"ingress-writer/{service.instance_id}"

    def run(desired: Desired) -> WriterRun[Change]:
        writing = IngressWriting(kafka, campaign, consent, desired, clock, pause, optin, produced_by)
        return WriterRun(kafka, service, limits, writing, desired.revision or 0, clock, telemetry.tracer)

    return run


if __name__ == "__main__":
    flags = Flags()
    sys.exit(main("ingress", "writer", [CampaignSettings, WriterSettings, ConsentSettings], partial(make, flags), beside=flags.heard))
