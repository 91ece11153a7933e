"""The writer loop when it has to wait: for the target, with all that goes on meanwhile, and for a parent, with one key aside."""

from __future__ import annotations

import asyncio

from bridge.flow.failures import PARKED_SINCE
from bridge.flow.jobs import JobQueue
from bridge.flow.parking import HELD_BACK
from bridge.flow.ports import Route
from bridge.model.errors import RetryError
from bridge.model.events import Record
from tests.flow.writing import Rig, Work, away, backed_off, no_parent, record, turns, until


async def test_a_retry_waits_as_told_and_sends_the_same_record_again() -> None:
    rig = Rig()
    rig.handler.script["a"] = [away(7), away(2)]
    one = record("a", 0, "v")

    await rig.work(one)

    assert rig.clock.slept == [7, 2]
    assert rig.handler.calls == [Work("a", ("v",))] * 3
    assert rig.settled(one)


async def test_without_a_wait_asked_for_each_retry_waits_twice_as_long_up_to_a_minute() -> None:
    rig = Rig()
    rig.handler.script["a"] = [away() for _ in range(9)]

    await rig.work(record("a", 0))

    assert backed_off(rig.clock.slept, [0.5, 1, 2, 4, 8, 16, 32, 60, 60])


async def test_a_retry_has_no_end_unless_the_error_names_one() -> None:
    rig = Rig(park_budget_s=10)
    rig.handler.script["a"] = [away(3600) for _ in range(50)]
    one = record("a", 0)

    await rig.work(one)

    assert rig.settled(one)
    assert rig.letters.letters == []


async def test_what_arrives_during_a_wait_is_merged_into_the_next_try() -> None:
    rig = Rig()
    slow = rig.handler.slow_down("a")
    rig.handler.script["a"] = [away(5)]
    rig.offer(record("a", 0, "v0"))

    async with rig.running():
        await until(lambda: rig.handler.calls)
        rig.offer(record("a", 1, "v1"))
        slow.set()
        await until(lambda: rig.ledger.waiting() == 0)

    assert rig.handler.calls == [Work("a", ("v0",)), Work("a", ("v0", "v1"))]


async def test_the_reason_of_a_wait_shows_until_a_record_is_written() -> None:
    rig = Rig()
    gate = rig.handler.hold("b")
    rig.handler.script["a"] = [trouble := away(5)]
    rig.offer(record("a", 0), record("b", 1))

    async with rig.running():
        await until(lambda: rig.writer.trouble)
        assert rig.writer.trouble is trouble
        gate.set()
        await until(lambda: rig.ledger.waiting() == 0)

    assert rig.writer.trouble is None


async def test_the_reason_of_a_wait_whose_tries_have_an_end_shows_as_well() -> None:
    rig = Rig()
    gate = rig.handler.hold("b")
    rig.handler.script["a"] = [trouble := away(attempts=5)]
    rig.offer(record("a", 0), record("b", 1))

    async with rig.running():
        await until(lambda: rig.writer.trouble)
        assert rig.writer.trouble is trouble
        gate.set()
        await until(lambda: rig.ledger.waiting() == 0)

    assert rig.writer.trouble is None


async def test_what_was_given_up_is_no_reason_any_more() -> None:
    rig = Rig()
    rig.handler.always["a"] = lambda: away(attempts=3)

    await rig.work(record("a", 0))

    assert (len(rig.letters.letters), rig.writer.trouble) == (1, None)


async def test_a_parked_key_lets_others_pass() -> None:
    rig = Rig(concurrency=1)
    child, parent = record("child", 0), record("parent", 1)
    rig.handler.always["child"] = lambda: None if "parent" in rig.handler.ended else no_parent()

    await rig.work(child, parent)

    assert rig.handler.ended == {"child": ["child0"], "parent": ["parent1"]}
    assert rig.settled(child, parent)
    assert rig.letters.letters == []


async def test_a_parked_key_waits_longer_each_time() -> None:
    rig = Rig()
    rig.handler.script["a"] = [no_parent() for _ in range(8)]

    await rig.work(record("a", 0))

    assert backed_off(rig.clock.slept, [0.5, 1, 2, 4, 8, 16, 32, 60])


async def test_a_parked_record_takes_no_room() -> None:
    rig = Rig(capacity=2)
    rig.handler.always["a"] = no_parent
    gate = rig.handler.hold("b")
    rig.offer(record("a", 0))

    async with rig.running():
        await until(lambda: rig.writer.parked() == 1)
        rig.offer(record("b", 1))
        assert not rig.writer.full(True)
        gate.set()


async def test_repeats_of_parked_records_take_a_tenth_while_others_wait_and_all_of_it_when_none_does() -> None:
    queue: JobQueue[Work] = JobQueue()
    for number in range(30):
        queue.add(record(f"stuck{number}", number), Route(f"stuck{number}", f"stuck{number}", True))
    stuck = [await queue.next() for _ in range(30)]
    for job in stuck:
        queue.park(job)
    for number in range(100):
        queue.add(record(f"k{number}", 1_000 + number), Route(f"k{number}", f"k{number}", bool(number % 2)))
    for job in stuck:
        queue.ready(job)

    keys = [(await queue.next()).key for _ in range(130)]

    repeats = [number for number, key in enumerate(keys) if key.startswith("stuck")]
    assert repeats == [*range(0, 111, 10), *range(112, 130)]
    assert [keys[number] for number in repeats] == [job.key for job in stuck], "in their order"


async def test_what_arrives_for_a_parked_key_is_merged_and_kept_in_order() -> None:
    rig = Rig()
    rig.handler.script["a"] = [no_parent(), no_parent()]
    records = [record("a", 0, "v0"), record("a", 1, "v1")]
    rig.offer(records[0])

    async with rig.running():
        await until(lambda: rig.writer.parked() == 1)
        rig.offer(records[1])
        await until(lambda: rig.ledger.waiting() == 0)

    assert rig.handler.calls[-1] == Work("a", ("v0", "v1"))
    assert rig.settled(*records)


async def test_a_parked_record_that_holds_back_many_goes_to_the_end_of_its_topic() -> None:
    rig = Rig(comes_again=False)
    rig.handler.always["a"] = no_parent
    stuck = record("a", 0, headers=(("traceparent", b"t"),))
    began = rig.clock.now()

    await rig.work(stuck, *(record(f"k{n}", n + 1) for n in range(HELD_BACK + 1)))

    ((again, headers),) = rig.requeued
    assert again == stuck
    assert list(headers)[:2] == [("traceparent", b"t"), (PARKED_SINCE, str(int(began.timestamp() * 1000)).encode())]
    assert rig.settled(stuck)
    assert rig.writer.parked() == 0


async def test_a_record_of_few_attempts_stays_where_it_is_or_they_would_begin_again() -> None:
    rig = Rig()
    rig.handler.always["a"] = lambda: away(attempts=5)
    bad = record("a", 0)

    await rig.work(bad, *(record(f"k{n}", n + 1) for n in range(HELD_BACK + 1)))

    assert rig.requeued == []
    assert [letter.attempts for letter in rig.letters.letters] == [5]


async def test_a_record_that_has_waited_for_a_minute_goes_to_the_end_with_the_time_it_began() -> None:
    """Kafka keeps it there, whatever becomes of this process; it goes once."""
    rig = Rig(park_budget_s=3600)
    rig.handler.always["a"] = no_parent
    began = rig.clock.now()

    await rig.work(record("a", 0))

    ((again, headers),) = rig.requeued
    assert (again.offset, dict(headers)[PARKED_SINCE]) == (0, str(int(began.timestamp() * 1000)).encode())
    (letter,) = rig.letters.letters
    assert 3600 <= (letter.failed_at - letter.first_failed_at).total_seconds() < 3700


async def test_what_arrives_while_a_record_goes_to_the_end_goes_with_it_in_order() -> None:
    rig = Rig()
    rig.handler.script["a"] = [no_parent()] * 8
    first, second = record("a", 0, "v0"), record("a", 1, "v1")
    rig.before_requeue = lambda each: rig.offer(second) if each == first else None

    await rig.work(first)

    assert [each.value for each, _ in rig.requeued] == [b"v0", b"v1"]
    assert rig.handler.ended["a"] == ["v0", "v1"]
    assert rig.settled(first, second)


async def test_what_arrives_then_and_cannot_be_published_is_written() -> None:
    """Kafka goes away between the two."""
    rig = Rig()
    rig.handler.script["a"] = [no_parent()] * 8
    first, second = record("a", 0, "v0"), record("a", 1, "v1")

    def away_for_the_second(each: Record) -> None:
        if each == first:
            rig.offer(second)
        else:
            rig.handler.script["a"].clear()
            raise RetryError("Kafka is away")

    rig.before_requeue = away_for_the_second

    await rig.work(first)

    assert "v1" in rig.handler.ended["a"]


async def test_a_requeued_record_keeps_its_budget() -> None:
    rig = Rig(park_budget_s=100)
    rig.handler.always["a"] = no_parent
    since = str(int((rig.clock.now().timestamp() - 99) * 1000)).encode()

    await rig.work(record("a", 9, headers=((PARKED_SINCE, since),)))

    (letter,) = rig.letters.letters
    assert 100 <= (letter.failed_at - letter.first_failed_at).total_seconds() < 105


async def test_records_are_lost_by_no_stop_during_a_wait() -> None:
    rig = Rig()
    rig.handler.always["a"] = away
    rig.handler.always["b"] = no_parent
    a, b = record("a", 0), record("b", 1)
    rig.offer(a, b)

    async with rig.running() as run:
        await until(lambda: len(rig.clock.slept) > 6)
        run.cancel()
        await asyncio.wait([run])

    await turns()
    assert rig.ledger.waiting() == 2


async def test_an_outage_without_a_reason_uses_up_no_records_tries() -> None:
    rig = Rig()
    records = [record(f"k{number}", number) for number in range(30)]
    over = [False]
    for number in range(30):
        rig.handler.always[f"k{number}"] = lambda: None if over[0] else away(attempts=3)
    rig.offer(*records)

    async with rig.running():
        await until(lambda: len(rig.handler.calls) > 200)
        over[0] = True
        await until(lambda: rig.ledger.waiting() == 0)

    assert rig.letters.letters == []
    assert rig.settled(*records)


async def test_a_few_records_that_fail_without_a_reason_are_dead_letters_though_nothing_else_is_written() -> None:
    rig = Rig()
    for number in range(5):
        rig.handler.always[f"k{number}"] = lambda: away(attempts=3)

    await rig.work(*(record(f"k{number}", number) for number in range(5)))

    assert len(rig.letters.letters) == 5
