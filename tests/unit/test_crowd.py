"""bridge.flow.crowd: rounds through what waits at the end of its topic."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

from bridge.events import Record
from bridge.flow.crowd import ROUND_S, Rounds, must_go_round
from bridge.flow.failures import PARKED_SINCE
from tests.unit.fakes import a_record

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)


def back(at: datetime, topic: str = "changes") -> Record:
    """Published again at this time."""
    return replace(a_record(0), topic=topic, timestamp_ms=int(at.timestamp() * 1000), headers=((PARKED_SINCE, b"1"),))


def after(seconds: float) -> datetime:
    return NOON + timedelta(seconds=seconds)


def test_a_topic_rests_when_all_has_been_gone_through_until_half_a_minute_is_over() -> None:
    rounds = Rounds()
    rounds.turned_away(back(after(-60)), NOON)
    assert not rounds.rests("changes", after(1))

    rounds.turned_away(back(after(1)), after(2))

    assert rounds.rests("changes", after(2)) and rounds.rests("changes", after(ROUND_S - 0.1))
    assert not rounds.rests("another", after(2))
    assert not rounds.rests("changes", after(ROUND_S))


def test_the_next_round_begins_with_what_is_turned_away_then() -> None:
    rounds = Rounds()
    rounds.turned_away(back(after(0)), NOON)
    assert rounds.rests("changes", after(1))

    rounds.turned_away(back(after(5)), after(ROUND_S + 1))

    assert not rounds.rests("changes", after(ROUND_S + 1))
    rounds.turned_away(back(after(ROUND_S + 2)), after(ROUND_S + 3))
    assert rounds.rests("changes", after(2 * ROUND_S))


def test_only_what_has_been_at_the_end_and_has_time_left_goes_round() -> None:
    waits = back(NOON)
    assert must_go_round(waits, NOON, after(9), 10)
    assert not must_go_round(waits, NOON, after(10), 10)
    assert not must_go_round(replace(waits, headers=()), None, after(9), 10)
