"""Contacts that are merged: an opt-out of the one that is given up is a word of the same person, and goes over to the other."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from datetime import datetime
from typing import Literal

from bridge.consent.words import Observation, Pair, Status
from bridge.model.events import OptStatusObserved
from bridge.observe.log import log
from services.optin.resolve import Direction, said_no

Observe = Callable[[OptStatusObserved], Awaitable[None]]


class Merged:
    """`observe` publishes words for the other contact; with `report` they are only logged, for somebody to look at."""

    def __init__(self, pairs: Sequence[Pair], direction: Direction, mode: Literal["carry", "report"], observe: Observe) -> None:
        self._pairs, self._direction, self._mode, self._observe = tuple(pairs), direction, mode, observe

    async def carry(self, before: Status, after: Status, observation: Observation) -> None:
        """Nothing to do for a contact that was not merged, or whose opt-outs have gone over. A load carries them once more: it follows a
        change of the mapping, and what was not mapped has not gone over. Raises RetryError."""
        master, contact = after.merged_into, observation.event.contact_key
        if master is None or master == contact:
            return
        no = said_no(after, self._pairs, self._direction)
        told = before.merged_into == master and no == said_no(before, self._pairs, self._direction)
        if not no or (told and observation.live):
            return
        names = sorted(pair.dynamics for pair in no)
        log("merged_opt_out", "warning" if self._mode == "report" else "info", key=contact, master=master, flags=names)
        if self._mode == "report":
            return
        flags = {pair.dynamics: {"value": True, "changed_at": _said_at(after, pair, observation)} for pair in no}
        seen_at = observation.event.observed_at
        await self._observe(OptStatusObserved(master, "dynamics", flags, None, seen_at, origin=f"merged from {contact}"))


def _said_at(status: Status, pair: Pair, observation: Observation) -> datetime:
    """Not earlier than it was said of the contact that is given up, nor than the merge."""
    words = (status.dynamics.words.get(pair.dynamics), status.campaign.words.get(pair.campaign))
    times = [word.at for word in words if word is not None and word.value]
    event = observation.event
    if event.system == "dynamics" and event.record_changed_at is not None and not observation.ours:
        times.append(event.record_changed_at)
    return max(times, default=event.observed_at)
