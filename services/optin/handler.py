"""Tells one system what was decided of one contact's flags: what is particular to the writer of Opt In/Out.

Every flag is looked at before it is written, and only what differs is. What turns out to be other than the decision took it for is not
overwritten but observed again: the resolver hears of it and decides anew.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Any, Protocol

from bridge.avro import Decoder
from bridge.campaign.client import CampaignClient
from bridge.campaign.errors import Duplicate, NotFound
from bridge.clock import Clock
from bridge.dynamics.changes import version
from bridge.dynamics.client import DynamicsClient
from bridge.dynamics.errors import QueryRefused
from bridge.errors import ParkError, RejectError
from bridge.events import OptStatusDecided, OptStatusObserved, Record
from bridge.flow.ports import Result
from bridge.log import log
from bridge.state import Known
from services.optin.export import flag_changed_at, record_changed_at
from services.optin.hearing import NO_OWN_TIME
from services.optin.known import OLDEST, Pair, since

PROFILES = "profileAndServicesExt/profile"
HELD = "held"


@dataclass(frozen=True, slots=True)
class Basis:
    """What a decision on a flag stood on: the contact's version in Dynamics, and when that was heard which led to it."""

    version: int | None
    heard_at: datetime


@dataclass(frozen=True, slots=True)
class Decided:
    """A decision, whether it is held for a person to release it, and what it stood on, flag by flag."""

    event: OptStatusDecided
    held: bool = False
    basis: Mapping[str, Basis] = field(default_factory=dict)


class Observe(Protocol):
    async def __call__(self, event: OptStatusObserved, version: int | None, *, own: bool) -> None:
        """Publishes what the writer has seen; `own`: after its own write. Raises RetryError."""


class OptinHandler:
    """See bridge.flow.ports.Handler. `contacts` is the entity set of contacts."""

    def __init__(
        self,
        dynamics: DynamicsClient,
        campaign: CampaignClient,
        contacts: str,
        pairs: tuple[Pair, ...],
        decoder: Decoder[OptStatusDecided],
        observe: Observe,
        clock: Clock,
        *,
        park_budget_s: float,
    ) -> None:
        self._dynamics, self._campaign, self._contacts, self._pairs = dynamics, campaign, contacts, pairs
        self._decoder, self._observe, self._clock = decoder, observe, clock
        self._park_budget = timedelta(seconds=park_budget_s)

    def key(self, record: Record) -> str:
        """Contact and system: what both are told goes in parallel. A decision that is held is no part of any other."""
        place = f"{_text(record.key)}/{_text(record.header('target'))}"
        return f"{place}/{record.offset}" if _is_held(record) else place

    def state_key(self, key: str) -> str:
        return "/".join(key.split("/")[:2])

    def live(self, record: Record) -> bool:
        """Opt-outs go first."""
        return record.header("decides") != b"opt-in"

    async def decode(self, record: Record) -> Decided:
        event = await self._decoder.decode(record.value)
        if event.contact_key.encode() != record.key:
            raise RejectError("the decision belongs to another contact than its record", code="misplaced", stage="decode")
        known, heard = _text(record.header("source-version")), _text(record.header("heard-at"))
        basis = Basis(int(known) if known.isdigit() else None, datetime.fromisoformat(heard) if heard else event.decided_at)
        return Decided(event, _is_held(record), dict.fromkeys(event.flags, basis))

    def merge(self, waiting: Decided, arrived: Decided) -> Decided:
        older, newer = sorted((waiting, arrived), key=lambda each: each.event.decided_at)
        flags, inputs = {**older.event.flags, **newer.event.flags}, {**older.event.inputs, **newer.event.inputs}
        return Decided(replace(newer.event, flags=flags, inputs=inputs), basis={**older.basis, **newer.basis})

    def older(self, arrived: Decided, waiting: Decided) -> bool:
        return arrived.event.decided_at < waiting.event.decided_at

    def rejected(self, event: Decided, known: Known | None) -> Known:
        return _noting(known, event.event)

    async def write(self, event: Decided, known: Known | None) -> Result:
        """A flag that was decided anew since is left alone: this decision is a repeated or a released one."""
        if event.held:
            return Result("held")
        decision = event.event
        flags = {name: value for name, value in decision.flags.items() if not _superseded(known, name, decision.decided_at)}
        if not flags:
            return Result("stale")
        try:
            if decision.target == "dynamics":
                return await self._tell_dynamics(event, flags, known)
            outcome, status = await self._tell_campaign(decision, flags)
        except (QueryRefused, Duplicate) as exc:
            raise RejectError(str(exc), code="flag_refused", status=exc.status) from exc
        return Result(outcome, replace(_noting(known, decision), status=status))

    async def _tell_dynamics(self, decided: Decided, flags: Mapping[str, bool], known: Known | None) -> Result:
        decision, then = decided.event, replace(_noting(known, decided.event), status=200)
        contact = decision.contact_key
        names = sorted({*flags, *(pair.dynamics for pair in self._pairs)})
        path = f"{self._contacts}({contact})?$select={','.join([*names, 'modifiedon'])}"
        row = await self._dynamics.row(path)
        if row is None:
            return Result("absent", replace(then, status=404))
        different = {name: value for name, value in flags.items() if bool(row.get(name)) != value}
        kept: set[str] = set()
        if not all(different.values()):
            kept = await self._not_to_be_released(decided, different, row, known)
        wanted = {name: value for name, value in different.items() if name not in kept}
        if not wanted:
            return Result("observed_again" if kept else "unchanged", then)
        written = await self._dynamics.patch(path, wanted, str(row.get("@odata.etag") or "*"))
        if written is None:
            return Result("absent", replace(then, status=404))
        if "modifiedon" in written:  # so that the resolver knows our own change from somebody's
            await self._observe(self._seen(contact, written, wanted), version(written), own=True)
        return Result("updated", replace(then, times={**then.times, **dict.fromkeys(map(_written, wanted), str(version(written)))}))

    async def _not_to_be_released(
        self, decided: Decided, different: Mapping[str, bool], row: Mapping[str, Any], known: Known | None
    ) -> set[str]:
        """Of the flags to be released, those that somebody may have set after what the decision knew, in either system; both are heard."""
        contact, inputs, now = decided.event.contact_key, decided.event.inputs, str(version(row))
        ours = {name for name in different if known is not None and known.times.get(_written(name)) == now}  # nobody came after us
        doubtful = {name for name, value in different.items() if not value} - ours
        unforeseen = {
            name for name in doubtful if inputs.get(name, {}).get("dynamics") is not True or _edited_since(decided.basis.get(name), row)
        }
        if unforeseen:
            everything = [pair.dynamics for pair in self._pairs]
            await self._observe(self._seen(contact, row, everything), version(row), own=False)
        kept = unforeseen | await self._opted_out_again(contact, different)
        if kept:
            log("observed_again", key=contact)
        return kept

    def _seen(self, contact: str, row: Mapping[str, Any], names: Iterable[str]) -> OptStatusObserved:
        shown = {name: {"value": value, "changed_at": None} for name in names if isinstance(value := row.get(name), bool)}
        return OptStatusObserved(contact, "dynamics", shown, _modified_at(row), self._clock.now())

    async def _opted_out_again(self, contact: str, different: Mapping[str, bool]) -> set[str]:
        """Of the flags to be released, those that Campaign shows as opted out by now: the export is of last night."""
        try:
            profile = await self._campaign.read(PROFILES, contact)
        except NotFound:
            return set()
        back = {pair.dynamics for pair in self._pairs if different.get(pair.dynamics) is False and profile.get(pair.campaign) is True}
        if back:
            await self._observe_profile(contact, profile)
        return back

    async def _tell_campaign(self, decision: OptStatusDecided, flags: Mapping[str, bool]) -> tuple[str, int]:
        """Campaign is only ever told TRUE: FALSE calls off a TRUE that waited, and if that is there already, it is there to stay."""
        contact = decision.contact_key
        try:
            profile = await self._campaign.read(PROFILES, contact)
        except NotFound as exc:
            if not any(flags.values()) or self._clock.now() - decision.decided_at >= self._park_budget:
                return "absent", 404  # nobody to be mailed; if the profile comes, so does its row in the next export
            raise ParkError("Campaign does not have this contact's profile yet", code="profile_missing", status=exc.status) from exc
        different = {name: value for name, value in flags.items() if (profile.get(name) is True) != value}
        unforeseen = {name for name, value in different.items() if not value or _changed_since(name, profile, decision)}
        if unforeseen:
            await self._observe_profile(contact, profile)
            log("observed_again", key=contact)
        body = {name: True for name in different if name not in unforeseen}
        if not body:
            return ("observed_again" if unforeseen else "unchanged"), 200
        return "updated", await self._campaign.update(PROFILES, contact, body)

    async def _observe_profile(self, contact: str, profile: Mapping[str, Any]) -> None:
        flags = {
            pair.campaign: {"value": profile[pair.campaign] is True, "changed_at": _time(flag_changed_at, pair.campaign, profile)}
            for pair in self._pairs
            if pair.campaign in profile
        }
        changed_at = _time(lambda _, each: record_changed_at(each), "", profile)
        await self._observe(OptStatusObserved(contact, "campaign", flags, changed_at, self._clock.now()), None, own=False)


def _written(name: str) -> str:
    """Under which name `times` holds the contact's version after our last write of a flag."""
    return f"version:{name}"


def _modified_at(row: Mapping[str, Any]) -> datetime | None:
    text = row.get("modifiedon")
    return datetime.fromisoformat(text) if isinstance(text, str) else None


def _edited_since(basis: Basis | None, row: Mapping[str, Any]) -> bool:
    """Whether the contact is newer than the decision knew, and was changed after what led to it: then an opt-out that looks as ever may be
    somebody's new word, set after a write of ours that we know nothing of any more."""
    if basis is None:
        return True
    now = version(row)
    newer = now is None or basis.version is None or now > basis.version
    return newer and since(_modified_at(row), basis.heard_at)


def _changed_since(name: str, profile: Mapping[str, Any], decision: OptStatusDecided) -> bool:
    """Whether somebody has changed the flag in Campaign after what the decision knew. Without a time of its own it cannot be told."""
    known = decision.inputs.get(name, {}).get("campaign_changed_at") or OLDEST
    return name != NO_OWN_TIME and (_time(flag_changed_at, name, profile) or OLDEST) > known


def _time(read: Any, name: str, profile: Mapping[str, Any]) -> datetime | None:
    """A time that cannot be read counts as missing."""
    try:
        found: datetime | None = read(name, profile)
    except ValueError:
        return None
    return found


def _superseded(known: Known | None, name: str, decided_at: datetime) -> bool:
    last = known.times.get(name) if known is not None else None
    return last is not None and datetime.fromisoformat(last) > decided_at


def _noting(known: Known | None, decision: OptStatusDecided) -> Known:
    before = known or Known(exists=True)
    times = {name: decision.decided_at.isoformat() for name in decision.flags if not _superseded(known, name, decision.decided_at)}
    return replace(before, times={**before.times, **times})


def _is_held(record: Record) -> bool:
    return record.header("guard") == HELD.encode()


def _text(value: bytes | None) -> str:
    return (value or b"").decode("utf-8", "replace")
