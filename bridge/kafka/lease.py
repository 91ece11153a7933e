"""Whether a process may still act for its partitions."""

from __future__ import annotations

import time

from bridge.kafka.client import SESSION_TIMEOUT_MS
from bridge.model.errors import RetryError

STALE_S = SESSION_TIMEOUT_MS / 1000 / 2


class Lease:
    """It must have been heard by the group lately."""

    def __init__(self) -> None:
        self._renewed = time.monotonic()

    def renew(self) -> None:
        self._renewed = time.monotonic()

    def stale(self) -> bool:
        return time.monotonic() - self._renewed > STALE_S

    def check(self) -> None:
        """Raises RetryError when another instance may own our partitions by now (a paused process, say)."""
        if self.stale():
            raise RetryError("this process was held up; it first asks whether its partitions are still its own", code="lease")
