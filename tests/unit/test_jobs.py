"""bridge.flow.jobs: one job per key, live ones first, what waits aside takes no room."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest

from bridge.flow.failures import PARKED_SINCE
from bridge.flow.job import Job
from bridge.flow.jobs import JobQueue
from bridge.flow.ports import Route
from bridge.model.events import Record
from tests.unit.fakes import a_record


def route(key: str, live: bool = True) -> Route:
    return Route(key, key, live)


def a_queue(*keys: tuple[str, bool]) -> JobQueue[str]:
    """With a record for each (key, live), at offsets 0, 1, …"""
    queue: JobQueue[str] = JobQueue()
    for offset, (key, live) in enumerate(keys):
        queue.add(a_record(offset, key=key), route(key, live))
    return queue


async def taken(queue: JobQueue[str]) -> Job[str]:
    """The next job, with all its records decoded, as a worker takes it."""
    job = await asyncio.wait_for(queue.next(), 1)
    job.calling = True
    while job.arrived:
        queue.decoded(job)
    return job


async def nothing_is_ready(queue: JobQueue[str]) -> bool:
    waiting = asyncio.ensure_future(queue.next())
    await asyncio.sleep(0.01)
    waiting.cancel()
    return not waiting.done() or waiting.cancelled()


def offsets(records: list[Record]) -> list[int]:
    return [record.offset for record in records]


async def test_records_of_one_key_are_one_job_in_their_order() -> None:
    queue = a_queue(("a", True), ("b", True), ("a", True))

    first, second = await taken(queue), await taken(queue)

    assert (first.key, offsets(first.records)) == ("a", [0, 2])
    assert (second.key, offsets(second.records)) == ("b", [1])
    assert await nothing_is_ready(queue)


async def test_the_same_key_in_two_partitions_is_two_jobs() -> None:
    queue: JobQueue[str] = JobQueue()
    for partition in (0, 1):
        queue.add(a_record(partition=partition), route("a"))

    jobs = [await taken(queue), await taken(queue)]

    assert sorted(job.partition for job in jobs) == [0, 1]
    assert queue.partitions() == {0, 1}


async def test_live_goes_before_replay() -> None:
    queue = a_queue(("old", False), ("older", False), ("new", True))

    order = [(await taken(queue)).key for _ in range(3)]

    assert order == ["new", "old", "older"]


async def test_a_live_change_takes_its_replayed_key_to_the_front() -> None:
    queue = a_queue(("first", False), ("second", False), ("second", True))

    jobs = [await taken(queue), await taken(queue)]

    assert [job.key for job in jobs] == ["second", "first"]
    assert offsets(jobs[0].records) == [1, 2]
    assert queue.in_hand == {True: 2, False: 1}
    assert await nothing_is_ready(queue)


async def test_a_job_under_way_is_not_given_out_twice() -> None:
    queue = a_queue(("a", True))
    job = await taken(queue)

    queue.add(a_record(1, key="a"), route("a"))

    assert await nothing_is_ready(queue)
    assert offsets(job.arrived) == [1]


async def test_what_arrived_meanwhile_is_a_new_start_after_the_job_is_finished() -> None:
    queue = a_queue(("a", True))
    job = await taken(queue)
    job.event, job.failures.count = "first", 3
    queue.add(a_record(1, key="a"), route("a"))

    queue.finish(job)
    again = await taken(queue)

    assert (again.key, offsets(again.records), again.event, again.failures.count) == ("a", [1], None, 0)
    assert queue.in_hand[True] == 1


async def test_a_finished_job_leaves_nothing_behind() -> None:
    queue = a_queue(("a", True), ("b", False))

    for _ in range(2):
        queue.finish(await taken(queue))

    assert queue.in_hand == {True: 0, False: 0}
    assert queue.partitions() == set()


async def test_a_record_that_is_settled_by_itself_gives_its_room_back() -> None:
    queue = a_queue(("a", True), ("a", True))
    job = await queue.next()

    queue.discard(job)

    assert (offsets(job.arrived), queue.in_hand[True]) == ([1], 1)


@pytest.mark.parametrize("live", [True, False])
async def test_a_parked_job_takes_no_room_until_its_turn_comes(live: bool) -> None:
    queue = a_queue(("a", live))
    job = await taken(queue)

    queue.park(job)
    parked, room = queue.parked(), dict(queue.in_hand)
    queue.ready(job)
    assert (queue.parked(), queue.in_hand[live]) == (1, 0)
    assert await taken(queue) is job

    assert (parked, room) == (1, {True: 0, False: 0})
    assert (queue.parked(), queue.in_hand[live]) == (0, 1)


async def test_records_that_come_for_a_parked_key_wait_with_it() -> None:
    queue = a_queue(("a", True))
    job = await taken(queue)
    queue.park(job)

    queue.add(a_record(1, key="a"), route("a"))

    assert await nothing_is_ready(queue)
    assert queue.in_hand[True] == 0
    queue.ready(job)
    assert offsets((await taken(queue)).records) == [0, 1]
    assert queue.in_hand[True] == 2


async def test_a_live_change_for_a_parked_replay_counts_as_live_when_it_returns() -> None:
    queue = a_queue(("a", False))
    job = await taken(queue)
    queue.park(job)

    queue.add(a_record(1, key="a"), route("a"))
    queue.ready(job)
    assert await taken(queue) is job

    assert queue.in_hand == {True: 2, False: 0}
    assert job.live


async def test_what_waits_for_a_key_is_as_good_as_new_when_that_is_there() -> None:
    queue = a_queue(("a", True), ("b", True), ("c", True), ("d", True))
    jobs = [await taken(queue) for _ in range(4)]
    for job, keys in zip(jobs, ({"p", "q"}, {"q"}, {"r"}, {"p"}), strict=True):
        queue.park(job, frozenset(keys))
    queue.ready(jobs[3])  # its turn has come anyway

    queue.wake("p")
    queue.wake("p")
    queue.wake("nobody waits for it")

    assert [await taken(queue) for _ in range(2)] == [jobs[0], jobs[3]]
    assert (queue.parked(), queue.in_hand[True]) == (2, 2)
    queue.wake("q")
    assert await taken(queue) is jobs[1]
    assert await nothing_is_ready(queue)


async def test_what_waits_for_news_of_its_own_is_woken_by_them_but_not_by_a_copy() -> None:
    queue = a_queue(("a", True), ("b", True))
    jobs = [await taken(queue) for _ in range(2)]
    queue.park(jobs[0], frozenset({"a"}))
    queue.park(jobs[1])

    queue.add(replace(a_record(2, key="a"), headers=((PARKED_SINCE, b"1"),)), route("a"))
    queue.add(a_record(3, key="b"), route("b"))
    assert await nothing_is_ready(queue)
    queue.add(a_record(4, key="a"), route("a"))

    assert await taken(queue) is jobs[0]
    assert await nothing_is_ready(queue)


async def test_what_was_dropped_is_not_woken() -> None:
    queue = a_queue(("a", True))
    queue.park(await taken(queue), frozenset({"p"}))
    queue.drop([0])

    queue.wake("p")

    assert await nothing_is_ready(queue)


async def test_what_comes_back_from_the_end_of_its_topic_takes_its_turn_among_the_repeats() -> None:
    queue: JobQueue[str] = JobQueue()
    queue.add(replace(a_record(0, key="back"), headers=((PARKED_SINCE, b"1"),)), route("back"))
    assert (queue.parked(), queue.in_hand[True]) == (1, 0)
    for offset in range(1, 4):
        queue.add(a_record(offset, key=f"new{offset}"), route(f"new{offset}"))

    assert [(await taken(queue)).key for _ in range(4)] == ["new1", "new2", "new3", "back"]


async def test_a_key_stays_parked_alone() -> None:
    queue = a_queue(("a", True), ("b", True))
    queue.park(await taken(queue))

    assert (await taken(queue)).key == "b"


async def test_dropped_partitions_are_forgotten_and_what_is_being_called_is_named() -> None:
    queue = a_queue(("calling", True), ("waiting", True))
    calling = await taken(queue)

    named = queue.drop([0])

    assert named == [calling]
    assert calling.dropped
    assert queue.partitions() == set()
    assert await nothing_is_ready(queue)


async def test_after_a_drop_only_the_call_under_way_takes_room_and_its_end_frees_it() -> None:
    queue = a_queue(("calling", True), ("waiting", True), ("replayed", False))
    calling = await taken(queue)

    queue.drop([0])
    room = dict(queue.in_hand)
    queue.finish(calling)

    assert room == {True: 1, False: 0}
    assert queue.in_hand == {True: 0, False: 0}


async def test_a_drop_spares_other_partitions() -> None:
    queue = a_queue(("a", True))
    queue.add(a_record(partition=1, key="b"), route("b"))

    queue.drop([0])

    assert (await taken(queue)).key == "b"
    assert queue.in_hand[True] == 1


async def test_a_dropped_parked_job_takes_no_room_and_is_not_counted() -> None:
    queue = a_queue(("a", True))
    queue.park(await taken(queue))

    queue.drop([0])

    assert (queue.parked(), queue.in_hand[True]) == (0, 0)


async def test_a_key_that_comes_back_after_a_drop_is_a_new_job() -> None:
    queue = a_queue(("a", True))
    before = await taken(queue)
    queue.drop([0])

    queue.add(a_record(7, key="a"), route("a"))
    waiting = asyncio.create_task(taken(queue))
    await asyncio.sleep(0)
    assert not waiting.done(), "its call has not ended"
    queue.ended(before)
    after = await waiting

    assert after is not before
    assert offsets(after.records) == [7]
