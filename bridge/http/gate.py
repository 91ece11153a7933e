"""How many calls of a process to one system may be under way, and when none may begin (decision D9)."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractContextManager, asynccontextmanager, contextmanager
from datetime import datetime

import httpx

from bridge.http.retry_after import retry_after_s
from bridge.model.clock import Clock
from bridge.model.errors import RetryError
from bridge.model.permission import call_guard
from bridge.observe.metrics import UNMETERED, Meter

REGAIN = 50  # calls that were not refused, until one more may be under way
HANGS_S = 10.0  # without an answer of any call
LOOK_EVERY_S = 0.5  # a task that waits for its turn asks its guard so often


class Pause:
    """How one system is to this process: until when it asked to wait, and whether it answers. Made once per process and system, so that the
    next run knows of it; with the meter of its calls. Times are those of the gate's monotonic clock."""

    def __init__(self, meter: Meter = UNMETERED, system: str = "the system") -> None:
        self.meter, self.system = meter, system
        meter.waits(lambda: max(0.0, self.until - meter.now()))
        self.until = 0.0
        self.refusals = 0  # 429s in a row that did not say how long
        self._answered_at = 0.0
        self._under_way: dict[object, float] = {}  # call → when it began

    @contextmanager
    def asking(self, now: float) -> Iterator[None]:
        """While a question is under way that began now."""
        call = object()
        self._under_way[call] = now
        try:
            yield
        finally:
            del self._under_way[call]

    def answered(self, now: float) -> None:
        self._answered_at = now

    def trouble(self, now: float) -> tuple[RetryError, float] | None:
        """Why no call gets through at present, and for how many seconds that has been so: one hangs and no other was answered meanwhile, or
        the system asked to wait. None: as far as can be seen they do."""
        if self._under_way and (silent_s := now - max(self._answered_at, min(self._under_way.values()))) >= HANGS_S:
            return RetryError(f"{self.system} does not answer", code="network"), silent_s
        if (left_s := self.until - now) > 0:
            text = f"{self.system} asked to wait {left_s:.0f} s more"
            return RetryError(text, code="busy", retry_after_s=left_s), 0.0
        return None


class Gate:
    """Lets calls of one process to one system through: at most `concurrency` at once, at most `per_second` (0: any
    number), and none before the end of a wait that the system asked one of them for.

    A 429 halves how many may be under way at once, every fifty calls that were not refused add one again: a system at its limit would
    otherwise get, with each wait, all those that were on the wire when it refused the first one.
    """

    def __init__(self, concurrency: int, clock: Clock, per_second: float = 0, pause: Pause | None = None) -> None:
        self._most = self._limit = float(concurrency)
        self._active = 0
        self._queue: deque[asyncio.Future[None]] = deque()
        self._clock = clock
        self._interval = 1 / per_second if per_second else 0.0
        self._next = 0.0
        self._pause = pause or Pause()
        self.meter = self._pause.meter
        self.calls = 0

    @property
    def wait_left_s(self) -> float:
        return max(0.0, self._pause.until - self._clock.monotonic())

    def close_for(self, seconds: float) -> None:
        """No call starts for so long; a longer wait that is running stays."""
        self._pause.until = max(self._pause.until, self._clock.monotonic() + seconds)
        if self.wait_left_s:
            self._wake(len(self._queue))  # they wait for the end of the pause now, where their guards are asked

    def heed(self, response: httpx.Response, now: datetime) -> None:
        """Closes for as long as a 429 or 503 asks for. A 429 that does not say how long: 1, 2, 4, … 32 s, until a call is not refused."""
        self._pause.answered(self._clock.monotonic())
        wait = retry_after_s(response, now) if response.status_code in (429, 503) else None
        if response.status_code != 429:
            self._pause.refusals = 0
            self._limit = min(self._most, self._limit + 1 / REGAIN)
        elif not self.wait_left_s:  # else a call that was under way when another one was refused
            self._limit = max(1.0, self._limit // 2)
            if wait is None:
                wait = 2.0 ** min(self._pause.refusals, 5)
                self._pause.refusals += 1
        self.close_for(wait or 0.0)

    def asking(self) -> AbstractContextManager[None]:
        """While something is asked for that takes no slot: a token."""
        return self._pause.asking(self._clock.monotonic())

    @asynccontextmanager
    async def call(self) -> AsyncIterator[None]:
        """Holds a slot for one call. Raises what the task's `call_guard` raises."""
        guard = call_guard.get()
        await self._enter(guard)
        try:
            self._next = max(self._next, self._clock.monotonic()) + self._interval
            guard()
            self.calls += 1
            with self.asking():
                yield
        finally:
            self._leave()

    async def _enter(self, guard: Callable[[], None]) -> None:
        """A slot, at a time when a call may begin: nobody holds one while waiting, so that guards go on being asked."""
        try:
            while True:
                while (wait := max(self.wait_left_s, self._turn())) > 0:
                    await self._clock.sleep(min(wait, LOOK_EVERY_S))
                    guard()
                if self._active < int(self._limit):
                    self._active += 1
                    return
                turn = asyncio.get_running_loop().create_future()
                self._queue.append(turn)
                await turn
        except BaseException:
            self._wake(int(self._limit) - self._active)  # the turn may have been ours: it is somebody else's now
            raise

    def _leave(self) -> None:
        self._active -= 1
        self._wake(int(self._limit) - self._active)

    def _wake(self, number: int) -> None:
        """So many of those that wait for a slot look again, in their order."""
        while number > 0 and self._queue:
            turn = self._queue.popleft()
            if not turn.done():
                turn.set_result(None)
                number -= 1

    def _turn(self) -> float:
        return self._next - self._clock.monotonic() if self._interval else 0.0
