"""bridge.flow.waits: growing pauses, and when dead letters stop the workflow (decision D4)."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridge.flow.waits import FIRST_S, LONGEST_S, LetterLimit, backoff_s
from bridge.model.errors import HaltError


@given(st.integers(0, 10_000), st.integers())
def test_a_pause_doubles_up_to_the_longest_and_is_shortened_by_a_quarter_at_most(attempt: int, seed: int) -> None:
    whole = min(FIRST_S * 2 ** min(max(attempt - 1, 0), 100), LONGEST_S)

    pause = backoff_s(attempt, random.Random(seed))

    assert whole * 0.75 <= pause <= whole


def test_the_longest_pause_can_be_told() -> None:
    assert backoff_s(50, random.Random(1), longest_s=2) <= 2


def test_waiters_spread() -> None:
    rng = random.Random(1)

    assert len({backoff_s(3, rng) for _ in range(20)}) == 20


@pytest.mark.parametrize("in_a_row", [1, 5])
def test_so_many_dead_letters_in_a_row_halt_the_workflow(in_a_row: int) -> None:
    limit = LetterLimit(in_a_row, ratio=1)
    for _ in range(in_a_row - 1):
        limit.set_aside()

    with pytest.raises(HaltError) as caught:
        limit.set_aside()

    assert (caught.value.code, caught.value.origin) == ("too_many_dead_letters", "service")
    assert caught.value.hint


def test_one_success_begins_the_row_again() -> None:
    limit = LetterLimit(3, ratio=1)

    for _ in range(50):
        limit.set_aside()
        limit.set_aside()
        limit.passed()


def test_a_ratio_is_not_judged_before_two_hundred_records() -> None:
    limit = LetterLimit(1000, ratio=0.1)

    for _ in range(199):
        limit.set_aside()

    with pytest.raises(HaltError):
        limit.set_aside()


def test_more_than_the_ratio_of_the_last_five_hundred_halts_the_workflow() -> None:
    limit = LetterLimit(1000, ratio=0.5)
    for _ in range(250):
        limit.passed()
    for _ in range(250):
        limit.set_aside()

    with pytest.raises(HaltError) as caught:
        limit.set_aside()

    assert "251 of the last 500" in str(caught.value)


def test_what_is_longer_ago_than_five_hundred_records_is_forgiven() -> None:
    limit = LetterLimit(1000, ratio=0.5)
    for _ in range(100):
        limit.passed()
    for _ in range(100):
        limit.set_aside()
    for _ in range(500):
        limit.passed()

    for _ in range(250):
        limit.set_aside()


@given(st.lists(st.booleans(), max_size=1500), st.integers(2, 60), st.floats(0.05, 1))
def test_the_limit_follows_its_rule_for_any_course_of_events(course: list[bool], in_a_row: int, ratio: float) -> None:
    limit, seen = LetterLimit(in_a_row, ratio), list[bool]()

    for bad in course:
        seen.append(bad)
        window = seen[-500:]
        streak = len(seen) - max((at + 1 for at, each in enumerate(seen) if not each), default=0)
        too_many = streak >= in_a_row or (len(window) >= 200 and sum(window) > ratio * len(window))
        if bad and too_many:
            with pytest.raises(HaltError):
                limit.set_aside()
            return
        limit.set_aside() if bad else limit.passed()
