"""The backlog: lag of the workflow's groups, sampled."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Mapping, Sequence

from bridge.flow.offsets import Position
from bridge.kafka.client import trouble
from bridge.kafka.lag import GroupLag, LagReader
from bridge.model.clock import Clock
from bridge.model.config import IngressConfig
from bridge.model.desired import WORKFLOWS, Workflow
from bridge.model.errors import BridgeError, RetryError
from services.control.rules.backlog_trend import Point, Sample
from services.control.rules.decision_records import Counts
from services.control.rules.lifecycle import GROUPS, SHAPES
from services.control.topics.store import Store

SAMPLE_EVERY_S = 1.0
KEPT = 3600
WINDOW_S = 30.0
RECENT = 60  # with all partitions: of a thousand they take their room
LOOK_EVERY_S = 3.0  # for the oldest waiting record
TRUE_FOR_S = 4.0  # of a sample; when the next one takes longer nobody knows any more


class Backlog:
    """Samples every workflow's lag once a second; all who ask share the last sample.

    `held`: what the consent guard holds, `dead_optouts`: opt-outs in open dead letters. Both are in Kafka, and no part of the lag.
    """

    def __init__(
        self,
        lag: LagReader,
        store: Store,
        clock: Clock,
        held: Callable[[Workflow], Counts] = lambda workflow: Counts(),
        dead_optouts: Callable[[Workflow], int] = lambda workflow: 0,
    ) -> None:
        self._lag, self._store, self._clock = lag, store, clock
        self.held, self.dead_optouts = held, dead_optouts
        self._samples: dict[Workflow, deque[Sample]] = {workflow: deque(maxlen=RECENT) for workflow in WORKFLOWS}
        self._points: dict[Workflow, deque[Point]] = {workflow: deque(maxlen=KEPT) for workflow in WORKFLOWS}
        self._oldest: dict[Workflow, tuple[float, Mapping[Position, int], int | None]] = {}

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            for workflow in WORKFLOWS:  # one question to Kafka at a time
                await self._sample(workflow)
            await self._clock.sleep(SAMPLE_EVERY_S)

    def window(self, workflow: Workflow, seconds: float = WINDOW_S) -> list[Sample]:
        """Oldest first. The last one is of now, or says that the lag is not known."""
        now = self._clock.monotonic()
        window = [sample for sample in self._samples[workflow] if sample.at_s >= now - seconds]
        if window and now - window[-1].at_s > TRUE_FOR_S:
            window.append(Sample(self._clock.now(), now, None))
        return window

    def history(self, workflow: Workflow, seconds: float) -> list[Point]:
        """Oldest first, of the last hour at most."""
        since = self._clock.monotonic() - seconds
        return [point for point in self._points[workflow] if point.at_s >= since]

    async def _sample(self, workflow: Workflow) -> None:
        self._store.verdict(workflow)  # so that the time of a change is noted when it happens, not when somebody asks
        groups: list[GroupLag] | None = None
        oldest: int | None = None
        try:
            topics = self._topics(workflow)
            groups = [await asyncio.to_thread(self._lag.group, group, names) for group, names in topics.items()]
            oldest = await self._oldest_ms(workflow, groups)
        except BridgeError as exc:
            trouble("asking for lag", exc)
            groups = None
        sample = Sample(self._clock.now(), self._clock.monotonic(), groups, oldest)
        self._samples[workflow].append(sample)
        self._points[workflow].append(Point(sample.at, sample.at_s, sample.records))

    async def _oldest_ms(self, workflow: Workflow, groups: Sequence[GroupLag]) -> int | None:
        waiting = {
            (topic, each.partition): each.end - each.lag
            for group in groups
            for topic, partitions in group.topics.items()
            for each in partitions
            if each.lag > 0
        }
        if not waiting:
            return None
        now, before = self._clock.monotonic(), self._oldest.get(workflow)
        if before is None or (before[1] != waiting and now - before[0] >= LOOK_EVERY_S):
            self._oldest[workflow] = before = (now, waiting, await asyncio.to_thread(self._lag.oldest_ms, waiting))
        return before[2]

    def _topics(self, workflow: Workflow) -> dict[str, list[str]]:
        """The topics each group reads: those of the tables that run or, before the first start, of the saved ones."""
        if workflow == "egress":
            return {"egress": ["egress.email-events"]}
        if workflow == "optin":
            return {"optin-resolver": ["optin.observations"], "optin": ["optin.decisions"]}
        desired = self._store.desired(workflow)
        saved = self._store.saved(workflow).config
        config = saved if desired.config is None else SHAPES[workflow].model_validate(desired.config)
        if not isinstance(config, IngressConfig):
            raise RetryError("no configuration", code="kafka_unavailable")
        names = [table.source for table in config.tables]
        return {GROUPS["ingress"][0]: [f"ingress.{lane}.{name}" for name in names for lane in ("changes", "replay")]}
