"""All that is to be done for one key."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Generic, TypeVar

from bridge.flow.failures import Failures, first_place
from bridge.flow.ports import Result
from bridge.model.events import Record
from bridge.model.state import Known

E = TypeVar("E")
Place = tuple[int, str]  # partition, key


@dataclass(slots=True, eq=False)
class Job(Generic[E]):
    """All that is to be done for one key. `event` is the merge of `records`; `arrived` has not been decoded yet."""

    partition: int
    key: str
    state_key: str
    live: bool
    arrived: list[Record] = field(default_factory=list)
    records: list[Record] = field(default_factory=list)
    event: E | None = None
    latest: Record | None = None  # the record that counts: the one with the newest event
    failures: Failures = field(default_factory=Failures)
    parked: bool = False
    asleep: bool = False  # parked, and not up for its turn or on its way to the end of its topic
    waits_for: frozenset[str] = frozenset()  # keys, while it is parked
    calling: bool = False  # an attempt is under way
    queued: bool = False  # in a ready queue, with a worker or waiting for its time
    dropped: bool = False  # its partition is to be given away: no further call
    late: bool = False  # it has been given away while a call was under way
    opt_outs: int = 0  # opt-outs that wait with it since it failed
    timer: asyncio.Task[None] | None = None  # while it is asleep in memory

    @property
    def place(self) -> Place:
        return self.partition, self.key

    @property
    def size(self) -> int:
        return len(self.arrived) + len(self.records)

    def noted(self, result: Result, now: datetime) -> Known | None:
        """What is known after an attempt, with where, when and how often; None leaves the state as it is."""
        latest = self.latest
        if result.known is None or latest is None:
            return None
        return replace(
            result.known,
            outcome=result.outcome,
            topic=latest.topic,
            partition=latest.partition,
            offset=latest.offset,
            attempts=self.failures.count + 1,
            read_at=datetime.fromtimestamp(latest.timestamp_ms / 1000, UTC).isoformat(),
            settled_at=now.isoformat(),
            lettered=first_place(latest) if result.outcome == "dead_lettered" else "",
        )
