"""What has to be told to whom when a system says something of a contact's opt-out flags (campaign.md §10.4). Pure.

    (what we knew of both sides, an observation) ─▶ (what we know now, decisions)

The rule, flag by flag: Campaign's value wins if it is later; else TRUE wins if either side says so. A missing time is older than any. So

                    Campaign TRUE    Campaign FALSE, later    Campaign FALSE, not later
    Dynamics TRUE   TRUE             FALSE                    TRUE
    Dynamics FALSE  TRUE             FALSE                    FALSE

and Campaign is never told FALSE but to call off a TRUE that it was to be told and that may not be there yet.

Campaign has a time for each flag, Dynamics only one for the whole contact: it counts for a flag only when that flag has changed since it
was last seen. What we wrote ourselves and read back is nobody's word and older than any. What is older than what was seen before (a replay,
a duplicate, another order) changes nothing. Where it cannot be told whether an opt-out is as ever or somebody's new word (Dynamics was told
FALSE, and its row was changed since), it is taken for a new word: the safe side.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Literal

from bridge.events import OptStatusDecided, OptStatusObserved, System

Direction = Literal["campaign-to-dynamics", "bidirectional"]
OLDEST = datetime.min.replace(tzinfo=UTC)
NO_OWN_TIME = "blackListPushnotification"  # has that of any flag's last change, which counts as its own when its value has changed


@dataclass(frozen=True, slots=True)
class Order:
    """Which of two observations of one system is the later one: by version where both have one, else by times."""

    version: int | None
    record_at: datetime | None
    observed_at: datetime

    def before(self, other: Order) -> bool:
        if self.version is not None and other.version is not None:
            return self.version < other.version
        return (self.record_at or OLDEST, self.observed_at) < (other.record_at or OLDEST, other.observed_at)


@dataclass(frozen=True, slots=True)
class Seen:
    """A flag as a system showed it; `at`: when somebody changed it to this value, None for older than anything."""

    value: bool
    at: datetime | None


@dataclass(frozen=True, slots=True)
class Side:
    """What is known of one system.

    `order` is that of the latest observation. `told`: what it was last told to become, until the writer has read that back; `held` of them
    are not told yet, a person has to release them. `own`: flags as the writer read them back at `own_order`, later than `order`.
    """

    order: Order | None = None
    flags: Mapping[str, Seen] = field(default_factory=dict)
    told: Mapping[str, bool] = field(default_factory=dict)
    held: frozenset[str] = frozenset()
    own: Mapping[str, bool] = field(default_factory=dict)
    own_order: Order | None = None

    def flag(self, name: str) -> Seen | None:
        """The flag as it is by all we know."""
        return Seen(self.own[name], None) if name in self.own else self.flags.get(name)


@dataclass(frozen=True, slots=True)
class Status:
    """What is known of one contact. `decided_at`: of the last decision."""

    campaign: Side = Side()
    dynamics: Side = Side()
    decided_at: datetime | None = None

    def side(self, system: System) -> Side:
        return self.campaign if system == "campaign" else self.dynamics

    def having(self, system: System, side: Side) -> Status:
        return replace(self, campaign=side) if system == "campaign" else replace(self, dynamics=side)


@dataclass(frozen=True, slots=True)
class Observation:
    """An event with what its record says besides. `version`: of the contact; `own`: the writer read it back from its own write."""

    event: OptStatusObserved
    version: int | None = None
    own: bool = False

    @property
    def order(self) -> Order:
        return Order(self.version, self.event.record_changed_at, self.event.observed_at)


@dataclass(frozen=True, slots=True)
class Pair:
    """A flag under its two names."""

    dynamics: str
    campaign: str

    def name(self, system: System) -> str:
        return self.campaign if system == "campaign" else self.dynamics


@dataclass(frozen=True, slots=True)
class Ruling:
    """What a flag has to be on both sides, and by which rule."""

    value: bool
    rule: str


def resolve(
    status: Status, observation: Observation, pairs: tuple[Pair, ...], direction: Direction, now: datetime
) -> tuple[Status, list[OptStatusDecided]]:
    """Decisions come one for each system that has to be told something, Dynamics first. `now` stamps them; within a contact their times
    only grow, whatever the clock does."""
    system = observation.event.system
    before, after = status, _noted(status, observation, pairs)
    fresh = _fresh(status.side(system).order, observation.order)
    rulings = {}
    for pair in pairs:
        if _news(before, after, pair, system) and (ruled := _ruling(before, after, pair, observation, direction)) is not None:
            rulings[pair] = ruled
    targets: tuple[System, ...] = ("dynamics",) if direction == "campaign-to-dynamics" else ("dynamics", "campaign")
    moment = now if after.decided_at is None else max(now, after.decided_at + timedelta(milliseconds=1))
    decided = [_decision(after, observation, rulings, target, moment, fresh and target == system) for target in targets]
    decisions = [decision for decision in decided if decision is not None]
    for decision in decisions:
        side = after.side(decision.target)
        told, held = {**side.told, **decision.flags}, side.held - decision.flags.keys()
        after = replace(after.having(decision.target, replace(side, told=told, held=held)), decided_at=moment)
    return after, decisions


def holding(status: Status, decision: OptStatusDecided) -> Status:
    """The decision is held: the target has not been told."""
    side = status.side(decision.target)
    return status.having(decision.target, replace(side, held=side.held | decision.flags.keys()))


def ruling(campaign: Seen | None, dynamics: Seen | None) -> Ruling:
    """The rule itself. A system that has never shown the flag does not object."""
    if campaign is not None and campaign.value:
        return Ruling(True, "opted-out-in-campaign")
    if dynamics is None or not dynamics.value:
        return Ruling(False, "opted-in-on-both")
    later = campaign is not None and (campaign.at or OLDEST) > (dynamics.at or OLDEST)
    return Ruling(False, "campaign-is-later") if later else Ruling(True, "opted-out-in-dynamics")


def releases(decision: OptStatusDecided) -> bool:
    """Whether an opt-out that the target has shown is taken away."""
    return any(not value and decision.inputs[name][decision.target] for name, value in decision.flags.items())


def _noted(status: Status, observation: Observation, pairs: tuple[Pair, ...]) -> Status:
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
    return status.having(system, _dynamics(side, observation, values, status.decided_at))


def _campaign(side: Side, observation: Observation, seen: Mapping[str, Seen]) -> Side:
    late = side.order is not None and observation.order.before(side.order)
    flags = {name: _in_campaign(name, side.flags.get(name), now, late) for name, now in seen.items()}
    told = {name: value for name, value in side.told.items() if late or name not in flags or flags[name].value != value}
    return replace(side, order=side.order if late else observation.order, flags={**side.flags, **flags}, told=told)


def _own(side: Side, observation: Observation, seen: Mapping[str, bool]) -> Side:
    """What the writer read back. If the reader has seen the same row or a later one, that is what counts; where it differs from what we
    wrote, somebody has changed it after us."""
    order, told = side.order, {name: value for name, value in side.told.items() if seen.get(name) != value}
    if order is None or order.before(observation.order):
        return replace(side, told=told, own={**side.own, **seen}, own_order=observation.order)
    same = not observation.order.before(order)
    flags = dict(side.flags)
    for name in seen.keys() & flags.keys():
        if flags[name].value != seen[name]:
            flags[name] = Seen(flags[name].value, order.record_at)
        elif same:
            flags[name] = Seen(seen[name], None)
    return replace(side, told=told, flags=flags)


def _dynamics(side: Side, observation: Observation, seen: Mapping[str, bool], decided_at: datetime | None) -> Side:
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
            told[name] = mine
        told_off = value and side.told.get(name) is False and name not in side.held and _fresh(side.order, order)
        may_be_new = told_off and not ours and (record_at or OLDEST) > (decided_at or OLDEST)
        flags[name] = before if before is not None and same and not may_be_new else Seen(value, record_at)
    return replace(side, order=order, flags=flags, told=told, own=own)


def _fresh(known: Order | None, heard: Order) -> bool:
    """Whether it is later than all that was heard of this system."""
    return known is None or known.before(heard)


def _in_campaign(name: str, before: Seen | None, now: Seen, late: bool) -> Seen:
    """A flag's own time tells which state is later; with equal times, or without one, the row that changed later does."""
    if before is None:
        return now
    if name == NO_OWN_TIME:
        return before if late or before.value == now.value else now
    known, new = before.at or OLDEST, now.at or OLDEST
    return before if new < known or (new == known and now.value != before.value and late) else now


def _news(before: Status, after: Status, pair: Pair, system: System) -> bool:
    """Whether this flag was looked at: only then there is something to decide."""
    name = pair.name(system)
    seen = after.side(system).flag(name)
    return seen is not None and (seen != before.side(system).flag(name) or name in after.side(system).told)


def _ruling(before: Status, after: Status, pair: Pair, observation: Observation, direction: Direction) -> Ruling | None:
    """None: nothing is decided, the sides may differ."""
    system = observation.event.system
    campaign, dynamics = after.campaign.flag(pair.campaign), after.dynamics.flag(pair.dynamics)
    known = before.side(system).flag(pair.name(system))
    if direction == "bidirectional" or known is None:  # where there is nothing to compare with, the times tell
        return ruling(campaign, dynamics)
    if campaign is None:
        return None
    if system == "campaign":
        return Ruling(campaign.value, "campaign-changed") if campaign.value != known.value else None
    changed_at = (campaign.at or OLDEST).replace(microsecond=0)  # Dynamics knows whole seconds only
    later = dynamics is not None and changed_at > (dynamics.at or OLDEST)  # a manual change that Campaign's came after
    return Ruling(campaign.value, "campaign-changed") if later and not observation.own else None


def _decision(
    status: Status, observation: Observation, rulings: Mapping[Pair, Ruling], target: System, moment: datetime, own_word: bool
) -> OptStatusDecided | None:
    """`own_word`: the target itself has just told something new."""
    side, flags, rules, inputs = status.side(target), {}, [], {}
    for pair, ruled in rulings.items():
        name = pair.name(target)
        if _to_be_told(side, name, ruled.value, own_word):
            flags[name], inputs[name] = ruled.value, dict(_inputs(status, pair))
            rules.append(ruled.rule)
    if not flags:
        return None
    return OptStatusDecided(observation.event.contact_key, target, flags, ",".join(dict.fromkeys(rules)), inputs, moment)


def _to_be_told(side: Side, name: str, value: bool, own_word: bool) -> bool:
    """Unless the target is known to be so, or was told so and has not said otherwise since. What was told otherwise is called off."""
    seen, told = side.flag(name), side.told.get(name)
    there = seen is not None and seen.value
    if told is None or told == value:
        return there != value and (told is None or own_word)
    return True


def _inputs(status: Status, pair: Pair) -> Iterator[tuple[str, bool | datetime | None]]:
    campaign, dynamics = status.campaign.flag(pair.campaign), status.dynamics.flag(pair.dynamics)
    yield "campaign", campaign.value if campaign else None
    yield "campaign_changed_at", campaign.at if campaign else None
    yield "dynamics", dynamics.value if dynamics else None
    yield "dynamics_changed_at", dynamics.at if dynamics else None
