"""Flags that travel with the contact mapping of ingress: what is raised, lowered or kept. Pure.

In this direction a word FALSE is a live change of the column from TRUE to FALSE that we have seen both sides of (rule 2). So two things
are remembered of each flag: what Dynamics last showed, and what Campaign holds. A FALSE that is only seen (a default, a load, a replay, a
resync, a new mapping, after lost state) lowers nothing, and a later change of another column does not make it a word.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime

Flags = Mapping[str, bool | None]
Order = tuple[int, int]  # epoch, version


@dataclass(frozen=True, slots=True)
class Sight:
    """The flags of one event, by Campaign's names. None: Dynamics leaves it open; missing: the event does not carry it. What is not `live`
    comes of a load, a resync or a replay, or was changed by ourselves."""

    flags: Flags
    live: bool
    order: Order | None
    at: datetime | None


@dataclass(frozen=True, slots=True)
class Past:
    """What is known of a record. `said`: what Dynamics last showed. `no`: words TRUE that nobody has taken back, in either system. `holds`:
    what Campaign holds as far as we know, whoever put it there. `order` and `at`: of the newest event that was dealt with."""

    said: Flags = field(default_factory=dict)
    no: frozenset[str] = frozenset()
    holds: Mapping[str, bool] = field(default_factory=dict)
    order: Order | None = None
    at: datetime | None = None


@dataclass(frozen=True, slots=True)
class OptedIn:
    """A word FALSE: when it was said, by Dynamics' clock, and with which event."""

    at: datetime | None
    order: Order | None


@dataclass(frozen=True, slots=True)
class Wanted:
    """`raises`: to become TRUE in Campaign. `lowers`: to become FALSE, for these words. `kept`: TRUE in Campaign beside a FALSE of Dynamics
    that is no word. `said`: what Dynamics shows by now; None: left open."""

    raises: frozenset[str] = frozenset()
    lowers: Mapping[str, OptedIn] = field(default_factory=dict)
    kept: frozenset[str] = frozenset()
    said: Flags = field(default_factory=dict)
    no: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class _End:
    """Of one flag: its value in the end, the word FALSE that led to it, and whether an opt-out was among what waited."""

    value: bool | None
    word: OptedIn | None
    opted_out: bool


def wanted(sights: Iterable[Sight], past: Past) -> Wanted:
    """What follows from the events that wait for one record, given what is known of it."""
    in_order = _in_order(sights)
    fresh = [sight for sight in in_order if not _stale(sight, past)]
    ends = {name: _followed(name, fresh, past) for name in {name for sight in fresh for name in sight.flags}}
    late = {name for sight in in_order if _late_word(sight, past) for name, value in sight.flags.items() if value}
    yes = {name: end.word for name, end in ends.items() if end.word is not None}
    no = late | (past.no - yes.keys()) | {name for name, end in ends.items() if end.value or (end.opted_out and end.word is None)}
    # Campaign may have been changed or restored since we looked: what is newly said, or shown by a load, is written whatever we believe.
    shown = {name for sight in fresh if not sight.live for name, value in sight.flags.items() if value}
    new = late | shown | {name for name, end in ends.items() if end.opted_out or (end.value and past.said.get(name) is not True)}
    off = {name for name, end in ends.items() if end.value is False and end.word is None}
    return Wanted(
        raises=frozenset(name for name in no if name in new or past.holds.get(name) is not True),
        lowers={name: word for name, word in yes.items() if past.holds.get(name) is not False},
        kept=frozenset(name for name in off if past.holds.get(name) or name in no),
        said={name: end.value for name, end in ends.items()},
        no=frozenset(no),
    )


def _followed(name: str, sights: list[Sight], past: Past) -> _End:
    """One by one: a TRUE is written, and only a live FALSE that came after it takes it back."""
    value, word, opted_out = past.said.get(name), None, False
    order, at = past.order, past.at
    for sight in sights:
        if name not in sight.flags:
            continue
        new = sight.flags[name]
        if new is not value:
            is_word = new is False and value is True and sight.live and _after(sight, order, at)
            word = OptedIn(sight.at, sight.order) if is_word else None
            opted_out = bool(new) or (opted_out and not is_word)
        value, order, at = new, sight.order or order, sight.at or at
    return _End(value, word, opted_out)


def _after(sight: Sight, order: Order | None, at: datetime | None) -> bool:
    """Whether it came after what showed TRUE, for sure: by version within one epoch, else by time. Over a restore nobody changed it; a
    record that is restored or imported has a new version, but its old time."""
    if sight.order is not None and order is not None:
        return sight.order[0] == order[0] and sight.order > order and (sight.at is None or at is None or sight.at >= at)
    return sight.at is None or at is None or sight.at > at


def _in_order(sights: Iterable[Sight]) -> list[Sight]:
    """By version; of the same version the live one first: it is the change, a replay shows it again. Those without one as they came."""
    known = list(sights)
    if any(sight.order is None for sight in known):
        return known
    return sorted(known, key=lambda sight: (sight.order or (0, 0), not sight.live))


def _stale(sight: Sight, past: Past) -> bool:
    return past.order is not None and sight.order is not None and sight.order < past.order


def _late_word(sight: Sight, past: Past) -> bool:
    """Rule 6: versions may have gone back. A TRUE that is new by the time of its change is never dropped as old."""
    return _stale(sight, past) and sight.at is not None and past.at is not None and sight.at > past.at
