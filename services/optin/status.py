"""What is known of a contact's flags, as `optin.state` keeps it: digests and times, never values (contracts/kafka.md). Pure.

A flag has two values, so its digest is one of two as well; the key and the contact in it keep others from telling which. Names in
`digests` and `times`: `dynamics:donotemail` for what a system holds, `word:dynamics:donotemail` for what was said there last (`from:…`
where that was read), `told:dynamics:donotemail` for what it was to become, `held:…` for what a person has to release. `dynamics` and
`dynamics:seen` are the latest observation of a system, `dynamics:epoch`, `dynamics:ahead` and `dynamics:gone` belong to it; `decided` is
the last decision, `merged_into` the contact that this one was merged into. `version` is the contact's in Dynamics.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta

from bridge.consent.words import Order, Pair, Side, Status, Word
from bridge.model.events import System
from bridge.model.state import Digests, Known

SYSTEMS: tuple[System, ...] = ("dynamics", "campaign")


class StatusCodec:
    """For the flags of the running configuration. Of others only the words are kept: mappings come and go, what people said stays."""

    def __init__(self, digests: Digests, pairs: Sequence[Pair]) -> None:
        self._digests, self._pairs = digests, pairs
        self._names = frozenset(f"{system}:{pair.name(system)}" for pair in pairs for system in SYSTEMS)

    def known(self, contact: str, status: Status, before: Known | None = None) -> Known:
        """`before`: as it was kept until now."""
        values: dict[str, bool] = {}
        times: dict[str, str] = {}
        for system in SYSTEMS:
            side = status.side(system)
            values |= {f"{system}:{name}": value for name, value in side.facts.items()}
            for name, word in side.words.items():
                values[f"word:{system}:{name}"] = word.value
                times[f"word:{system}:{name}"] = word.at.isoformat()
                if word.origin:
                    times[f"from:{system}:{name}"] = word.origin
            values |= {f"told:{system}:{name}": value for name, value in side.told.items()}
            values |= {f"held:{system}:{name}": True for name in side.held}
            times |= _times(system, side)
        if status.decided_at is not None:
            times["decided"] = status.decided_at.isoformat()
        if status.merged_into is not None:
            times["merged_into"] = status.merged_into
        order = status.dynamics.order
        digests = {name: self._digest(contact, name, value) for name, value in values.items()}
        if before is not None:
            digests = {**_words_of_others(before.digests, self._names), **digests}
            times = {**_words_of_others(before.times, self._names), **times}
        return Known(version=order.version if order else None, epoch=order.epoch if order else 0, exists=True, digests=digests, times=times)

    def status(self, contact: str, known: Known | None) -> Status:
        """A digest made with another key says nothing: the flag counts as never seen."""
        if known is None:
            return Status()
        dynamics, campaign = (self._side(contact, known, system) for system in SYSTEMS)
        return Status(campaign, dynamics, _moment(known.times, "decided"), known.times.get("merged_into"))

    def _side(self, contact: str, known: Known, system: System) -> Side:
        mapped = [pair.name(system) for pair in self._pairs]
        spoken_of = [name.removeprefix(f"word:{system}:") for name in known.times if name.startswith(f"word:{system}:")]

        def values(what: str, names: Sequence[str] = mapped) -> dict[str, bool]:
            found = {name: self._value(contact, known, f"{what}{system}:{name}") for name in names}
            return {name: value for name, value in found.items() if value is not None}

        def moment(name: str) -> datetime | None:
            return _moment(known.times, name)

        facts, words = values(""), values("word:", spoken_of)
        order = _order(known, system)
        said = {
            name: Word(value, at, known.times.get(f"from:{system}:{name}", ""))
            for name, value in words.items()
            if (at := moment(f"word:{system}:{name}")) is not None
        }
        if not any(name in mapped for name in words):
            said |= self._first_version(system, known, facts, order)
        return Side(
            order,
            facts | values("own:"),  # `own`: as the first version kept what the writer had read back
            said,
            values("told:"),
            frozenset(values("held:")),
            gone=f"{system}:gone" in known.times,
            ahead=timedelta(milliseconds=int(ahead)) if (ahead := known.times.get(f"{system}:ahead")) is not None else None,
        )

    def _first_version(self, system: System, known: Known, facts: Mapping[str, bool], order: Order | None) -> dict[str, Word]:
        """The first version kept values with times instead of words. TRUE with a time was somebody's; of Campaign also without one."""
        words = {}
        for name, value in facts.items():
            at = _moment(known.times, f"{system}:{name}")
            if at is None and system == "campaign" and value and order is not None:
                at = order.record_at or order.observed_at
            if at is not None and (value or system == "campaign"):
                words[name] = Word(value, at)
        return words

    def _digest(self, contact: str, name: str, value: bool) -> str:
        return self._digests.one(f"{contact}/{name}", value)

    def _value(self, contact: str, known: Known, name: str) -> bool | None:
        digest = known.digests.get(name)
        if digest is None:
            return None
        return next((value for value in (True, False) if self._digest(contact, name, value) == digest), None)


def _words_of_others(kept: Mapping[str, str], mapped: frozenset[str]) -> dict[str, str]:
    """What was said of flags that are not mapped now."""
    parts = ((name, name.partition(":")) for name in kept)
    return {name: kept[name] for name, (what, _, flag) in parts if what in ("word", "from") and flag not in mapped}


def _moment(times: Mapping[str, str], name: str) -> datetime | None:
    return datetime.fromisoformat(times[name]) if name in times else None


def _times(system: System, side: Side) -> dict[str, str]:
    order, times = side.order, {}
    if order is not None:
        times[f"{system}:seen"] = order.observed_at.isoformat()
        if order.record_at is not None:
            times[system] = order.record_at.isoformat()
        if order.epoch:
            times[f"{system}:epoch"] = str(order.epoch)
    if side.gone:
        times[f"{system}:gone"] = "yes"
    if side.ahead is not None:
        times[f"{system}:ahead"] = str(round(side.ahead.total_seconds() * 1000))
    return times


def _order(known: Known, system: System) -> Order | None:
    seen_at = _moment(known.times, f"{system}:seen")
    if seen_at is None:
        return None
    version = known.version if system == "dynamics" else None
    return Order(version, _moment(known.times, system), seen_at, int(known.times.get(f"{system}:epoch", "0")))
