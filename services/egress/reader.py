"""`python -m services.egress.reader`: follows Campaign's journal of events and publishes those that belong on a timeline."""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Callable, Mapping, Sequence

import httpx

from bridge.campaign.journal import JournalClient
from bridge.campaign.settings import CampaignSettings, JournalSettings
from bridge.flow.settings import WriterSettings
from bridge.flow.waits import LetterLimit
from bridge.http.gate import Pause
from bridge.kafka.settings import KafkaSettings
from bridge.kafka.topics import Topic, egress_topics
from bridge.model.clock import Clock, SystemClock
from bridge.model.desired import Desired, Workflow
from bridge.observe.settings import ServiceSettings
from bridge.observe.telemetry import Telemetry
from bridge.process.entry import main
from bridge.process.reading import ReaderRun
from services.egress.journal_feed import CURSOR, JournalFeed
from services.egress.payload import Payloads, selected
from services.egress.settings import EventSettings


class EgressReading:
    """See bridge.process.reading.Reading: one feed, the journal."""

    workflow: Workflow = "egress"
    schema = "EmailEvent"
    transactional = True

    def __init__(
        self,
        kafka: KafkaSettings,
        service: ServiceSettings,
        campaign: CampaignSettings,
        journal: JournalSettings,
        events: EventSettings,
        limits: WriterSettings,
        desired: Desired,
        clock: Clock,
        pause: Pause,
    ) -> None:
        self.pauses: Sequence[Pause] = (pause,)
        self._client = JournalClient(journal, campaign, clock, pause=pause)
        self._feed = JournalFeed(
            self._client,
            Payloads(events),
            selected(desired.config or {}),
            LetterLimit(limits.dead_letters_in_a_row, limits.dead_letter_ratio),
            clock,
            journal=journal_id(journal.url),
            topic_prefix=kafka.topic_prefix,
            revision=desired.revision or 0,
            produced_by=f"egress-reader/{service.instance_id}",
            poll_interval_s=journal.poll_interval_s,
        )
        self.topics: Sequence[Topic] = egress_topics()

    async def sources(self, partitions: Mapping[str, int]) -> Mapping[str, Callable[[], JournalFeed]]:
        return {CURSOR: lambda: self._feed}

    def counters(self) -> Mapping[str, int]:
        counted = self._feed.counted
        return {"filtered": counted.total() - counted["dead_lettered"], "dead_lettered": counted["dead_lettered"]}

    def smaller(self, event: object) -> None:
        """Nothing has to arrive in part."""

    def told(self, desired: Desired) -> None:
        """Nothing but start and stop concerns the journal."""

    async def close(self) -> None:
        await self._client.close()


def journal_id(url: str) -> str:
    """Tells journals apart without showing the registration."""
    return hashlib.sha256(httpx.URL(url).path.encode()).hexdigest()[:12]


def make(
    kafka: KafkaSettings,
    service: ServiceSettings,
    telemetry: Telemetry,
    campaign: CampaignSettings,
    journal: JournalSettings,
    events: EventSettings,
    limits: WriterSettings,
) -> Callable[[Desired], ReaderRun]:
    clock, pause = SystemClock(), Pause(telemetry.metrics.meter("journal"), "the journal of Adobe I/O Events")

    def run(desired: Desired) -> ReaderRun:
        reading = EgressReading(kafka, service, campaign, journal, events, limits, desired, clock, pause)
        return ReaderRun(kafka, service, reading, desired.revision, clock, telemetry.tracer)

    return run


if __name__ == "__main__":
    sys.exit(main("egress", "reader", [CampaignSettings, JournalSettings, EventSettings, WriterSettings], make))
