"""The guard's ledger: how much may be lowered or deleted in an hour, by all who write into it."""

from __future__ import annotations

from datetime import timedelta

import pytest

from bridge.consent.guard import LOWER, Ask, Ledger, delete_limit, delete_of, of_all, release_limit
from tests.unit.fakes import NOON


def verdicts(ledger: Ledger, *asks: tuple[str, float], limit: int = 2, kind: str = LOWER) -> list[bool]:
    """Of (id, minutes since noon)."""
    return [ledger.take(Ask(kind, name, limit), NOON + timedelta(minutes=at)) for name, at in asks]


def test_what_goes_beyond_the_limit_is_held() -> None:
    assert verdicts(Ledger(), ("a", 0), ("b", 1), ("c", 2)) == [True, True, False]


def test_an_hour_later_there_is_room_again_for_others() -> None:
    assert verdicts(Ledger(), ("a", 0), ("b", 59), ("c", 59.9), ("d", 60), ("e", 61)) == [True, True, False, True, False]


def test_what_was_held_stays_held_however_often_it_is_asked_for() -> None:
    assert verdicts(Ledger(), ("a", 0), ("b", 0), ("c", 0), ("c", 90)) == [True, True, False, False]


def test_what_passed_passes_again_and_counts_once() -> None:
    assert verdicts(Ledger(), ("a", 0), ("a", 1), ("a", 2), ("b", 3), ("c", 4)) == [True, True, True, True, False]


def test_a_limit_of_zero_holds_everything() -> None:
    assert verdicts(Ledger(), ("a", 0), limit=0) == [False]


def test_each_table_has_its_own_limit_of_deletes_and_lowers_have_theirs() -> None:
    ledger = Ledger()

    for kind in (LOWER, delete_of("contact"), delete_of("new_vehicle")):
        assert verdicts(ledger, ("a", 0), ("b", 0), limit=1, kind=kind) == [True, False]


def test_all_who_read_the_same_ledger_come_to_the_same_verdicts() -> None:
    asks = [(f"{number % 7}", number * 7.0) for number in range(40)]

    assert verdicts(Ledger(), *asks) == verdicts(Ledger(), *asks)


@pytest.mark.parametrize(
    ("setting", "known", "lowers", "deletes"),
    [(None, 0, 100, 500), (None, 100_000, 1000, 2000), (None, 10_001, 100, 500), (7, 10**6, 7, 7)],
)
def test_without_a_setting_a_limit_grows_with_what_is_known(setting: int | None, known: int, lowers: int, deletes: int) -> None:
    assert (release_limit(setting, known), delete_limit(setting, known)) == (lowers, deletes)


def test_an_instance_reckons_with_the_partitions_of_the_others() -> None:
    assert (of_all(500, 0.5), of_all(500, 1), of_all(0, 0)) == (1000, 500, 0)
