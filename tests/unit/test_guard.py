"""The consent guard: how many opt-outs may be taken away in an hour."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from services.optin.guard import ConsentGuard

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)


def after(guard: ConsentGuard, number: int, at: datetime = NOON, partition: int = 0) -> ConsentGuard:
    for _ in range(number):
        guard.passed(at, partition)
    return guard


def test_what_goes_beyond_the_limit_is_held() -> None:
    guard = after(ConsentGuard(3), 2)

    assert not guard.holds(NOON, known=0, share=1)
    assert after(guard, 1).holds(NOON, known=0, share=1)


def test_an_hour_later_the_count_begins_anew() -> None:
    guard = after(ConsentGuard(1), 1)

    assert guard.holds(NOON + timedelta(minutes=59), known=0, share=1)
    assert not guard.holds(NOON + timedelta(minutes=60), known=0, share=1)


def test_without_a_setting_it_is_a_hundred_or_one_in_a_hundred_contacts_if_that_is_more() -> None:
    guard = ConsentGuard(None)

    assert (guard.limit(known=5_000, share=1), guard.limit(known=1_000_000, share=1)) == (100, 10_000)


def test_resolvers_share_a_limit_by_their_partitions_and_never_exceed_it_together() -> None:
    shares = [ConsentGuard(10).limit(known=0, share=owned / 6) for owned in (2, 2, 2)]

    assert sum(shares) <= 10
    assert min(shares) == 3


def test_a_limit_of_nothing_holds_every_release() -> None:
    assert ConsentGuard(0).holds(NOON, known=10**6, share=1)


def test_a_partition_takes_its_releases_with_it() -> None:
    guard = after(after(ConsentGuard(2), 2, partition=1), 1, partition=2)

    guard.lose(1)

    assert not guard.holds(NOON, known=0, share=1)
