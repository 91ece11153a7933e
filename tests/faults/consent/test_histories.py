"""No "no" is lost or taken back: histories of people, accidents and crashes around the product's own code (consent.md, *The proof*)."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
import structlog

from tests.faults.choosing import BUDGET_S
from tests.faults.conftest import SEED
from tests.faults.consent.history import History

TOGETHER = 2_000
ALL = 50  # so often as many
SHOWN = 3  # histories that are told in full


@pytest.fixture(autouse=True)
def _quiet() -> Iterator[None]:
    """The product's log would be the longest part of a history."""
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))
    yield
    structlog.reset_defaults()


async def histories(first: int, number: int, folder: Path) -> Counter[str]:
    """Lives through `number` histories; how often TRUE was written and taken back in them. Raises for all that violate the contract."""
    counted: Counter[str] = Counter()
    stories = []
    for seed in range(first, first + number):
        history = History(seed, folder)
        try:
            await history.live()
        except AssertionError as exc:
            stories.append(f"{exc}")
        counted["lowers"] += history.judge.lowers
        counted["raises"] += history.dynamics.raised + history.campaign.raised
    if stories:
        again = "again with BRIDGE_SEED=<number> python -m pytest tests/faults/consent/test_histories.py -k test_the_history_of_the_seed"
        raise AssertionError("\n\n".join([f"{len(stories)} of {number} histories violate the contract; {again}", *stories[:SHOWN]]))
    return counted


@pytest.mark.takes(30, always=True)
async def test_no_opt_out_is_lost_or_taken_back(tmp_path: Path) -> None:
    counted = await histories(SEED * 1_000_000, TOGETHER, tmp_path)

    assert counted["raises"] > TOGETHER and counted["lowers"] > TOGETHER / 10  # else they prove nothing


@pytest.mark.takes(BUDGET_S + 1)  # never by chance: each would take the place of a test that is not like the others
@pytest.mark.parametrize("part", range(1, ALL))
async def test_nor_in_a_hundred_thousand(part: int, tmp_path: Path) -> None:
    await histories(SEED * 1_000_000 + part * TOGETHER, TOGETHER, tmp_path)


@pytest.mark.takes(1, always=True)
async def test_the_history_of_the_seed(tmp_path: Path) -> None:
    """The one that BRIDGE_SEED names."""
    await histories(SEED, 1, tmp_path)
