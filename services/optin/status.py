"""What is known of a contact's flags, as `optin.state` keeps it: digests and times, never values (contracts/kafka.md). Pure.

A flag has two values, so its digest is one of two as well; the key and the contact in it keep others from telling which. Names in
`digests` and `times`: `dynamics:donotemail` for what a system showed, `told:dynamics:donotemail` for what it was to become, `dynamics` and
`dynamics:seen` for the latest observation of a system, `decided` for the last decision. `version` is the contact's in Dynamics.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime

from bridge.events import System
from bridge.state import Digests, Known
from services.optin.resolve import Order, Pair, Seen, Side, Status

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
            for name, value in side.told.items():
                digests[f"told:{system}:{name}"] = self._digest(contact, f"told:{system}:{name}", value)
            if side.order is not None:
                times[f"{system}:seen"] = side.order.observed_at.isoformat()
                if side.order.record_at is not None:
                    times[system] = side.order.record_at.isoformat()
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
        flags: dict[str, Seen] = {}
        told: dict[str, bool] = {}
        for pair in self._pairs:
            name = pair.name(system)
            if (value := self._value(contact, known, f"{system}:{name}")) is not None:
                flags[name] = Seen(value, _moment(known.times, f"{system}:{name}"))
            if (value := self._value(contact, known, f"told:{system}:{name}")) is not None:
                told[name] = value
        seen_at = _moment(known.times, f"{system}:seen")
        version = known.version if system == "dynamics" else None
        order = Order(version, _moment(known.times, system), seen_at) if seen_at is not None else None
        return Side(order, flags, told)

    def _digest(self, contact: str, name: str, value: bool) -> str:
        return self._digests.one(f"{contact}/{name}", value)

    def _value(self, contact: str, known: Known, name: str) -> bool | None:
        digest = known.digests.get(name)
        if digest is None:
            return None
        return next((value for value in (True, False) if self._digest(contact, name, value) == digest), None)


def _moment(times: Mapping[str, str], name: str) -> datetime | None:
    return datetime.fromisoformat(times[name]) if name in times else None
