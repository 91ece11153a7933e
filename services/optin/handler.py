"""Tells one system what was decided of one contact's flags: what is particular to the writer of Opt In/Out.

Every flag is looked at before it is written, and only what differs is. What turns out to be other than the decision took it for is not
overwritten but observed again: the resolver hears of it and decides again. The decisions themselves are not made here.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta

from bridge.campaign.errors import Duplicate
from bridge.consent.opt_out_wait import patient
from bridge.dynamics.errors import QueryRefused
from bridge.flow.failures import first_place
from bridge.flow.ports import Result, Route
from bridge.kafka.avro import Decoder
from bridge.model.clock import Clock
from bridge.model.errors import ParkError, RejectError, RetryError
from bridge.model.events import OptStatusDecided, Record
from bridge.model.state import Known
from bridge.observe.log import log
from services.optin.contacts import Basis, ContactRow, Contacts, is_news, made_by_us, moment
from services.optin.observing import Observing
from services.optin.profiles import Profiles

HELD = "held"
Note = Callable[[str, Sequence[str], str, int | None], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class Decided:
    """A decision, whether it is held for a person to release it, what it stood on, flag by flag, and where it lies in Kafka (of all that
    were merged into it)."""

    event: OptStatusDecided
    held: bool = False
    basis: Mapping[str, Basis] = field(default_factory=dict)
    places: tuple[str, ...] = ()


class OptinHandler:
    """See bridge.flow.ports.Handler. `note` keeps what became of decisions: contact, places, outcome, and what the target answered."""

    sums = True  # each decision may be about another flag

    def __init__(
        self,
        contacts: Contacts,
        profiles: Profiles,
        observing: Observing,
        decoder: Decoder[OptStatusDecided],
        note: Note,
        clock: Clock,
        *,
        park_budget_s: float,
    ) -> None:
        self._contacts, self._profiles, self._observing = contacts, profiles, observing
        self._decoder, self._note, self._clock = decoder, note, clock
        self._park_budget = timedelta(seconds=park_budget_s)

    def route(self, record: Record) -> Route:
        """Contact and system: what both are told goes in parallel. A decision that is held is no part of any other. Opt-outs go first."""
        place = f"{_text(record.key)}/{_text(record.header('target'))}"
        key = f"{place}/{record.offset}" if _is_held(record) else place
        return Route(key, "/".join(key.split("/")[:2]), live=record.header("decides") != b"opt-in")

    async def decode(self, record: Record) -> Decided:
        event = await self._decoder.decode(record.value)
        if event.contact_key.encode() != record.key:
            raise RejectError("the decision belongs to another contact than its record", code="misplaced", stage="decode")
        known, changed = _text(record.header("source-version")), _text(record.header("source-changed-at"))
        basis = Basis(int(known) if known.isdigit() else None, datetime.fromisoformat(changed) if changed else None)
        return Decided(event, _is_held(record), dict.fromkeys(event.flags, basis), (first_place(record),))

    def merge(self, waiting: Decided, arrived: Decided) -> tuple[Decided, bool]:
        older, newer = sorted((waiting, arrived), key=lambda each: each.event.decided_at)
        flags, inputs = {**older.event.flags, **newer.event.flags}, {**older.event.inputs, **newer.event.inputs}
        places = waiting.places + arrived.places
        merged = Decided(replace(newer.event, flags=flags, inputs=inputs), basis={**older.basis, **newer.basis}, places=places)
        return merged, arrived.event.decided_at >= waiting.event.decided_at

    def rejected(self, event: Decided, known: Known | None) -> Known:
        return _noting(known, event.event)

    async def write(self, event: Decided, known: Known | None) -> Result:
        """A flag that was decided again since is left alone: this decision is a repeated or a released one."""
        if event.held:
            return Result("held")
        decision = event.event
        flags = {name: value for name, value in decision.flags.items() if not _superseded(known, name, decision.decided_at)}
        result = await self._told(event, flags, known) if flags else Result("stale")
        status = result.known.status if result.known is not None else None
        await self._note(decision.contact_key, event.places, result.outcome, status)
        return result

    async def _told(self, event: Decided, flags: Mapping[str, bool], known: Known | None) -> Result:
        try:
            if event.event.target == "dynamics":
                return await self._tell_dynamics(event, flags, known)
            outcome, status = await self._tell_campaign(event.event, flags)
            return Result(outcome, replace(_noting(known, event.event), status=status))
        except (QueryRefused, Duplicate) as exc:
            refused = RejectError(str(exc), code="flag_refused", status=exc.status)
            refused.opt_outs = sum(flags.values())
            raise refused from exc
        except ParkError:
            raise  # there is no profile, and so nobody to be mailed
        except RetryError as exc:
            raise patient(exc, sum(flags.values())) from exc

    async def _tell_dynamics(self, decided: Decided, flags: Mapping[str, bool], known: Known | None) -> Result:
        """Opt-outs go before any lower. What our write would hide from the reader is observed first."""
        contact, then = decided.event.contact_key, replace(_noting(known, decided.event), status=200)
        row = await self._contacts.look(contact)
        if row is None:
            return Result("absent", replace(then, status=404))
        raises = {name for name, value in flags.items() if value and row.flags.get(name) is not True}
        lowers = {name for name, value in flags.items() if not value and row.flags.get(name)}
        if not raises and not lowers:
            return Result("unchanged", then)
        news = {name for name in raises | lowers if is_news(row, decided.basis.get(name), known)}
        if news:
            await self._observing.row(contact, row)
        times, written = then.times, row
        if raises:
            changed = await self._contacts.write(contact, dict.fromkeys(raises, True), row)
            if changed is None:
                return Result("absent", replace(then, status=404))
            written, times = changed, {**times, **_written(known, row, changed)}
        kept = await self._kept(decided, lowers, news, row)
        if lowers - kept:
            changed = await self._contacts.write(contact, dict.fromkeys(lowers - kept, False), written)
            if changed is None:
                return Result("absent", replace(then, status=404))
            times = {**times, **_written(known, row, changed)}
        outcome = "updated" if raises or lowers - kept else "observed_again"
        return Result(outcome, replace(then, times=times))

    async def _kept(self, decided: Decided, lowers: set[str], news: set[str], row: ContactRow) -> set[str]:
        """Rule 2 of the consent contract: of the flags to be lowered, those that somebody may have set after what the decision knew, in
        either system. Both systems are observed again, and the resolver decides again."""
        if not lowers:
            return set()
        contact, inputs = decided.event.contact_key, decided.event.inputs
        unforeseen = {name for name in lowers if inputs.get(name, {}).get("dynamics") is not True}
        if unforeseen - news:
            await self._observing.row(contact, row)
        kept = unforeseen | (lowers & news)
        kept |= await self._profiles.objecting(contact, lowers - kept, inputs)
        if kept:
            log("observed_again", key=contact)
        return kept

    async def _tell_campaign(self, decision: OptStatusDecided, flags: Mapping[str, bool]) -> tuple[str, int]:
        """Campaign is only ever told TRUE: FALSE calls off a TRUE that waited, and if that is there already, it is there to stay."""
        contact = decision.contact_key
        found = await self._profiles.look(contact)
        if found is None:
            if not any(flags.values()) or self._clock.now() - decision.decided_at >= self._park_budget:
                return "absent", 404  # nobody to be mailed; whoever creates the profile says so, and it is decided again
            text, ours = "Campaign does not have this contact's profile yet", frozenset({f"{contact}/campaign"})
            raise ParkError(text, code="profile_missing", status=404, waits_for=ours)  # until the next decision on it
        different = {name: value for name, value in flags.items() if (found.profile.get(name) is True) != value}
        unforeseen = {name for name, value in different.items() if not value or found.changed_since(name, decision.inputs)}
        unknown = {name for name, value in flags.items() if value and name not in different and not _knew(decision, name)}
        if unforeseen or unknown:
            await self._profiles.observe(contact, found.profile)
        if unforeseen:
            log("observed_again", key=contact)
        body = sorted(name for name in different if name not in unforeseen)
        if not body:
            return ("observed_again" if unforeseen else "unchanged"), 200
        status = await self._profiles.opt_out(found, body)
        await self._observing.wrote_to_campaign(contact, body)
        return "updated", status


def _written(known: Known | None, over: ContactRow, now: ContactRow) -> dict[str, str]:
    """Version and time that our last write gave the contact, and the version that it was written over; of several of ours, the first."""
    first = known.times.get("over") if known is not None and made_by_us(over, known) else None
    return {"version": str(now.version), "changed": moment(now), "over": first or str(over.version)}


def _knew(decision: OptStatusDecided, name: str) -> bool:
    return decision.inputs.get(name, {}).get("campaign") is True


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
