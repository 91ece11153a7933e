"""The consent guard: how many opt-outs may be taken away in an hour. What goes beyond is held until a person says so. Pure."""

from __future__ import annotations

import math
from collections import deque
from datetime import datetime, timedelta

WINDOW = timedelta(hours=1)
AT_LEAST, RATIO = 100, 0.01  # without a setting: 100, or 1 % of the contacts known if that is more


class ConsentGuard:
    """Counts the releases of one resolver. `limit`: for all resolvers together, None for the default; `share` of the partitions that this
    one has, and so of the contacts and of the limit."""

    def __init__(self, limit: int | None) -> None:
        self._limit = limit
        self._passed: deque[tuple[datetime, int]] = deque()

    def passed(self, at: datetime, partition: int) -> None:
        """A release went through; also one of before, read back when its partition came."""
        self._passed.append((at, partition))

    def lose(self, partition: int) -> None:
        """Its releases are somebody else's to count now."""
        self._passed = deque(each for each in self._passed if each[1] != partition)

    def holds(self, now: datetime, known: int, share: float) -> bool:
        """Whether a release has to be held now. `known`: contacts of our partitions."""
        self._passed = deque(each for each in self._passed if now - each[0] < WINDOW)
        return len(self._passed) >= self.limit(known, share)

    def limit(self, known: int, share: float) -> int:
        """Of this resolver, rounded down, so that all of them together stay within it."""
        if self._limit is not None:
            return math.floor(self._limit * share)
        return max(math.floor(AT_LEAST * share), math.floor(RATIO * known))
