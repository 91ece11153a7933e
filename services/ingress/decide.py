"""What one change means for Campaign, given what we know of the record (decisions D3 and D7). Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

from bridge.consent.mapped import Order, Sight
from bridge.mapping.rows import Mapped, Skip
from bridge.model.config import TableMapping
from bridge.model.events import ChangeEvent, Value
from bridge.model.flags import OPT_OUT_FLAGS
from bridge.model.state import Digests, Known

FULL = "full"  # in Known.times: epoch and version of the last load or replay that brought the fields with Apply updates off


@dataclass(frozen=True, slots=True)
class Change:
    """One event, or what is left of several for one key.

    `full`: fields with Apply updates off are to be sent as well, because an initial load or a replay is among them. `merged`: how many
    events went into it. `sights`: what each of them says of opt-outs. `released`: held items that a person has released, as kind or as
    kind and flag; `only_release`: there is nothing else. `ahead_ms`: by how much Dynamics' clock is ahead of ours. `partition`: where the
    record's state is kept. `polled_every_s`: how often its reader polls, 0: as by default.
    """

    event: ChangeEvent
    full: bool
    merged: int = 1
    sights: tuple[Sight, ...] = ()
    released: frozenset[tuple[str, str]] = frozenset()
    only_release: bool = False
    ahead_ms: int = 0
    partition: int = 0
    polled_every_s: float = 0.0

    def releases(self, kind: str, flag: str = "") -> bool:
        """Whether a held item of this kind, and about this flag, was released."""
        return (kind, "") in self.released or (kind, flag) in self.released


@dataclass(frozen=True, slots=True)
class Create:
    fields: Mapping[str, Value]
    then: Known


@dataclass(frozen=True, slots=True)
class Update:
    fields: Mapping[str, Value]
    then: Known


@dataclass(frozen=True, slots=True)
class Delete:
    then: Known
    outcome: str = "deleted"


@dataclass(frozen=True, slots=True)
class Nothing:
    """No call. `then` None: what is known stays as it is."""

    outcome: str
    then: Known | None = None


Decision = Create | Update | Delete | Nothing


def change(event: ChangeEvent, said: Mapping[str, bool | None] | None = None, ahead_ms: int = 0, partition: int = 0) -> Change:
    """`said`: its opt-out flags, by Campaign's names."""
    sights = (Sight(said, event.lane == "live", order(event), event.changed_at),) if said and event.op == "upsert" else ()
    return Change(event, event.lane in ("initial", "replay"), sights=sights, ahead_ms=ahead_ms, partition=partition)


def ours(made: Change) -> Change:
    """The same, of a row that we changed last: Opt In/Out may have, and that is nobody's word."""
    return replace(made, sights=tuple(replace(sight, live=False) for sight in made.sights))


def release(event: ChangeEvent, kind: str, flags: Iterable[str] = (), partition: int = 0) -> Change:
    """A held item that a person has released; without flags whatever is held of this kind, and a delete is about all of them. It says
    nothing of the row."""
    released = frozenset((kind, flag) for flag in flags if kind != "delete") or frozenset({(kind, "")})
    return Change(event, full=False, merged=0, released=released, only_release=True, partition=partition)


def order(event: ChangeEvent) -> Order | None:
    return None if event.version is None else (event.epoch, event.version)


def known_order(known: Known | None) -> Order | None:
    return None if known is None or known.version is None else (known.epoch, known.version)


def merge(waiting: Change, arrived: Change) -> Change:
    """The newer of two changes of one record, by version, else by arrival; what both say of opt-outs, and what was released."""
    first = waiting if arrived.only_release or (not waiting.only_release and newer(waiting.event, arrived.event)) else arrived
    return Change(
        first.event,
        waiting.full or arrived.full,
        waiting.merged + arrived.merged,
        waiting.sights + arrived.sights,
        waiting.released | arrived.released,
        waiting.only_release and arrived.only_release,
        first.ahead_ms,
        first.partition,
        first.polled_every_s,
    )


def newer(first: ChangeEvent, second: ChangeEvent) -> bool:
    """Whether the event that came first is the newer one all the same. A delete carries the highest version its reader had seen, so at
    equal versions it is the newer one; else the one with more columns is, which was read after they were mapped."""
    one, other = order(first), order(second)
    if one is None or other is None or one != other:
        return one is not None and other is not None and one > other
    return first.op == "delete" or (second.op != "delete" and len(first.fields) > len(second.fields))


def stale(event: ChangeEvent, known: Known | None) -> bool:
    """Whether something newer has been dealt with: an older event never overwrites it."""
    mine, last = order(event), known_order(known)
    if known is None or mine is None or last is None:
        return False
    return mine < last or (known.gone and event.op == "upsert" and mine == last)


def noted(before: Known, event: ChangeEvent, *, gone: bool) -> Known:
    """What is known once this event has been dealt with, before what that comes to."""
    if event.version is None:
        return replace(before, gone=gone)
    return replace(before, version=event.version, epoch=event.epoch, gone=gone)


def decide_delete(wanted: Change, table: TableMapping, known: Known | None) -> Decision:
    event, before = wanted.event, known or Known()
    if stale(event, known):
        return Nothing("stale")
    after = noted(before, event, gone=True)
    if before.gone and (not before.exists or before.outcome == "delete_ignored"):
        return Nothing("unchanged", after)
    if not table.apply_deletes:
        return Nothing("delete_ignored", after)
    return Delete(replace(after, exists=False, visible=False, digests={}, times={}))


def decide_upsert(wanted: Change, table: TableMapping, mapped: Mapped | Skip, known: Known | None, digests: Digests) -> Decision:
    event, before = wanted.event, known or Known()
    if stale(event, known):
        return _overtaken(wanted, mapped, before, digests)
    after = noted(before, event, gone=False)
    if mapped is Skip.INCOMPLETE:
        return Nothing("incomplete")
    if isinstance(mapped, Skip):
        return _filtered_out(wanted, table, before, after, known)
    fresh = digests.of(mapped.fields)
    if wanted.full and mapped.first_only:
        after = replace(after, times={**after.times, FULL: _place(event)})
    if not before.exists:
        return Create(worth_creating(mapped.fields), replace(after, exists=True, visible=False, digests=fresh))
    held = frozenset() if wanted.full else mapped.first_only
    changed = {name: value for name, value in mapped.fields.items() if name not in held and before.digests.get(name) != fresh[name]}
    kept = {name: before.digests[name] for name in held if name in before.digests}
    flags = {name: digest for name, digest in before.digests.items() if is_flag(name)}  # they are not this function's business
    then = replace(after, digests={name: digest for name, digest in fresh.items() if name not in held} | kept | flags)
    return Update(changed, then) if changed else Nothing("unchanged", then)


def _overtaken(wanted: Change, mapped: Mapped | Skip, before: Known, digests: Digests) -> Decision:
    """A load or replay that newer changes of the record have overtaken. They did not bring the fields with Apply updates off: it does, if
    none that was read later has."""
    waits = any(name.startswith("held") for name in before.times)
    if not wanted.full or not isinstance(mapped, Mapped) or not before.exists or before.gone or waits:
        return Nothing("stale")
    if _order_of(before.times.get(FULL)) >= (order(wanted.event) or (0, 0)):
        return Nothing("stale")
    fresh = digests.of({name: value for name, value in mapped.fields.items() if name in mapped.first_only})
    changed = {name: mapped.fields[name] for name, digest in fresh.items() if before.digests.get(name) != digest}
    then = replace(before, digests={**before.digests, **fresh}, times={**before.times, FULL: _place(wanted.event)})
    return Update(changed, then) if changed else Nothing("stale")


def _place(event: ChangeEvent) -> str:
    return " ".join(map(str, order(event) or (0, 0)))


def _order_of(place: str | None) -> Order:
    epoch, _, version = (place or "0 0").partition(" ")
    return int(epoch), int(version)


def _filtered_out(wanted: Change, table: TableMapping, before: Known, after: Known, known: Known | None) -> Decision:
    """An earlier event that was merged into this one may have been written before a crash: then we delete to be sure."""
    doubtful = known is None and wanted.merged > 1
    if table.filter.delete_filtered_out and (before.exists or doubtful):
        return Delete(replace(after, exists=False, visible=False, digests={}, times={}), "filtered")
    return Nothing("filtered", after)


def is_flag(name: str) -> bool:
    """Whether a digest is about an opt-out: what Campaign holds (`blackListEmail`), or what was said of it (`said:…`, `no:…`)."""
    return name.rpartition(":")[2] in OPT_OUT_FLAGS


def worth_creating(fields: Mapping[str, Value]) -> dict[str, Value]:
    """Without empty fields."""
    return {name: value for name, value in fields.items() if value is not None}
