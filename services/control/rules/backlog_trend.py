"""Which way a backlog goes and how long it will take, from samples of its lag. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from bridge.kafka.lag import GroupLag
from services.control.models.workflow_json import BacklogVerdict

LEAST_WINDOW_S = 3.0
RECENT_SAMPLES = 4
STALLED_AFTER_S = 20.0


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
