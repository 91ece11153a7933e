"""The backlog: lag of the workflow's groups, sampled, with a verdict on which way it goes."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Literal

from bridge.flow.offsets import Position
from bridge.kafka.client import trouble
from bridge.kafka.lag import GroupLag, LagReader
from bridge.model.clock import Clock
from bridge.model.config import IngressConfig
from bridge.model.desired import WORKFLOWS, Workflow
from bridge.model.errors import BridgeError, RetryError
from services.control.proof import Counts
from services.control.store import Store
from services.control.workflows import GROUPS, SHAPES

BacklogVerdict = Literal["IDLE", "KEEPING_UP", "DRAINING", "GROWING", "STALLED", "WAITING", "SOURCE_AWAY", "STOPPED", "UNKNOWN"]

SAMPLE_EVERY_S = 1.0
KEPT = 3600
WINDOW_S = 30.0
RECENT = 60  # with all partitions: of a thousand they take their room
LEAST_WINDOW_S = 3.0
RECENT_SAMPLES = 4
STALLED_AFTER_S = 20.0
LOOK_EVERY_S = 3.0  # for the oldest waiting record
TRUE_FOR_S = 4.0  # of a sample; when the next one takes longer nobody knows any more


@dataclass(frozen=True, slots=True)
class Point:
    """What is kept of a sample for an hour, for the graph."""

    at: datetime
    at_s: float
    records: int | None


@dataclass(frozen=True, slots=True)
class Sample:
    """The lag at one moment; `groups` None: Kafka could not be asked, and the lag is not known. `at_s` is monotonic."""

    at: datetime
    at_s: float
    groups: Sequence[GroupLag] | None
    oldest_ms: int | None = None

    @property
    def records(self) -> int | None:
        return None if self.groups is None else sum(group.records for group in self.groups)

    def positions(self) -> dict[tuple[str, str, int], tuple[int, int]]:
        """(group, topic, partition) → (first waiting offset, lag)."""
        return {
            (group.group, topic, each.partition): (each.end - each.lag, each.lag)
            for group in self.groups or ()
            for topic, partitions in group.topics.items()
            for each in partitions
        }


def verdict(window: Sequence[Sample], stopped: bool, *, only_parked: bool = False, source_away: bool = False) -> BacklogVerdict:
    """`window`: samples up to now, oldest first. STALLED: records wait and no commit has moved for 20 s. `only_parked`: writers have
    nothing in hand but records that wait for others."""
    if not window or (records := window[-1].records) is None:
        return "UNKNOWN"
    if records == 0:
        return "SOURCE_AWAY" if source_away and not stopped else "IDLE"
    if stopped:
        return "STOPPED"
    known = waiting_since(window)
    span_s = known[-1].at_s - known[0].at_s
    if only_parked and span_s >= LEAST_WINDOW_S and sum(rates(known[-RECENT_SAMPLES:]).values()) == 0:
        return "WAITING"
    if span_s >= STALLED_AFTER_S and sum(rates(known).values()) == 0:
        return "STALLED"
    before = known[0].records or 0
    if span_s < LEAST_WINDOW_S or abs(records - before) <= max(5, before // 100):
        return "KEEPING_UP"
    return "DRAINING" if records < before else "GROWING"


def waiting_since(window: Sequence[Sample]) -> list[Sample]:
    """The samples since records began to wait, without those that could not be had."""
    known: list[Sample] = []
    for sample in reversed(window):
        if sample.records == 0:
            break
        if sample.records is not None:
            known.append(sample)
    return known[::-1]


def rates(window: Sequence[Sample]) -> dict[tuple[str, str, int], float]:
    """Records per second that each partition has advanced over the window."""
    if len(window) < 2 or (span_s := window[-1].at_s - window[0].at_s) <= 0:
        return {}
    first: dict[tuple[str, str, int], int] = {}
    for sample in window:
        for place, (position, _) in sample.positions().items():
            first.setdefault(place, position)
    return {place: max(0, position - first[place]) / span_s for place, (position, _) in window[-1].positions().items()}


def eta_s(window: Sequence[Sample]) -> float | None:
    """Seconds until the slowest partition is through at its present rate; None if one does not move."""
    rate = rates(window)
    waiting = {place: lag for place, (_, lag) in window[-1].positions().items() if lag > 0} if window else {}
    if not waiting:
        return 0.0
    if any(rate.get(place, 0) == 0 for place in waiting):
        return None
    return max(lag / rate[place] for place, lag in waiting.items())


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
