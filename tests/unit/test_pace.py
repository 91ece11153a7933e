"""bridge.dynamics.pace: how soon a table is asked again."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridge.dynamics.pace import next_poll_s

LIMIT_PER_S = 6000 / 300  # dataverse.md §8.1
intervals = st.floats(0.1, 3600)


@given(intervals, st.floats(0, 3600), st.booleans(), st.integers(1, 25))
def test_all_tables_together_use_a_quarter_of_the_limit_at_most(interval: float, last: float, changed: bool, tables: int) -> None:
    wait = next_poll_s(interval, last, changed, tables)

    assert tables / wait <= LIMIT_PER_S * 0.25 * 1.000001


@given(intervals, st.floats(0, 3600), st.booleans(), st.integers(1, 25))
def test_a_table_is_never_asked_later_than_the_interval_but_for_the_limit(interval: float, last: float, changed: bool, tables: int) -> None:
    assert next_poll_s(interval, last, changed, tables) <= max(interval, tables / (LIMIT_PER_S * 0.25))


def test_after_a_change_the_next_poll_comes_early() -> None:
    assert next_poll_s(5, 5, True, 1) == pytest.approx(1)


def test_an_idle_table_comes_back_to_its_interval_step_by_step() -> None:
    waits = [next_poll_s(5, 5, True, 1)]
    while len(waits) < 8:
        waits.append(next_poll_s(5, waits[-1], False, 1))

    assert waits == sorted(waits)
    assert waits[-1] == 5


def test_twenty_one_tables_share_the_limit() -> None:
    assert next_poll_s(5, 5, True, 21) == pytest.approx(4.2)
