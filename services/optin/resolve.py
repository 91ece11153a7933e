"""What has to be told to whom when a system says something of a contact's opt-out flags (campaign.md §10.4). Pure.

    (what we knew of both sides, an observation) ─▶ (what we know now, decisions)

The rule is applied to words; what it says is compared with the facts of each side, and whoever differs is told. Campaign is never told
FALSE but to call off a TRUE that it was to be told and that may not be there yet. Dynamics is told FALSE only for a word FALSE that is news
(rule 2 of the consent contract): what is older, or is only seen for the first time, leaves TRUE where it is.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Literal

from bridge.consent.hearing import heard
from bridge.consent.rule import CAMPAIGN_CHANGED, CAMPAIGN_LATER, IN_ON_BOTH, Ruling, clocks_of, ruling
from bridge.consent.words import Observation, Pair, Side, Status
from bridge.model.events import OptStatusDecided, System

Direction = Literal["campaign-to-dynamics", "bidirectional"]


@dataclass(frozen=True, slots=True)
class Resolved:
    """`kept`: flags of Dynamics that stay TRUE although the rule says FALSE, for want of a new word."""

    status: Status
    decisions: list[OptStatusDecided]
    kept: frozenset[str] = frozenset()


def resolve(status: Status, observation: Observation, pairs: tuple[Pair, ...], direction: Direction, now: datetime) -> Resolved:
    """Decisions come one for each system that has to be told something, Dynamics first. `now` stamps them; within a contact their times
    only grow, whatever the clock does."""
    before, after = status, heard(status, observation, pairs)
    rulings = {pair: ruled for pair in pairs if (ruled := _ruling(after, pair, direction)) is not None}
    kept = {pair.dynamics for pair, ruled in rulings.items() if _kept(before, after, pair, ruled, observation)}
    rulings = {pair: ruled for pair, ruled in rulings.items() if pair.dynamics not in kept or direction == "bidirectional"}
    targets: tuple[System, ...] = ("dynamics",) if direction == "campaign-to-dynamics" else ("dynamics", "campaign")
    moment = now if after.decided_at is None else max(now, after.decided_at + timedelta(milliseconds=1))
    decided = [_decision(before, after, observation, rulings, target, moment, kept) for target in targets]
    decisions = [decision for decision in decided if decision is not None]
    for decision in decisions:
        side = after.side(decision.target)
        side = replace(side, told={**side.told, **decision.flags}, held=side.held - decision.flags.keys())
        after = replace(after.having(decision.target, side), decided_at=moment)
    return Resolved(after, decisions, frozenset(kept))


def holding(status: Status, decision: OptStatusDecided) -> Status:
    """The decision is held: the target has not been told."""
    side = status.side(decision.target)
    return status.having(decision.target, replace(side, held=side.held | decision.flags.keys()))


def releases(decision: OptStatusDecided) -> bool:
    """Whether an opt-out that the target has shown is taken away."""
    return any(not value and decision.inputs[name][decision.target] for name, value in decision.flags.items())


def said_no(status: Status, pairs: tuple[Pair, ...], direction: Direction) -> list[Pair]:
    """Flags about which this person has said no by the rule, wherever that was."""
    rulings = ((pair, _ruling(status, pair, direction)) for pair in pairs)
    return [pair for pair, ruled in rulings if ruled is not None and ruled.value]


def _ruling(status: Status, pair: Pair, direction: Direction) -> Ruling | None:
    """None: nothing is decided, the sides may differ. One way only Campaign is followed: what a person changed by hand in Dynamics stays
    until Campaign's value changes (d365:sync)."""
    campaign, dynamics = status.campaign.words.get(pair.campaign), status.dynamics.words.get(pair.dynamics)
    if direction == "bidirectional":
        ruled = ruling(campaign, dynamics, clocks_of(status), shown=status.campaign.facts.get(pair.campaign, False))
        ours = ruled.rule == IN_ON_BOTH and campaign is not None and status.dynamics.facts.get(pair.dynamics)
        return replace(ruled, rule=CAMPAIGN_LATER) if ours else ruled  # than the opt-out that we wrote to Dynamics
    if campaign is None:
        return None
    by_hand = campaign.value and dynamics is not None and not dynamics.value
    if by_hand and dynamics is not None and clocks_of(status).later_in_dynamics(dynamics.at, campaign.at):
        return None
    return replace(ruling(campaign, dynamics, clocks_of(status)), rule=CAMPAIGN_CHANGED)


def _kept(before: Status, after: Status, pair: Pair, ruled: Ruling, observation: Observation) -> bool:
    """Whether Dynamics holds a TRUE that is not to be taken away now: the rule says FALSE, but there is no new word that says so."""
    if ruled.value or not after.dynamics.facts.get(pair.dynamics):
        return False
    told = after.dynamics.told.get(pair.dynamics)
    return not (told is False or _new_opt_in(before, after, pair, observation))


def _new_opt_in(before: Status, after: Status, pair: Pair, observation: Observation) -> bool:
    """Rule 2: a word FALSE of Campaign that was just heard, or an opt-out of Dynamics that was just heard and is older than it."""
    word = after.campaign.words.get(pair.campaign)
    if word is None or word.value:
        return False
    if observation.event.system == "campaign":
        return word != before.campaign.words.get(pair.campaign)
    if before.dynamics.order is None:  # the word was heard before the contact was seen, and waited for it
        return not observation.carried
    return before.dynamics.facts.get(pair.dynamics) is False and observation.live and not observation.carried


def _decision(
    before: Status,
    after: Status,
    observation: Observation,
    rulings: Mapping[Pair, Ruling],
    target: System,
    moment: datetime,
    kept: set[str],
) -> OptStatusDecided | None:
    side, flags, rules, inputs = after.side(target), {}, [], {}
    if side.gone:
        return None
    for pair, ruled in rulings.items():
        name = pair.name(target)
        if (target == "campaign" or name not in kept) and _to_be_told(before.side(target), side, name, ruled.value, observation, target):
            flags[name], inputs[name] = ruled.value, dict(_inputs(after, pair))
            rules.append(ruled.rule)
    if not flags:
        return None
    return OptStatusDecided(observation.event.contact_key, target, flags, ",".join(dict.fromkeys(rules)), inputs, moment)


def _to_be_told(before: Side, side: Side, name: str, value: bool, observation: Observation, target: System) -> bool:
    """Unless the target is known to be so, or was told so and has not said otherwise since. What was told otherwise is called off."""
    fact, told = side.facts.get(name), side.told.get(name)
    if told is not None and told is not value:
        return True
    if not value and target == "campaign":
        return False
    differs = fact is not True if value else fact is True
    if told is None:
        return differs
    return differs and observation.event.system == target and name in observation.event.flags and _newer(before, side, observation)


def _newer(before: Side, side: Side, observation: Observation) -> bool:
    """Whether it is the latest look; one at the same moment may be the writer's own, after it has told nothing."""
    return side.order != before.order or (side.order is not None and observation.event.observed_at == side.order.observed_at)


def _inputs(status: Status, pair: Pair) -> Iterator[tuple[str, bool | datetime | str | None]]:
    """What both sides hold, and the last word about it. A TRUE of Dynamics that we wrote over a FALSE is nobody's."""
    for system, name in (("campaign", pair.campaign), ("dynamics", pair.dynamics)):
        side = status.campaign if system == "campaign" else status.dynamics
        word, fact = side.words.get(name), side.facts.get(name)
        if system == "dynamics" and fact and word is not None and not word.value:
            word = None
        yield system, fact if fact is not None else word.value if word is not None else None
        yield f"{system}_changed_at", word.at if word is not None else side.order.record_at if fact is False and side.order else None
        yield f"{system}_from", word.origin or None if word is not None else None
