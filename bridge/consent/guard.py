"""The guard: how much may be lowered or deleted in an hour, by all workflows and instances together. Pure.

Whoever wants to lower a flag or delete a record in Campaign writes so into one ledger, and all read the same ledger in the same order: what
comes first in an hour passes up to the limit, what comes later is held until a person releases it. So the count survives restarts, is the
same for all, and never exceeds the limit.
"""

from __future__ import annotations

import math
from collections import OrderedDict, deque
from dataclasses import dataclass
from datetime import datetime, timedelta

WINDOW = timedelta(hours=1)
REMEMBERED = 100_000  # asks whose verdict stands when they come again, after a crash
LOWER = "lower"


def delete_of(table: str) -> str:
    """The kind of a delete: each table has a limit of its own."""
    return f"delete/{table}"


@dataclass(frozen=True, slots=True)
class Ask:
    """`id`: the same when the same lower or delete is asked for again. `limit`: how many of this kind may pass in an hour."""

    kind: str
    id: str
    limit: int


class Ledger:
    """What has passed. To be given every ask in the order of the ledger."""

    def __init__(self) -> None:
        self._passed: dict[str, deque[datetime]] = {}
        self._verdicts: OrderedDict[tuple[str, str], bool] = OrderedDict()

    def take(self, ask: Ask, at: datetime) -> bool:
        """Whether it passes; `at` is the ledger's time. The same ask gets the same verdict, and counts once."""
        known = self._verdicts.get((ask.kind, ask.id))
        if known is not None:
            return known
        passed = self._passed.setdefault(ask.kind, deque())
        while passed and at - passed[0] >= WINDOW:
            passed.popleft()
        verdict = len(passed) < ask.limit
        if verdict:
            passed.append(at)
        self._verdicts[ask.kind, ask.id] = verdict
        if len(self._verdicts) > REMEMBERED:
            self._verdicts.popitem(last=False)
        return verdict


def release_limit(setting: int | None, contacts: int) -> int:
    """Lowers in an hour: as set, else the larger of 100 and 1 % of the contacts known."""
    return setting if setting is not None else max(100, math.floor(0.01 * contacts))


def delete_limit(setting: int | None, records: int) -> int:
    """Deletes of a table in an hour: as set, else the larger of 500 and 2 % of its records known."""
    return setting if setting is not None else max(500, math.floor(0.02 * records))


def of_all(own: int, share: float) -> int:
    """How many there are in all, of which `own` lie in this instance's `share` of the partitions."""
    return round(own / share) if share > 0 else own
