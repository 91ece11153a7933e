"""Many workers, few requests: how large they are, and that each item gets its own answer."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence

import pytest

from bridge.flow.batcher import Batcher, BatchSize, Lanes
from bridge.model.errors import RejectError, RetryError
from bridge.model.permission import call_guard
from tests.clock import FakeClock


class Service:
    """Notes what it was asked for; an item below 0 is answered with its own refusal, `refuse` refuses whole requests with that item, and
    the next `busy` ones get a 429."""

    def __init__(self, clock: FakeClock, seconds: float = 0.1, refuse: int | None = None) -> None:
        self.requests: list[list[int]] = []
        self.under_way = self.most = self.busy = 0
        self._clock, self._seconds, self._refuse = clock, seconds, refuse

    async def call(self, items: Callable[[], Sequence[int]]) -> list[str]:
        asked = list(items())
        if self.busy:
            self.busy -= 1
            raise RetryError("429", code="target_busy", status=429)
        self.requests.append(asked)
        self.under_way += 1
        self.most = max(self.most, self.under_way)
        await asyncio.sleep(0)
        await self._clock.sleep(self._seconds)
        self.under_way -= 1
        if self._refuse in asked:
            raise RejectError("refused", code="activity_refused")
        return ["bad" if item < 0 else f"ok {item}" for item in asked]


def a_batcher(service: Service, clock: FakeClock, most: int = 100, lanes: int = 4) -> Batcher[int, str]:
    return Batcher(service.call, lanes, BatchSize(most), clock)


async def test_what_waits_goes_in_full_requests_once_the_first_has_shown_how_long_an_item_takes() -> None:
    clock = FakeClock()
    service = Service(clock)
    batcher = a_batcher(service, clock)

    answers = await asyncio.gather(*(batcher.send(number) for number in range(1010)))

    assert answers == [f"ok {number}" for number in range(1010)]
    assert [len(each) for each in service.requests] == [10, *[100] * 10]
    assert service.most <= 4


async def test_a_bad_item_of_a_hundred_is_answered_alone() -> None:
    clock = FakeClock()
    service = Service(clock)
    batcher = a_batcher(service, clock)
    await asyncio.gather(*(batcher.send(number) for number in range(10)))

    answers = await asyncio.gather(*(batcher.send(-1 if number == 50 else number) for number in range(100)))

    assert len(service.requests[-1]) == 100
    assert [number for number, answer in enumerate(answers) if answer == "bad"] == [50]


async def test_a_request_refused_as_a_whole_is_tried_again_one_by_one() -> None:
    clock = FakeClock()
    service = Service(clock, refuse=3)
    batcher = a_batcher(service, clock)

    async def patiently(number: int) -> str:
        for _ in range(50):
            try:
                return await batcher.send(number)
            except RejectError:
                return "rejected"
            except RetryError:
                await asyncio.sleep(0)
        return "never"

    answers = await asyncio.gather(*(patiently(number) for number in range(8)))

    assert answers == [f"ok {number}" if number != 3 else "rejected" for number in range(8)]


async def test_an_item_whose_worker_may_not_call_any_more_is_not_sent() -> None:
    clock = FakeClock()
    service = Service(clock)
    batcher = a_batcher(service, clock)

    async def released() -> str:
        def gone() -> None:
            raise RetryError("not ours any more", code="released")

        call_guard.set(gone)
        return await batcher.send(7)

    good, bad = await asyncio.gather(batcher.send(1), asyncio.create_task(released()), return_exceptions=True)

    assert good == "ok 1"
    assert isinstance(bad, RetryError)
    assert service.requests == [[1]]


@pytest.mark.parametrize(("seconds", "then"), [(0.1, 100), (1.0, 20), (2.0, 10), (4.0, 10), (20.0, 1)])
def test_a_request_holds_what_fits_into_two_seconds(seconds: float, then: int) -> None:
    size = BatchSize(100)
    size.took(10, seconds)

    assert size.now == then


def test_a_failure_halves_and_a_small_request_says_nothing() -> None:
    size = BatchSize(100)
    size.took(10, 0.1)
    size.failed()
    size.took(3, 0.01)

    assert size.now == 50


def test_lanes_open_one_by_one_and_a_refusal_halves_them() -> None:
    lanes, seen = Lanes(4), list[int]()
    for _ in range(200):
        seen.append(lanes.now)
        lanes.answered()
    lanes.refused()

    assert [seen.count(number) for number in (1, 2, 3)] == pytest.approx([50, 50, 50], abs=1)
    assert (max(seen), lanes.now) == (4, 2)
    for _ in range(490):
        lanes.answered()
    assert lanes.now == 2, "the same again would be refused again"
    lanes.refused()
    lanes.refused()
    assert lanes.now == 1


async def test_a_refusal_closes_lanes_that_are_open_and_the_rest_is_sent() -> None:
    clock = FakeClock()
    service = Service(clock)
    batcher = a_batcher(service, clock, most=1, lanes=3)
    await asyncio.gather(*(batcher.send(number) for number in range(150)))
    assert service.most == 3
    service.busy, service.most = 4, 0
    answers = await asyncio.gather(*(batcher.send(number) for number in range(30)), return_exceptions=True)

    assert len([each for each in answers if isinstance(each, RetryError)]) == 4
    assert len([each for each in answers if isinstance(each, str)]) == 26
    assert service.most == 1


async def test_an_item_sent_the_moment_the_only_lane_ends_is_not_forgotten() -> None:
    clock = FakeClock()
    service = Service(clock)
    batcher = a_batcher(service, clock, lanes=1)

    async def one_after_the_other() -> list[str]:
        return [await batcher.send(number) for number in range(5)]

    assert await asyncio.wait_for(one_after_the_other(), 2) == [f"ok {number}" for number in range(5)]
