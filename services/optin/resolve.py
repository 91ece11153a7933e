"""What has to be told to whom when a system says something of a contact's opt-out flags (campaign.md §10.4). Pure.

    (what we knew of both sides, an observation) ─▶ (what we know now, decisions)

The rule, flag by flag: Campaign's value wins if it is later; else TRUE wins if either side says so. A missing time is older than any; times
are compared by whole seconds, as Dynamics has them, so that an opt-out in the second of an opt-in holds. So

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
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Literal

from bridge.events import OptStatusDecided, System
from services.optin.hearing import heard
from services.optin.known import OLDEST, Observation, Pair, Seen, Side, Status, Told, fresh

Direction = Literal["campaign-to-dynamics", "bidirectional"]


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
    before, after = status, heard(status, observation, pairs)
    news = fresh(status.side(system).order, observation.order)
    rulings = {}
    for pair in pairs:
        if _news(before, after, pair, system) and (ruled := _ruling(before, after, pair, observation, direction)) is not None:
            rulings[pair] = ruled
    targets: tuple[System, ...] = ("dynamics",) if direction == "campaign-to-dynamics" else ("dynamics", "campaign")
    moment = now if after.decided_at is None else max(now, after.decided_at + timedelta(milliseconds=1))
    decided = [_decision(after, observation, rulings, target, moment, news and target == system) for target in targets]
    decisions = [decision for decision in decided if decision is not None]
    for decision in decisions:
        side = after.side(decision.target)
        told = {name: _told(side.told.get(name), value, observation) for name, value in decision.flags.items()}
        side = replace(side, told={**side.told, **told}, held=side.held - told.keys())
        after = replace(after.having(decision.target, side), decided_at=moment)
    return after, decisions


def holding(status: Status, decision: OptStatusDecided) -> Status:
    """The decision is held: the target has not been told."""
    side = status.side(decision.target)
    return status.having(decision.target, replace(side, held=side.held | decision.flags.keys()))


def ruling(campaign: Seen | None, dynamics: Seen | None, exact: bool = False) -> Ruling:
    """The rule itself. A system that has never shown the flag does not object. `exact`: Campaign's time counts as it is."""
    if campaign is not None and campaign.value:
        return Ruling(True, "opted-out-in-campaign")
    if dynamics is None or not dynamics.value:
        return Ruling(False, "opted-in-on-both")
    changed_at = OLDEST if campaign is None else campaign.at or OLDEST if exact else _to_the_second(campaign.at)
    later = changed_at > (dynamics.at or OLDEST)
    return Ruling(False, "campaign-is-later") if later else Ruling(True, "opted-out-in-dynamics")


def _to_the_second(moment: datetime | None) -> datetime:
    """As Dynamics tells times: what somebody says there later in the same second must not look earlier."""
    return (moment or OLDEST).replace(microsecond=0)


def releases(decision: OptStatusDecided) -> bool:
    """Whether an opt-out that the target has shown is taken away."""
    return any(not value and decision.inputs[name][decision.target] for name, value in decision.flags.items())


def _told(before: Told | None, value: bool, observation: Observation) -> Told:
    return before if before is not None and before.value == value else Told(value, observation.event.observed_at)


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
    if direction == "bidirectional":
        return ruling(campaign, dynamics)
    if known is None:  # nothing to compare with: the times tell
        return ruling(campaign, dynamics, exact=True)
    if campaign is None:
        return None
    if system == "campaign":
        return Ruling(campaign.value, "campaign-changed") if campaign.value != known.value else None
    # a manual change that Campaign's came after
    later = dynamics is not None and _to_the_second(campaign.at) > (dynamics.at or OLDEST)
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
    if told is None or told.value == value:
        return there != value and (told is None or own_word)
    return True


def _inputs(status: Status, pair: Pair) -> Iterator[tuple[str, bool | datetime | None]]:
    campaign, dynamics = status.campaign.flag(pair.campaign), status.dynamics.flag(pair.dynamics)
    yield "campaign", campaign.value if campaign else None
    yield "campaign_changed_at", campaign.at if campaign else None
    yield "dynamics", dynamics.value if dynamics else None
    yield "dynamics_changed_at", dynamics.at if dynamics else None
