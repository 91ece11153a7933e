"""More keys wait than are kept in hand: the others wait at the end of their topics and take turns, and new ones pass."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace

from bridge.events import Headers, Record
from bridge.flow.failures import PARKED_SINCE
from bridge.flow.ports import Result
from bridge.state import Known
from tests.clock import FakeClock
from tests.flow.writing import AT_THE_END, LIVE, Rig, no_parent, record, turns, until

DAY_S = 86_400.0


class HandClock(FakeClock):
    """Time passes when the test says so."""

    def __init__(self) -> None:
        super().__init__()
        self._sleepers: list[tuple[float, asyncio.Event]] = []

    async def sleep(self, seconds: float) -> None:
        self._sleepers.append((self.passed_s + seconds, over := asyncio.Event()))
        self.advance(0)
        await over.wait()

    def advance(self, seconds: float) -> None:
        super().advance(seconds)
        for _, over in (each for each in self._sleepers if each[0] <= self.passed_s):
            over.set()
        self._sleepers = [each for each in self._sleepers if each[0] > self.passed_s]


class Crowd(Rig):
    """What is published again is read when the test says so, unless its topic rests."""

    tail: deque[Record]

    def __post_init__(self) -> None:
        self.tail = deque()
        super().__post_init__()

    async def _requeue(self, record: Record, headers: Headers) -> None:
        self.requeued.append((record, headers))
        stamp = int(self.clock.now().timestamp() * 1000)
        self.tail.append(replace(record, offset=AT_THE_END + len(self.requeued), headers=tuple(headers), timestamp_ms=stamp))

    async def read(self) -> int:
        """What a consumer would read now; how much that was."""
        number = 0
        while self.tail and not self.writer.rests(LIVE):
            self.offer(self.tail.popleft())
            number += 1
        await turns()
        return number

    def keys_at_the_end(self) -> set[str]:
        return {(each.key or b"").decode() for each in self.tail}


@asynccontextmanager
async def crowd(keys: int = 50, most: int = 10) -> AsyncIterator[Crowd]:
    """So many keys have been tried once, in vain; a few of them are in hand, the rest at the end."""
    rig = Crowd(park_budget_s=DAY_S, most_parked=most, clock=HandClock())
    for number in range(keys):
        rig.handler.always[f"k{number}"] = no_parent
    async with rig.running():
        rig.offer(*(record(f"k{number}", number) for number in range(keys)))
        await until(lambda: len(rig.tail) + rig.writer.parked() == keys and rig.writer.parked() <= most)
        assert sorted(rig.handler.called()) == sorted(rig.handler.always)
        yield rig


async def test_no_more_keys_are_in_hand_than_there_is_room_for() -> None:
    async with crowd() as rig:
        assert rig.writer.parked() <= 10
        assert len(rig.tail) >= 40
        assert all(dict(each.headers)[PARKED_SINCE] for each in rig.tail)
        assert rig.ledger.waiting() == rig.writer.parked(), "the others are settled where they were"


async def test_those_at_the_end_cost_no_calls_while_there_is_no_room_and_new_ones_pass() -> None:
    async with crowd() as rig:
        rig.clock.advance(0.1)
        assert await rig.read() >= 40
        rig.offer(record("new", 60))
        await until(lambda: "new" in rig.handler.called())

        assert rig.writer.parked() <= 10
        assert len(rig.handler.calls) <= 50 + 1 + 10


async def test_a_topic_that_has_been_gone_through_rests_for_half_a_minute() -> None:
    async with crowd() as rig:
        while await rig.read():
            rig.clock.advance(0.01)
        published = len(rig.requeued)
        assert rig.tail

        rig.clock.advance(1)
        assert await rig.read() == 0
        rig.clock.advance(30)
        assert await rig.read() > 0

        assert published <= 40 + 2 * 50
        assert not rig.writer.full(True)


async def test_all_take_turns_and_nothing_is_lost() -> None:
    """The parents of those at the end have come: they are written, though those in hand wait on."""
    async with crowd() as rig:
        there = rig.keys_at_the_end()
        for key in there:
            del rig.handler.always[key]

        for _ in range(200):
            rig.clock.advance(30)
            await rig.read()

        assert there <= rig.handler.ended.keys()
        assert rig.writer.parked() == len(rig.handler.always) <= 10


async def test_the_time_of_those_at_the_end_runs_out_as_well() -> None:
    async with crowd() as rig:
        for _ in range(300):
            rig.clock.advance(DAY_S / 200)
            await rig.read()

        assert len({letter.record.key for letter in rig.letters.letters}) == len(rig.letters.letters) == 50
        assert rig.writer.parked() == len(rig.tail) == 0


async def test_a_parent_that_is_made_wakes_those_that_wait_for_it() -> None:
    rig = Rig(park_budget_s=DAY_S, clock=HandClock())
    waits = no_parent()
    waits.waits_for = frozenset({"parent"})
    rig.handler.always["child"] = lambda: waits
    rig.handler.script["parent"] = [Result("created", Known(exists=True), made="parent")]
    async with rig.running():
        rig.offer(record("child", 0))
        await until(lambda: rig.writer.parked() == 1)
        del rig.handler.always["child"]

        rig.offer(record("parent", 1))
        await until(lambda: rig.handler.called() == ["child", "parent", "child"])
        await turns()
        rig.clock.advance(60)
        await turns()

        assert rig.handler.ended["child"] == ["child0"]


async def test_one_that_was_woken_in_vain_waits_for_its_own_time() -> None:
    rig = Rig(park_budget_s=DAY_S, clock=HandClock())
    waits = no_parent()
    waits.waits_for = frozenset({"parent"})
    rig.handler.always["child"] = lambda: waits
    rig.handler.script["parent"] = [Result("created", Known(exists=True), made="parent")]
    async with rig.running():
        rig.offer(record("child", 0))
        await until(lambda: rig.writer.parked() == 1)
        rig.offer(record("parent", 1))
        await until(lambda: rig.handler.called() == ["child", "parent", "child"])
        await turns()

        rig.clock.advance(0.6)  # the first wait would be over, the second is not
        await turns()
        assert len(rig.handler.calls) == 3
        rig.clock.advance(1)
        await until(lambda: len(rig.handler.calls) == 4)
