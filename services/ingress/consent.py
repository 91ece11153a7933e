"""Opt-outs and deletes of ingress as calls: what bridge/consent has decided is looked at once more, guarded, written and proved."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Protocol

from bridge.campaign.errors import NotFound
from bridge.consent.guard import LOWER, Ask, delete_of
from bridge.consent.mapped import OptedIn
from bridge.consent.opt_out_wait import OPT_OUT_BUDGET_S, patient
from bridge.consent.profiles import ahead_ms, flag_time
from bridge.kafka.guard import Guard
from bridge.mapping.rows import flat
from bridge.model.clock import Clock
from bridge.model.errors import ParkError, RejectError, RetryError
from bridge.model.events import OptStatusDecided
from bridge.model.flags import OPT_OUT_FLAGS
from bridge.model.state import Known
from bridge.observe.log import log
from services.ingress.decide import Change
from services.ingress.remembered import HELD_DELETE, having, raised

MILLISECOND = timedelta(milliseconds=1)  # to which Campaign's times are cut
ALLOWANCE = timedelta(seconds=2)  # of a time that was measured by two clocks
OPTED_OUT, OPTED_IN, KEPT = "opted-out-in-dynamics", "opted-in-in-dynamics", "no-word-to-opt-in"
DELETED, FILTERED = "deleted-in-dynamics", "filtered-out"


class ConsentCalls(Protocol):
    """The calls of bridge.campaign.client.CampaignClient that consent needs. `ahead_s`: by how much our clock was ahead."""

    @property
    def ahead_s(self) -> float | None: ...

    async def update(self, path: str, key: str, body: dict[str, Any]) -> int: ...

    async def read(self, path: str, key: str) -> dict[str, Any]: ...


class Proof(Protocol):
    async def __call__(self, decision: OptStatusDecided, headers: Mapping[str, str]) -> None:
        """Keeps a decision in `ingress.decisions`. Raises RetryError."""


class Limits(Protocol):
    def lowers(self) -> int:
        """How many opt-outs may be lowered in an hour, by all."""

    def deletes(self, table: str) -> int:
        """How many records of a table may be deleted in an hour, by all."""


@dataclass(frozen=True, slots=True)
class Place:
    """One record: where it is in Dynamics and in Campaign. `key`: as Dynamics has it, `target_key`: as Campaign has it."""

    table: str
    key: str
    path: str
    target_key: str


@dataclass(frozen=True, slots=True)
class Lowered:
    """What Campaign holds after it was tried, which flags wait for a person, and which were left TRUE for want of a later word."""

    holds: Mapping[str, bool]
    held: frozenset[str] = frozenset()
    kept: frozenset[str] = frozenset()
    written: bool = False


class Consent:
    def __init__(self, client: ConsentCalls, guard: Guard, proof: Proof, limits: Limits, clock: Clock) -> None:
        self._client, self._guard, self._proof, self._limits, self._clock = client, guard, proof, limits, clock
        self._unproved: dict[Place, list[tuple[OptStatusDecided, Mapping[str, str]]]] = {}  # what Kafka did not take at once

    def ahead_ms(self) -> int | None:
        """By how much Campaign's clock is ahead of ours, as of its last answer."""
        return ahead_ms(self._client.ahead_s)

    async def look(self, place: Place) -> dict[str, Any] | None:
        """The profile as it is now, None if there is none."""
        try:
            return flat(await self._client.read(place.path, place.target_key))
        except NotFound:
            return None

    async def opt_out(self, place: Place, names: Collection[str], change: Change) -> dict[str, str] | None:
        """Rule 1: makes flags TRUE, by themselves. What times there are to remember; None: there is no profile, nobody to be mailed.

        What is TRUE already is left alone, so that its time stays that of whoever said so. Raises ParkError instead of giving up.
        """
        try:
            return await self._opt_out(place, names, change)
        except RejectError as exc:
            waits = ParkError(str(exc), code=exc.code, status=exc.status, budget_s=OPT_OUT_BUDGET_S)
            raise patient(waits, len(names)) from exc
        except RetryError as exc:
            raise patient(exc, len(names)) from exc

    async def _opt_out(self, place: Place, names: Collection[str], change: Change) -> dict[str, str] | None:
        profile = await self.look(place)
        if profile is None:
            return None
        there = sorted(name for name in names if profile.get(name) is True)
        missing = sorted(set(names) - set(there))
        if there:
            await self.prove(place, change, dict.fromkeys(there, True), OPTED_OUT, "unchanged", profile=profile)
        if not missing:
            return {}
        began = self._clock.now()
        try:
            status = await self._client.update(place.path, place.target_key, dict.fromkeys(missing, True))
        except NotFound:
            return None
        await self.prove(place, change, dict.fromkeys(missing, True), OPTED_OUT, "written", status=status, profile=profile)
        return self.window(missing, began)

    def window(self, names: Collection[str], began: datetime) -> dict[str, str]:
        """When we wrote TRUE ourselves: a time of Campaign within it is nobody's word."""
        ended = self._clock.now()
        return {f"raised:{name}": f"{began.isoformat()} {ended.isoformat()}" for name in names}

    async def lower(self, place: Place, words: Mapping[str, OptedIn], change: Change, known: Known, released: bool) -> Lowered:
        """Rule 2: makes flags FALSE for words FALSE, after a look at Campaign's flag and its time, and within the guard's limit."""
        profile = await self.look(place)
        if profile is None:
            return Lowered({})
        there = {name for name in words if profile.get(name) is True}
        doubtful = {name for name in there if not self._earlier(name, profile, words[name], change, known)}
        wanted = sorted(there - doubtful)
        holds = {name: name in there for name in words}
        if doubtful:
            await self.prove(place, change, dict.fromkeys(doubtful, True), KEPT, "kept", profile=profile)
        if not wanted:
            return Lowered(holds, kept=frozenset(doubtful))
        ask = Ask(LOWER, _lower_id(place, {name: words[name] for name in wanted}), self._limits.lowers())
        if not released and not await self._guard.passes(ask):
            log("release_held", "warning", key=place.key, flags=wanted)
            await self.prove(place, change, dict.fromkeys(wanted, False), OPTED_IN, "held", profile=profile, held="release")
            return Lowered(holds, held=frozenset(wanted), kept=frozenset(doubtful))
        status = await self._client.update(place.path, place.target_key, dict.fromkeys(wanted, False))
        outcome = "executed" if released else "written"
        await self.prove(place, change, dict.fromkeys(wanted, False), OPTED_IN, outcome, status=status, profile=profile)
        return Lowered(holds | dict.fromkeys(wanted, False), kept=frozenset(doubtful), written=True)

    async def may_delete(self, place: Place, change: Change, rule: str) -> bool:
        """Rule 7. What may not be deleted now is held, with its evidence."""
        ask = Ask(delete_of(place.table), f"ingress/{place.table}/{place.key}@{_order(change)}", self._limits.deletes(place.table))
        if await self._guard.passes(ask):
            return True
        log("delete_held", "warning", table=place.table, key=place.key)
        await self.prove(place, change, {}, rule, "held", held="delete")
        return False

    async def void(self, place: Place, change: Change, known: Known, said: Mapping[str, bool | None], *, returned: bool) -> set[str]:
        """Drops what is held and has been overtaken: an opt-out that was said again, a record that is to stay. Names of times to forget."""
        flags = {name for name, value in said.items() if value is not False and f"held:{name}" in known.times}
        gone = {f"held:{name}" for name in flags}
        if flags:
            await self.prove(place, change, dict.fromkeys(flags, True), OPTED_OUT, "voided", voids="release")
        if returned and HELD_DELETE in known.times:
            await self.prove(place, change, {}, "returned", "voided", voids="delete")
            gone.add(HELD_DELETE)
        return gone

    async def prove(
        self,
        place: Place,
        change: Change,
        flags: Mapping[str, bool],
        rule: str,
        outcome: str,
        *,
        status: int | None = None,
        profile: Mapping[str, Any] | None = None,
        held: str | None = None,
        voids: str | None = None,
    ) -> None:
        """Keeps who decided what, from which facts, and what came of it (rule 8)."""
        event, said = change.event, _last(change)
        origin = "" if event.version is None else f"version {event.version}"
        seen = profile or {}
        inputs = {
            name: {
                "campaign": seen[name] is True if name in seen else None,
                "campaign_changed_at": flag_time(name, seen),
                "campaign_from": "profile" if name in seen else None,
                "dynamics": said.get(name),
                "dynamics_changed_at": event.changed_at,
                "dynamics_from": origin or None,
            }
            for name in sorted(flags)
        }
        decision = OptStatusDecided(place.key, "campaign", dict(flags), rule, inputs, self._clock.now())
        names = sorted(flags) if flags else ["delete"]
        headers = {"table": place.table, "flags": ",".join(names), "outcome": outcome, "origin": origin}
        headers["status"] = "" if status is None else str(status)
        headers |= {"guard": "held", "kind": held} if held else {}
        headers |= {"voids": voids} if voids else {}
        self._unproved.setdefault(place, []).append((decision, headers))
        await self.make_up(place)

    async def make_up(self, place: Place) -> None:
        """Keeps what was not kept of this record the last time. Raises RetryError."""
        waiting = self._unproved.get(place, [])
        while waiting:
            await self._proof(*waiting[0])
            waiting.pop(0)
        self._unproved.pop(place, None)

    def _earlier(self, name: str, profile: Mapping[str, Any], word: OptedIn, change: Change, known: Known) -> bool:
        """Whether Campaign's TRUE is older than the word FALSE, for sure, or is our own write. In doubt it is not."""
        at = flag_time(name, profile)
        if at is None or word.at is None:
            return False
        ahead = timedelta(milliseconds=self.ahead_ms() or 0)
        ours = raised(known, name)
        if ours is not None and ours[0] - MILLISECOND <= at - ahead <= ours[1]:  # no more: it may be a person's, just after ours
            return True
        return at - ahead + ALLOWANCE < word.at - timedelta(milliseconds=change.ahead_ms)


def held_times(lowered: Lowered, words: Mapping[str, OptedIn], change: Change) -> dict[str, str]:
    """What is remembered of lowers that are held: the change, and when the word was said, by our clock."""
    ahead = timedelta(milliseconds=change.ahead_ms)
    said = {name: words[name].at for name in lowered.held}
    return {f"held:{name}": f"{_order(change)} {(at - ahead).isoformat() if at else ''}" for name, at in said.items()}


def held_word(known: Known, name: str) -> OptedIn:
    """The word FALSE whose lower is held, by our clock. One without a time lowers nothing."""
    _, _, at = known.times[f"held:{name}"].partition(" ")
    return OptedIn(datetime.fromisoformat(at) if at else None, None)


def with_held_delete(known: Known, change: Change) -> Known:
    return having(known, {HELD_DELETE: _order(change)})


def opted_out(profile: Mapping[str, Any]) -> set[str]:
    return {name for name in OPT_OUT_FLAGS if profile.get(name) is True}


def _last(change: Change) -> dict[str, bool | None]:
    said: dict[str, bool | None] = {}
    for sight in change.sights:
        said |= sight.flags
    return said


def _order(change: Change) -> str:
    event = change.event
    return f"{event.epoch}.{event.version}" if event.version is not None else event.observed_at.isoformat()


def _lower_id(place: Place, words: Mapping[str, OptedIn]) -> str:
    """The same for the same words, however often and beside whatever they are delivered."""
    said = (f"{name}@{_text(words[name])}" for name in sorted(words))
    return f"ingress/{place.table}/{place.key}/{','.join(said)}"


def _text(word: OptedIn) -> str:
    return f"{word.order[0]}.{word.order[1]}" if word.order is not None else "" if word.at is None else word.at.isoformat()
