"""The writer loop when partitions go to another instance: nothing of theirs is begun, finished twice or settled."""

from __future__ import annotations

import asyncio

import pytest

from bridge.model.errors import ParkError, RetryError
from tests.flow.writing import LIVE, Outcome, Rig, Work, record, refused, turns, until


async def test_release_drops_what_has_not_begun_and_waits_for_calls_under_way() -> None:
    rig = Rig(concurrency=1)
    slow = rig.handler.slow_down("a")
    a, b, other = record("a", 0), record("b", 1), record("c", 0, partition=1)
    rig.offer(a, b, other)

    async with rig.running():
        await until(lambda: rig.handler.calls)
        release = asyncio.create_task(rig.writer.release([(LIVE, 0)]))
        await turns(20)
        assert not release.done()
        slow.set()
        await release
        await until(lambda: rig.settled(other))
        await turns()

    assert rig.handler.called() == ["a", "c"]
    assert rig.settled(a)
    assert rig.ledger.settled[(LIVE, 0), 1] == 0


async def test_release_waits_eight_seconds_at_most() -> None:
    rig = Rig()
    rig.handler.slow_down("a")
    rig.offer(record("a", 0))

    async with rig.running():
        await until(lambda: rig.handler.calls)
        before = rig.clock.monotonic()
        await rig.writer.release([(LIVE, 0)])
        waited = rig.clock.monotonic() - before

    assert 8 <= waited < 8.1


async def test_a_job_of_a_released_partition_never_calls_again() -> None:
    rig = Rig()
    gate = rig.handler.hold("a")
    one = record("a", 0)
    rig.offer(one)

    async with rig.running():
        await until(lambda: rig.handler.busy)
        release = asyncio.create_task(rig.writer.release([(LIVE, 0)]))
        await turns(20)
        gate.set()  # the handler comes to its call only now
        await release
        await turns()

    assert rig.handler.calls == []
    assert rig.state.get(0, "a") is None
    assert not rig.settled(one)


async def test_what_was_released_leaves_room() -> None:
    rig = Rig(capacity=3, concurrency=1)
    slow = rig.handler.slow_down("a")
    rig.offer(record("a", 0), record("b", 1), record("c", 2))
    assert rig.writer.full(True)

    async with rig.running():
        await until(lambda: rig.handler.calls)
        slow.set()
        await rig.writer.release([(LIVE, 0)])
        await turns()
        rig.offer(record("d", 0, partition=1), record("e", 1, partition=1))

        assert not rig.writer.full(True)


async def test_a_record_that_waits_for_the_target_is_dropped_with_its_partition() -> None:
    rig = Rig(concurrency=1)
    rig.handler.always["a"] = lambda: RetryError("503")
    one = record("a", 0)
    rig.offer(one)

    async with rig.running():
        await until(lambda: len(rig.handler.calls) >= 2)
        await rig.writer.release([(LIVE, 0)])
        calls = len(rig.handler.calls)
        await turns()
        assert len(rig.handler.calls) <= calls
        rig.handler.always.clear()
        rig.offer(other := record("b", 0, partition=1))
        await until(lambda: rig.settled(other))

    assert not rig.settled(one)


async def test_a_parked_record_is_dropped_with_its_partition() -> None:
    rig = Rig()
    rig.handler.always["a"] = lambda: ParkError("no parent", code="parent_missing")
    one = record("a", 0)
    rig.offer(one)

    async with rig.running():
        await until(lambda: len(rig.handler.calls) >= 2)
        await rig.writer.release([(LIVE, 0)])
        calls = len(rig.handler.calls)
        await turns()

    assert len(rig.handler.calls) == calls
    assert rig.writer.parked() == 0
    assert not rig.settled(one)


async def test_a_partition_that_comes_back_is_worked_on_again() -> None:
    rig = Rig(concurrency=1)
    gate = rig.handler.hold("a")
    rig.offer(record("a", 0, "v0"), record("b", 1))

    async with rig.running():
        await until(lambda: rig.handler.busy)
        release = asyncio.create_task(rig.writer.release([(LIVE, 0)]))
        await turns(20)
        gate.set()
        await release
        rig.ledger.disown((LIVE, 0))
        rig.ledger.own((LIVE, 0), 0)
        rig.offer(record("a", 0, "v0"), record("b", 1))
        await until(lambda: rig.ledger.waiting() == 0)

    assert rig.handler.called() == ["a", "b"]
    assert rig.ledger.commitable() == {(LIVE, 0): 2}


async def test_a_dead_letter_under_way_is_finished_before_the_partition_goes() -> None:
    """The letter is in the topic by then: without its offset the next owner would write it a second time."""
    rig = Rig()
    gate = asyncio.Event()
    kept = rig.letters.put

    async def slow_put(*args: object, **facts: object) -> None:
        await gate.wait()
        await kept(*args, **facts)  # type: ignore[arg-type]

    rig.letters.put = slow_put  # type: ignore[method-assign]
    poison = record("a", 0, "bad")
    rig.offer(poison)

    async with rig.running():
        await turns()
        release = asyncio.create_task(rig.writer.release([(LIVE, 0)]))
        await turns(20)
        assert not release.done()
        gate.set()
        await release

    assert len(rig.letters.letters) == 1
    assert rig.settled(poison)


async def test_a_process_that_was_held_up_during_a_call_writes_no_state_before_it_has_asked_the_group() -> None:
    """SIGSTOP while Campaign answers: by now another instance may have written a later state of the record."""
    stale = False

    def check() -> None:
        if stale:
            raise RetryError("held up", code="lease")

    rig = Rig(lease_check=check)
    slow = rig.handler.slow_down("a")
    one = record("a", 0)
    rig.offer(one)

    async with rig.running():
        await until(lambda: rig.handler.calls)
        stale = True
        slow.set()
        await turns()
        assert (rig.state.get(0, "a"), rig.settled(one)) == (None, False)
        stale = False
        await until(lambda: rig.settled(one))

    assert rig.state.get(0, "a") is not None


async def test_a_call_slower_than_a_rebalance_is_alone_and_its_answer_is_noted_nowhere() -> None:
    """The partition comes back at once: to call the key beside it would let the older answer win."""
    rig = Rig()
    slow = rig.handler.slow_down("a")
    first, second, other = record("a", 0, "v0"), record("a", 1, "v1"), record("b", 2)
    rig.offer(first)

    async with rig.running():
        await until(lambda: rig.handler.calls)
        await rig.writer.release([(LIVE, 0)])
        rig.ledger.disown((LIVE, 0))
        rig.ledger.own((LIVE, 0), None)
        rig.offer(first, second, other)
        await until(lambda: rig.settled(other))
        await turns()
        assert rig.handler.calls == [Work("a", ("v0",)), Work("b", ("b2",))]
        assert rig.state.get(0, "a") is None

        slow.set()
        await until(lambda: rig.ledger.waiting() == 0)

    assert rig.handler.calls[-1] == Work("a", ("v0", "v1"))
    known = rig.state.get(0, "a")
    assert known is not None and known.offset == 1
    assert rig.handler.known[-1] is None, "what the late answer would have noted is not known"
    assert rig.settled(first, second)


@pytest.mark.parametrize("outcome", [refused(), None], ids=["refused", "written"])
async def test_an_answer_that_comes_when_another_instance_has_the_partition_is_noted_nowhere(outcome: Outcome) -> None:
    rig = Rig()
    slow = rig.handler.slow_down("a")
    rig.handler.script["a"] = [outcome]
    one = record("a", 0)
    rig.offer(one)

    async with rig.running():
        await until(lambda: rig.handler.calls)
        await rig.writer.release([(LIVE, 0)])
        slow.set()
        await until(lambda: not rig.handler.busy)
        await turns()

    assert (rig.letters.letters, rig.state.get(0, "a"), rig.settled(one)) == ([], None, False)
    assert not rig.writer.full(True)
