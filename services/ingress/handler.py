"""Brings one record of Campaign to the state its Dynamics row asks for: what is particular to the ingress writer."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Protocol

from bridge.avro import Decoder
from bridge.campaign.errors import Duplicate, NotFound
from bridge.campaign.metadata import Resource
from bridge.config import TableMapping
from bridge.convert import TargetField, empty
from bridge.errors import ParkError, RejectError, RetryError
from bridge.events import ChangeEvent, Record, Value
from bridge.flow.ports import Result
from bridge.mapping import Mapped, Mapper, flat, nested
from bridge.state import Digests, Known
from services.ingress.decide import (
    Change,
    Create,
    Delete,
    Nothing,
    Update,
    change,
    decide_delete,
    decide_upsert,
    merge,
    newer,
    worth_creating,
)

LIVE, REPLAY = "ingress.changes.", "ingress.replay."


class Calls(Protocol):
    """The calls of bridge.campaign.client.CampaignClient that are made here; the plan of a configuration only notes them."""

    async def create(self, path: str, body: dict[str, Any]) -> int: ...

    async def update(self, path: str, key: str, body: dict[str, Any]) -> int: ...

    async def delete(self, path: str, key: str) -> int: ...

    async def read(self, path: str, key: str) -> dict[str, Any]: ...

    async def first(self, path: str) -> dict[str, Any] | None: ...


@dataclass(frozen=True, slots=True)
class Target:
    """One mapped table with the Campaign resource it goes to."""

    table: TableMapping
    resource: Resource
    fields: Mapping[str, TargetField]
    mapper: Mapper


class IngressHandler:
    """See bridge.flow.ports.Handler. `targets` by Dynamics table."""

    def __init__(
        self,
        targets: Mapping[str, Target],
        client: Calls,
        decoder: Decoder[ChangeEvent],
        digests: Digests,
    ) -> None:
        self._targets, self._client, self._decoder = targets, client, decoder
        self._digests = digests
        self._hidden: set[str] = set()  # children Campaign holds but does not show
        self._vain_deletes: set[str] = set()  # found nothing, and may find a hidden child later
        self._unanswered_deletes: set[str] = set()  # may have been done; no earlier one was in vain

    def key(self, record: Record) -> str:
        return f"{_table(record)}/{(record.key or b'').decode('utf-8', 'replace')}"

    def state_key(self, key: str) -> str:
        return key

    def live(self, record: Record) -> bool:
        return record.topic.startswith(LIVE)

    async def decode(self, record: Record) -> Change:
        event = await self._decoder.decode(record.value)
        if event.table != _table(record) or event.key.encode() != record.key:
            raise RejectError("the event belongs to another table or key than its record", code="misplaced", stage="decode")
        return change(event)

    def merge(self, waiting: Change, arrived: Change) -> Change:
        return merge(waiting, arrived)

    def older(self, arrived: Change, waiting: Change) -> bool:
        return newer(waiting.event, arrived.event)

    def rejected(self, event: Change, known: Known | None) -> Known:
        before = known or Known()
        return before if event.event.version is None else replace(before, version=event.event.version)

    async def write(self, event: Change, known: Known | None) -> Result:
        target = self._targets[event.event.table]
        if event.event.op == "delete":
            decision = decide_delete(event, target.table, known)
            mapped = None
        else:
            mapped = target.mapper.to_campaign(event.event)
            decision = decide_upsert(event, target.table, mapped, known, self._digests)
        place = f"{event.event.table}/{event.event.key}"
        try:
            match decision:
                case Nothing(outcome, then):
                    return Result(outcome, then)
                case Delete():
                    return await self._delete(target, event.event.key, place, decision, known)
                case Create() | Update():
                    assert isinstance(mapped, Mapped)
                    call = self._create if isinstance(decision, Create) else self._update
                    return await call(target, mapped, place, decision)
        except (Duplicate, NotFound) as exc:  # a second unique key is taken, or the record went between two calls
            raise RejectError(str(exc), code=exc.code, status=exc.status) from exc

    async def _create(self, target: Target, mapped: Mapped, place: str, decision: Create | Update) -> Result:
        key_field = target.mapper.key_field.name
        body = nested({key_field: mapped.key, **decision.fields})
        try:
            status = await self._client.create(target.resource.path, body)
        except Duplicate:
            return await self._adopt(target, mapped, decision.then)
        return Result("created", replace(decision.then, status=status))

    async def _update(self, target: Target, mapped: Mapped, place: str, decision: Create | Update) -> Result:
        fields = self._sent(target.fields, decision.fields)
        try:
            status = await self._client.update(target.resource.path, mapped.key, nested(fields))
        except NotFound as exc:
            return await self._not_shown(target, mapped, place, decision.then, exc)
        self._hidden.discard(place)
        return Result("updated", replace(decision.then, status=status, visible=True))

    async def _delete(self, target: Target, key: str, place: str, decision: Delete, known: Known | None) -> Result:
        try:
            status = await self._client.delete(target.resource.path, target.mapper.key(key))
        except NotFound as exc:
            never_seen = known is not None and known.exists and not known.visible
            if target.resource.has_parents and never_seen:
                await self._make_sure(target, target.mapper.key(key), place, exc)
            status = 404
        except RetryError:
            if place not in self._vain_deletes:
                self._unanswered_deletes.add(place)
            raise
        for places in (self._hidden, self._vain_deletes, self._unanswered_deletes):
            places.discard(place)
        return Result(decision.outcome, replace(decision.then, status=status))

    async def _adopt(self, target: Target, mapped: Mapped, then: Known) -> Result:
        """The key is taken: by ourselves before a crash, or by an earlier integration. Only what differs is written."""
        try:
            current = flat(await self._client.read(target.resource.path, mapped.key))
        except NotFound as exc:
            raise _parent_missing(exc) from exc
        fields = target.fields
        different = {name: value for name, value in mapped.fields.items() if not _same(current.get(name), value, fields[name])}
        if not different:
            return Result("unchanged", replace(then, status=200, visible=True))
        status = await self._client.update(target.resource.path, mapped.key, nested(self._sent(fields, different)))
        return Result("updated", replace(then, status=status, visible=True))

    async def _not_shown(self, target: Target, mapped: Mapped, place: str, then: Known, exc: NotFound) -> Result:
        """A record we know is not to be found: hidden without its parent, or deleted in Campaign. Creating it tells which."""
        if place in self._hidden:
            raise _parent_missing(exc) from exc
        body = nested({target.mapper.key_field.name: mapped.key, **worth_creating(mapped.fields)})
        try:
            status = await self._client.create(target.resource.path, body)
        except Duplicate:
            self._hidden.add(place)
            raise _parent_missing(exc) from exc
        digests = {**then.digests, **self._digests.of(mapped.fields)}  # all fields went, those that updates do not touch included
        return Result("created", replace(then, status=status, visible=False, digests=digests))

    async def _make_sure(self, target: Target, key: str, place: str, exc: NotFound) -> None:
        """A delete of a child that Campaign has never shown found nothing: returns if it is not there, raises ParkError if it is hidden.

        Creating it tells, but a record without its parent could not be deleted again: it gets the texts of one that Campaign shows,
        and with them that one's parents. Where Campaign shows none we wait, unless an earlier delete may have been done.
        """
        if place in self._hidden:
            raise _parent_missing(exc) from exc
        shown = await self._client.first(target.resource.path)
        if shown is None:
            if place in self._unanswered_deletes:
                return
            self._vain_deletes.add(place)
            raise _parent_missing(exc) from exc
        texts = {name: value for name, value in flat(shown).items() if isinstance(value, str) and value}
        names = [field.target for field in target.table.fields]
        body = {name: texts[name] for name in names if name in texts} | {target.mapper.key_field.name: key}
        try:
            await self._client.create(target.resource.path, nested(body))
        except (Duplicate, RejectError):  # there, or not to be told
            self._hidden.add(place)
            raise _parent_missing(exc) from exc
        await self._client.delete(target.resource.path, key)

    def _sent(self, fields: Mapping[str, TargetField], changed: Mapping[str, Value]) -> dict[str, Any]:
        return {name: empty(fields[name]) if value is None else value for name, value in changed.items()}


def _table(record: Record) -> str:
    return record.topic.removeprefix(LIVE).removeprefix(REPLAY)


def _same(current: Any, wanted: Value, field: TargetField) -> bool:
    if wanted is None:
        return current is None or current == empty(field) or current == ""
    if field.kind == "number" and not isinstance(current, str):
        return float(current or 0) == wanted  # decimals of an answer are exact, a float is not
    return bool(current == wanted)


def _parent_missing(exc: NotFound) -> ParkError:
    return ParkError(
        "Campaign does not show this record: the parent it is linked to is not there yet", code="parent_missing", status=exc.status
    )
