"""What the writer of Opt In/Out has seen in either system, published for the resolver."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Protocol

from bridge.consent.profiles import ahead_ms, observed
from bridge.consent.words import Pair
from bridge.model.clock import Clock
from bridge.model.events import OptStatusObserved
from services.optin.contacts import ContactRow


class PublishSeen(Protocol):
    async def __call__(self, event: OptStatusObserved, version: int | None, *, own: bool) -> None:
        """Publishes what the writer has seen; `own`: after its own write. Raises RetryError."""


class Observing:
    """For the flags of `pairs`."""

    def __init__(self, pairs: tuple[Pair, ...], observe: PublishSeen, clock: Clock) -> None:
        self.pairs, self._observe, self._clock = pairs, observe, clock

    async def row(self, contact: str, row: ContactRow) -> None:
        """A contact as it is now, with all of its mapped flags."""
        await self._observe(self._seen(contact, row, [pair.dynamics for pair in self.pairs]), row.version, own=False)

    async def wrote_to_dynamics(self, contact: str, row: ContactRow, names: Iterable[str]) -> None:
        """What was read back from our own write, so that the resolver knows it from somebody's word."""
        await self._observe(self._seen(contact, row, names), row.version, own=True)

    async def profile(self, contact: str, profile: Mapping[str, Any], our_ahead_s: float | None) -> None:
        """A profile as it is now, with the times of its flags. `our_ahead_s`: our clock against Campaign's."""
        names = [pair.campaign for pair in self.pairs]
        await self._observe(observed(contact, profile, names, self._clock.now(), ahead_ms(our_ahead_s)), None, own=False)

    async def wrote_to_campaign(self, contact: str, names: Iterable[str]) -> None:
        """What we have just set: a fact, and nobody's word."""
        flags = {name: {"value": True, "changed_at": None} for name in names}
        await self._observe(OptStatusObserved(contact, "campaign", flags, None, self._clock.now(), ours=True), None, own=True)

    def _seen(self, contact: str, row: ContactRow, names: Iterable[str]) -> OptStatusObserved:
        flags = {name: {"value": row.flags[name], "changed_at": None} for name in names if row.flags.get(name) is not None}
        origin = "" if row.version is None else f"version {row.version}"
        now, ahead = self._clock.now(), ahead_ms(row.our_ahead_s)
        return OptStatusObserved(contact, "dynamics", flags, row.modified_at, now, ours=row.ours, ahead_ms=ahead, origin=origin)
