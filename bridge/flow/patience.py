"""Waiting that ends with a stop, and calls that are repeated for as long as it takes."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable
from typing import TypeVar

from bridge.flow.waits import LONGEST_S, backoff_s
from bridge.model.clock import Clock
from bridge.model.errors import HaltError, RetryError

T = TypeVar("T")


async def patiently(
    call: Callable[[], Awaitable[T]],
    failed: Callable[[RetryError | HaltError, float], None],
    sleep: Callable[[float], Awaitable[None]],
    rng: random.Random,
    longest_s: float,
) -> T:
    """Repeats a call until it works. `failed` hears of each failure and of the seconds until the next try; it raises to give up, as it must
    for a HaltError that is not to be waited out. A wait is as long as the error asks for, else up to `longest_s`, growing."""
    attempt = 0
    while True:
        try:
            return await call()
        except (RetryError, HaltError) as exc:
            attempt += 1
            asked_s = exc.retry_after_s if isinstance(exc, RetryError) else None
            wait_s = backoff_s(attempt, rng, longest_s) if asked_s is None else asked_s
            failed(exc, wait_s)
        await sleep(wait_s)


def only_retries(exc: RetryError | HaltError) -> RetryError:
    """Raises what is not to be waited out."""
    if isinstance(exc, HaltError):
        raise exc
    return exc


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
        met: RetryError | None = None

        def failed(exc: RetryError | HaltError, _: float) -> None:
            nonlocal met
            met = only_retries(exc)
            if exc.code == "released":
                raise exc
            self._met(met)

        async def pause(seconds: float) -> None:
            await self.pause(seconds)
            if self._stopping.is_set() and met is not None:
                raise met

        await patiently(call, failed, pause, self._rng, LONGEST_S)
