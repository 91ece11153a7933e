"""More keys wait than are kept in hand: the others rest in their topics and take turns, and new ones pass."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace

import pytest

from bridge.flow.aside import AT_ONCE
from bridge.flow.failures import PARKED_SINCE
from bridge.flow.offsets import Position
from bridge.flow.parking import HELD_BACK
from bridge.memory import MemoryDeadLetters, MemoryState
from bridge.model.errors import ParkError, RetryError
from bridge.model.events import Headers, Record
from tests.clock import HandClock
from tests.flow.writing import LIVE, Outcome, Rig, no_parent, record, turns, until

DAY_S = 86_400.0
HERE: Position = (LIVE, 0)
MOST = 10


@dataclass
class Topic:
    """One partition, which outlives writers."""

    records: list[Record] = field(default_factory=list)
    committed: int = 0

    def append(self, each: Record, headers: Headers = ()) -> int:
        self.records.append(replace(each, offset=len(self.records), headers=tuple(headers)))
        return len(self.records) - 1


class Crowd(Rig):
    """A writer that reads `topic` when the test says so, as a consumer would."""

    topic: Topic
    next: int  # what is read next
    reads_slowly: asyncio.Event | None = None
    hears_late: asyncio.Event | None = None  # that what it published is there

    async def publish(self, record: Record, headers: Headers) -> int:
        await asyncio.sleep(0)
        offset = self.topic.append(record, headers)
        if self.hears_late is not None:
            await self.hears_late.wait()
        return offset

    async def read(self, position: Position, offsets: Sequence[int]) -> Sequence[Record]:
        found = [self.topic.records[offset] for offset in offsets if self.topic.records[offset].key]
        if self.reads_slowly is not None:
            await self.reads_slowly.wait()
        return found

    def consume(self, most: int = 100_000) -> int:
        if self.writer.full(True):
            return 0
        some = self.topic.records[self.next : self.next + most]
        self.next += len(some)
        self.offer(*some)
        return len(some)

    def commit(self) -> None:
        self.topic.committed = self.ledger.commitable().get(HERE, self.topic.committed)

    async def live(self, seconds: float, step_s: float = 5.0) -> None:
        """Time passes, and all is read that comes."""
        for _ in range(int(seconds / step_s)):
            self.clock.advance(step_s)
            self.consume()
            await turns(60)
            self.commit()

    def in_hand(self) -> int:
        return self.writer._queue.parked()

    def lettered(self) -> Counter[str]:
        return Counter((letter.record.key or b"").decode() for letter in self.letters.letters)


def a_rig(topic: Topic, clock: HandClock, *, most: int = MOST, keys: int = 0, **more: object) -> Crowd:
    """Its first `keys` keys wait for what does not come."""
    rig = Crowd(park_budget_s=DAY_S, most_parked=most, clock=clock, **more)  # type: ignore[arg-type]
    rig.topic, rig.next = topic, topic.committed
    rig.ledger.own(HERE, topic.committed)
    for number in range(keys):
        rig.handler.always[f"k{number}"] = no_parent
    return rig


@asynccontextmanager
async def crowd(keys: int = 50, **more: object) -> AsyncIterator[Crowd]:
    """So many keys have been tried once, in vain; a few of them are in hand, the others rest."""
    topic = Topic()
    for number in range(keys):
        topic.append(record(f"k{number}", number))
    rig = a_rig(topic, HandClock(), keys=keys, **more)  # type: ignore[arg-type]
    async with rig.running():
        await until(lambda: rig.consume() == 0 and len(rig.handler.calls) >= keys and rig.next == len(topic.records))
        await turns()
        yield rig


async def test_no_more_keys_are_in_hand_than_there_is_room_for_and_all_are_told_of() -> None:
    async with crowd() as rig:
        rig.consume()
        await turns()

        assert rig.in_hand() <= MOST
        assert rig.writer.parked() == rig.ledger.waiting() == 50
        assert len(rig.topic.records) == 50 + 40
        assert all(dict(each.headers)[PARKED_SINCE] for each in rig.topic.records[50:])


async def test_what_rests_costs_neither_calls_nor_copies_while_new_ones_pass() -> None:
    async with crowd() as rig:
        await rig.live(20)
        calls = Counter(rig.handler.called())
        rig.topic.append(record("new", 0))
        rig.consume()
        await until(lambda: "new" in rig.handler.called())

        assert max(calls.values()) <= 10
        await rig.live(DAY_S / 4, 60)
        assert rig.in_hand() <= MOST + AT_ONCE
        assert Counter(Counter(each.key for each in rig.topic.records).values()) == {2: 50, 1: 1}, "each was published again once"
        assert max(Counter(rig.handler.called()).values()) < 60


async def test_all_take_turns_though_others_wait_on() -> None:
    async with crowd() as rig:
        await rig.live(600)
        there = [f"k{number}" for number in range(30)]
        for key in there:
            del rig.handler.always[key]

        await rig.live(1200)

        assert set(there) <= rig.handler.ended.keys()
        assert rig.writer.parked() == 20


async def test_those_that_wait_come_back_into_hand_when_the_crowd_is_gone() -> None:
    async with crowd() as rig:
        for number in range(42):
            del rig.handler.always[f"k{number}"]

        await rig.live(600)

        assert rig.in_hand() == rig.writer.parked() == 8


async def test_the_time_of_those_that_rest_runs_out_as_well() -> None:
    async with crowd() as rig:
        await rig.live(DAY_S + 300, 30)

        assert rig.lettered() == {f"k{number}": 1 for number in range(50)}
        assert rig.writer.parked() == rig.ledger.waiting() == 0
        assert rig.topic.committed == len(rig.topic.records)


async def test_after_each_restart_they_wait_on_with_the_time_they_had_and_no_copies_add_up() -> None:
    topic, clock, state, letters = Topic(), HandClock(), MemoryState(), MemoryDeadLetters()
    for number in range(60):
        topic.append(record(f"k{number}", number))
    for life_s in (20, 7200, 40, 7200, 7200):
        rig = a_rig(topic, clock, keys=60, state=state, letters=letters)
        async with rig.running():
            await rig.live(life_s)  # what is committed is at most what is settled; then it is killed
        assert max(Counter(each.key for each in topic.records[topic.committed :]).values()) <= 3
    assert len(topic.records) < 60 * 4

    rig = a_rig(topic, clock, keys=60, state=state, letters=letters)
    async with rig.running():
        await rig.live(DAY_S - clock.passed_s - 60, 30)
        assert not rig.lettered()
        await rig.live(300)
        assert rig.lettered() == {f"k{number}": 1 for number in range(60)}


async def test_a_record_that_is_read_again_has_a_copy_already_which_counts() -> None:
    """It was copied, and the process was killed before that could be committed. The copy knows since when it waits."""
    topic, clock = Topic(), HandClock()
    topic.append(record("k0", 0))
    first = a_rig(topic, clock, most=0, keys=1)
    async with first.running():
        await first.live(10, 1)
        assert len(topic.records) == 2
    clock.advance(DAY_S / 2)

    second = a_rig(topic, clock, most=0, keys=1)  # nothing was committed
    second.next = 0
    second.ledger.own(HERE, 0)
    async with second.running():
        second.consume(1)
        await until(lambda: len(topic.records) == 3)
        await second.live(DAY_S / 2, 60)

        assert second.lettered() == {"k0": 1}
        assert topic.committed == len(topic.records) == 3


async def copied_and_killed() -> tuple[Topic, HandClock]:
    """A topic with a record and its copy, of which nothing has been committed."""
    topic, clock = Topic(), HandClock()
    topic.append(record("k0", 0))
    first = a_rig(topic, clock, most=0, keys=1)
    async with first.running():
        await first.live(10, 1)
        assert len(topic.records) == 2
    topic.committed = 0
    return topic, clock


async def test_a_copy_that_is_read_before_the_record_is_copied_again_is_enough() -> None:
    rig = a_rig(*await copied_and_killed(), most=0, keys=1)
    call = rig.handler.slow_down("k0")
    async with rig.running():
        rig.consume(1)
        await until(lambda: "k0" in rig.handler.busy)
        rig.consume(1)
        call.set()
        await rig.live(30, 1)

        assert len(rig.topic.records) == 2
        assert rig.writer.parked() == rig.ledger.waiting() == 1


@pytest.mark.parametrize("both", [False, True])
async def test_a_copy_that_is_read_while_the_record_is_copied_again_counts(both: bool) -> None:
    """Or both are read before we hear that there is another one."""
    rig = a_rig(*await copied_and_killed(), most=0, keys=1)
    rig.hears_late = asyncio.Event()
    async with rig.running():
        rig.consume(1)
        await until(lambda: len(rig.topic.records) == 3)
        rig.consume(1)
        if not both:
            rig.hears_late.set()
            await turns()
        rig.consume()
        rig.hears_late.set()
        await rig.live(30, 1)

        assert len(rig.topic.records) == 3
        assert rig.writer.parked() == rig.ledger.waiting() == 1
        assert rig.topic.committed == 1


async def test_nothing_is_noted_of_a_copy_that_was_read_already_or_is_another_instances() -> None:
    topic = Topic()
    topic.append(record("k0", 0))
    rig = a_rig(topic, HandClock(), most=0, keys=1)
    rig.hears_late = asyncio.Event()
    async with rig.running():
        rig.consume()
        await until(lambda: len(topic.records) == 2)
        rig.consume()
        rig.hears_late.set()
        await rig.live(30, 1)
        assert len(rig.writer._aside._copies) == 0
        assert rig.writer.parked() == rig.ledger.waiting() == 1

        topic.append(record("k1", 0))
        rig.handler.always["k1"] = no_parent
        rig.consume()
        await until(lambda: len(rig.writer._aside._copies) == 1)
        await rig.writer.release([HERE])
        assert len(rig.writer._aside._copies) == 0


async def test_what_waits_for_a_partition_that_is_gone_takes_no_room() -> None:
    topic = Topic()
    topic.append(record("k0", 0))
    rig = a_rig(topic, HandClock(), keys=1)
    async with rig.running():
        for _ in range(20):
            rig.consume()
            await until(lambda: rig.in_hand() == 1 and not rig.writer._queue.called_up())
            await turns()
            await rig.writer.release([HERE])
            rig.ledger.own(HERE, 0)
            rig.next = 0
        await turns()
        assert len(rig.writer._aside._tasks) <= 1


async def test_a_letters_original_that_is_read_again_is_no_second_letter() -> None:
    topic, clock, state, letters = Topic(), HandClock(), MemoryState(), MemoryDeadLetters()
    topic.append(record("k0", 0))
    first = a_rig(topic, clock, most=0, keys=1, state=state, letters=letters)
    async with first.running():
        await first.live(DAY_S + 60, 30)
        assert first.lettered() == {"k0": 1}

    topic.committed = 0
    second = a_rig(topic, clock, most=0, keys=1, state=state, letters=letters)
    async with second.running():
        await second.live(120)

        assert second.lettered() == {"k0": 1}
        assert second.writer.counters["stale"] >= 1
        assert topic.committed == len(topic.records)


async def test_what_rests_moves_to_the_end_where_it_holds_back_what_others_have_settled() -> None:
    async with crowd() as rig:
        await rig.live(60)
        before = rig.topic.committed
        for number in range(HELD_BACK + 100):
            rig.topic.append(record(f"n{number}", 0))
        await rig.live(1800)

        assert before <= 50
        assert rig.topic.committed >= HELD_BACK + 100
        assert rig.writer.parked() == 50


async def test_many_that_rest_do_not_move_for_each_few_that_pass() -> None:
    async with crowd(keys=700) as rig:
        await rig.live(60)
        for number in range(HELD_BACK + 50):
            rig.topic.append(record(f"n{number}", 0))
        await rig.live(1800, 10)

        assert len(rig.topic.records) == 700 + 700 + HELD_BACK + 50


async def test_opt_outs_that_rest_are_told_of() -> None:
    def waits() -> Outcome:
        error = no_parent()
        error.opt_outs = 1
        return error

    topic = Topic()
    rig = a_rig(topic, HandClock(), keys=30)
    for number in range(30):
        topic.append(record(f"k{number}", 0))
        rig.handler.always[f"k{number}"] = waits
    async with rig.running():
        await rig.live(10, 1)
        assert rig.writer.opt_outs_waiting() == 30
        for _ in range(40):
            await rig.live(60)
            assert rig.writer.opt_outs_waiting() == 30
        slow = rig.handler.slow_down("k29")
        await until(lambda: "k29" in rig.handler.busy or rig.clock.advance(1))  # type: ignore[func-returns-value]
        assert rig.writer.opt_outs_waiting() == 30, "it waits while it is tried once more"
        slow.set()
        rig.handler.always.clear()
        await rig.live(1200)
        assert rig.writer.opt_outs_waiting() == 0


async def test_what_is_read_for_its_turn_while_its_partition_goes_and_comes_back_is_taken_up_once() -> None:
    async with crowd() as rig:
        rig.consume()
        rig.reads_slowly = asyncio.Event()
        await rig.live(30)
        turn = rig.writer._aside._resting._turn
        assert turn.offsets

        rig.commit()
        rig.ledger.disown(HERE)
        await rig.writer.release([HERE])
        assert rig.writer.parked() == 0
        rig.ledger.own(HERE, rig.topic.committed)
        rig.next = rig.topic.committed
        rig.consume()
        waiting = rig.ledger.waiting()
        rig.reads_slowly.set()
        rig.reads_slowly = None
        await rig.live(60)

        assert rig.writer.parked() == 50
        assert rig.ledger.waiting() <= waiting
        rig.handler.always.clear()
        await rig.live(600)
        assert rig.ledger.waiting() == 0
        assert all(values.count(values[0]) == 1 for values in rig.handler.ended.values())


async def test_what_has_expired_where_it_waits_ends_the_run_which_then_begins_again() -> None:
    topic = Topic()
    for number in range(30):
        topic.append(record(f"k{number}", 0))
    rig = a_rig(topic, HandClock(), keys=30)
    run = asyncio.create_task(rig.writer.run())
    await rig.live(10, 1)
    topic.records[35] = replace(topic.records[35], key=None)  # as the double in `read` has it
    await rig.live(120)
    with pytest.raises(RetryError) as raised:
        await run
    assert raised.value.code == "waiting_expired"


async def test_many_that_are_back_at_once_hold_up_nothing_that_is_new() -> None:
    topic, clock = Topic(), HandClock()
    since = ((PARKED_SINCE, str(int(clock.now().timestamp() * 1000)).encode()),)
    for number in range(3000):
        topic.append(record(f"k{number}", 0), since)
    topic.append(record("new", 0))
    rig = a_rig(topic, clock, most=18_000, keys=3000, capacity=1000)
    async with rig.running():
        for _ in range(20):
            rig.consume(500)
            await turns(20)
        assert "new" in rig.handler.ended
        assert rig.in_hand() <= AT_ONCE + 500

        await rig.live(60, 1)
        assert len(set(rig.handler.called())) == 3001
        assert rig.in_hand() == rig.writer.parked() == 3000


async def test_while_kafka_is_away_all_stay_where_they_are() -> None:
    topic = Topic()
    for number in range(30):
        topic.append(record(f"k{number}", 0))
    rig = a_rig(topic, HandClock(), keys=30)
    append = topic.append

    def away(each: Record, headers: Headers = ()) -> int:
        raise RetryError("Kafka is away", code="kafka_unavailable")

    topic.append = away  # type: ignore[method-assign]
    async with rig.running():
        await rig.live(30, 1)
        assert rig.in_hand() <= MOST
        assert rig.ledger.waiting() == 30
        assert max(Counter(rig.handler.called()).values()) <= 40
        topic.append = append  # type: ignore[method-assign]
        await rig.live(30, 1)
        assert rig.writer.parked() == rig.ledger.waiting() == 30
        rig.handler.always.clear()
        await rig.live(600)
        assert rig.ledger.waiting() == 0 and len(rig.handler.ended) == 30


async def test_a_young_one_stays_in_hand_and_is_woken_though_older_ones_rest() -> None:
    def waits() -> ParkError:
        error = no_parent()
        error.waits_for = frozenset({"parent"})
        return error

    async with crowd() as rig:
        await rig.live(180)
        assert rig.in_hand() < MOST
        rig.handler.always["child"] = waits
        rig.topic.append(record("child", 0))
        rig.consume()
        await until(lambda: "child" in rig.handler.called())
        await turns()
        del rig.handler.always["child"]
        rig.writer._queue.wake("parent")
        await until(lambda: "child" in rig.handler.ended)
