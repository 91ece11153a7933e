"""What is known of a contact after one more observation. Pure.

The sentences of the consent contract that hold here, each beside the line that holds it:

    W1  A fact that carries its own time later than every known word of that system and flag is a new word.
    W2  A fact without a time, or with an older one, is a fact only: it never erases a word.
    W3  TRUE always counts as a word, with the best time there is: the flag's, else the record's, else the time it was seen.
    W4  FALSE without a time of its own is never a word.
    W5  Dynamics' time is the record's, unless the last change was our own.
    W6  A flag that turned TRUE, or was TRUE in a change by somebody else, since the last look is not older than that look.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

from bridge.consent.words import OLDEST, Observation, Order, Pair, Side, Status, Word
from bridge.model.events import System
from bridge.model.flags import UNTIMED

Flags = Mapping[str, Mapping[str, Any]]


def heard(status: Status, observation: Observation, pairs: tuple[Pair, ...]) -> Status:
    """What is known after the observation. Of flags that are not mapped any more, but were when it was read, only the words are kept."""
    system: System = observation.event.system
    side, flags, names = status.side(system), observation.event.flags, {pair.name(system) for pair in pairs}
    if observation.carried:
        return status.having(system, replace(side, words={**side.words, **_carried(side, observation, flags)}))
    if observation.event.ahead_ms is not None:
        side = replace(side, ahead=timedelta(milliseconds=observation.event.ahead_ms))
    if observation.event.gone:
        return status.having(system, _gone(side, observation))
    if observation.event.merged_into is not None:
        status = replace(status, merged_into=observation.event.merged_into)
    if system == "campaign":
        side = _in_campaign(side, observation, flags)
    else:
        before, side = side, _in_dynamics(side, observation, flags)
        if observation.ours:
            status = replace(status, campaign=_said_in_campaign(status.campaign, before, side, pairs))
    facts = {name: value for name, value in side.facts.items() if name in names}
    return status.having(system, replace(side, facts=facts, told=_still_told(side)))


def _fresh(side: Side, observation: Observation) -> bool:
    """Whether nothing later was heard of this system."""
    return side.order is None or not observation.order.before(side.order)


def _carried(side: Side, observation: Observation, flags: Flags) -> dict[str, Word]:
    """Opt-outs of a contact that was merged into this one: words of the same person."""
    event = observation.event
    said = {name: Word(True, each["changed_at"] or event.observed_at, event.origin) for name, each in flags.items() if each["value"]}
    return {name: word for name, word in said.items() if _counts(word, side.words.get(name))}


def _gone(side: Side, observation: Observation) -> Side:
    """Without its record a system holds nothing; what people said stays."""
    order = observation.order
    if side.order is not None and observation.event.system == "campaign":  # it has no versions, and what is gone has no time
        if observation.event.observed_at < side.order.observed_at:
            return side
        order = replace(order, record_at=side.order.record_at)
    elif not _fresh(side, observation):
        return side
    return replace(side, order=order, facts={}, told={}, held=frozenset(), gone=True)


def _in_campaign(side: Side, observation: Observation, flags: Flags) -> Side:
    """Campaign has a time for each flag. Its rows come from files, and a file may be read after a newer one."""
    event, order = observation.event, side.order
    seen_later = order is None or event.observed_at >= order.observed_at
    older_row = order is not None and (event.record_changed_at or OLDEST) < (order.record_at or OLDEST)
    facts, words = dict(side.facts), dict(side.words)
    for name, each in flags.items():
        value, before = bool(each["value"]), words.get(name)
        if (word := _campaign_word(side, observation, name, each)) is not None and _counts(word, before):
            words[name] = word
        if not seen_later:
            continue
        if value and older_row and event.record_changed_at is not None and not observation.looked:
            facts.pop(name, None)  # of a copy, or of a file that was put back: to believe it would leave an opt-out untold
        else:
            facts[name] = value
    if not seen_later:
        return replace(side, words=words)
    best = max((at for at in (event.record_changed_at, order.record_at if order else None) if at is not None), default=None)
    return replace(side, order=Order(None, best, event.observed_at), facts=facts, words=words, gone=False)


def _campaign_word(side: Side, observation: Observation, name: str, flag: Mapping[str, Any]) -> Word | None:
    """What a row says of a flag as somebody's word, or None. What we wrote ourselves is nobody's."""
    event, at = observation.event, flag["changed_at"]
    if observation.ours:
        return None
    if flag["value"]:  # W3
        return Word(True, at or event.record_changed_at or event.observed_at, event.origin)
    return None if at is None or name in UNTIMED else Word(False, at, event.origin)  # W1, W4


def _in_dynamics(side: Side, observation: Observation, flags: Flags) -> Side:
    """Dynamics has versions, and one time for the whole contact. `flags` of a read-back are only those that were written."""
    facts, words = dict(side.facts), dict(side.words)
    for name, each in flags.items():
        word = _opt_out(side, observation, name) if each["value"] else _opt_in(side, observation, name)
        if word is not None:
            words[name] = word
        facts[name] = bool(each["value"])
    if not _fresh(side, observation):  # of a replay, or read before our own write: what it holds is over, what was said was said
        return replace(side, words=words)
    return replace(side, order=observation.order, facts=facts, words=words, gone=False)


def _said_in_campaign(campaign: Side, before: Side, after: Side, pairs: tuple[Pair, ...]) -> Side:
    """What we wrote to Dynamics somebody had said in Campaign, though all that was known of it is lost."""
    new = ((pair, after.words.get(pair.dynamics)) for pair in pairs if pair.campaign not in campaign.words)
    lost = {pair.campaign: word for pair, word in new if word is not None and word != before.words.get(pair.dynamics)}
    return replace(campaign, words={**campaign.words, **lost})


def _opt_out(side: Side, observation: Observation, name: str) -> Word | None:
    """TRUE of Dynamics as a word that is later than the one before, or None."""
    event, before, fact = observation.event, side.words.get(name), side.facts.get(name)
    new = _fresh(side, observation)
    if observation.ours:  # W5: only what we were not to write, and nobody had said, must be somebody's
        told = side.told.get(name)
        missed = fact is None and side.order is not None  # the flag was not mapped for a while
        read_back = observation.own and (told is not None or before is not None)  # else state was lost; we wrote what somebody had said
        if read_back or not new or fact or (not missed and (before is not None or told)):
            return None
    at = event.record_changed_at or event.observed_at
    changed = side.order is not None and side.order.before(observation.order)  # by somebody else, who says all flags again
    if new and (fact is False or (fact and changed)) and observation.live:
        at = max([at, *(each for each in (event.looked_at, _shown_at(side)) if each is not None)])  # W6: imports set modifiedon back
    if before is not None and not before.value and new:
        at = max(at, before.at)  # the version proves that it came after
    word = Word(True, at, event.origin)
    return word if _counts(word, before) else None


def _opt_in(side: Side, observation: Observation, name: str) -> Word | None:
    """FALSE of Dynamics as a word, or None: only a change that we have seen both sides of, live, by somebody else, at a later time."""
    event, before, order = observation.event, side.words.get(name), side.order
    if observation.ours or not observation.live or event.record_changed_at is None or not _fresh(side, observation):
        return None
    if not side.facts.get(name) or order is None or order.epoch != event.epoch or not order.before(observation.order):
        return None  # of the same version, but other than it was: Dynamics was restored
    if before is not None and event.record_changed_at <= before.at:
        return None
    true_yet = (order.record_at, event.looked_at, _shown_at(side))  # since then it was said
    seen = [at for at in true_yet if at is not None]
    if before is not None:
        seen.append(before.at + timedelta(milliseconds=1))
    return Word(False, min(max(seen, default=event.record_changed_at), event.record_changed_at), event.origin)


def _shown_at(side: Side) -> datetime | None:
    """When this system has shown what is known of it, by its own clock."""
    return None if side.order is None or side.ahead is None else side.order.observed_at + side.ahead


def _counts(word: Word, before: Word | None) -> bool:
    """W1, W2: whether this word takes the place of the one before. At the same time TRUE does."""
    if before is None:
        return True
    return word.at > before.at or (word.at == before.at and word.value and not before.value)


def _still_told(side: Side) -> dict[str, bool]:
    """Without what the system shows as it was told."""
    return {name: told for name, told in side.told.items() if side.facts.get(name) is not told}
