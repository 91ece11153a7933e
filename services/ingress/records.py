"""The calls that make, change and delete one record of Campaign, and what is known afterwards."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import replace
from datetime import datetime
from typing import Protocol

from bridge.campaign.errors import Duplicate, NotFound
from bridge.flow.ports import Result
from bridge.mapping.rows import Mapped, nested
from bridge.model.clock import Clock
from bridge.model.errors import RejectError, RetryError
from bridge.model.flags import OPT_OUT_FLAGS
from bridge.model.state import Digests, Known
from services.ingress.consent import KEPT, OPTED_OUT, Consent, opted_out
from services.ingress.decide import Create, Update, is_flag, stale, worth_creating
from services.ingress.hidden import Hidden, parent_missing
from services.ingress.optin import OptIn
from services.ingress.remembered import CAPITALS, KEY, MAKING, Remembered, having, without
from services.ingress.target import CampaignCalls, Work, same, sent


class OptOut(Protocol):
    async def __call__(self, work: Work, maybe_there: bool = False) -> Mapping[str, str] | None: ...


Keep = Callable[[int, str, Known], Awaitable[None]]  # partition, key: puts what is known of a record; raises RetryError


class Records:
    """`opt_out` makes a record's opt-outs TRUE by themselves. `note`: what is known of a record that is refused in the end."""

    def __init__(
        self,
        client: CampaignCalls,
        consent: Consent,
        optin: OptIn,
        digests: Digests,
        remembered: Remembered,
        clock: Clock,
        opt_out: OptOut,
        note: Callable[[str, Known], None],
        keep: Keep,
    ) -> None:
        self._client, self._consent, self._optin, self._clock = client, consent, optin, clock
        self._digests, self._remembered, self._opt_out, self._note, self._keep = digests, remembered, opt_out, note, keep
        self._hidden = Hidden(client)

    async def create(self, work: Work, mapped: Mapped, decision: Create) -> Result:
        """With its opt-outs: those of Dynamics, and those that Campaign held when it was deleted there (rule 4)."""
        out = set(work.wanted.no)
        if work.place.target_key != mapped.key:
            return await self._adopt(work, mapped, decision.then, out)
        body = nested({work.target.mapper.key_field.name: mapped.key, **decision.fields, **dict.fromkeys(sorted(out), True)})
        began = self._clock.now()
        try:
            status = await self._client.create(work.place.path, body)
        except Duplicate:
            return await self._adopt(work, mapped, decision.then, out)
        except (RejectError, RetryError) as exc:
            if isinstance(exc, RejectError) or exc.attempts is not None:
                await self._opt_out(work, maybe_there=True)  # somebody else may have made it
            raise
        return await self._created(work, decision.then, status, out, began)

    async def update(self, work: Work, mapped: Mapped, decision: Update) -> Result:
        fields = sent(work.target.fields, decision.fields)
        try:
            status = await self._client.update(work.place.path, work.place.target_key, nested(fields))
        except NotFound as exc:
            if stale(work.event.event, work.known):  # an overtaken replay: to make the record again is for what is newer
                return Result("stale")
            return await self._not_shown(work, mapped, decision.then, exc)
        self._hidden.shown(work.name)
        return Result("updated", replace(decision.then, status=status, visible=True))

    def given_up(self, name: str) -> None:
        self._hidden.given_up(name)

    async def make_again(self, work: Work, mapped: Mapped, then: Known) -> Result:
        """A record whose profile was looked at and is not there."""
        return await self._not_shown(work, mapped, then, NotFound("Campaign: the key was not found", code="not_found", status=404))

    async def delete(self, work: Work, outcome: str, then: Known, *, released: bool = False) -> Result:
        """What was opted out is kept in mind, and told Opt In/Out: it comes back with the record (rule 4)."""
        name, flags = work.target.resource.name, work.target.mapper.flags
        out = set(work.wanted.no)
        if flags or self._optin.concerned(name):
            profile = await self._consent.look(work.place)
            if profile is not None:
                out |= opted_out(profile)
                await self._optin.seen(name, work.place.key, profile, self._consent.ahead_ms())
            else:
                out |= {flag for flag, value in work.past.holds.items() if value}
        await self._keep_in_mind(work, out & flags)
        status = await self._hidden.delete(work.target, work.place.target_key, work.name, work.known)
        await self._optin.gone(name, work.place.key)
        if released:
            await self._consent.prove(work.place, work.event, {}, "released", "executed", status=status, voids="delete")
        return Result(outcome, replace(self._remembered.for_return(then, out & flags), status=status))

    async def _keep_in_mind(self, work: Work, out: set[str]) -> None:
        """Before the call: once the record is gone nobody can tell any more what it held, and we may be gone with it."""
        if out - work.past.no:
            known = self._remembered.for_return(work.known or Known(), out)
            await self._keep(work.event.partition, work.name, known)

    async def found(self, work: Work) -> Work:
        """A profile that an older integration made under the key in capital letters is the contact's: a second one beside it would have no
        opt-outs."""
        if work.known is not None and MAKING in work.known.times:
            work = await self._made_unheard(work, work.known)
        key = work.place.key.upper()
        if not work.target.capitals or work.exists or key == work.place.key:
            return work
        there = replace(work, place=replace(work.place, target_key=key))
        return there if await self._consent.look(there.place) is not None else work

    async def _made_unheard(self, work: Work, known: Known) -> Work:
        """It was about to be made when the answer was lost, or we were gone."""
        profile = await self._consent.look(work.place)
        if profile is None:
            return work
        await self._optin.seen(work.target.resource.name, work.place.key, profile, self._consent.ahead_ms())
        return replace(work, known=without(known, [MAKING]))

    async def _created(self, work: Work, then: Known, status: int, out: set[str], began: datetime) -> Result:
        if out:
            await self._consent.prove(work.place, work.event, dict.fromkeys(out, True), OPTED_OUT, "written", status=status)
        await self._optin.created(work.target.resource.name, work.place.key, out, self._consent.ahead_ms())
        flags = work.target.mapper.flags
        then = self._remembered.forgetting(then, OPT_OUT_FLAGS)  # flags that are not mapped now, too: the new record does not have them
        known = self._remembered.noted(then, work.wanted, {name: name in out for name in flags})
        forget = await self._consent.void(work.place, work.event, known, work.wanted.said, returned=True)
        times = self._consent.window(out, began)
        return Result("created", having(replace(without(known, forget), status=status), times))

    async def _adopt(self, work: Work, mapped: Mapped, then: Known, out: set[str]) -> Result:
        """The key is taken: by ourselves before a crash, or by an earlier integration. Only what differs is written; an opt-out that is
        there stays (rule 2: adoption never lowers)."""
        current = await self._consent.look(work.place)
        if current is None and not work.target.resource.has_parents:  # nothing can hide it: the key is not what is taken
            text = "Campaign: another record holds a unique value of this one"
            raise RetryError(text, code="duplicate_key", attempts=3)  # or it was deleted just now
        if current is None:
            raise parent_missing(NotFound("Campaign: the key was not found", code="not_found", status=404))
        await self._optin.seen(work.target.resource.name, work.place.key, current, self._consent.ahead_ms())
        missing = out - opted_out(current)
        times = (await self._consent.opt_out(work.place, missing, work.event) or {}) if missing else {}
        flags = work.target.mapper.flags
        holds = {name: name in out or current.get(name) is True for name in flags if name in current or name in out}
        kept = {name for name, value in work.wanted.said.items() if value is False and holds.get(name)}
        known = self._remembered.noted(having(then, times), work.wanted, holds)
        known = having(known, {KEY: CAPITALS}) if work.place.target_key != mapped.key else known
        if kept:
            await self._consent.prove(work.place, work.event, dict.fromkeys(kept, True), KEPT, "kept", profile=current)
        more = {"optout_kept": len(kept)} if kept else {}
        fields = work.target.fields
        different = {name: value for name, value in mapped.fields.items() if not same(current.get(name), value, fields[name])}
        if not different:
            return Result("updated" if missing else "unchanged", replace(known, status=200, visible=True), more)
        try:
            status = await self._client.update(work.place.path, work.place.target_key, nested(sent(fields, different)))
        except RejectError:  # what is known of its opt-outs is known all the same
            self._note(work.name, replace(known, digests={name: each for name, each in known.digests.items() if is_flag(name)}))
            raise
        return Result("updated", replace(known, status=status, visible=True), more)

    async def _not_shown(self, work: Work, mapped: Mapped, then: Known, exc: NotFound) -> Result:
        """A record we know is not to be found: hidden without its parent, or deleted in Campaign. Creating it tells which. Its opt-outs
        come back with it, whoever said them (rule 4)."""
        self._hidden.check(work.name, exc)
        held = {name for name, value in work.past.holds.items() if value and name not in work.wanted.lowers}
        out = held | work.wanted.no
        body = nested({work.target.mapper.key_field.name: mapped.key, **worth_creating(mapped.fields), **dict.fromkeys(sorted(out), True)})
        if work.known is not None and self._optin.concerned(work.target.resource.name):
            await self._keep(work.event.partition, work.name, having(work.known, {MAKING: "yes"}))
        began = self._clock.now()
        try:
            status = await self._client.create(work.place.path, body)
        except Duplicate:
            self._hidden.is_hidden(work.name)
            raise parent_missing(exc) from exc
        digests = {**then.digests, **self._digests.of(mapped.fields)}  # all fields went, those that updates do not touch included
        made = replace(without(then, [KEY, MAKING]), visible=False, digests=digests)
        return await self._created(work, made, status, out, began)
