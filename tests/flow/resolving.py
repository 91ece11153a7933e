"""The resolver without Faust: batches of observations, twins in memory, and a bus that can break: what its tests are built on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Literal

from bridge.consent.guard import Ask
from bridge.consent.words import Pair
from bridge.flow.waits import LetterLimit
from bridge.kafka.avro import Decoder, Encoder, load_schema
from bridge.memory import MemoryDeadLetters, MemoryGuard, MemoryRegistry, MemoryState
from bridge.model.errors import RetryError
from bridge.model.events import Headers, Lane, OptStatusDecided, OptStatusObserved, Record, System, event_headers
from bridge.model.state import Digests, Known
from bridge.observe.tracing import OFF, Tracer
from services.optin.merged import Merged
from services.optin.resolve import Direction
from services.optin.resolving import CARRIED, Resolving
from services.optin.status import StatusCodec
from tests.clock import FakeClock

EMAIL, PHONE = Pair("donotemail", "blackListEmail"), Pair("donotphone", "blackListPhone")
NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)
TOPIC = "optin.observations"


class CountingState(MemoryState):
    """`broken`: so many puts fail first."""

    broken = 0

    def contacts(self) -> int:
        return len(self.known)

    async def put(self, partition: int, key: str, known: Known) -> None:
        if self.broken:
            self.broken -= 1
            raise RetryError("away", code="kafka_unavailable")
        await super().put(partition, key, known)


@dataclass
class Bench:
    """`decided`: what went out, in order; `carried`: words for other contacts; `unsent`: so many sends fail first. `passed`: the guard's
    ledger, which outlives a resolver."""

    direction: Direction = "bidirectional"
    limit: int | None = None
    pairs: tuple[Pair, ...] = (EMAIL, PHONE)
    state: CountingState = field(default_factory=CountingState)
    letters: MemoryDeadLetters = field(default_factory=MemoryDeadLetters)
    clock: FakeClock = field(default_factory=FakeClock)
    tracer: Tracer = OFF
    decided: list[tuple[OptStatusDecided, Headers]] = field(default_factory=list)
    carried: list[OptStatusObserved] = field(default_factory=list)
    merged: Literal["carry", "report"] = "carry"
    passed: list[tuple[Ask, datetime]] = field(default_factory=list)
    unsent: int = 0

    def __post_init__(self) -> None:
        self.registry = MemoryRegistry()
        schema = load_schema("OptStatusObserved")
        self.encoder = Encoder(schema, self.registry.register(f"{TOPIC}-value", schema))
        self.offset = 0

    async def resolver(self, partitions: Sequence[int] = (0,), of: int = 1) -> Resolving:
        made = Resolving(
            Decoder(self.registry, load_schema("OptStatusObserved"), OptStatusObserved),
            self.state,
            StatusCodec(Digests("secret"), self.pairs),
            self.pairs,
            self.direction,
            MemoryGuard(self.clock, self.passed),
            self._publish,
            Merged(self.pairs, self.direction, self.merged, self._carry),
            self.letters,
            LetterLimit(100, 0.9),
            self.clock,
            limit=self.limit,
            partitions=of,
            produced_by="optin-resolver/test",
            tracer=self.tracer,
        )
        await made.gain(partitions)
        return made

    async def _publish(self, decision: OptStatusDecided, headers: Headers) -> None:
        if self.unsent:
            self.unsent -= 1
            raise RetryError("away", code="kafka_unavailable")
        self.decided.append((decision, headers))

    async def _carry(self, event: OptStatusObserved) -> None:
        self.carried.append(event)

    def observed(self, contact: str, system: System, at: float, **flags: bool) -> Record:
        """As a reader publishes it; `at`: hours since noon."""
        moment = NOON + timedelta(hours=at)
        times = {name: {"value": value, "changed_at": moment if system == "campaign" else None} for name, value in flags.items()}
        event = OptStatusObserved(contact, system, times, moment, moment)
        return self.record(contact, self.encoder.encode(event))

    def merged_into(self, contact: str, master: str, at: float, lane: Lane = "live", **flags: bool) -> Record:
        """The row of a contact that was given up for another one."""
        moment = NOON + timedelta(hours=at)
        shown = {name: {"value": value, "changed_at": None} for name, value in flags.items()}
        event = OptStatusObserved(contact, "dynamics", shown, moment, moment, merged_into=master)
        return self.record(contact, self.encoder.encode(event), lane=lane)

    def as_carried(self, event: OptStatusObserved) -> Record:
        """What the resolver publishes for the other contact."""
        return self.record(event.contact_key, self.encoder.encode(event), (CARRIED, b"1"))

    def record(self, contact: str, value: bytes, *more: tuple[str, bytes], lane: Lane = "live") -> Record:
        self.offset += 1
        headers = [*event_headers(lane, "", "optin-reader/test"), *more]
        return Record(TOPIC, 0, self.offset, int(NOON.timestamp() * 1000), contact.encode(), value, headers)

    def said(self) -> list[tuple[str, str, dict[str, bool]]]:
        return [(each.contact_key, each.target, dict(each.flags)) for each, _ in self.decided]

    def marks(self, name: str) -> list[bytes | None]:
        """A header of every decision."""
        return [dict(headers).get(name) for _, headers in self.decided]
