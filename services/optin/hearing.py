"""What is known of a contact after one more observation (campaign.md §6.2, §10.4; ADR 7). Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime

from services.optin.known import OLDEST, Observation, Pair, Seen, Side, Status, Told, fresh, since

NO_OWN_TIME = "blackListPushnotification"  # has that of any flag's last change, which counts as its own when its value has changed


def heard(status: Status, observation: Observation, pairs: tuple[Pair, ...]) -> Status:
    """What is known after the observation."""
    system = observation.event.system
    side, names = status.side(system), [pair.name(system) for pair in pairs]
    seen = {name: Seen(bool(each["value"]), each["changed_at"]) for name, each in observation.event.flags.items() if name in names}
    if system == "campaign":
        return status.having(system, _campaign(side, observation, seen))
    values = {name: each.value for name, each in seen.items()}
    if observation.own:
        return status.having(system, _own(side, observation, values))
    if side.order is not None and observation.order.before(side.order):
        return status
    return status.having(system, _dynamics(side, observation, values))


def _campaign(side: Side, observation: Observation, seen: Mapping[str, Seen]) -> Side:
    late = side.order is not None and observation.order.before(side.order)
    flags = {name: _in_campaign(name, side.flags.get(name), now, late) for name, now in seen.items()}
    told = {name: each for name, each in side.told.items() if late or name not in flags or flags[name].value != each.value}
    return replace(side, order=side.order if late else observation.order, flags={**side.flags, **flags}, told=told)


def _own(side: Side, observation: Observation, seen: Mapping[str, bool]) -> Side:
    """What the writer read back of the flags that it wrote. If the reader has seen the same row or a later one, that is what counts; where
    it differs from what we wrote, somebody has changed it after us."""
    order, flags = side.order, dict(side.flags)
    told = {name: each for name, each in side.told.items() if seen.get(name) != each.value}
    if order is None or order.before(observation.order):
        if side.own_order is not None and observation.order.before(side.own_order):
            return side
        return replace(side, told=told, own={**side.own, **seen}, own_order=observation.order)
    same = not observation.order.before(order)
    for name in seen.keys() & flags.keys():
        if flags[name].value != seen[name]:
            flags[name] = Seen(flags[name].value, order.record_at)
        elif same:
            flags[name] = Seen(seen[name], None)
    return replace(side, told=told if same else side.told, flags=flags)


def _dynamics(side: Side, observation: Observation, seen: Mapping[str, bool]) -> Side:
    """What the reader saw: a row later than any it saw before, though our own write may be later still."""
    order, record_at = observation.order, observation.event.record_changed_at
    hidden = side.own_order is not None and order.before(side.own_order)
    ours = side.own_order is not None and not hidden and not side.own_order.before(order)
    flags, own, told = dict(side.flags), dict(side.own), dict(side.told)
    for name, value in seen.items():
        before = flags.get(name) if hidden else side.flag(name)
        same = before is not None and before.value == value
        if hidden and same:
            continue
        mine = own.pop(name, None)
        if hidden and mine is not None:  # somebody's word, which we wrote over: that is what the flag is
            told[name] = Told(mine, observation.event.observed_at)
        may_be_new = value and not ours and fresh(side.order, order) and _told_off_before(side, name, record_at)
        flags[name] = before if before is not None and same and not may_be_new else Seen(value, record_at)
    return replace(side, order=order, flags=flags, told=told, own=own)


def _in_campaign(name: str, before: Seen | None, now: Seen, late: bool) -> Seen:
    """A flag's own time tells which state is later; with equal times, or without one, the row that changed later does."""
    if before is None:
        return now
    if name == NO_OWN_TIME:
        return before if late or before.value == now.value else now
    known, new = before.at or OLDEST, now.at or OLDEST
    return before if new < known or (new == known and now.value != before.value and late) else now


def _told_off_before(side: Side, name: str, record_at: datetime | None) -> bool:
    """Whether FALSE may have been written, unknown to us, before the row was changed to what it is."""
    told = side.told.get(name)
    return told is not None and not told.value and name not in side.held and since(record_at, told.heard_at)
