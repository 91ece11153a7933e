"""Puts what many workers want to send into few requests, each as large as what waits and what the service takes allow.

worker ─ send(item) ─▶ waiting ─▶ one of `lanes` ─▶ call(items still wanted) ─▶ each worker gets its own answer
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

from bridge.http.gate import REGAIN
from bridge.model.clock import Clock
from bridge.model.errors import BridgeError, RejectError, RetryError
from bridge.model.permission import call_guard

I = TypeVar("I")  # noqa: E741
A = TypeVar("A")

START = 10
LINGER_S = 0.02  # what comes together goes together
AIM_S, SLOW_S = 2.0, 10.0
GROWTH = 10
LOOK_EVERY_S = 0.5
REGAIN_REFUSED = 10 * REGAIN


class BatchSize:
    """How many items the next request takes: 10 at first, then, as soon as a full one has shown how long an item takes, as many as fit into
    two seconds (at most ten times as many as before). Fewer after a request that took over ten seconds or failed. Pure."""

    def __init__(self, most: int) -> None:
        self._most = most
        self.now = min(START, most)

    def took(self, items: int, seconds: float) -> None:
        fits = int(AIM_S * items / max(seconds, 0.001))
        if seconds > SLOW_S:
            self.now = max(1, min(self.now, fits))
        elif items >= self.now:
            self.now = min(self._most, max(self.now, min(fits, self.now * GROWTH)))

    def failed(self) -> None:
        self.now = max(1, self.now // 2)

    def one_by_one(self) -> None:
        self.now = 1


class Lanes:
    """How many requests may be under way: one at first, one more for every fifty that were answered. A 429 halves them, and from then on it
    takes five hundred: the windows of a service are minutes long, it would refuse again. What is on the wire when it refuses comes inside
    the wait it asks for, and nobody can call it back; so there is little of it. Pure."""

    def __init__(self, most: int) -> None:
        self._most, self._now, self._step = float(most), 1.0, 1 / REGAIN

    @property
    def now(self) -> int:
        return int(self._now)

    def answered(self) -> None:
        self._now = min(self._most, self._now + self._step)

    def refused(self) -> None:
        self._now, self._step = max(1.0, self._now / 2), 1 / REGAIN_REFUSED


Call = Callable[[Callable[[], Sequence[I]]], Awaitable[Sequence[A]]]


@dataclass(slots=True, eq=False)
class _Waiting(Generic[I, A]):
    item: I
    answer: asyncio.Future[A]
    guard: Callable[[], None]


class Batcher(Generic[I, A]):
    """`call` makes one request for the items it is given by the function it gets, which it asks last before the request: an item whose
    worker may not call any more is not among them. It gives as many answers as it was given items. It raises RejectError for a request
    that is refused as a whole: then its items are tried again one by one."""

    def __init__(self, call: Call[I, A], lanes: int, size: BatchSize, clock: Clock) -> None:
        self._call, self._lanes, self._size, self._clock = call, Lanes(lanes), size, clock
        self._waiting: deque[_Waiting[I, A]] = deque()
        self._running: set[asyncio.Task[None]] = set()
        self._looked = 0.0

    async def send(self, item: I) -> A:
        """The item's own answer. Raises what the request raised, or what the worker's call guard raises."""
        waiting: _Waiting[I, A] = _Waiting(item, asyncio.get_running_loop().create_future(), call_guard.get())
        self._waiting.append(waiting)
        self._open_lane()
        return await waiting.answer

    async def close(self) -> None:
        for task in list(self._running):
            task.cancel()
        await asyncio.gather(*self._running, return_exceptions=True)

    def _open_lane(self) -> None:
        """One more, if there is work for it; the first answer shows what a request may hold."""
        if len(self._running) < self._lanes.now and self._waiting:
            self._running.add(asyncio.create_task(self._lane()))

    async def _lane(self) -> None:
        try:
            while self._waiting and len(self._running) <= self._lanes.now:
                if len(self._waiting) < self._size.now:
                    await self._clock.sleep(LINGER_S)
                batch = [self._waiting.popleft() for _ in range(min(self._size.now, len(self._waiting)))]
                if batch:
                    self._open_lane()
                    await self._settle(batch)
        finally:  # at once, not when the loop gets to it: what is sent in between would wait for a lane that has ended
            self._running.discard(asyncio.current_task())

    async def _settle(self, batch: list[_Waiting[I, A]]) -> None:
        """One request. `batch` shrinks while the request waits for its turn, by those whose worker may not call any more."""
        began = self._clock.monotonic()

        def items() -> Sequence[I]:
            nonlocal began
            self._still_wanted(batch)
            began = self._clock.monotonic()
            return [each.item for each in batch]

        call_guard.set(lambda: self._still_wanted(batch))
        try:
            answers = await self._call(items)
            self._size.took(len(batch), self._clock.monotonic() - began)
            self._lanes.answered()
            for each, answer in zip(batch, answers, strict=True):
                if not each.answer.done():
                    each.answer.set_result(answer)
        except BaseException as exc:
            self._fail(batch, self._failure(exc, len(batch)))
            if not isinstance(exc, Exception):
                raise

    def _failure(self, exc: BaseException, items: int) -> BaseException:
        """What the workers are told."""
        if isinstance(exc, RejectError) and items > 1:
            self._size.one_by_one()
            return RetryError(str(exc), code=exc.code, status=exc.status)
        if isinstance(exc, RetryError) and exc.status == 429:  # refused unheard, which says nothing of the size
            self._lanes.refused()
        elif isinstance(exc, RetryError):
            self._size.failed()
        if isinstance(exc, Exception):
            return exc
        return RetryError("the request was given up", code="released")

    def _still_wanted(self, batch: list[_Waiting[I, A]]) -> None:
        """Tells those that may not call any more; now and then also those that wait for a request of their own."""
        _drop_unwanted(batch)
        if (now := self._clock.monotonic()) - self._looked >= LOOK_EVERY_S:
            self._looked = now
            rest = list(self._waiting)
            _drop_unwanted(rest)
            self._waiting = deque(rest)
        if not batch:
            raise RetryError("nobody waits for this request any more", code="released")

    @staticmethod
    def _fail(batch: list[_Waiting[I, A]], exc: BaseException) -> None:
        for each in batch:
            if not each.answer.done():
                each.answer.set_exception(exc)


def _drop_unwanted(batch: list[_Waiting[I, A]]) -> None:
    for each in list(batch):
        try:
            each.guard()
        except BridgeError as exc:
            batch.remove(each)
            if not each.answer.done():
                each.answer.set_exception(exc)
