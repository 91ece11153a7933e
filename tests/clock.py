"""A clock for tests: sleeping takes no time and is written down."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta

START = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)


class FakeClock:
    """See bridge.model.clock.Clock. `sleep` moves the time on at once and lets other tasks run; `slept` lists all sleeps."""

    def __init__(self, start: datetime = START) -> None:
        self.passed_s = 0.0
        self.slept: list[float] = []
        self._start = start

    def now(self) -> datetime:
        return self._start + timedelta(seconds=self.passed_s)

    def monotonic(self) -> float:
        return 1000.0 + self.passed_s

    def advance(self, seconds: float) -> None:
        self.passed_s += seconds

    async def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.advance(max(0.0, seconds))
        await asyncio.sleep(0)
