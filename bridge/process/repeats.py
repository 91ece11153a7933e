"""What happens now and then passes by itself; what happens again and again does not."""

from __future__ import annotations

from bridge.model.clock import Clock


class Repeats:
    """`most` within `within_s` are borne."""

    def __init__(self, most: int, within_s: float, clock: Clock) -> None:
        self._most, self._within_s, self._clock = most, within_s, clock
        self._at: list[float] = []

    def too_many(self) -> bool:
        """To be asked at each; begins to count again after it was too many."""
        now = self._clock.monotonic()
        self._at = [each for each in self._at if now - each < self._within_s] + [now]
        if len(self._at) <= self._most:
            return False
        self._at.clear()
        return True
