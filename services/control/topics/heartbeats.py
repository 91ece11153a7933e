"""The heartbeats control has heard: how old each of them is, and which still tell something."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from bridge.kafka.follower import Entry
from bridge.model.clock import Clock
from bridge.model.desired import HEARTBEAT_DEADLINE_S, Heartbeat, Workflow
from services.control.rules.lifecycle import Beat

MEASURED_S = 60.0
SKEW_S = 3.0  # by so much clocks may differ, and a heartbeat may take so long


@dataclass(slots=True)
class Last:
    """The last heartbeat of one instance. `heard_at` (monotonic): when it was sent, by its own time."""

    heartbeat: Heartbeat
    heard_at: float
    timestamp_ms: int
    left: bool = False


class Pace:
    """Tells the age of what has just come by the broker's times alone: our wall clock may be hours off, or jump. What came fastest in the
    last two minutes is the measure."""

    def __init__(self) -> None:
        self._least = self._least_before = math.inf
        self._since = -math.inf

    def age_s(self, now: float, timestamp_ms: int) -> float:
        """Seconds; 0 for what clocks and the way of a message may make. `now` is monotonic."""
        behind = now - timestamp_ms / 1000
        if now - self._since > MEASURED_S:
            self._least_before, self._least, self._since = self._least, math.inf, now
        self._least = min(self._least, behind)
        age_s = behind - min(self._least, self._least_before)
        return age_s if age_s > SKEW_S else 0.0


class Heard:
    """Fed by a follower of `control.services`, read from memory."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._last: dict[str, Last] = {}
        self._pace = Pace()

    def take(self, entries: Sequence[Entry]) -> None:
        """A heartbeat is as old as it says, however late it is read: Kafka may have been away since."""
        now, wall_ms = self._clock.monotonic(), self._clock.now().timestamp() * 1000
        for entry in entries:
            if entry.value is not None:
                age_s = age(wall_ms, entry.timestamp_ms) if entry.old else self._pace.age_s(now, entry.timestamp_ms)
                self._last[entry.key] = Last(Heartbeat.from_json(json.loads(entry.value)), now - age_s, entry.timestamp_ms)
            elif (last := self._last.get(entry.key)) is not None:
                last.left = True
        for key in forgotten(self._last, now):
            del self._last[key]

    def beats(self, workflow: Workflow) -> list[Beat]:
        now = self._clock.monotonic()
        mine = (each for each in self._last.values() if each.heartbeat.workflow == workflow)
        return [Beat(each.heartbeat, now - each.heard_at, each.timestamp_ms, each.left) for each in mine]


def age(wall_ms: float, timestamp_ms: int) -> float:
    """Seconds since then; 0 for what the difference of two clocks may be."""
    age_s = (wall_ms - timestamp_ms) / 1000
    return age_s if age_s > SKEW_S else 0.0


def forgotten(last: Mapping[str, Last], now: float) -> list[str]:
    """The instances that left longer ago than the heartbeat deadline, but for the last of each role that had run or failed: that it
    has gone stays true."""
    kept: dict[tuple[str, str], str] = {}
    left = {key: each for key, each in last.items() if each.left}
    for key, each in sorted(left.items(), key=lambda item: (item[1].heartbeat.generation, item[1].heard_at)):
        if each.heartbeat.status in ("RUNNING", "FAILED"):
            kept[each.heartbeat.workflow, each.heartbeat.role] = key
    return [key for key, each in left.items() if now - each.heard_at > HEARTBEAT_DEADLINE_S and key not in kept.values()]
