"""Brings one record of Campaign to the state its Dynamics row asks for: what is particular to the ingress writer.

decode ─▶ merge ─▶ write:  decide (pure) ─▶ opt-outs first ─▶ the record (records.py) ─▶ lowers, and what is remembered
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import replace

from bridge.campaign.errors import Duplicate, NotFound
from bridge.consent.mapped import Past, wanted
from bridge.consent.opt_out_wait import patient
from bridge.flow.ports import Result, Route
from bridge.kafka.avro import Decoder
from bridge.mapping.rows import Mapped, Skip
from bridge.mapping.values import guid
from bridge.model.clock import Clock
from bridge.model.errors import ParkError, RejectError, RetryError
from bridge.model.events import OURS, POLLED_EVERY, SOURCE_AHEAD, ChangeEvent, Record
from bridge.model.state import Digests, Known
from services.ingress.children import Children
from services.ingress.consent import DELETED, FILTERED, KEPT, Consent, Place, held_times, held_word, with_held_delete
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
    noted,
    ours,
    release,
    stale,
)
from services.ingress.optin import OptIn
from services.ingress.records import Keep, Records
from services.ingress.remembered import HELD_DELETE, Remembered, campaign_key, having, timed, without
from services.ingress.target import CampaignCalls, Target, Work

NUMBER = re.compile(r"-?[0-9]{1,15}")
LIVE, REPLAY = "ingress.changes.", "ingress.replay."


class IngressHandler:
    """See bridge.flow.ports.Handler. `targets` by Dynamics table. `keep` puts a state before a call that would make it unknowable.
    `children`: what a delete has to wait for."""

    sums = False

    def __init__(
        self,
        targets: Mapping[str, Target],
        client: CampaignCalls,
        decoder: Decoder[ChangeEvent],
        digests: Digests,
        consent: Consent,
        optin: OptIn,
        clock: Clock,
        keep: Keep,
        children: Children,
    ) -> None:
        self._children = children
        self._targets, self._decoder, self._digests, self._consent = targets, decoder, digests, consent
        self._remembered = Remembered(digests)
        self._opted_out: dict[str, Known] = {}  # what an opt-out has come to whose record was refused for another reason
        self._records = Records(client, consent, optin, digests, self._remembered, clock, self._opt_out, self._opted_out.__setitem__, keep)

    def route(self, record: Record) -> Route:
        key = f"{_table(record)}/{(record.key or b'').decode('utf-8', 'replace')}"
        return Route(key, key, record.topic.startswith(LIVE))

    async def decode(self, record: Record) -> Change:
        event = await self._decoder.decode(record.value)
        if event.table != _table(record) or event.key.encode() != record.key:
            raise RejectError("the event belongs to another table or key than its record", code="misplaced", stage="decode")
        if record.header("guard") == b"released":
            flags = [flag for flag in _text(record, "flags").split(",") if flag]
            return release(event, _text(record, "kind"), flags, record.partition)
        made = self.change(event, _number(record, SOURCE_AHEAD), record.partition)
        made = replace(made, polled_every_s=_number(record, POLLED_EVERY) / 1000)
        return ours(made) if record.header(OURS) is not None else made

    def change(self, event: ChangeEvent, ahead_ms: int = 0, partition: int = 0) -> Change:
        """An event with what it says of opt-outs."""
        return change(event, self._targets[event.table].mapper.said(event), ahead_ms, partition)

    def merge(self, waiting: Change, arrived: Change) -> tuple[Change, bool]:
        older = arrived.only_release or (not waiting.only_release and newer(waiting.event, arrived.event))
        return merge(waiting, arrived), not older

    def rejected(self, event: Change, known: Known | None) -> Known:
        """Its opt-outs may have been written before. What it said is remembered as said, so that a later change is not taken for it; of an
        opt-out that was not written nobody knows what Campaign holds, and the next event brings it."""
        name = f"{event.event.table}/{event.event.key}"
        self._records.given_up(name)
        written = self._opted_out.pop(name, None)
        before = written or known or Known()
        if event.only_release or stale(event.event, before):
            return before
        after = noted(before, event.event, gone=before.gone)
        if not self._targets[event.event.table].mapper.flags:
            return after
        asked = self._work(event, known).wanted
        after = after if written is not None else self._remembered.forgetting(after, asked.raises)
        return timed(self._remembered.noted(after, asked, {}), event.event)

    async def write(self, event: Change, known: Known | None) -> Result:
        work = await self._records.found(self._work(event, known))
        try:
            await self._consent.make_up(work.place)
            result = await (self._release(work) if event.only_release else self._write(work))
            if event.released and not event.only_release:
                result = await self._released_beside(work, result)
        except (Duplicate, NotFound) as exc:  # a second unique key is taken, or the record went between two calls
            raise RejectError(str(exc), code=exc.code, status=exc.status) from exc
        except RetryError as exc:
            if isinstance(exc, ParkError):
                exc.waits_for = _links(event.event)
            raise patient(exc, len(self._unwritten(work))) from exc
        self._opted_out.pop(work.name, None)
        result = replace(result, made=event.event.key) if result.outcome == "created" else result
        if result.known is None or not work.target.mapper.flags:
            return result
        return replace(result, known=timed(result.known, event.event))

    def _unwritten(self, work: Work) -> frozenset[str]:
        """Opt-outs that were not written in this try."""
        noted = self._opted_out.get(work.name)
        return work.wanted.raises if noted is None else frozenset()

    def _work(self, event: Change, known: Known | None) -> Work:
        row, target = event.event, self._targets[event.event.table]
        place = Place(row.table, row.key, target.resource.path, campaign_key(target.mapper.key(row.key), known))
        past = self._remembered.past(known, target.mapper.flags) if target.mapper.flags else Past()
        return Work(target, event, known, place, past, wanted(event.sights, past))

    async def _write(self, work: Work) -> Result:
        try:
            mapped, decision = self._decide(work)
        except RejectError:
            await self._opt_out(work)  # rule 1: a bad neighbour does not hold it up
            raise
        if isinstance(decision, Delete):
            return await self._delete(work, decision)
        if isinstance(decision, Create):
            assert isinstance(mapped, Mapped)
            return await self._records.create(work, mapped, decision)
        times = await self._opt_out(work)
        work = work.having(times)
        if isinstance(decision, Update):
            assert isinstance(mapped, Mapped)
            result = await self._records.update(work, mapped, decision)
        elif times is None and work.exists and isinstance(mapped, Mapped) and decision.then is not None:
            result = await self._records.make_again(work, mapped, decision.then)
        else:
            result = Result("updated" if times and decision.outcome == "unchanged" else decision.outcome, decision.then)
        return result if result.outcome == "created" else await self._settled(work, result, mapped)

    def _decide(self, work: Work) -> tuple[Mapped | Skip | None, Create | Update | Delete | Nothing]:
        event, table = work.event, work.target.table
        if event.event.op == "delete":
            return None, decide_delete(event, table, work.known)
        mapped = work.target.mapper.to_campaign(event.event)
        return mapped, decide_upsert(event, table, mapped, work.known, self._digests)

    async def _opt_out(self, work: Work, maybe_there: bool = False) -> Mapping[str, str] | None:
        """Opt-outs go first and by themselves. Times to remember; None: there is no profile. One that we did not make is looked for only
        when an opt-out is news, may be there for another reason, or was not written because it could not be."""
        names = work.wanted.raises
        refused = work.known is not None and work.known.outcome == "dead_lettered"
        if not (work.exists or maybe_there or refused):
            names = frozenset(name for name in names if work.past.said.get(name) is not True)
        if not names:
            return {}
        times = await self._consent.opt_out(work.place, names, work.event)
        if times is not None:
            before = having(work.known or Known(), times)
            self._opted_out[work.name] = self._remembered.opted_out(before, names)
        return times

    async def _settled(self, work: Work, result: Result, mapped: Mapped | Skip | None) -> Result:
        """What is left to do for the opt-outs of a record that is not made or deleted now: lowers, and what is to be remembered."""
        before = result.known or work.known or Known()
        if not work.event.sights and not work.times and HELD_DELETE not in before.times:
            return result
        known, more = having(before, work.times), Counter[str]()
        stays = known.exists and mapped is not Skip.FILTERED
        returned = known.exists and isinstance(mapped, Mapped) and result.outcome != "stale"
        holds = dict.fromkeys(work.wanted.raises, True) if known.exists and work.there else {}
        kept = {name for name in work.wanted.kept if known.exists and work.past.said.get(name) is not False}
        if work.wanted.lowers and stays:
            lowered = await self._consent.lower(work.place, work.wanted.lowers, work.event, known, released=False)
            holds = {**holds, **lowered.holds}
            more["optout_kept"] += len(lowered.kept)
            known = having(known, held_times(lowered, work.wanted.lowers, work.event))
            more["lower_held"] += bool(lowered.held)
            result = replace(result, outcome="updated") if lowered.written and result.outcome == "unchanged" else result
        elif known.exists:
            kept |= work.wanted.lowers.keys()
        if kept:
            await self._consent.prove(work.place, work.event, dict.fromkeys(sorted(kept), True), KEPT, "kept")
        forget = await self._consent.void(work.place, work.event, known, work.wanted.said, returned=returned)
        more["optout_kept"] += len(kept)
        known = self._remembered.noted(without(known, forget), work.wanted, holds)
        return replace(result, known=result.known if known == before else known, more=+more)

    async def _delete(self, work: Work, decision: Delete) -> Result:
        """Within the guard's limit (rule 7). What is held stays held until a person releases it, or the record is to stay."""
        rule = DELETED if work.event.event.op == "delete" else FILTERED
        after = decision.then
        before = replace(work.known or Known(), version=after.version, epoch=after.epoch, gone=after.gone)
        if not before.exists and work.known is not None and await self._consent.look(work.place) is None:
            return Result("absent", replace(after, status=404))  # it never was, or an earlier integration had made it: that one is deleted
        if HELD_DELETE not in before.times:
            await self._children_first(work)
        if HELD_DELETE in before.times or not await self._consent.may_delete(work.place, work.event, rule):
            times = await self._opt_out(work)
            known = having(before if HELD_DELETE in before.times else with_held_delete(before, work.event), times or {})
            holds = dict.fromkeys(work.wanted.raises, True) if times is not None else {}
            return Result("held", self._remembered.noted(known, work.wanted, holds))
        return await self._records.delete(work, decision.outcome, after)

    async def _children_first(self, work: Work) -> None:
        """Its opt-outs do not wait for the children as well: as long as the record is there, it must say so (rule 1)."""
        try:
            await self._children.first(work.event)
        except RetryError:
            if work.name not in self._opted_out:
                await self._opt_out(work)
            raise

    async def _released_beside(self, work: Work, result: Result) -> Result:
        """What was released together with a change of the record, after the change: it may have made it void."""
        known = result.known if result.known is not None else work.known
        released = await self._release(self._work(replace(work.event, sights=()), known))
        return result if released.outcome == "stale" else released

    async def _release(self, work: Work) -> Result:
        """What a person has released, unless something newer has made it void."""
        known, flags = work.known, work.target.mapper.flags
        if known is None or not known.exists:
            return Result("stale")
        if work.event.releases("delete") and HELD_DELETE in known.times:
            gone = replace(known, exists=False, visible=False, digests={}, times={})
            return await self._records.delete(work, "deleted" if known.gone else "filtered", gone, released=True)
        held = {name for name in flags if f"held:{name}" in known.times and work.past.said.get(name) is False}
        held = {name for name in held if work.event.releases("release", name)}
        if not held:
            return Result("stale")
        words = {name: held_word(known, name) for name in sorted(held)}
        lowered = await self._consent.lower(work.place, words, replace(work.event, ahead_ms=0), known, released=True)
        known = without(known, [f"held:{name}" for name in held])
        return Result("updated" if lowered.written else "unchanged", self._remembered.holding(known, lowered.holds))


def _links(event: ChangeEvent) -> frozenset[str]:
    """Keys of what this row may be linked to."""
    values = (value.lower() for value in event.fields.values() if isinstance(value, str))
    return frozenset(value for value in values if guid(value) == value) - {event.key}


def _number(record: Record, header: str) -> int:
    """0 where it is none."""
    text = _text(record, header)
    return int(text) if NUMBER.fullmatch(text) else 0


def _text(record: Record, header: str) -> str:
    return (record.header(header) or b"").decode("utf-8", "replace")


def _table(record: Record) -> str:
    return record.topic.removeprefix(LIVE).removeprefix(REPLAY)
