"""`python -m services.optin.reader`: publishes what both systems say of contacts' opt-out flags."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from functools import partial

from bridge.campaign.client import CampaignClient
from bridge.campaign.metadata import read_resource
from bridge.campaign.settings import CampaignSettings, ExportSettings
from bridge.campaign.sftp import SftpFolder
from bridge.consent.meaning import doubts_of_optin
from bridge.consent.profiles import PROFILES, ahead_ms
from bridge.dynamics.changes import TrackedTable
from bridge.dynamics.client import DynamicsClient
from bridge.dynamics.doubts import check_flags
from bridge.dynamics.epoch import SourceEpoch
from bridge.dynamics.identity import WhoAmI
from bridge.dynamics.metadata import read_table
from bridge.dynamics.secured import checked
from bridge.dynamics.settings import DynamicsSettings
from bridge.flow.reader import Source
from bridge.http.gate import Pause
from bridge.kafka.settings import KafkaSettings
from bridge.kafka.topics import Topic, optin_topics
from bridge.model.clock import Clock, SystemClock
from bridge.model.desired import Desired, Workflow
from bridge.model.errors import BridgeError, HaltError, RejectError
from bridge.observe.log import log
from bridge.observe.metrics import Meter
from bridge.observe.settings import ServiceSettings
from bridge.observe.telemetry import Telemetry
from bridge.process.entry import main
from bridge.process.reading import ReaderRun
from services.optin import contact_feed, export_feed
from services.optin.contact_feed import ContactFeed
from services.optin.export_feed import ExportFeed
from services.optin.running import running_config


class OptinReading:
    """See bridge.process.reading.Reading: two feeds, the contacts of Dynamics and the exports of Campaign."""

    workflow: Workflow = "optin"
    schema = "OptStatusObserved"
    transactional = False  # Faust never commits the marks of transactions: each would be a lag, until the resolver passes by (D1)

    def __init__(
        self,
        kafka: KafkaSettings,
        service: ServiceSettings,
        dynamics: DynamicsSettings,
        campaign: CampaignSettings,
        exports: ExportSettings,
        desired: Desired,
        clock: Clock,
        pauses: tuple[Pause, Pause],
        sftp: Meter,
    ) -> None:
        self._service, self._dynamics, self._exports, self._clock, self._sftp = service, dynamics, exports, clock, sftp
        _, self._pairs = running_config(desired)
        self._epoch, self._generation = desired.epoch, desired.generation
        self.pauses: Sequence[Pause] = pauses
        self._client = DynamicsClient(dynamics, clock, pause=pauses[0], patient=True)
        self._campaign = CampaignClient(campaign, clock, pause=pauses[1])
        self._export_feed: ExportFeed | None = None
        self.topics: Sequence[Topic] = optin_topics()[:1]

    async def sources(self, partitions: Mapping[str, int]) -> Mapping[str, Callable[[], Source]]:
        table = await read_table(self._client, contact_feed.TABLE, [pair.dynamics for pair in self._pairs], also=contact_feed.ALSO)
        for name, column in table.columns.items():
            if column.type != "Boolean":
                raise HaltError(
                    f"column {name} of contact is of type {column.type}, not yes or no",
                    code="source_column_unusable",
                    hint="Map a yes/no column, save, then start again.",
                    origin="configuration",
                )
        pairs = [(pair.dynamics, pair.campaign) for pair in self._pairs]
        await check_flags(self._client, contact_feed.TABLE, partial(doubts_of_optin, pairs))
        tracked = TrackedTable(self._client, await checked(self._client, table), self._dynamics.page_size)
        return {contact_feed.CURSOR: lambda: self._contacts(tracked), export_feed.CURSOR: self._files}

    def counters(self) -> Mapping[str, int]:
        feed = self._export_feed
        return {"filtered": feed.skipped if feed else 0}

    def smaller(self, event: object) -> None:
        """Nothing has to arrive in part."""

    def told(self, desired: Desired) -> None:
        """Besides start and stop, that Dynamics was restored concerns the reader."""
        self._epoch = desired.epoch

    async def close(self) -> None:
        await self._client.close()
        await self._campaign.close()

    def _contacts(self, tracked: TrackedTable) -> ContactFeed:
        source = SourceEpoch(contact_feed.TABLE, WhoAmI(self._client, self._clock), self._generation, lambda: self._epoch)
        interval = self._dynamics.poll_interval_s
        by = f"optin-reader/{self._service.instance_id}"
        return ContactFeed(tracked, source, self._clock, poll_interval_s=interval, produced_by=by)

    def _files(self) -> ExportFeed:
        flags = [pair.campaign for pair in self._pairs]
        local = self._service.own_dir("optin-reader")
        by = f"optin-reader/{self._service.instance_id}"
        folder = SftpFolder(self._exports, self._sftp)
        feed = ExportFeed(folder, self._exports, flags, self._labels, local, self._clock, by, self._ahead_ms)
        self._export_feed = feed
        return feed

    async def _ahead_ms(self) -> int | None:
        """By how much Campaign's clock is ahead of ours: its times are compared with those of Dynamics. None if it does not answer."""
        try:
            await self._campaign.first(PROFILES)
        except BridgeError as exc:
            log("feed_waits", "warning", feed=export_feed.CURSOR, code=exc.code, reason=str(exc), seconds=0)
            return None
        return ahead_ms(self._campaign.ahead_s)

    async def _labels(self) -> Mapping[str, str]:
        """The display names of a profile's fields, as Campaign tells them; asked for when an export's first line is not understood."""
        try:
            resource = await read_resource(self._campaign, "profile")
        except (HaltError, RejectError) as exc:
            log("feed_waits", "warning", feed=export_feed.CURSOR, code=exc.code, reason=str(exc), seconds=0)
            return {}
        return {field.label: name for name, field in resource.fields.items() if field.label}


def make(
    kafka: KafkaSettings,
    service: ServiceSettings,
    telemetry: Telemetry,
    dynamics: DynamicsSettings,
    campaign: CampaignSettings,
    exports: ExportSettings,
) -> Callable[[Desired], ReaderRun]:
    clock, meter = SystemClock(), telemetry.metrics.meter
    pauses, sftp = (Pause(meter("dynamics"), "Dynamics"), Pause(meter("campaign"), "Campaign")), meter("sftp")

    def run(desired: Desired) -> ReaderRun:
        reading = OptinReading(kafka, service, dynamics, campaign, exports, desired, clock, pauses, sftp)
        return ReaderRun(kafka, service, reading, desired.revision, clock, telemetry.tracer)

    return run


if __name__ == "__main__":
    sys.exit(main("optin", "reader", [DynamicsSettings, CampaignSettings, ExportSettings], make))
