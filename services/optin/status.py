"""What is known of a contact's flags, as `optin.state` keeps it: digests and times, never values (contracts/kafka.md). Pure.

A flag has two values, so its digest is one of two as well; the key and the contact in it keep others from telling which. Names in
`digests` and `times`: `dynamics:donotemail` for what a system showed, `told:dynamics:donotemail` for what it was to become, `dynamics` and
`dynamics:seen` for the latest observation of a system, `decided` for the last decision; `held:…` is what a person has to release, `own:…`
what the writer read back. `version` is the contact's in Dynamics, that of the own write stands as `own:dynamics:version` among the times.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime

from bridge.events import System
from bridge.state import Digests, Known
from services.optin.known import Order, Pair, Seen, Side, Status, Told

SYSTEMS: tuple[System, ...] = ("dynamics", "campaign")


class StatusCodec:
    """For the flags of the running configuration; others are left out, and have to be seen again when they are mapped again."""

    def __init__(self, digests: Digests, pairs: Sequence[Pair]) -> None:
        self._digests, self._pairs = digests, pairs

    def known(self, contact: str, status: Status) -> Known:
        digests: dict[str, str] = {}
        times: dict[str, str] = {}
        for system in SYSTEMS:
            side = status.side(system)
            for name, seen in side.flags.items():
                digests[f"{system}:{name}"] = self._digest(contact, f"{system}:{name}", seen.value)
                if seen.at is not None:
                    times[f"{system}:{name}"] = seen.at.isoformat()
            times |= {f"told:{system}:{name}": told.heard_at.isoformat() for name, told in side.told.items()}
            told = {name: each.value for name, each in side.told.items()}
            more = {"told": told, "held": dict.fromkeys(side.held, True), "own": side.own}
            for what, values in more.items():
                for name, value in values.items():
                    digests[f"{what}:{system}:{name}"] = self._digest(contact, f"{what}:{system}:{name}", value)
            times |= _times(system, side.order) | _times(f"own:{system}", side.own_order)
            if side.own_order is not None and side.own_order.version is not None:
                times[f"own:{system}:version"] = str(side.own_order.version)
        if status.decided_at is not None:
            times["decided"] = status.decided_at.isoformat()
        version = status.dynamics.order.version if status.dynamics.order else None
        return Known(version=version, exists=True, digests=digests, times=times)

    def status(self, contact: str, known: Known | None) -> Status:
        """A digest made with another key says nothing: the flag counts as never seen."""
        if known is None:
            return Status()
        dynamics, campaign = (self._side(contact, known, system) for system in SYSTEMS)
        return Status(campaign, dynamics, _moment(known.times, "decided"))

    def _side(self, contact: str, known: Known, system: System) -> Side:
        names = [pair.name(system) for pair in self._pairs]

        def values(what: str) -> dict[str, bool]:
            found = {name: self._value(contact, known, f"{what}{system}:{name}") for name in names}
            return {name: value for name, value in found.items() if value is not None}

        flags = {name: Seen(value, _moment(known.times, f"{system}:{name}")) for name, value in values("").items()}
        heard = {name: _moment(known.times, f"told:{system}:{name}") for name in names}
        told = {name: Told(value, at) for name, value in values("told:").items() if (at := heard[name]) is not None}
        version = known.version if system == "dynamics" else None
        own_version = known.times.get(f"own:{system}:version")
        return Side(
            _order(known, system, version),
            flags,
            told,
            frozenset(values("held:")),
            values("own:"),
            _order(known, f"own:{system}", int(own_version) if own_version else None),
        )

    def _digest(self, contact: str, name: str, value: bool) -> str:
        return self._digests.one(f"{contact}/{name}", value)

    def _value(self, contact: str, known: Known, name: str) -> bool | None:
        digest = known.digests.get(name)
        if digest is None:
            return None
        return next((value for value in (True, False) if self._digest(contact, name, value) == digest), None)


def _moment(times: Mapping[str, str], name: str) -> datetime | None:
    return datetime.fromisoformat(times[name]) if name in times else None


def _times(name: str, order: Order | None) -> dict[str, str]:
    if order is None:
        return {}
    record = {} if order.record_at is None else {name: order.record_at.isoformat()}
    return {f"{name}:seen": order.observed_at.isoformat()} | record


def _order(known: Known, name: str, version: int | None) -> Order | None:
    seen_at = _moment(known.times, f"{name}:seen")
    return None if seen_at is None else Order(version, _moment(known.times, name), seen_at)
