"""The reader loop: a page goes out together with the cursor after it, and what fails is tried again, the same."""

from __future__ import annotations

import asyncio
import random
import weakref
from collections.abc import Sequence
from typing import Any

import pytest

from bridge.flow.reader import SAVE_IDLE_EVERY_S, Cursor, Feed, Step
from bridge.kafka.client import FencedError
from bridge.memory import MemoryLog, MemoryPublisher
from bridge.model.errors import HaltError, RetryError
from bridge.model.events import Outgoing
from tests.clock import FakeClock
from tests.flow.writing import backed_off

END = HaltError("the script ends", code="end", hint="", origin="source")


class ScriptedSource:
    """Gives the steps of the script, raises its errors. `asked`: the cursors it was asked with."""

    def __init__(self, *script: Step | Exception) -> None:
        self.script = [*script, END]
        self.asked: list[Cursor | None] = []

    async def step(self, cursor: Cursor | None) -> Step:
        self.asked.append(cursor)
        turn = self.script.pop(0)
        if isinstance(turn, Exception):
            raise turn
        return turn


class Watched(MemoryPublisher):
    """Raises the errors first, then publishes. `tried`: events and cursor of every try."""

    def __init__(self, *errors: Exception) -> None:
        super().__init__()
        self.errors = list(errors)
        self.tried: list[tuple[list[str], Cursor | None]] = []

    async def publish(self, events: Sequence[Outgoing], cursor_key: str, cursor: Cursor | None) -> None:
        self.tried.append(([each.key for each in events], cursor))
        if self.errors:
            raise self.errors.pop(0)
        await super().publish(events, cursor_key, cursor)


def page(*keys: str, at: int, phase: str = "live", wait_s: float = 0.0) -> Step:
    return Step([Outgoing("topic", key, None) for key in keys], {"at": at, "phase": phase}, wait_s)


async def run(source: ScriptedSource, publisher: MemoryPublisher, cursor: Cursor | None = None, clock: FakeClock | None = None) -> Feed:
    """Runs a feed to the end of its script."""
    feed = Feed("feed", source, publisher, cursor, clock or FakeClock(), random.Random(3))
    with pytest.raises(HaltError) as caught:
        await feed.run()
    assert caught.value is END
    return feed


async def test_a_page_and_the_cursor_after_it_go_out_together() -> None:
    publisher = Watched()

    feed = await run(ScriptedSource(page("a", "b", at=1), page("c", at=2)), publisher)

    assert publisher.tried == [(["a", "b"], {"at": 1, "phase": "live"}), (["c"], {"at": 2, "phase": "live"})]
    assert publisher.log.cursors == {"feed": {"at": 2, "phase": "live"}}
    assert feed.read == 3


async def test_each_step_begins_where_the_last_one_ended() -> None:
    source = ScriptedSource(page("a", at=1), page(at=2), page("b", at=3))

    await run(source, MemoryPublisher(), {"at": 0, "phase": "live"})

    assert [cursor and cursor["at"] for cursor in source.asked] == [0, 1, 2, 3]


async def test_between_steps_the_feed_waits_as_the_source_says() -> None:
    clock = FakeClock()

    await run(ScriptedSource(page("a", at=1, wait_s=5), page("b", at=2), page("c", at=3, wait_s=0.5)), MemoryPublisher(), clock=clock)

    assert clock.slept == [5, 0.5]


async def test_a_source_that_is_away_is_asked_again_with_the_same_cursor_after_the_wait_it_asked_for() -> None:
    clock = FakeClock()
    source = ScriptedSource(RetryError("429", retry_after_s=17), RetryError("429", retry_after_s=3), page("a", at=1))

    await run(source, MemoryPublisher(), {"at": 0, "phase": "live"}, clock)

    assert clock.slept == [17, 3]
    assert [cursor and cursor["at"] for cursor in source.asked] == [0, 0, 0, 1]


async def test_without_a_wait_asked_for_the_feed_waits_longer_each_time_up_to_half_a_minute() -> None:
    clock = FakeClock()

    await run(ScriptedSource(*(RetryError("503") for _ in range(8)), page("a", at=1)), MemoryPublisher(), clock=clock)

    assert backed_off(clock.slept, [0.5, 1, 2, 4, 8, 16, 30, 30])


async def test_after_a_success_the_waits_begin_small_again() -> None:
    clock = FakeClock()
    script: list[Step | Exception] = [RetryError("503"), RetryError("503"), page("a", at=1), RetryError("503"), page("b", at=2)]

    await run(ScriptedSource(*script), MemoryPublisher(), clock=clock)

    assert backed_off(clock.slept, [0.5, 1, 0.5])


async def test_a_page_that_could_not_be_published_is_published_again_unchanged_and_not_read_again() -> None:
    publisher = Watched(RetryError("broker away"), RetryError("broker away"))
    source = ScriptedSource(page("a", "b", at=1))

    feed = await run(source, publisher)

    assert publisher.tried == [(["a", "b"], {"at": 1, "phase": "live"})] * 3
    assert [event.key for event in publisher.log.events] == ["a", "b"]
    assert len(source.asked) == 2
    assert feed.read == 2


async def test_while_kafka_is_away_nothing_counts_as_read_and_the_reason_shows() -> None:
    clock = FakeClock()
    shown: list[Any] = []
    publisher = Watched(error := RetryError("broker away"))
    feed = Feed("feed", ScriptedSource(page("a", at=1)), publisher, None, clock, random.Random(3))
    sleep = clock.sleep

    async def watched(seconds: float) -> None:
        shown.append((feed.trouble, feed.read))
        await sleep(seconds)

    clock.sleep = watched  # type: ignore[method-assign]
    with pytest.raises(HaltError):
        await feed.run()

    assert shown == [(error, 0)]
    assert (feed.trouble, feed.read) == (None, 1)


async def test_a_feed_whose_owner_has_changed_ends() -> None:
    log = MemoryLog()
    first = MemoryPublisher(log)
    MemoryPublisher(log)
    feed = Feed("feed", ScriptedSource(page("a", at=1)), first, None, FakeClock(), random.Random(3))

    with pytest.raises(FencedError):
        await feed.run()

    assert log.events == []


async def test_a_cursor_that_moved_without_events_is_saved_once_a_minute() -> None:
    publisher = Watched()
    steps = [page(at=number, wait_s=5) for number in range(1, 31)]  # 150 s

    await run(ScriptedSource(*steps), publisher, {"at": 0, "phase": "live"})

    saved = [cursor["at"] for _, cursor in publisher.tried if cursor is not None]
    assert SAVE_IDLE_EVERY_S == 60
    assert saved == [13, 25]


async def test_a_cursor_that_moved_past_what_was_dropped_is_saved_at_once() -> None:
    publisher = Watched()
    dropped = Step([], {"at": 1, "phase": "live"}, consumed=True)

    feed = await run(ScriptedSource(dropped, page(at=2)), publisher, {"at": 0, "phase": "live"})

    assert publisher.tried == [([], {"at": 1, "phase": "live"})]
    assert (feed.read, feed.last_read_at) == (0, None)


async def test_a_cursor_that_did_not_move_is_not_saved() -> None:
    publisher = Watched()
    steps = [page(at=7, wait_s=30) for _ in range(10)]

    await run(ScriptedSource(*steps), publisher, {"at": 7, "phase": "live"})

    assert publisher.tried == []


async def test_a_new_phase_is_saved_at_once() -> None:
    publisher = Watched()

    await run(ScriptedSource(page(at=1, phase="reconcile"), page(at=2, phase="live")), publisher, {"at": 0, "phase": "load"})

    assert [cursor and cursor["phase"] for _, cursor in publisher.tried] == ["reconcile", "live"]


async def test_the_first_cursor_of_all_is_saved_at_once() -> None:
    publisher = Watched()

    await run(ScriptedSource(page(at=1, phase="load")), publisher)

    assert publisher.log.cursors == {"feed": {"at": 1, "phase": "load"}}


async def test_a_step_that_ends_the_feed_is_published_with_its_cursor_before_it_does() -> None:
    publisher = Watched(RetryError("away"))
    halt = HaltError("no more", code="enough", hint="", origin="source")
    source = ScriptedSource(page("a", at=1), Step([], {"at": 2, "phase": "live"}, halt=halt), page("b", at=3))
    feed = Feed("feed", source, publisher, None, FakeClock(), random.Random(3))

    with pytest.raises(HaltError) as caught:
        await feed.run()

    assert caught.value is halt
    assert publisher.log.cursors == {"feed": {"at": 2, "phase": "live"}}
    assert [each.key for each in publisher.log.events] == ["a"]


async def test_a_step_may_forget_the_position() -> None:
    publisher = Watched()
    source = ScriptedSource(page("a", at=1), Step([], None), page("b", at=1))

    await run(source, publisher)

    assert source.asked[2] is None
    assert publisher.tried[1] == ([], None)


async def test_progress_tells_where_the_feed_is_and_no_links() -> None:
    source = ScriptedSource(Step([], {"phase": "load", "rows": 3, "total": 9, "page_link": "https://…?$filter=name eq 'x'"}))

    feed = await run(source, MemoryPublisher())

    assert feed.progress() == {"phase": "load", "rows": 3, "total": 9}


class Counted:
    """A source whose pages take a moment. `most`: so many were in hand at once; `live`: so many steps of the live phase."""

    in_hand = most = live = 0

    def __init__(self, phase: str) -> None:
        self.phase, self.left = phase, 5

    async def step(self, cursor: Cursor | None) -> Step:
        self.left -= 1
        if self.left < 0:
            raise END
        Counted.live += self.phase == "live"
        Counted.in_hand += self.phase == "load"
        Counted.most = max(Counted.most, Counted.in_hand)
        await asyncio.sleep(0)
        return page("a", at=self.left, phase=self.phase)


class PutDown(MemoryPublisher):
    async def publish(self, events: Sequence[Outgoing], cursor_key: str, cursor: Cursor | None) -> None:
        await asyncio.sleep(0)
        Counted.in_hand -= bool(cursor and cursor["phase"] == "load")


async def test_a_few_full_reads_at_once_have_a_page_in_hand_and_changes_do_not_wait_for_them() -> None:
    loads, stuck = asyncio.Semaphore(2), asyncio.Semaphore(0)
    readers = [Feed("f", Counted("load"), PutDown(), {"phase": "load"}, FakeClock(), random.Random(3), loads=loads) for _ in range(6)]
    live = Feed("f", Counted("live"), PutDown(), {"phase": "live"}, FakeClock(), random.Random(3), loads=stuck)

    await asyncio.gather(*(each.run() for each in [*readers, live]), return_exceptions=True)

    assert Counted.most == 2
    assert Counted.live == 5
    assert sum(each.read for each in readers) == 30


class Event:
    """Any event; it can be watched."""


class Watching:
    """Gives a page, and looks when it is asked again whether that is still there."""

    def __init__(self) -> None:
        self.event: weakref.ref[Event] | None = None
        self.gone = False

    async def step(self, cursor: Cursor | None) -> Step:
        if self.event is not None:
            self.gone = self.event() is None
            raise END
        event = Event()
        self.event = weakref.ref(event)
        return Step([Outgoing("topic", "a", event)], {"phase": "load"})


async def test_a_page_that_is_out_is_not_held_until_the_next_one_comes() -> None:
    source = Watching()

    with pytest.raises(HaltError):
        await Feed("feed", source, PutDown(), {"phase": "load"}, FakeClock(), random.Random(3)).run()

    assert source.gone
