"""services.control.rules.backlog_trend: which way the backlog goes, and how long it will take (control-api.md, backlog)."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridge.kafka.lag import GroupLag, PartitionLag
from bridge.model.config import Config
from bridge.model.desired import Desired, Workflow
from services.control.api.views import backlog_view
from services.control.rules.backlog_trend import Sample, eta_s, rates, verdict, waiting_since
from services.control.rules.lifecycle import default_config
from services.control.topics.lag_samples import Backlog
from tests.clock import FakeClock
from tests.unit.fakes import NOON

TOPIC = "ingress.changes.contact"


def a_sample(at_s: float, *partitions: tuple[int, int] | None) -> Sample:
    """`partitions`: (committed, end) of each; none at all: Kafka could not be asked."""
    if not partitions:
        return Sample(NOON + timedelta(seconds=at_s), at_s, None)
    lags = [
        PartitionLag(number, committed, end, end - committed)
        for number, (committed, end) in enumerate(each for each in partitions if each is not None)
    ]
    return Sample(NOON + timedelta(seconds=at_s), at_s, [GroupLag("ingress", "Stable", 1, {TOPIC: lags})])


def a_course(*positions: tuple[int, int], every_s: float = 1.0) -> list[Sample]:
    """One partition over time."""
    return [a_sample(number * every_s, position) for number, position in enumerate(positions)]


def over(seconds: int, first: tuple[int, int], per_s: tuple[int, int]) -> list[Sample]:
    """A committed and an end offset that grow evenly."""
    return a_course(*((first[0] + t * per_s[0], first[1] + t * per_s[1]) for t in range(seconds + 1)))


def place(partition: int) -> tuple[str, str, int]:
    return ("ingress", TOPIC, partition)


def test_nothing_heard_is_unknown() -> None:
    assert verdict([], stopped=False) == "UNKNOWN"


@pytest.mark.parametrize("stopped", [True, False])
def test_when_kafka_cannot_be_asked_it_is_unknown_and_never_zero(stopped: bool) -> None:
    window = [*over(10, (0, 0), (0, 0)), a_sample(11)]

    assert window[-1].records is None
    assert verdict(window, stopped) == "UNKNOWN"


@pytest.mark.parametrize("stopped", [True, False])
def test_nothing_waiting_is_idle(stopped: bool) -> None:
    assert verdict(over(30, (10, 10), (5, 5)), stopped) == "IDLE"


def test_records_that_wait_for_a_stopped_workflow_are_stopped() -> None:
    assert verdict(over(30, (10, 100), (0, 0)), stopped=True) == "STOPPED"


def test_a_backlog_that_shrinks_is_draining() -> None:
    assert verdict(over(30, (0, 1000), (20, 0)), stopped=False) == "DRAINING"


def test_a_backlog_that_grows_is_growing() -> None:
    assert verdict(over(30, (0, 1000), (20, 60)), stopped=False) == "GROWING"


def test_a_backlog_that_stays_while_commits_move_is_keeping_up() -> None:
    assert verdict(over(30, (0, 100), (20, 20)), stopped=False) == "KEEPING_UP"


def test_a_backlog_whose_commits_do_not_move_is_stalled() -> None:
    assert verdict(over(30, (10, 100), (0, 0)), stopped=False) == "STALLED"
    assert verdict(over(30, (10, 100), (0, 50)), stopped=False) == "STALLED"


def test_what_waits_for_other_records_only_is_waiting() -> None:
    assert verdict(over(30, (10, 100), (0, 0)), stopped=False, only_parked=True) == "WAITING"
    assert verdict(over(4, (10, 100), (0, 0)), stopped=False, only_parked=True) == "WAITING"
    assert verdict(over(30, (10, 100), (2, 2)), stopped=False, only_parked=True) == "KEEPING_UP"
    assert verdict(over(30, (10, 100), (0, 0)), stopped=True, only_parked=True) == "STOPPED"


def test_nothing_is_idle_whose_source_does_not_answer() -> None:
    assert verdict(over(30, (10, 10), (5, 5)), stopped=False, source_away=True) == "SOURCE_AWAY"
    assert verdict(over(30, (10, 10), (5, 5)), stopped=True, source_away=True) == "IDLE"


def test_one_partition_that_moves_is_enough_not_to_be_stalled() -> None:
    window = [a_sample(t, (0, 500), (t * 10, 1000)) for t in range(31)]

    assert verdict(window, stopped=False) == "DRAINING"


def test_it_takes_a_while_to_call_a_backlog_stalled() -> None:
    assert verdict(over(5, (10, 100), (0, 0)), stopped=False) == "KEEPING_UP"


def test_records_that_have_only_just_come_are_not_stalled() -> None:
    idle = [a_sample(t, (100, 100)) for t in range(29)]

    assert verdict([*idle, a_sample(29, (100, 150)), a_sample(30, (100, 150))], stopped=False) == "KEEPING_UP"


def test_a_gap_in_what_is_known_does_not_begin_the_wait_again() -> None:
    window = over(30, (10, 100), (0, 0))
    window[15] = a_sample(15)

    assert verdict(window, stopped=False) == "STALLED"
    assert len(waiting_since(window)) == 30


def test_the_wait_begins_after_the_last_moment_without_backlog() -> None:
    window = a_course((0, 9), (9, 9), (9, 12), (10, 12))

    assert [sample.at_s for sample in waiting_since(window)] == [2, 3]


def test_the_rate_is_that_of_each_partition() -> None:
    window = [a_sample(0, (0, 100), (0, 100)), a_sample(10, (50, 100), (0, 100))]

    assert rates(window) == {place(0): 5.0, place(1): 0.0}


def test_there_is_no_rate_without_time() -> None:
    assert rates([]) == rates([a_sample(0, (0, 1))]) == rates([a_sample(1, (0, 1)), a_sample(1, (1, 1))]) == {}


def test_offsets_that_went_back_are_no_negative_rate() -> None:
    assert rates([a_sample(0, (50, 100)), a_sample(10, (10, 100))]) == {place(0): 0.0}


def test_the_slowest_partition_decides_how_long_it_takes() -> None:
    window = [a_sample(0, (0, 100), (0, 100)), a_sample(10, (50, 100), (10, 100))]

    assert eta_s(window) == pytest.approx(90)


def test_nobody_knows_how_long_it_takes_when_one_partition_does_not_move() -> None:
    assert eta_s([a_sample(0, (0, 100), (0, 100)), a_sample(10, (50, 100), (0, 100))]) is None


def test_a_partition_without_backlog_does_not_count() -> None:
    assert eta_s([a_sample(0, (0, 100), (7, 7)), a_sample(10, (50, 100), (7, 7))]) == pytest.approx(10)


def test_nothing_waiting_takes_no_time() -> None:
    assert eta_s(over(5, (3, 3), (0, 0))) == 0.0


def test_a_group_that_never_committed_waits_from_the_first_record_kept() -> None:
    lags = [PartitionLag(0, None, 100, 40)]
    sample = Sample(NOON, 0, [GroupLag("ingress", "Empty", 0, {TOPIC: lags})])

    assert (sample.records, sample.positions()) == (40, {place(0): (60, 40)})


courses = st.lists(
    st.one_of(st.none(), st.tuples(st.integers(0, 50), st.integers(0, 50)).map(lambda pair: (min(pair), max(pair)))), max_size=40
)


@given(courses, st.booleans())
def test_every_course_has_a_verdict_that_fits_its_last_sample(course: Sequence[tuple[int, int] | None], stopped: bool) -> None:
    window = [a_sample(t, *([] if each is None else [each])) for t, each in enumerate(course)]

    told = verdict(window, stopped)

    records = window[-1].records if window else None
    assert (told == "UNKNOWN") is (records is None)
    assert (told == "IDLE") is (records == 0)
    assert (told == "STOPPED") is (stopped and bool(records))
    eta = eta_s(waiting_since(window))
    assert eta is None or eta >= 0


@dataclass
class Brokers:
    """Stands for Kafka behind a LagReader: every group has the same lag. `most`: questions under way at once."""

    answering: threading.Event = field(default_factory=threading.Event)
    asked: list[str] = field(default_factory=list)
    under_way: int = 0
    most: int = 0

    def group(self, group: str, topics: Sequence[str]) -> GroupLag:
        self.asked.append(group)
        self.under_way += 1
        self.most = max(self.most, self.under_way)
        time.sleep(0.01)
        assert self.answering.wait(10)
        self.under_way -= 1
        return GroupLag(group, "Stable", 1, {topic: [PartitionLag(0, 2, 5, 3)] for topic in topics})

    def oldest_ms(self, waiting: Mapping[Any, int]) -> int | None:
        return None


class OutOfTheBox:
    """A store in which nothing has been saved or started."""

    config: Config

    def verdict(self, workflow: Workflow) -> None:
        self.config = default_config(workflow)

    def desired(self, workflow: Workflow) -> Desired:
        return Desired()

    def saved(self, workflow: Workflow) -> OutOfTheBox:
        return self


@asynccontextmanager
async def sampling(brokers: Brokers, clock: FakeClock) -> AsyncIterator[Backlog]:
    backlog = Backlog(cast(Any, brokers), cast(Any, OutOfTheBox()), clock)
    task = asyncio.create_task(backlog.run())
    try:
        yield backlog
    finally:
        brokers.answering.set()
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def until(holds: Callable[[], bool]) -> None:
    async with asyncio.timeout(10):
        while not holds():
            await asyncio.sleep(0.001)


async def test_kafka_is_asked_one_question_at_a_time() -> None:
    brokers = Brokers()
    brokers.answering.set()

    async with sampling(brokers, FakeClock()):
        await until(lambda: len(brokers.asked) > 12)

    assert brokers.asked[:5] == ["ingress", "egress", "optin-resolver", "optin", "ingress"]
    assert brokers.most == 1


async def test_when_kafka_takes_too_long_the_last_number_is_not_shown_any_more() -> None:
    brokers, clock = Brokers(), FakeClock()
    brokers.answering.set()
    async with sampling(brokers, clock) as backlog:
        await until(lambda: len(backlog.window("ingress")) == 1)
        brokers.answering.clear()
        await until(lambda: brokers.under_way == 1)
        at_s = backlog.window("ingress")[0].at_s
        clock.advance(at_s + 3.9 - clock.monotonic())
        assert backlog_view(backlog, clock, "ingress", False, []).records == 6

        clock.advance(0.2)

        late = backlog_view(backlog, clock, "ingress", False, [])
        assert (late.records, late.verdict, late.eta_s, late.groups) == (None, "UNKNOWN", None, [])
        brokers.answering.set()
        await until(lambda: backlog_view(backlog, clock, "ingress", False, []).records == 6)
