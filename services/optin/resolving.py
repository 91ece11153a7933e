"""Observations in, decisions out, a batch at a time: what the resolver's agent does with what it gets (decision D8).

decisions ─▶ `optin.decisions` ─▶ then what is now known ─▶ `optin.state` ─▶ then the acknowledgement, always last. After a crash in
between the observations come again, and their decisions with them; the writer finds nothing to do.
"""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import Awaitable, Callable, Collection, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from functools import partial
from typing import Protocol, TypeVar

from bridge.consent.guard import LOWER, Ask, of_all, release_limit
from bridge.consent.words import Observation, Pair, Status
from bridge.flow.patience import only_retries, patiently
from bridge.flow.ports import DeadLetters
from bridge.flow.waits import LetterLimit
from bridge.kafka.avro import Decoder
from bridge.kafka.guard import Guard
from bridge.model.clock import Clock
from bridge.model.errors import BridgeError, HaltError, RejectError, RetryError
from bridge.model.events import Headers, Lane, OptStatusDecided, OptStatusObserved, Record, event_headers
from bridge.model.state import Known, StateStore
from bridge.observe.log import log
from bridge.observe.tracing import OFF, Tracer
from services.optin.merged import Merged
from services.optin.resolve import Direction, holding, releases, resolve
from services.optin.status import StatusCodec

T = TypeVar("T")
TOPIC = "optin.decisions"
READ_BACK = "read-back"  # header of what the writer read back from its own write
CARRIED = "carried"  # header of the words of a contact that was merged into this one
GUARD = "guard"  # header of a release that is held, or that an operator has released
LANES: tuple[Lane, ...] = ("live", "initial", "replay", "resync")
FINAL = ("lease", "released")  # not ours any more: the run begins again


class PartitionedState(StateStore, Protocol):
    async def gain(self, partitions: Sequence[int]) -> None: ...

    def lose(self, partition: int) -> None: ...

    def contacts(self) -> int:
        """Contacts of all partitions that are ours, roughly."""


class Publish(Protocol):
    async def __call__(self, decision: OptStatusDecided, headers: Headers) -> None:
        """Returns when the topic has it. Raises RetryError."""


class Resolving:
    """See bridge.kafka.stream.StreamListener. `limit`: lowers in an hour, None for the default; `partitions`: how many there are in all."""

    def __init__(
        self,
        decoder: Decoder[OptStatusObserved],
        state: PartitionedState,
        codec: StatusCodec,
        pairs: Sequence[Pair],
        direction: Direction,
        guard: Guard,
        publish: Publish,
        merged: Merged,
        letters: DeadLetters,
        letter_limit: LetterLimit,
        clock: Clock,
        *,
        limit: int | None,
        partitions: int,
        produced_by: str,
        lease_check: Callable[[], None] = lambda: None,
        tracer: Tracer = OFF,
    ) -> None:
        self._decoder, self._state, self._codec, self._pairs, self._direction = decoder, state, codec, tuple(pairs), direction
        self._guard, self._publish, self._merged = guard, publish, merged
        self._letters, self._letter_limit, self._clock = letters, letter_limit, clock
        self._limit, self._partitions, self._produced_by = limit, partitions, produced_by
        self._lease_check, self._rng, self._tracer = lease_check, random.Random(), tracer
        self._mine: set[int] = set()
        self.counters: Counter[str] = Counter()
        self.trouble: BridgeError | None = None

    async def gain(self, partitions: Collection[int]) -> None:
        fresh = [number for number in partitions if number not in self._mine]
        await self._state.gain(fresh)
        self._mine.update(fresh)

    async def lose(self, partitions: Collection[int]) -> None:
        for number in partitions:
            self._mine.discard(number)
            self._state.lose(number)

    async def take(self, records: Sequence[Record]) -> None:
        """Contacts side by side, the observations of one in their order."""
        heard: dict[tuple[int, str], list[tuple[Observation, Record]]] = {}
        for record in records:
            if (observation := await self._observation(record)) is not None:
                heard.setdefault((record.partition, observation.event.contact_key), []).append((observation, record))
        await asyncio.gather(*(self._contact(*place, what) for place, what in heard.items()))

    async def _contact(self, partition: int, contact: str, heard: Sequence[tuple[Observation, Record]]) -> None:
        status = self._codec.status(contact, self._state.get(partition, contact))
        parts: list[tuple[OptStatusDecided, Headers]] = []
        for observation, record in heard:
            with self._tracer.span("resolve", record) as span:
                before, resolved = status, resolve(status, observation, self._pairs, self._direction, self._clock.now())
                status = resolved.status
                self.counters["optout_kept"] += len(resolved.kept)
                for part, held in [part for each in resolved.decisions for part in await self._guarded(each)]:
                    status = holding(status, part) if held else status
                    parts.append((part, self._headers(record, part, held, status)))
                span.outcome = "decided" if resolved.decisions else "nothing_to_do"
            await self._patiently(partial(self._merged.carry, before, status, observation))
        await asyncio.gather(*(self._patiently(partial(self._publish, *each)) for each in parts))
        await self._keep((partition, contact), status, heard[-1][1])
        self.counters["decided"] += len(parts)

    async def _observation(self, record: Record) -> Observation | None:
        """None for what is not one: it is a dead letter now."""
        self.counters["read"] += 1
        try:
            event = await self._patiently(lambda: self._decoder.decode(record.value))
            if event.contact_key.encode() != record.key:
                raise RejectError("the observation belongs to another contact than its record", code="misplaced", stage="decode")
        except RejectError as exc:
            await self._dead_letter(record, exc)
            return None
        self._letter_limit.passed()
        version = (record.header("source-version") or b"").decode("ascii", "replace")
        own = record.header(READ_BACK) is not None
        live = record.header("origin-lane") in (None, b"", b"live")
        carried = record.header(CARRIED) is not None
        number = int(version) if event.system == "dynamics" and version.isdigit() else None
        return Observation(event, number, own, live, carried)

    async def _dead_letter(self, record: Record, exc: RejectError) -> None:
        self._letter_limit.set_aside()
        now = self._clock.now()
        await self._patiently(lambda: self._letters.put(record, exc, attempts=1, first_failed_at=now, failed_at=now))
        self.counters["dead_lettered"] += 1
        position = f"{record.topic}-{record.partition}-{record.offset}"
        log("record_dead_lettered", "warning", position=position, code=exc.code, stage=exc.stage)

    async def _guarded(self, decision: OptStatusDecided) -> list[tuple[OptStatusDecided, bool]]:
        """The decision, with whether it is held. Opt-outs that come with a lower do not wait with it."""
        if not releases(decision):
            return [(decision, False)]
        if await self._patiently(lambda: self._guard.passes(self._ask(decision))):
            return [(decision, False)]
        log("release_held", "warning", key=decision.contact_key, flags=sorted(name for name, value in decision.flags.items() if not value))
        self.counters["held"] += 1
        parts = [(_only(decision, value), not value) for value in (True, False)]
        return [(part, held) for part, held in parts if part.flags]

    def _ask(self, decision: OptStatusDecided) -> Ask:
        """The same for the same word, however often it is heard."""
        share = len(self._mine) / self._partitions
        lowered = sorted(name for name, value in decision.flags.items() if not value)
        said = [decision.inputs[name].get("campaign_changed_at") for name in lowered]
        words = ",".join(f"{name}@{'' if at is None else at.isoformat()}" for name, at in zip(lowered, said, strict=True))
        return Ask(LOWER, f"optin/{decision.contact_key}/{words}", release_limit(self._limit, of_all(self._state.contacts(), share)))

    def _headers(self, record: Record, decision: OptStatusDecided, held: bool, status: Status) -> Headers:
        """`source-version`, `source-changed-at`: of the contact in Dynamics, as far as they were known."""
        lane = next((each for each in LANES if each.encode() == record.header("origin-lane")), LANES[0])
        order = status.dynamics.order
        version = "" if order is None or order.version is None else str(order.version)
        headers = event_headers(lane, version, self._produced_by, record.header("traceparent"))
        decides = b"opt-out" if any(decision.flags.values()) else b"opt-in"
        more = [("target", decision.target.encode()), ("flags", ",".join(sorted(decision.flags)).encode()), ("decides", decides)]
        if order is not None and order.record_at is not None:
            more.append(("source-changed-at", order.record_at.isoformat().encode()))
        return [*headers, *more, *([(GUARD, b"held")] if held else [])]

    async def _keep(self, place: tuple[int, str], status: Status, record: Record) -> None:
        partition, contact = place
        before = self._state.get(partition, contact)
        known = self._codec.known(contact, status, before)
        if before is not None and (before.digests, before.times, before.version) == (known.digests, known.times, known.version):
            return
        noted = _placed(known, record, self._clock.now())
        await self._patiently(lambda: self._state.put(partition, contact, noted))

    async def _patiently(self, call: Callable[[], Awaitable[T]]) -> T:
        """Repeats a call for as long as Kafka or the registry are away; not for what is not ours any more."""

        async def ours() -> T:
            self._lease_check()
            return await call()

        def failed(exc: RetryError | HaltError, _: float) -> None:
            if exc.code in FINAL:
                raise exc
            self.trouble = only_retries(exc)

        result = await patiently(ours, failed, self._clock.sleep, self._rng, 10)
        self.trouble = None
        return result


def _only(decision: OptStatusDecided, value: bool) -> OptStatusDecided:
    names = [name for name, each in decision.flags.items() if each is value]
    return replace(decision, flags=dict.fromkeys(names, value), inputs={name: decision.inputs[name] for name in names})


def _placed(known: Known, record: Record, now: datetime) -> Known:
    read_at = datetime.fromtimestamp(record.timestamp_ms / 1000, UTC).isoformat()
    return replace(
        known,
        outcome="observed",
        topic=record.topic,
        partition=record.partition,
        offset=record.offset,
        read_at=read_at,
        settled_at=now.isoformat(),
    )
