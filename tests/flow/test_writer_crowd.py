"""More keys wait than there is room for in memory: the others lie on the shelf, take their turns, and what is new passes."""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from bridge.flow.failures import PARKED_SINCE
from bridge.flow.jobs import JobQueue
from bridge.flow.ports import Result, Route
from bridge.flow.shelf import Shelf
from bridge.model.errors import HaltError, ParkError, RetryError
from bridge.model.state import Known
from tests.clock import HandClock
from tests.flow.writing import AT_THE_END, Outcome, Rig, Work, no_parent, record, turns, until

DAY_S = 86_400.0
MOST = 10
KEYS = 50


def waits_for_parent() -> RetryError:
    return ParkError("no parent", code="parent_missing", waits_for=frozenset({"parent"}))


def in_memory(rig: Rig) -> int:
    """Jobs of waiting keys that take memory. They are to be seen nowhere else."""
    return len(rig.writer._queue._jobs)


async def passes(rig: Rig, seconds: float, step_s: float = 1.0) -> None:
    for _ in range(int(seconds / step_s)):
        rig.clock.advance(step_s)
        await turns(40)


@asynccontextmanager
async def crowd(outcome: Outcome | None = None, **more: object) -> AsyncIterator[Rig]:
    """Fifty keys have been tried once, in vain; ten of them are in memory at most."""
    rig = Rig(most_parked=MOST, park_budget_s=DAY_S, clock=HandClock(), **more)  # type: ignore[arg-type]
    for number in range(KEYS):
        rig.handler.always[f"k{number}"] = outcome or no_parent  # type: ignore[assignment]
    rig.offer(*(record(f"k{number}", number, f"v{number}") for number in range(KEYS)))
    async with rig.running():
        await until(lambda: len(rig.handler.calls) >= KEYS)
        await turns(10)
        yield rig


async def test_no_more_keys_are_in_memory_than_there_is_room_for_and_all_are_counted() -> None:
    async with crowd() as rig:
        assert in_memory(rig) <= MOST
        assert rig.writer.parked() == rig.ledger.waiting() == KEYS
        await passes(rig, 120)
        assert in_memory(rig) <= MOST
        assert rig.writer.parked() == rig.ledger.waiting() == KEYS


async def test_the_shelf_lies_in_the_folder_it_is_given_and_says_so_when_that_is_of_no_use(tmp_path: Path) -> None:
    """Elsewhere is not its place: /tmp of a container is small, and is memory."""
    (tmp_path / "file").write_text("")
    rig = Rig(most_parked=MOST, park_budget_s=DAY_S, clock=HandClock(), folder=tmp_path / "file" / "below")
    rig.handler.always = {f"k{number}": no_parent for number in range(KEYS)}

    with pytest.raises(HaltError, match="below") as raised:
        await rig.work(*(record(f"k{number}", number) for number in range(KEYS)))

    assert raised.value.code == "state_dir_unusable"
    assert rig.ledger.waiting() == KEYS, "nothing is lost"


async def test_all_take_their_turns() -> None:
    async with crowd() as rig:
        for number in range(KEYS):
            del rig.handler.always[f"k{number}"]

        await passes(rig, 300)

        assert rig.ledger.waiting() == rig.writer.parked() == 0
        assert all(rig.handler.ended[f"k{number}"] == [f"v{number}"] for number in range(KEYS))


async def test_waits_grow_as_in_memory_and_new_records_pass() -> None:
    async with crowd() as rig:
        await passes(rig, DAY_S / 4, 30)
        calls = Counter(rig.handler.called())
        assert max(calls.values()) < 60
        assert min(calls.values()) > 5

        rig.offer(record("new", AT_THE_END * 2))
        await until(lambda: rig.handler.ended["new"])


async def test_each_is_given_up_once_when_its_time_is_over() -> None:
    async with crowd() as rig:
        rig.publish_again = None
        await passes(rig, DAY_S + 3600, 30)

        letters = Counter(letter.record.key for letter in rig.letters.letters)
        assert len(letters) == KEYS
        assert set(letters.values()) == {1}
        assert rig.ledger.waiting() == rig.writer.parked() == 0


async def test_what_they_wait_for_wakes_them() -> None:
    async with crowd(waits_for_parent) as rig:  # type: ignore[arg-type]
        await passes(rig, 300)  # each is asked for once a minute by now
        for number in range(KEYS):
            del rig.handler.always[f"k{number}"]
        rig.handler.script["parent"] = [Result("created", Known(exists=True), made="parent")]
        rig.offer(record("parent", 1_000))

        await passes(rig, 15, 0.25)

        assert rig.writer.parked() == rig.ledger.waiting() == 0


async def test_what_comes_for_a_key_on_the_shelf_is_merged_with_it_in_order() -> None:
    async with crowd() as rig:
        rig.offer(*(record(f"k{number}", 100 + number, f"w{number}") for number in range(KEYS)))
        await turns()
        assert in_memory(rig) <= MOST
        assert len(rig.handler.calls) == KEYS, "a key that waits is not called because something comes for it"
        for number in range(KEYS):
            del rig.handler.always[f"k{number}"]

        await passes(rig, 300)

        assert sorted(call.values for call in rig.handler.calls[-KEYS:]) == sorted((f"v{n}", f"w{n}") for n in range(KEYS))
        assert rig.ledger.waiting() == 0


async def test_partitions_that_go_take_what_lies_on_the_shelf_with_them() -> None:
    async with crowd() as rig:
        await rig.writer.release([("live", 0)])
        called = len(rig.handler.calls)

        await passes(rig, 300)

        assert (rig.writer.parked(), len(rig.handler.calls), in_memory(rig)) == (0, called, 0)


async def test_opt_outs_on_the_shelf_are_counted() -> None:
    def waits() -> RetryError:
        exc = no_parent()
        exc.opt_outs = 1
        return exc

    async with crowd(waits) as rig:  # type: ignore[arg-type]
        assert rig.writer.opt_outs_waiting() == KEYS
        await passes(rig, 90)
        assert rig.writer.opt_outs_waiting() == KEYS
        await rig.writer.release([("live", 0)])
        assert rig.writer.opt_outs_waiting() == 0


async def test_what_comes_back_after_a_restart_is_read_without_waiting_for_its_turns() -> None:
    """Copies of a crowd: the reader does not stop for them, and what is behind them is written at once."""
    rig = Rig(most_parked=100, park_budget_s=DAY_S, clock=HandClock(), capacity=20)
    for number in range(500):
        rig.handler.always[f"k{number}"] = no_parent
    since = str(int(rig.clock.now().timestamp() * 1000)).encode()
    async with rig.running():
        for number in range(500):
            assert not rig.writer.full(True)
            rig.offer(record(f"k{number}", number, headers=((PARKED_SINCE, since),)))
        rig.offer(record("new", 500))
        await until(lambda: rig.handler.ended["new"])

        assert in_memory(rig) <= 100
        assert rig.ledger.waiting() == 500
        await passes(rig, 600)
        assert len(set(rig.handler.called())) == 501, "each has had its turn"


async def test_a_key_of_the_replay_lane_on_the_shelf_goes_with_the_live_change_that_comes_for_it() -> None:
    queue: JobQueue[Work] = JobQueue(Shelf(), most_parked=1)
    queue.add(record("a", 0, topic="replay"), Route("a", "a", False))
    job = await queue.next()
    queue.park(job)
    queue.shelve(job, 5.0)

    queue.add(replace(record("a", 1)), Route("a", "a", True))

    (back,) = queue.due(5.0)
    assert back.live
    assert [each.topic for each in back.arrived] == ["replay", "live"]
