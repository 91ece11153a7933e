"""What travels between services, as plain data. The Avro side of the same shapes is in `schemas/`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Literal

Op = Literal["upsert", "delete"]
Lane = Literal["live", "initial", "replay", "resync"]
Value = str | None | bool | int | float
Headers = Sequence[tuple[str, bytes]]


@dataclass(frozen=True, slots=True)
class ChangeEvent:
    """A row of a Dynamics table as it was read; see schemas/ChangeEvent.avsc for each member."""

    table: str
    key: str
    op: Op
    lane: Lane
    version: int | None
    changed_at: datetime | None
    observed_at: datetime
    fields: Mapping[str, Value] = field(default_factory=dict)
    labels: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Record:
    """One Kafka record as it was read. `timestamp_ms` is the broker's, `value` the original bytes (None: tombstone)."""

    topic: str
    partition: int
    offset: int
    timestamp_ms: int
    key: bytes | None
    value: bytes | None
    headers: Headers = ()

    @property
    def position(self) -> tuple[str, int]:
        return (self.topic, self.partition)

    def header(self, name: str) -> bytes | None:
        return next((value for key, value in reversed(self.headers) if key == name), None)


@dataclass(frozen=True, slots=True)
class Outgoing:
    """A record to publish. `event` is encoded with the schema of its topic."""

    topic: str
    key: str
    event: Any
    headers: Headers = ()
