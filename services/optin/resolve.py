"""What has to be told to whom when a system says something of a contact's opt-out flags (campaign.md §10.4). Pure.

    (what we knew of both sides, an observation) ─▶ (what we know now, decisions)

The rule, flag by flag: Campaign's value wins if it is later; else TRUE wins if either side says so. A missing time is older than any. So

                    Campaign TRUE    Campaign FALSE, later    Campaign FALSE, not later
    Dynamics TRUE   TRUE             FALSE                    TRUE
    Dynamics FALSE  TRUE             FALSE                    FALSE

and Campaign is never told FALSE but to call off a TRUE that it was to be told and that may not be there yet.

Campaign has a time for each flag, Dynamics only one for the whole contact: it counts for a flag only when that flag has changed since it
was last seen. What we wrote ourselves and read back is no change of somebody's, so it has the time of what it followed. What is older than
what was seen before (a replay, a duplicate, another order) changes nothing.
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
    """What is known of one system. `told`: what it was decided to become, as long as it has not shown it."""

    order: Order | None = None
    flags: Mapping[str, Seen] = field(default_factory=dict)
    told: Mapping[str, bool] = field(default_factory=dict)


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
    if after is None:
        return status, []
    rulings = {}
    for pair in pairs:
        if _news(before, after, pair, system) and (ruled := _ruling(before, after, pair, system, direction)) is not None:
            rulings[pair] = ruled
    targets: tuple[System, ...] = ("dynamics",) if direction == "campaign-to-dynamics" else ("dynamics", "campaign")
    moment = now if after.decided_at is None else max(now, after.decided_at + timedelta(milliseconds=1))
    decisions = [each for target in targets if (each := _decision(after, observation, rulings, target, moment)) is not None]
    for decision in decisions:
        side = after.side(decision.target)
        after = replace(after.having(decision.target, replace(side, told={**side.told, **decision.flags})), decided_at=moment)
    return after, decisions


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


def _noted(status: Status, observation: Observation, pairs: tuple[Pair, ...]) -> Status | None:
    """What is known after the observation; None if it says nothing new."""
    system, event = observation.event.system, observation.event
    side = status.side(system)
    late = side.order is not None and observation.order.before(side.order)
    if late and system == "dynamics":
        return None
    flags, told = dict(side.flags), dict(side.told)
    for pair in pairs:
        name = pair.name(system)
        if name not in event.flags:
            continue
        value, at = bool(event.flags[name]["value"]), event.flags[name]["changed_at"]
        before = flags.get(name)
        if system == "campaign":
            if before is not None and _outdated(before, value, at, late):
                continue
            same = before is not None and before.value == value
            flags[name] = before if before is not None and same and name == NO_OWN_TIME else Seen(value, at)
        else:
            followed = status.campaign.flags.get(pair.campaign)
            flags[name] = _seen_in_dynamics(before, value, observation, told.get(name), followed)
        if told.get(name) == value:
            del told[name]
    order = side.order if late else observation.order
    return status.having(system, Side(order, flags, told))


def _outdated(before: Seen, value: bool, at: datetime | None, late: bool) -> bool:
    """Whether Campaign has shown a later state of this flag; with equal times the row that changed later counts."""
    known, new = before.at or OLDEST, at or OLDEST
    return new < known or (new == known and value != before.value and late)


def _seen_in_dynamics(before: Seen | None, value: bool, observation: Observation, told: bool | None, followed: Seen | None) -> Seen:
    record_at = observation.event.record_changed_at
    source_at = followed.at if followed is not None else None
    if before is not None and before.value == value:
        ours = observation.own and before.at == record_at  # the reader saw our write first and took it for somebody's
        return Seen(value, source_at) if ours else before
    if observation.own or (told == value and not value):
        return Seen(value, source_at)
    return Seen(value, record_at)  # an opt-out that may be ours or somebody's is taken for somebody's: the safe side


def _news(before: Status, after: Status, pair: Pair, system: System) -> bool:
    """Whether this flag was looked at: only then there is something to decide."""
    name = pair.name(system)
    seen = after.side(system).flags.get(name)
    return seen is not None and (seen is not before.side(system).flags.get(name) or name in after.side(system).told)


def _ruling(before: Status, after: Status, pair: Pair, system: System, direction: Direction) -> Ruling | None:
    """None: nothing is decided, the sides may differ."""
    campaign, dynamics = after.campaign.flags.get(pair.campaign), after.dynamics.flags.get(pair.dynamics)
    known = before.side(system).flags.get(pair.name(system))
    if direction == "bidirectional" or known is None:  # where there is nothing to compare with, the times tell
        return ruling(campaign, dynamics)
    told = after.dynamics.told.get(pair.dynamics)
    if system == "campaign" and campaign is not None and campaign.value != known.value:
        return Ruling(campaign.value, "campaign-changed")
    if told and campaign is not None and campaign.value:
        return Ruling(True, "opted-out-in-campaign")
    return None


def _decision(
    status: Status, observation: Observation, rulings: Mapping[Pair, Ruling], target: System, moment: datetime
) -> OptStatusDecided | None:
    side, flags, rules, inputs = status.side(target), {}, [], {}
    for pair, ruled in rulings.items():
        name = pair.name(target)
        if _to_be_told(side, name, ruled.value, observation.event.system == target):
            flags[name], inputs[name] = ruled.value, dict(_inputs(status, pair))
            rules.append(ruled.rule)
    if not flags:
        return None
    return OptStatusDecided(observation.event.contact_key, target, flags, ",".join(dict.fromkeys(rules)), inputs, moment)


def _to_be_told(side: Side, name: str, value: bool, own_word: bool) -> bool:
    """Unless the target is known to be so, or was told. An opt-out that it still does not show is told again when it is heard of."""
    seen, told = side.flags.get(name), side.told.get(name)
    there = seen is not None and seen.value
    if told is None:
        return there != value
    return told != value or (value and not there and own_word)


def _inputs(status: Status, pair: Pair) -> Iterator[tuple[str, bool | datetime | None]]:
    campaign, dynamics = status.campaign.flags.get(pair.campaign), status.dynamics.flags.get(pair.dynamics)
    yield "campaign", campaign.value if campaign else None
    yield "campaign_changed_at", campaign.at if campaign else None
    yield "dynamics", dynamics.value if dynamics else None
    yield "dynamics_changed_at", dynamics.at if dynamics else None
