"""What `ingress.state` remembers of a record's opt-outs, as digests and times, never values. Pure.

digests  blackListEmail        what Campaign holds
         said:blackListEmail   what Dynamics last showed
         back:blackListEmail   TRUE that Campaign held when the record was deleted: it goes out with a new one
times    changed_at            of the newest event, by Dynamics' clock
         raised:blackListEmail our write of TRUE, from - to, by our clock
         held:blackListEmail   the order of the change whose lower a person has to release, and when it was said by our clock
         held:delete           the order of the delete that a person has to release
         key                   `capitals` where Campaign has the key in capital letters
         making                a profile that was gone is being made again; Opt In/Out has not heard of it yet
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import replace
from datetime import datetime

from bridge.consent.mapped import Flags, Past, Wanted
from bridge.model.events import ChangeEvent
from bridge.model.state import Digests, Known
from services.ingress.decide import known_order

CHANGED_AT, KEY, CAPITALS, HELD_DELETE, MAKING = "changed_at", "key", "capitals", "held:delete", "making"


class Remembered:
    """Reads and writes the flags of a Known. A digest made with another key says nothing."""

    def __init__(self, digests: Digests) -> None:
        self._digests = digests

    def past(self, known: Known | None, names: Collection[str]) -> Past:
        if known is None:
            return Past()
        holds = {name: value for name in names if (value := self._value(known, name)) is not None}
        # A record that was gone is not a change of the one before: it may be restored with what it once held.
        said = {} if known.gone else {name: self._value(known, f"said:{name}") for name in names}
        no = frozenset(name for name in names if self._value(known, f"no:{name}"))
        return Past(said, no, holds, known_order(known), self.changed_at(known))

    def noted(self, known: Known, wanted: Wanted, holds: Mapping[str, bool]) -> Known:
        """With what Dynamics shows now and which words TRUE stand, and with what Campaign holds now."""
        return self._noted(known, wanted.said, {name: name in wanted.no for name in {*wanted.said, *wanted.no}}, holds)

    def opted_out(self, known: Known, names: Collection[str]) -> Known:
        """With these flags TRUE in both systems."""
        return self._noted(known, dict.fromkeys(names, True), dict.fromkeys(names, True), dict.fromkeys(names, True))

    def holding(self, known: Known, holds: Mapping[str, bool]) -> Known:
        """With what Campaign holds now."""
        return self._noted(known, {}, {}, holds)

    def for_return(self, known: Known, names: Collection[str]) -> Known:
        """Of a record that is deleted: these opt-outs come back with it."""
        return self._noted(known, {}, dict.fromkeys(names, True), {})

    def _noted(self, known: Known, said: Flags, no: Mapping[str, bool], holds: Mapping[str, bool]) -> Known:
        digests = dict(known.digests)
        for name, stands in no.items():
            digests.pop(f"no:{name}", None)
            if stands:
                digests[f"no:{name}"] = self._digests.one(f"no:{name}", True)
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
