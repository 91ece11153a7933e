"""Waiting that ends with a stop, and calls that are repeated for as long as it takes."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable

from bridge.flow.waits import backoff_s
from bridge.model.clock import Clock
from bridge.model.errors import RetryError


class Patience:
    """`stopping` ends every wait. `met` hears of each failure."""

    def __init__(self, clock: Clock, rng: random.Random, stopping: asyncio.Event, met: Callable[[RetryError], None]) -> None:
        self._clock, self._rng, self._stopping, self._met = clock, rng, stopping, met

    async def pause(self, seconds: float) -> None:
        """Sleeps, but not into a stop."""
        waits = [asyncio.ensure_future(self._clock.sleep(seconds)), asyncio.ensure_future(self._stopping.wait())]
        await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        for wait in waits:
            wait.cancel()

    async def until_done(self, call: Callable[[], Awaitable[None]]) -> None:
        """Repeats a call that must not be given up for the target's sake: only Kafka can fail here. Raises RetryError at a stop, and
        `released` for what is not ours any more."""
        attempt = 0
        while True:
            try:
                await call()
                return
            except RetryError as exc:
                if exc.code == "released":
                    raise
                attempt += 1
                self._met(exc)
                await self.pause(backoff_s(attempt, self._rng))
                if self._stopping.is_set():
                    raise
