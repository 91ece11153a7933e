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
    """The flags of one event, by Campaign's names. None: Dynamics leaves it open; missing: the event does not carry it."""

    flags: Flags
    live: bool
    order: Order | None
    at: datetime | None


@dataclass(frozen=True, slots=True)
class Past:
    """What is known of a record. `said`: what Dynamics last showed. `holds`: what Campaign holds as far as we know, who ever put it there.
    `order` and `at`: of the newest event that was dealt with."""

    said: Flags = field(default_factory=dict)
    holds: Mapping[str, bool] = field(default_factory=dict)
    order: Order | None = None
    at: datetime | None = None


@dataclass(frozen=True, slots=True)
class Wanted:
    """`raises`: to become TRUE in Campaign. `lowers`: to become FALSE, with the time of the word. `kept`: TRUE in Campaign beside a FALSE
    of Dynamics that is no word. `said`: what Dynamics shows by now; None: left open."""

    raises: frozenset[str] = frozenset()
    lowers: Mapping[str, datetime | None] = field(default_factory=dict)
    kept: frozenset[str] = frozenset()
    said: Flags = field(default_factory=dict)


def wanted(sights: Iterable[Sight], past: Past) -> Wanted:
    """What follows from the events that wait for one record, given what is known of it."""
    in_order = _in_order(sights)
    fresh = [sight for sight in in_order if not _stale(sight, past)]
    names = {name for sight in fresh for name in sight.flags}
    ends = {name: _followed(name, fresh, past.said.get(name)) for name in names}
    said = {name: value for name, (value, _, _) in ends.items()}
    late = {name for sight in in_order if _late_word(sight, past) for name, value in sight.flags.items() if value}
    raises = {name for name, value in said.items() if value} | {name for name in late if name not in said}
    off = {name: at for name, (value, word, at) in ends.items() if value is False and word}
    return Wanted(
        raises=frozenset(name for name in raises if past.holds.get(name) is not True),
        lowers={name: at for name, at in off.items() if past.holds.get(name) is not False},
        kept=frozenset(name for name, value in said.items() if value is False and name not in off and past.holds.get(name)),
        said=said,
    )


def _followed(name: str, sights: list[Sight], said: bool | None) -> tuple[bool | None, bool, datetime | None]:
    """The value in the end, whether a FALSE is somebody's word, and its time."""
    value, word, at = said, False, None
    for sight in sights:
        if name not in sight.flags or (new := sight.flags[name]) is value:
            continue
        word, at = (new is False and value is True and sight.live), sight.at
        value = new
    return value, word, at


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
