"""The writer loop: what is called when, in which order, and when offsets are settled."""

from __future__ import annotations

import asyncio

import pytest

from bridge.flow.ports import Result
from bridge.model.errors import HaltError
from bridge.model.state import Known
from tests.flow.writing import LIVE, REPLAY, FailingState, Rig, Work, record, turns, until


async def test_records_of_different_keys_are_written_at_once_up_to_the_concurrency() -> None:
    rig = Rig(concurrency=3)
    gates = [rig.handler.hold(key) for key in "abcde"]
    rig.offer(*(record(key, number) for number, key in enumerate("abcde")))

    async with rig.running():
        await until(lambda: len(rig.handler.busy) == 3)
        await turns()
        for gate in gates:
            gate.set()
        await until(lambda: rig.ledger.waiting() == 0)

    assert rig.handler.most_busy == 3
    assert sorted(rig.handler.called()) == list("abcde")


async def test_one_key_is_never_called_twice_at_once() -> None:
    rig = Rig(concurrency=4)
    slow = rig.handler.slow_down("a")
    rig.offer(record("a", 0))

    async with rig.running():
        await until(lambda: rig.handler.calls)
        rig.offer(record("a", 1), record("a", 2), record("b", 3))
        await until(lambda: "b" in rig.handler.called())
        await turns()
        assert rig.handler.called() == ["a", "b"]
        slow.set()
        await until(lambda: rig.ledger.waiting() == 0)

    assert rig.handler.called() == ["a", "b", "a"]


async def test_changes_that_wait_for_one_key_become_one_call() -> None:
    rig = Rig()
    slow = rig.handler.slow_down("a")
    first, *more = [record("a", offset, f"v{offset}") for offset in range(10)]
    rig.offer(first)

    async with rig.running():
        await until(lambda: rig.handler.calls)
        rig.offer(*more)
        slow.set()
        await until(lambda: rig.ledger.waiting() == 0)

    assert rig.handler.calls == [Work("a", ("v0",)), Work("a", tuple(f"v{offset}" for offset in range(1, 10)))]
    assert rig.settled(first, *more)


async def test_an_offset_is_settled_only_when_the_state_has_the_record() -> None:
    state = FailingState(failures=0)
    rig = Rig(state=state)
    seen: list[bool] = []
    put = state.put

    async def watched(partition: int, key: str, known: Known) -> None:
        seen.append(rig.settled(one))
        await put(partition, key, known)
        seen.append(rig.settled(one))

    state.put = watched  # type: ignore[method-assign]
    one = record("a", 0)

    await rig.work(one)

    assert seen == [False, False]
    assert rig.settled(one)


async def test_while_the_state_topic_is_away_nothing_is_settled_and_the_record_is_written_again() -> None:
    rig = Rig(state=FailingState(failures=2))
    one = record("a", 0)

    await rig.work(one)

    assert rig.handler.called() == ["a", "a", "a"]
    assert rig.settled(one)
    known = rig.state.get(0, "a")
    assert known is not None
    assert known.attempts == 3


async def test_the_state_tells_where_and_when_the_record_was_settled() -> None:
    rig = Rig()

    await rig.work(record("a", 41, partition=2))

    known = rig.state.get(2, "a")
    assert known is not None
    assert (known.topic, known.partition, known.offset, known.outcome, known.attempts) == (LIVE, 2, 41, "updated", 1)
    assert known.settled_at == rig.clock.now().isoformat()
    assert known.read_at == "2023-11-14T22:13:20.041000+00:00"


async def test_a_result_without_known_leaves_the_state_as_it_is() -> None:
    rig = Rig()
    rig.handler.script["a"] = [Result("stale")]
    one = record("a", 0)

    await rig.work(one)

    assert rig.state.get(0, "a") is None
    assert rig.settled(one)
    assert rig.writer.counters["stale"] == 1


async def test_the_handler_is_told_what_was_written_last() -> None:
    rig = Rig()
    rig.offer(record("a", 0))

    async with rig.running():
        await until(lambda: rig.ledger.waiting() == 0)
        rig.offer(record("a", 1))
        await until(lambda: rig.ledger.waiting() == 0)

    first, second = rig.handler.known
    assert first is None
    assert second is not None
    assert second.offset == 0


async def test_live_records_go_before_replayed_ones() -> None:
    rig = Rig(concurrency=1)
    gate = rig.handler.hold("first")
    rig.offer(record("first", 0, topic=REPLAY))

    async with rig.running():
        await until(lambda: rig.handler.busy)
        rig.offer(*(record(f"old{n}", n + 1, topic=REPLAY) for n in range(3)))
        rig.offer(*(record(f"new{n}", n) for n in range(2)))
        gate.set()
        await until(lambda: rig.ledger.waiting() == 0)

    assert rig.handler.called() == ["first", "new0", "new1", "old0", "old1", "old2"]


async def test_a_live_change_brings_its_key_forward_from_the_replay() -> None:
    rig = Rig(concurrency=1)
    gate = rig.handler.hold("first")
    rig.offer(record("first", 0, topic=REPLAY))

    async with rig.running():
        await until(lambda: rig.handler.busy)
        rig.offer(*(record(f"old{n}", n + 1, topic=REPLAY) for n in range(3)))
        rig.offer(record("old2", 0, "now"))
        gate.set()
        await until(lambda: rig.ledger.waiting() == 0)

    assert rig.handler.called() == ["first", "old2", "old0", "old1"]
    assert rig.handler.calls[1].values == ("old23", "now")


async def test_a_lane_is_full_when_so_many_of_its_records_are_in_hand() -> None:
    rig = Rig(capacity=3)
    for key in "abc":
        rig.handler.hold(key)
    rig.offer(record("a", 0), record("b", 1))
    assert not rig.writer.full(True)

    rig.offer(record("c", 2))

    assert rig.writer.full(True)
    assert not rig.writer.full(False)
    async with rig.running():
        for key in "abc":
            rig.handler.held[key].set()
        await until(lambda: rig.ledger.waiting() == 0)
    assert not rig.writer.full(True)


async def test_a_record_brought_forward_takes_room_of_the_live_lane() -> None:
    rig = Rig(capacity=2)

    rig.offer(record("a", 0, topic=REPLAY), record("a", 0))

    assert rig.writer.full(True)
    assert not rig.writer.full(False)


async def test_records_of_partitions_that_are_not_ours_are_not_taken() -> None:
    rig = Rig()
    rig.ledger.disown((LIVE, 0))

    rig.offer(record("a", 0), record("b", 0, partition=1))
    async with rig.running():
        await until(lambda: rig.ledger.waiting() == 0)

    assert rig.handler.called() == ["b"]


async def test_a_halt_ends_the_run_when_the_calls_under_way_are_done() -> None:
    rig = Rig(concurrency=2)
    slow = rig.handler.slow_down("a")
    rig.handler.script["b"] = [HaltError("401", code="target_refused", hint="", origin="target")]
    a, b, c = record("a", 0), record("b", 1), record("c", 2)
    rig.offer(a, b, c)

    run = asyncio.create_task(rig.writer.run())
    await until(lambda: rig.handler.called() == ["a", "b"])
    await turns(20)
    assert not run.done()
    slow.set()

    with pytest.raises(HaltError):
        await run
    assert rig.settled(a)
    assert not rig.settled(b)
    assert rig.handler.called() == ["a", "b"]  # c was never begun


async def test_a_fault_of_our_own_ends_the_run() -> None:
    rig = Rig()
    rig.handler.script["a"] = [ZeroDivisionError()]
    one = record("a", 0)

    with pytest.raises(ZeroDivisionError):
        await rig.work(one)

    assert not rig.settled(one)


async def test_a_stop_drains_what_is_under_way_and_begins_nothing() -> None:
    rig = Rig(concurrency=1)
    slow = rig.handler.slow_down("a")
    a, b = record("a", 0), record("b", 1)
    rig.offer(a, b)
    run = asyncio.create_task(rig.writer.run())
    await until(lambda: rig.handler.calls)

    run.cancel()
    await turns(20)
    slow.set()
    with pytest.raises(asyncio.CancelledError):
        await run

    assert rig.settled(a)
    assert rig.handler.called() == ["a"]
    assert rig.ledger.commitable() == {(LIVE, 0): 1}
