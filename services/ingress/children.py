"""Deletes of parents wait for what has happened to their children: Campaign hides a child whose parent is gone, and a hidden one can
neither be changed nor deleted any more (campaign.md §4.4).

Dynamics deletes children with their parent, and gives the children of a merged record another one; of that each table is told by itself.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from math import inf
from typing import Protocol

from bridge.model.clock import Clock
from bridge.model.errors import ParkError
from services.ingress.decide import Change
from services.ingress.target import Target

POLLED_EVERY_S = 5.0  # a table, if its reader does not say that it takes longer
AHEAD_S = 60.0  # of clocks
AT_MOST_S = 3600.0  # then the parent goes, whatever holds its children up


class Settled(Protocol):
    async def until(self, tables: Sequence[str]) -> datetime:
        """A moment: all that was published of these tables before it has been dealt with, by whichever instance. Raises RetryError."""


class Children:
    """`of`: by table, those of the mapped tables whose records Campaign may hide without a record of it."""

    def __init__(self, of: Mapping[str, Sequence[str]], settled: Settled, clock: Clock) -> None:
        self._of, self._settled, self._clock = of, settled, clock
        self._began = clock.now()  # what was seen while nobody wrote is no older than that: all of it is still to come

    async def first(self, change: Change) -> None:
        """Returns if the record may be deleted now; raises ParkError, or RetryError while Kafka is away.

        All tables have been polled once more, and what that brought is written. The clock of a reader that is ahead of ours by more than a
        minute would have us wait for no reason: then we do not.
        """
        children = self._of.get(change.event.table, ())
        now, seen = self._clock.now(), change.event.observed_at
        waited = now - max(seen, self._began)
        if not children or not -timedelta(seconds=AHEAD_S) <= waited < timedelta(seconds=AT_MOST_S):
            return
        polled = seen + 2 * timedelta(seconds=max(POLLED_EVERY_S, change.polled_every_s))
        if now < polled or await self._settled.until(children) < polled:
            text = "what happened to the records that are linked to this one is written first"
            raise ParkError(text, code="children_first", budget_s=inf)  # it ends by itself


def children_of(targets: Iterable[Target]) -> dict[str, list[str]]:
    """A link whose target is not told may be one to any table."""
    every = list(targets)
    return {
        parent.table.source: [
            child.table.source for child in every if child is not parent and {parent.resource.name, ""} & child.resource.parents
        ]
        for parent in every
    }
