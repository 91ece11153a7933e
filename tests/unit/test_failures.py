"""bridge.flow.failures: what failures of one job add up to, each kind by itself."""

from __future__ import annotations

import random
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from math import inf

from bridge.flow.failures import PARKED_SINCE, Failures, first_place, parked_since, without_parking
from bridge.model.errors import ParkError, RetryError
from bridge.model.events import Record
from tests.unit.fakes import a_record

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)
DAY_S = 86400.0
ABSENT = ParkError("no contact", code="contact_missing")
BUSY = RetryError("429", code="target_busy", status=429)
BROKEN = RetryError("500", code="target_error", status=500, attempts=8)


class Course:
    """Failures of one job, each at the end of the wait before."""

    def __init__(self, *records: Record) -> None:
        self.failures, self.records, self.now, self.rng = Failures(), records, NOON, random.Random(3)

    def fail(self, error: RetryError) -> float | None:
        wait_s = self.failures.wait_s(error, self.records, self.now, DAY_S, self.rng)
        self.now += timedelta(seconds=wait_s or 0)
        return wait_s


def parked_for(hours: float) -> Record:
    since = str(int((NOON - timedelta(hours=hours)).timestamp() * 1000)).encode()
    return replace(a_record(), headers=((PARKED_SINCE, since),))


def test_a_busy_target_uses_up_no_tries_of_a_record() -> None:
    course = Course()

    assert all(course.fail(BUSY) for _ in range(50))
    assert [course.fail(BROKEN) is None for _ in range(8)] == [False] * 7 + [True]
    assert course.failures.count == 58


def test_the_time_to_be_parked_begins_when_the_key_is_parked() -> None:
    course = Course()
    course.fail(RetryError("429", code="target_busy", retry_after_s=2 * DAY_S))
    parked_at = course.now

    while course.fail(ABSENT) is not None:
        pass

    assert (course.failures.first_at, course.failures.parked_since) == (NOON, parked_at)
    assert course.now - parked_at == timedelta(seconds=DAY_S)


def test_the_wait_of_a_parked_key_grows_to_a_tenth_of_its_age_and_ends_with_the_budget() -> None:
    course, waits = Course(), list[tuple[float, float]]()
    while (wait_s := course.fail(ABSENT)) is not None:
        waits.append(((course.now - NOON).total_seconds() - wait_s, wait_s))

    assert all(wait_s <= max(60, age_s / 10) for age_s, wait_s in waits)
    assert all(wait_s >= 0.75 * max(60, age_s / 10) for age_s, wait_s in waits[10:-1])
    assert course.now - NOON == timedelta(seconds=DAY_S)
    assert len(waits) < 100


def test_a_record_that_was_published_again_goes_on_at_its_age() -> None:
    wait_s = Course(parked_for(hours=10)).fail(ABSENT)

    assert wait_s is not None
    assert 0.75 * 3600 <= wait_s <= 3600


def test_the_copy_that_knows_since_when_it_waits_may_come_after_the_record() -> None:
    """The offset of the record was not committed when the process was killed."""
    course = Course(a_record())
    course.fail(ABSENT)

    course.records = (*course.records, parked_for(hours=24))

    assert course.fail(ABSENT) is None
    assert course.failures.first_at == NOON - timedelta(hours=24)


def test_what_ends_by_itself_is_never_given_up_however_long_its_key_has_waited_for_something_else() -> None:
    course = Course(parked_for(hours=30))

    assert all(course.fail(ParkError("children first", code="children_first", budget_s=inf)) for _ in range(50))


def test_a_header_that_somebody_else_wrote_says_nothing() -> None:
    for value in (b"999999999999999", b"99999999999999", b"x", b""):
        assert parked_since([replace(a_record(), headers=((PARKED_SINCE, value),))]) is None


def test_a_record_past_its_budget_is_not_tried_again() -> None:
    assert Course(parked_for(hours=24)).fail(ABSENT) is None


def test_a_record_that_is_published_again_says_once_since_when_it_is_parked() -> None:
    course = Course(first := parked_for(hours=1), second := replace(a_record(), headers=(("traceparent", b"t"),)))
    course.fail(ABSENT)

    (since,) = first.headers
    assert list(course.failures.requeue_headers(first))[:1] == [since]
    place = f"{second.partition}-{second.offset}".encode()
    assert list(course.failures.requeue_headers(second)) == [("traceparent", b"t"), since, ("parked-tries", b"1"), ("parked-from", place)]


def test_a_copy_of_a_copy_says_where_the_record_was_first() -> None:
    first, strange = (replace(a_record(), offset=9, headers=(("parked-from", each),)) for each in (b"2-17", b"somewhere"))

    assert (first_place(first), first_place(strange)) == ("2-17", f"{strange.partition}-9")
    assert first_place(replace(first, headers=without_parking(first.headers))) == f"{first.partition}-9"


def test_a_record_that_was_published_again_counts_its_tries_on() -> None:
    tried = replace(a_record(), headers=((PARKED_SINCE, b"1772362800000"), ("parked-tries", b"7")))
    course = Course(tried, replace(a_record(), headers=(("parked-tries", b"a stranger's"),)))

    course.fail(ABSENT)

    assert course.failures.count == 8
