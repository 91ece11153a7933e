"""What `ingress.state` remembers of a record's opt-outs, as digests and times, never values. Pure.

digests  blackListEmail        what Campaign holds
         said:blackListEmail   what Dynamics last showed
         back:blackListEmail   TRUE that Campaign held when the record was deleted: it goes out with a new one
times    changed_at            of the newest event, by Dynamics' clock
         raised:blackListEmail our write of TRUE, from - to, by our clock
         held:blackListEmail   the order of the change whose lower a person has to release; `held:delete` likewise
         key                   `capitals` where Campaign has the key in capital letters
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import replace
from datetime import datetime

from bridge.consent.flags import OPT_OUT_FLAGS
from bridge.consent.mapped import Flags, Past
from bridge.events import ChangeEvent
from bridge.state import Digests, Known
from services.ingress.decide import known_order

CHANGED_AT, KEY, CAPITALS, HELD_DELETE = "changed_at", "key", "capitals", "held:delete"


class Remembered:
    """Reads and writes the flags of a Known. A digest made with another key says nothing."""

    def __init__(self, digests: Digests) -> None:
        self._digests = digests

    def past(self, known: Known | None, names: Collection[str]) -> Past:
        if known is None:
            return Past()
        holds = {name: value for name in names if (value := self._value(known, name)) is not None}
        said = {name: self._value(known, f"said:{name}") for name in names}
        return Past(said, holds, known_order(known), self.changed_at(known))

    def noted(self, known: Known, said: Flags, holds: Mapping[str, bool]) -> Known:
        """With what Dynamics shows now, and what Campaign holds now."""
        digests = dict(known.digests)
        for name, value in said.items():
            if value is None:
                digests.pop(f"said:{name}", None)
            else:
                digests[f"said:{name}"] = self._digests.one(f"said:{name}", value)
        digests |= self._digests.of(holds)
        return replace(known, digests=digests)

    @staticmethod
    def forgetting(known: Known, names: Collection[str]) -> Known:
        """Without what Campaign is believed to hold of these flags."""
        return replace(known, digests={name: digest for name, digest in known.digests.items() if name not in names})

    def brought_back(self, known: Known | None) -> set[str]:
        """Opt-outs that Campaign held when this record was deleted there."""
        return set() if known is None else {name for name in OPT_OUT_FLAGS if self._value(known, f"back:{name}")}

    def for_return(self, known: Known, opted_out: Iterable[str]) -> Known:
        """Of a record that is deleted: its opt-outs come back with it."""
        return replace(known, digests={**known.digests, **{f"back:{name}": self._digests.one(f"back:{name}", True) for name in opted_out}})

    @staticmethod
    def changed_at(known: Known) -> datetime | None:
        text = known.times.get(CHANGED_AT)
        return None if text is None else datetime.fromisoformat(text)

    def _value(self, known: Known, name: str) -> bool | None:
        digest = known.digests.get(name)
        if digest is None:
            return None
        return next((value for value in (True, False) if self._digests.one(name, value) == digest), None)


def timed(known: Known, event: ChangeEvent) -> Known:
    """With the time of this change, if it is the newest one."""
    if event.changed_at is None:
        return known
    before = Remembered.changed_at(known)
    return known if before is not None and before >= event.changed_at else having(known, {CHANGED_AT: event.changed_at.isoformat()})


def having(known: Known, times: Mapping[str, str]) -> Known:
    return replace(known, times={**known.times, **times}) if times else known


def without(known: Known, names: Iterable[str]) -> Known:
    gone = set(names)
    return (
        replace(known, times={name: value for name, value in known.times.items() if name not in gone})
        if gone & known.times.keys()
        else known
    )


def raised(known: Known, name: str) -> tuple[datetime, datetime] | None:
    """From when to when we wrote TRUE ourselves, by our clock."""
    began, _, ended = known.times.get(f"raised:{name}", "").partition(" ")
    return (datetime.fromisoformat(began), datetime.fromisoformat(ended)) if began and ended else None


def campaign_key(key: str, known: Known | None) -> str:
    """The key as Campaign has it."""
    return key.upper() if known is not None and known.times.get(KEY) == CAPITALS else key
