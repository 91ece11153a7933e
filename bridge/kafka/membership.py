"""Whether a consumer has its place in its group."""

from __future__ import annotations

import time
from collections.abc import Callable

from bridge.model.errors import RetryError

PATIENCE_S = 5.0  # a rebalance takes that long


class Membership:
    """Set from the consumer's thread, asked from any. `joined` stays true from the first assignment on."""

    def __init__(self, group: str, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._group, self._monotonic = group, monotonic
        self._out_since: float | None = monotonic()
        self.joined = False

    def assigned(self) -> None:
        self._out_since, self.joined = None, True

    def left(self) -> None:
        if self._out_since is None:
            self._out_since = self._monotonic()

    def trouble(self) -> tuple[RetryError, float] | None:
        """If the group has given no assignment for some seconds: that, and for how many."""
        if (since := self._out_since) is None or (out_s := self._monotonic() - since) < PATIENCE_S:
            return None
        return RetryError(f"the consumer group {self._group} has not taken this instance in", code="group_not_joined"), out_s
