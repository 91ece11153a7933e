"""What travels between services, as plain data. The Avro side of the same shapes is in `schemas/`."""

from __future__ import annotations

import secrets
from collections.abc import Mapping, Sequence
from contextvars import ContextVar
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Literal

Kind = Literal["send", "open", "click", "bounce"]
Op = Literal["upsert", "delete"]
Lane = Literal["live", "initial", "replay", "resync"]
System = Literal["dynamics", "campaign"]
Value = str | None | bool | int | float
Headers = Sequence[tuple[str, bytes]]

POLLED_EVERY = "polled-every-ms"  # header: the longest pause between two polls of a table, where it is longer than the default
SOURCE_AHEAD = "source-ahead-ms"  # header: by how many milliseconds the source's clock was ahead of ours, where that can be measured
OURS = "changed-by-us"  # header: our own application user changed the row last

trace_now: ContextVar[bytes | None] = ContextVar("trace_now", default=None)
"""The `traceparent` of the work that is being done (bridge/observe/tracing.py); None unless traces are switched on."""


def event_headers(lane: Lane, version: str, produced_by: str, trace: bytes | None = None) -> list[tuple[str, bytes]]:
    """The headers of every event (contracts/kafka.md). `version`: the source's, as text; `produced_by`: `service/instance`; `trace`: the
    `traceparent` of what this event follows from, whose trace goes on. Work that is traced comes before it."""
    trace_id = trace.split(b"-")[1].decode("ascii", "replace") if trace and trace.count(b"-") == 3 else secrets.token_hex(16)
    return [
        ("traceparent", trace_now.get() or f"00-{trace_id}-{secrets.token_hex(8)}-01".encode()),
        ("origin-lane", lane.encode()),
        ("source-version", version.encode()),
        ("produced-by", produced_by.encode()),
    ]


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
    epoch: int = 0
    exact: Sequence[str] = field(default_factory=list)
    days: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class EmailEvent:
    """Something that happened to an e-mail; see schemas/EmailEvent.avsc for each member."""

    event_id: str
    kind: Kind
    contact_key: str
    campaign_name: str
    delivery_name: str
    occurred_at: datetime
    tracking_url: str | None
    mirror_page_url: str | None
    observed_at: datetime


@dataclass(frozen=True, slots=True)
class OptStatusObserved:
    """The opt-out flags of a contact as one system had them; see schemas/OptStatusObserved.avsc. `flags`: name → `{"value": …,
    "changed_at": …}`."""

    contact_key: str
    system: System
    flags: Mapping[str, Mapping[str, Any]]
    record_changed_at: datetime | None
    observed_at: datetime
    gone: bool = False
    ours: bool = False
    looked_at: datetime | None = None
    merged_into: str | None = None
    ahead_ms: int | None = None
    epoch: int = 0
    origin: str = ""


@dataclass(frozen=True, slots=True)
class OptStatusDecided:
    """What a system has to be told of a contact's opt-out flags; see schemas/OptStatusDecided.avsc for each member."""

    contact_key: str
    target: System
    flags: Mapping[str, bool]
    rule: str
    inputs: Mapping[str, Mapping[str, Any]]
    decided_at: datetime


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
