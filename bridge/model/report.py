"""What a run says of itself: in its heartbeat, and to Prometheus."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from bridge.model.errors import BridgeError


@dataclass(frozen=True, slots=True)
class Poll:
    """A feed. `age_s`: since its last successful step; `days_left`: until its token or position expires, None if it has none yet."""

    age_s: float
    days_left: float | None = None


@dataclass(frozen=True, slots=True)
class Report:
    """`counters`, `parked`, times, `trouble` and `feeds` go into the heartbeat, the rest into metrics only. `consumed`: outcomes that
    control must not add up with those of other roles: what a reader has read is read from Kafka once more.

    `trouble_for_s`: how long it has lasted by now, if that is known. `in_work`: records in hand that do not wait aside. `source_away`: a
    feed's source has not answered for three polls.
    """

    counters: Mapping[str, int] = field(default_factory=dict)
    parked: int = 0
    last_read_at: str | None = None
    last_written_at: str | None = None
    trouble: BridgeError | None = None
    trouble_for_s: float = 0.0
    in_work: int = 0
    source_away: bool = False
    feeds: Mapping[str, Any] = field(default_factory=dict)
    consumed: Mapping[str, int] = field(default_factory=dict)
    rebalances: int = 0
    polls: Mapping[str, Poll] = field(default_factory=dict)
