"""What one change means for Campaign, given what we know of the record (decisions D3 and D7). Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from bridge.config import OPT_OUT_FLAGS, TableMapping, canonical_flag
from bridge.events import ChangeEvent, Value
from bridge.mapping import Mapped, Skip
from bridge.state import Digests, Known


@dataclass(frozen=True, slots=True)
class Change:
    """One event, or what is left of several for one key. `full`: fields with Apply updates off are to be sent as well, because an
    initial load or a replay is among them. `merged`: how many events went into it."""

    event: ChangeEvent
    full: bool
    merged: int = 1


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


def change(event: ChangeEvent) -> Change:
    return Change(event, event.lane in ("initial", "replay"))


def merge(waiting: Change, arrived: Change) -> Change:
    """The newer of two changes of one record, by version, else by arrival. A delete carries the highest version its reader had seen,
    so at equal versions it is the newer one."""
    last = waiting if newer(waiting.event, arrived.event) else arrived
    return Change(last.event, waiting.full or arrived.full, waiting.merged + arrived.merged)


def newer(first: ChangeEvent, second: ChangeEvent) -> bool:
    """Whether the event that came first is the newer one all the same."""
    if first.version is None or second.version is None:
        return False
    return first.version > second.version or (first.version == second.version and first.op == "delete")


def stale(event: ChangeEvent, known: Known | None) -> bool:
    """Whether something newer has been dealt with: an older event never overwrites it."""
    if known is None or known.version is None or event.version is None:
        return False
    return event.version < known.version or (known.gone and event.op == "upsert" and event.version == known.version)


def decide_delete(wanted: Change, table: TableMapping, known: Known | None) -> Decision:
    event, before = wanted.event, known or Known()
    if stale(event, known):
        return Nothing("stale")
    after = replace(before, version=event.version if event.version is not None else before.version, gone=True)
    if before.gone and before.outcome in ("deleted", "delete_ignored"):
        return Nothing("unchanged", after)
    if not table.apply_deletes:
        return Nothing("delete_ignored", after)
    if known is not None and not known.exists and wanted.merged == 1:
        return Nothing("unchanged", after)
    return Delete(replace(after, exists=False, visible=False, digests={}))


def decide_upsert(wanted: Change, table: TableMapping, mapped: Mapped | Skip, known: Known | None, digests: Digests) -> Decision:
    event, before = wanted.event, known or Known()
    if stale(event, known):
        return Nothing("stale")
    after = replace(before, version=before.version if event.version is None else event.version, gone=False)
    if mapped is Skip.INCOMPLETE:
        return Nothing("incomplete")
    if isinstance(mapped, Skip):
        return _filtered_out(wanted, table, before, after, known)
    fresh = digests.of(mapped.fields)
    unknown = _flags(table) - mapped.fields.keys()  # consents that Dynamics leaves open: what Campaign holds stays
    if not before.exists:
        off = {name: digests.one(name, False) for name in unknown}
        return Create(worth_creating(mapped.fields), replace(after, exists=True, visible=False, digests=fresh | off))
    held = frozenset() if wanted.full else mapped.first_only
    changed = {name: value for name, value in mapped.fields.items() if name not in held and before.digests.get(name) != fresh[name]}
    kept = {name: before.digests[name] for name in held | unknown if name in before.digests}
    then = replace(after, digests={name: digest for name, digest in fresh.items() if name not in held} | kept)
    return Update(changed, then) if changed else Nothing("unchanged", then)


def _filtered_out(wanted: Change, table: TableMapping, before: Known, after: Known, known: Known | None) -> Decision:
    """An earlier event that was merged into this one may have been written before a crash: then we delete to be sure."""
    doubtful = known is None and wanted.merged > 1
    if table.filter.delete_filtered_out and (before.exists or doubtful):
        return Delete(replace(after, exists=False, visible=False, digests={}), "filtered")
    return Nothing("filtered", after)


def _flags(table: TableMapping) -> frozenset[str]:
    return frozenset(canonical_flag(field.target) for field in table.fields) & frozenset(OPT_OUT_FLAGS)


def worth_creating(fields: Mapping[str, Value]) -> dict[str, Value]:
    """Without empty fields, and without opt-out flags that are off as they are anyway (campaign.md §6.2)."""
    return {name: value for name, value in fields.items() if value is not None and not (name in OPT_OUT_FLAGS and value is False)}
