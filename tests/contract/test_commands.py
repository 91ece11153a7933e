"""Control's command log: several instances write, none overwrites what another has just written."""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from typing import Any

import pytest

from bridge.kafka.commands import LEAST_S, CommandLog, View, Write
from bridge.kafka.settings import KafkaSettings
from bridge.kafka.topics import control_topics
from bridge.model.errors import RetryError
from tests.contract.broker import content, latest, make, nowhere

TOPIC = "control.workflows"


@pytest.fixture
def settings(kafka_settings: KafkaSettings) -> KafkaSettings:
    make(kafka_settings, *control_topics())
    return kafka_settings


def increment(view: View) -> tuple[int, Sequence[Write]]:
    count = view.get("counter", {"n": 0})["n"] + 1
    return count, [(TOPIC, "counter", {"n": count})]


def test_a_command_sees_what_was_there_and_writes_to_several_topics(settings: KafkaSettings) -> None:
    log = CommandLog(settings, 3)

    def command(view: View) -> tuple[View, Sequence[Write]]:
        return view, [(TOPIC, "ingress", {"desired": "running"}), ("control.audit", "ingress", {"what": "start"})]

    assert log.transact(command) == {}
    assert log.transact(command) == {"ingress": {"desired": "running"}}

    assert latest(settings, TOPIC) == {"ingress": {"desired": "running"}}
    assert latest(settings, "control.audit") == {"ingress": {"what": "start"}}


def test_a_command_that_raises_writes_nothing_and_the_next_one_works(settings: KafkaSettings) -> None:
    log = CommandLog(settings, 3)

    def refused(view: View) -> tuple[None, Sequence[Write]]:
        raise ValueError("not allowed in this state")

    with pytest.raises(ValueError, match="not allowed"):
        log.transact(refused)

    assert content(settings, TOPIC) == []
    assert log.transact(increment) == 1


def test_a_command_cannot_change_what_the_next_one_sees_by_accident(settings: KafkaSettings) -> None:
    log = CommandLog(settings, 3)
    log.transact(increment)

    def meddling(view: View) -> tuple[None, Sequence[Write]]:
        view.clear()
        return None, []

    log.transact(meddling)

    assert log.transact(increment) == 2


def test_two_instances_in_turns_lose_nothing(settings: KafkaSettings) -> None:
    first, second = CommandLog(settings, 3), CommandLog(settings, 3)

    results = [log.transact(increment) for _ in range(25) for log in (first, second)]

    assert results == list(range(1, 51))
    assert latest(settings, TOPIC) == {"counter": {"n": 50}}


def test_two_instances_at_once_lose_none_of_fifty_increments_each(settings: KafkaSettings) -> None:
    results: list[int] = []
    failed: list[BaseException] = []
    given_up: list[None] = []

    def work() -> None:
        log = CommandLog(settings, 3)
        done = 0
        try:
            while done < 50:
                try:
                    results.append(log.transact(increment))
                    done += 1
                except RetryError:  # as the API would: 503, try again
                    given_up.append(None)
        except BaseException as exc:
            failed.append(exc)

    threads = [threading.Thread(target=work) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(120)

    assert failed == []
    assert len(given_up) <= 2
    assert sorted(results) == list(range(1, 101))
    assert latest(settings, TOPIC) == {"counter": {"n": 100}}


def test_an_instance_sees_what_another_wrote_before_it_came_in_between(settings: KafkaSettings) -> None:
    first, second = CommandLog(settings, 3), CommandLog(settings, 3)
    first.transact(increment)
    seen: list[Any] = []

    def watched(view: View) -> tuple[int, Sequence[Write]]:
        seen.append(view["counter"]["n"])
        if len(seen) == 1:
            second.transact(increment)  # while the first one is deciding
        return increment(view)

    assert first.transact(watched) == 3
    assert seen == [1, 2]


def test_kafka_that_is_away_is_a_retry(kafka_settings: KafkaSettings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bridge.kafka.commands.GIVE_UP_S", 2)
    began = time.monotonic()

    with pytest.raises(RetryError):
        CommandLog(nowhere(kafka_settings), 3).transact(increment)

    assert time.monotonic() - began < 2 + LEAST_S + 1, "whoever gave the command is answered in time"


def test_a_refusal_is_not_made_on_what_another_instance_has_changed_since(settings: KafkaSettings) -> None:
    first, second = CommandLog(settings, 3), CommandLog(settings, 3)
    first.transact(increment)
    second.transact(increment)

    def only_at_two(view: View) -> tuple[str, Sequence[Write]]:
        if view["counter"]["n"] != 2:
            raise ValueError("stale")
        return "fine", []

    assert first.transact(only_at_two) == "fine"
    with pytest.raises(ValueError, match="stale"):
        first.transact(lambda view: only_at_two({"counter": {"n": 1}}))
