"""services.control.topics.heartbeats: how old heartbeats are, and which are remembered when their services have gone."""

from __future__ import annotations

import json

import pytest

from bridge.kafka.follower import Entry
from bridge.model.desired import Heartbeat, Status
from services.control.rules.lifecycle import Beat
from services.control.topics.heartbeats import Heard
from tests.clock import FakeClock


def an_entry(
    clock: FakeClock,
    role: str = "writer",
    status: Status | None = "RUNNING",
    *,
    instance: str = "one",
    generation: int = 3,
    ago_s: float = 0,
    old: bool = False,
) -> Entry:
    """A heartbeat of `ago_s` seconds ago. `status` None: a goodbye; `old`: it was there before we began."""
    timestamp_ms = int((clock.now().timestamp() - ago_s) * 1000)
    beat = Heartbeat("ingress", role, instance, status or "RUNNING", generation, 1, clock.now().isoformat(), "0.1.0")
    return Entry(beat.key, None if status is None else json.dumps(beat.to_json()).encode(), timestamp_ms, old)


def instances(beats: list[Beat]) -> list[str]:
    return sorted(beat.heartbeat.instance for beat in beats)


@pytest.mark.parametrize(("ago_s", "age_s"), [(-60, 0), (0, 0), (2.5, 0), (3.5, 3.5), (60, 60)])
def test_one_that_was_there_at_the_start_is_as_old_as_it_says_but_for_what_clocks_may_differ(ago_s: float, age_s: float) -> None:
    clock = FakeClock()
    heard = Heard(clock)

    heard.take([an_entry(clock, ago_s=ago_s, old=True)])

    (beat,) = heard.beats("ingress")
    assert beat.age_s == pytest.approx(age_s, abs=0.01)
    assert beat.at_ms == an_entry(clock, ago_s=ago_s).timestamp_ms
    assert beat.fresh is (age_s < 10)
    assert heard.beats("egress") == []


@pytest.mark.parametrize("ahead_s", [-7200, 0, 7200])
def test_one_that_comes_late_is_as_old_as_the_broker_says_whatever_our_clock_says(ahead_s: float) -> None:
    clock = FakeClock()
    heard = Heard(clock)
    heard.take([an_entry(clock, instance="first", ago_s=ahead_s)])
    clock.advance(50)

    heard.take([an_entry(clock, instance="late", ago_s=ahead_s + 40), an_entry(clock, instance="now", ago_s=ahead_s)])

    ages = {beat.heartbeat.instance: round(beat.age_s) for beat in heard.beats("ingress")}
    assert ages == {"first": 50, "late": 40, "now": 0}


def test_a_clock_of_ours_that_jumps_makes_nobody_silent() -> None:
    clock = FakeClock()
    heard = Heard(clock)
    for number in range(200):
        clock.advance(2)
        heard.take([an_entry(clock, ago_s=7200 if number > 20 else 0)])  # the broker's clock is set back, or ours is set forward

    assert heard.beats("ingress")[0].fresh


def test_a_heartbeat_grows_older() -> None:
    clock = FakeClock()
    heard = Heard(clock)
    heard.take([an_entry(clock)])

    clock.advance(11)

    assert not heard.beats("ingress")[0].fresh


def test_the_last_one_of_a_role_that_left_is_remembered_and_those_before_it_are_not() -> None:
    clock = FakeClock()
    heard = Heard(clock)
    for instance in ("one", "two", "three"):
        heard.take([an_entry(clock, instance=instance), an_entry(clock, status=None, instance=instance)])
        clock.advance(1)
    heard.take([an_entry(clock, "reader", "STARTING"), an_entry(clock, "reader", None)])
    assert len(heard.beats("ingress")) == 4

    clock.advance(3600)
    heard.take([])

    (last,) = heard.beats("ingress")
    assert (last.heartbeat.instance, last.left) == ("three", True)


def test_the_last_one_of_a_later_start_takes_the_place_of_an_earlier_one() -> None:
    clock = FakeClock()
    heard = Heard(clock)
    heard.take([an_entry(clock, instance="late", generation=2), an_entry(clock, status=None, instance="late")])
    heard.take([an_entry(clock, instance="now", ago_s=5), an_entry(clock, status=None, instance="now")])

    clock.advance(20)
    heard.take([])

    assert instances(heard.beats("ingress")) == ["now"]


def test_whoever_comes_back_has_not_left() -> None:
    clock = FakeClock()
    heard = Heard(clock)
    heard.take([an_entry(clock), an_entry(clock, status=None)])

    heard.take([an_entry(clock)])

    assert [beat.left for beat in heard.beats("ingress")] == [False]
