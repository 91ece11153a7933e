"""The reader loop: one feed (a table, a journal), one step at a time; what a step brought goes out together with the cursor after it."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, nullcontext
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Protocol, TypeVar

from bridge.flow.patience import only_retries, patiently
from bridge.model.clock import Clock
from bridge.model.errors import BridgeError, HaltError, RetryError
from bridge.model.events import Outgoing
from bridge.model.report import Poll
from bridge.observe.log import log
from bridge.observe.tracing import OFF, Tracer

Cursor = Mapping[str, Any]
T = TypeVar("T")
KEPT_DAYS = 7.0
LOADING = ("load", "again")  # phases of full pages, one after the other
AWAY_AFTER = 3  # polls without an answer
SHORTEST_POLL_S = 2.0
SAVE_IDLE_EVERY_S = 60.0  # a cursor that moved without events is kept in memory so long: an older one only repeats


@dataclass(frozen=True, slots=True)
class Step:
    """What one request brought: events (maybe none), the cursor after them, and how long to wait before the next step.

    `cursor` None forgets the feed's position: the next step begins again. `consumed`: something was taken in, though it may have brought no
    event. Its cursor is saved at once: another configuration must not find it again. `notice`: what people have to know although all goes
    on. `halt`: why the feed ends here, once all this is published.
    """

    events: Sequence[Outgoing]
    cursor: Cursor | None
    wait_s: float = 0.0
    consumed: bool = False
    notice: BridgeError | None = None
    halt: HaltError | None = None


def without_links(cursor: Cursor) -> dict[str, Any]:
    """What a cursor tells people: phase, lane, rows of a load or replay, times, a position. No links, they can carry filters."""
    shown = ("phase", "lane", "rows", "total", "started_at", "finished_at", "token_at", "id", "state", "position")
    found = {name: cursor[name] for name in shown if name in cursor}
    side = cursor.get("replay")
    return found | ({"replay": without_links(side)} if side else {})


class Source(Protocol):
    async def step(self, cursor: Cursor | None) -> Step:
        """Raises RetryError (try again later) or HaltError. Repeating a step after a failure must be harmless."""


class Publisher(Protocol):
    async def publish(self, events: Sequence[Outgoing], cursor_key: str, cursor: Cursor | None) -> None:
        """Events and cursor, all or nothing. Raises RetryError (publish the same again) or, with another owner, FencedError."""


class Feed:
    """Runs one source. `read` counts the events published, `trouble` is the reason of the wait that is going on. `loads` lets so many feeds
    at once have a page of a full read in hand, each of which may take a hundred megabytes; what changes meanwhile never waits for it."""

    def __init__(
        self,
        name: str,
        source: Source,
        publisher: Publisher,
        cursor: Cursor | None,
        clock: Clock,
        rng: random.Random,
        tracer: Tracer = OFF,
        loads: asyncio.Semaphore | None = None,
    ) -> None:
        self._name, self._source, self._publisher = name, source, publisher
        self._loads = loads or asyncio.Semaphore()
        self._cursor, self._saved = cursor, cursor
        self._clock, self._rng, self._tracer = clock, rng, tracer
        self._saved_at = self._stepped_at = clock.monotonic()
        self._wait_s = 0.0  # after the last step
        self.read = 0
        self.last_read_at: datetime | None = None
        self.trouble: BridgeError | None = None
        self.notice: BridgeError | None = None

    async def run(self) -> None:
        """Until cancelled. Raises HaltError or FencedError."""
        while True:
            self._wait_s = await self._stepped()
            if self._wait_s > 0:
                await self._clock.sleep(self._wait_s)

    async def _stepped(self) -> float:
        """One step in its turn; how long to wait after it. Its page is gone by then: the next turn may be long in coming."""
        with self._tracer.span("read") as span:
            async with self._turn():
                step = await self._one_step()
            if not step.events:
                span.drop()
            else:
                span.topic, span.outcome = step.events[0].topic, "published"
        return step.wait_s

    def _turn(self) -> AbstractAsyncContextManager[None]:
        loading = self._cursor is not None and self._cursor.get("phase") in LOADING
        return self._loads if loading else nullcontext()

    async def _one_step(self) -> Step:
        step = await self._patiently(lambda: self._source.step(self._cursor))
        self.notice = step.notice
        if step.events or step.consumed or step.halt or self._worth_saving(step.cursor):
            await self._patiently(lambda: self._publisher.publish(step.events, self._name, step.cursor))
            self._saved, self._saved_at = step.cursor, self._clock.monotonic()
            self.read += len(step.events)
        if step.events:
            self.last_read_at = self._clock.now()
        self._cursor, self._stepped_at = step.cursor, self._clock.monotonic()
        if step.halt is not None:
            raise step.halt
        return step

    def poll(self) -> Poll:
        """How long ago a step went well (or this feed began), and how long its token will do. Both systems keep what they have to tell for
        seven days (dataverse.md §4, campaign.md §8.2); the time of the last answer counts."""
        token_at = (self._cursor or {}).get("token_at")
        days_left = None
        if token_at is not None:
            days_left = max(0.0, KEPT_DAYS - (self._clock.now() - datetime.fromisoformat(token_at)).total_seconds() / 86_400)
        return Poll(self._clock.monotonic() - self._stepped_at, days_left)

    def source_away(self) -> bool:
        """Whether the source has not answered for three polls: the next step is that overdue."""
        overdue_s = self._clock.monotonic() - self._stepped_at - self._wait_s
        return overdue_s > AWAY_AFTER * max(self._wait_s, SHORTEST_POLL_S)

    def progress(self) -> dict[str, Any]:
        """Where the feed is, for people."""
        cursor = self._cursor or {}
        return without_links(cursor)

    def _worth_saving(self, cursor: Cursor | None) -> bool:
        """A new phase at once, a position that only moved now and then."""
        if cursor is None or self._saved is None:
            return cursor != self._saved
        if cursor.get("phase") != self._saved.get("phase") or _state(cursor) != _state(self._saved):
            return True
        return cursor != self._saved and self._clock.monotonic() - self._saved_at >= SAVE_IDLE_EVERY_S

    async def _patiently(self, call: Callable[[], Awaitable[T]]) -> T:
        """Repeats a call for as long as the outside is away."""
        result = await patiently(call, self._waits, self._clock.sleep, self._rng, 30)
        self.trouble = None
        return result

    def _waits(self, exc: RetryError | HaltError, seconds: float) -> None:
        self.trouble = only_retries(exc)
        log("feed_waits", "warning", feed=self._name, code=exc.code, reason=str(exc), seconds=round(seconds, 1))


def _state(cursor: Cursor) -> Any:
    """Of the replay, if one was ever asked for."""
    side = cursor.get("replay") or {}
    return side.get("id"), side.get("state")
