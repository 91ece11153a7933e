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


class HandClock(FakeClock):
    """Time passes when the test says so."""

    def __init__(self) -> None:
        super().__init__()
        self._sleepers: list[tuple[float, asyncio.Event]] = []

    async def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self._sleepers.append((self.passed_s + seconds, over := asyncio.Event()))
        self.advance(0)
        await over.wait()

    def advance(self, seconds: float) -> None:
        super().advance(seconds)
        for _, over in (each for each in self._sleepers if each[0] <= self.passed_s):
            over.set()
        self._sleepers = [each for each in self._sleepers if each[0] > self.passed_s]
