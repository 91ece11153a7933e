"""`python -m services.egress.writer`: writes email events to the timelines of contacts in Dynamics."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence

from bridge.dynamics.activities import read_activities
from bridge.dynamics.batch import BatchAnswer, Operation
from bridge.dynamics.client import DynamicsClient
from bridge.dynamics.settings import DynamicsSettings
from bridge.flow.batcher import Batcher, BatchSize
from bridge.flow.settings import WriterSettings
from bridge.http.gate import Pause
from bridge.kafka.avro import Decoder, load_schema
from bridge.kafka.registry import HttpRegistry
from bridge.kafka.settings import KafkaSettings
from bridge.kafka.topics import Topic, egress_topics
from bridge.model.clock import Clock, SystemClock
from bridge.model.desired import Desired, Workflow
from bridge.model.events import EmailEvent
from bridge.observe.log import log
from bridge.observe.settings import ServiceSettings
from bridge.observe.telemetry import Telemetry
from bridge.process.entry import main
from bridge.process.writing import Shared, WriterRun
from services.egress.activity import Activities, short_columns, wanted_tables
from services.egress.handler import EgressHandler, in_batches
from services.egress.payload import Payloads, selected
from services.egress.settings import EventSettings, TimelineSettings

MOST_WORKERS = 4000


class EgressWriting:
    """See bridge.process.writing.Writing. Twice as many workers as fit into the requests under way: while some wait, others fill
    the next ones."""

    workflow: Workflow = "egress"

    def __init__(
        self,
        kafka: KafkaSettings,
        dynamics: DynamicsSettings,
        timeline: TimelineSettings,
        events: EventSettings,
        desired: Desired,
        clock: Clock,
        pause: Pause,
    ) -> None:
        self._kafka, self._timeline, self._payloads, self._clock = kafka, timeline, Payloads(events), clock
        self._kinds = selected(desired.config or {})
        self.pauses: Sequence[Pause] = (pause,)
        self._client = DynamicsClient(dynamics, clock, origin="target", pause=pause, patient=True)
        size = BatchSize(timeline.batch_max)
        self._batcher: Batcher[Operation, BatchAnswer] = Batcher(in_batches(self._client), dynamics.concurrency, size, clock)
        self.topics: Sequence[Topic] = egress_topics()
        self.workers = min(MOST_WORKERS, 2 * dynamics.concurrency * timeline.batch_max)

    async def handler(self, shared: Shared) -> EgressHandler:
        activities = await described(self._client, self._timeline)
        decoder = Decoder(HttpRegistry(self._kafka), load_schema("EmailEvent"), EmailEvent)
        return EgressHandler(activities, self._batcher, decoder, self._payloads, self._kinds, self._clock)

    def lanes(self, topic: str) -> Sequence[bool]:
        return [True]

    def calls(self) -> int:
        return self._client.calls

    async def close(self) -> None:
        await self._batcher.close()
        await self._client.close()


async def described(client: DynamicsClient, timeline: TimelineSettings) -> Activities:
    """The activities as the environment has them. Raises HaltError for what is missing, warns of what will be cut."""
    wanted = wanted_tables(timeline)
    tables = await read_activities(client, list(wanted.values()), timeline.completion == "completed")
    for table, column in short_columns(timeline, tables):
        log("column_short", "warning", table=table, column=column)
    return Activities(timeline, dict(zip(wanted, tables, strict=True)), client.root)


def make(
    kafka: KafkaSettings,
    service: ServiceSettings,
    telemetry: Telemetry,
    dynamics: DynamicsSettings,
    timeline: TimelineSettings,
    events: EventSettings,
    limits: WriterSettings,
) -> Callable[[Desired], WriterRun[EmailEvent]]:
    clock, pause = SystemClock(), Pause(telemetry.metrics.meter("dynamics"), "Dynamics")

    def run(desired: Desired) -> WriterRun[EmailEvent]:
        writing = EgressWriting(kafka, dynamics, timeline, events, desired, clock, pause)
        return WriterRun(kafka, service, limits, writing, desired.revision or 0, clock, telemetry.tracer)

    return run


if __name__ == "__main__":
    sys.exit(main("egress", "writer", [DynamicsSettings, TimelineSettings, EventSettings, WriterSettings], make))
