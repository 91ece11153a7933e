"""The writer loop in seeded histories: slow calls, late answers, refusals, waits, rebalances and restarts (tests/flow/histories.py)."""

from __future__ import annotations

import asyncio

import pytest

from tests.faults.choosing import BUDGET_S
from tests.faults.conftest import SEED
from tests.flow.histories import History

TOGETHER = 1_000
ALL = 20  # so often as many


async def histories(first: int, number: int) -> None:
    """Raises for the first that goes wrong, with its story and how to live it again."""
    for seed in range(first, first + number):
        await asyncio.wait_for(History(seed).live(), 60)


@pytest.mark.takes(15, always=True)
async def test_each_key_ends_with_its_newest_record_and_is_called_once_at_a_time() -> None:
    await histories(SEED * 100_000, TOGETHER)


@pytest.mark.takes(BUDGET_S + 1)  # never by chance: each would take the place of a test that is not like the others
@pytest.mark.parametrize("part", range(1, ALL))
async def test_so_in_twenty_thousand_histories(part: int) -> None:
    await histories(SEED * 100_000 + part * TOGETHER, TOGETHER)
