"""services.control.rules.degraded: what keeps a workflow that runs from its work."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from bridge.model.desired import Heartbeat, Reason, Workflow
from services.control.rules.degraded import in_trouble, loading
from services.control.rules.lifecycle import Beat

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
NETWORK = Reason("network", "PATCH /campaign/profile: ConnectTimeout", "Nothing to do.", "service")


def a_beat(reason: Reason | None = NETWORK, lasted_s: float = 60, *, role: str = "writer", age_s: float = 1, ahead_s: float = 0) -> Beat:
    """Of a writer that has been in trouble for so long by now; its clock is ahead of ours."""
    sent = NOW + timedelta(seconds=ahead_s - age_s)
    since = NOW + timedelta(seconds=ahead_s - lasted_s)
    told = Heartbeat("ingress", role, "host-1", "RUNNING", 3, 1, NOW.isoformat(), "0.1.0", reason, reason_since=since.isoformat())
    return Beat(told, age_s, int(sent.timestamp() * 1000))


def code(beats: list[Beat], workflow: Workflow = "ingress", waiting: int | None = 309) -> str | None:
    found = in_trouble(workflow, beats, waiting, NOW)
    return None if found is None else found.reason.code


@pytest.mark.parametrize(
    ("role", "met", "told"),
    [
        ("writer", "network", "target_unreachable"),
        ("writer", "bad_answer", "target_unreachable"),
        ("writer", "token_endpoint", "target_unreachable"),
        ("writer", "target_busy", "target_busy"),
        ("writer", "busy", "target_busy"),
        ("reader", "network", "source_unreachable"),
        ("reader", "source_busy", "source_busy"),
        ("reader", "group_not_joined", "group_not_joined"),
        ("writer", "registry_unavailable", "registry_unavailable"),
    ],
)
def test_the_reason_names_the_side_that_does_not_do_its_part(role: str, met: str, told: str) -> None:
    assert code([a_beat(replace(NETWORK, code=met), role=role)]) == told


def test_fifteen_seconds_are_no_trouble_yet_whatever_the_clocks_say() -> None:
    assert code([a_beat(lasted_s=14.9, ahead_s=300)]) is None
    assert code([a_beat(lasted_s=15.1, ahead_s=-300)]) == "target_unreachable"


def test_it_says_since_when_what_is_safe_and_which_system() -> None:
    found = in_trouble("ingress", [a_beat(lasted_s=75, ahead_s=40)], 309, NOW)

    assert found is not None
    assert found.since == NOW - timedelta(seconds=75)
    assert "Campaign cannot be reached" in found.reason.message
    assert "309 records wait in Kafka" in found.reason.hint
    assert (found.role, found.reason.origin) == ("writer", "target")


def test_the_trouble_that_has_lasted_longest_is_told() -> None:
    reader = a_beat(lasted_s=400, role="reader")

    assert code([a_beat(lasted_s=60), reader]) == "source_unreachable"


def test_who_is_not_running_or_has_none_is_in_no_trouble() -> None:
    starting = a_beat()

    assert code([a_beat(None), replace(starting, heartbeat=replace(starting.heartbeat, status="STARTING"))]) is None
    assert code([replace(starting, heartbeat=replace(starting.heartbeat, reason_since=None))]) is None, "an older version sends none"


def a_load(seconds: float, **more: Any) -> Beat:
    feed = {"phase": "load", "rows": 1200, "total": 5023, "started_at": (NOW - timedelta(seconds=seconds)).isoformat()} | more
    reader = a_beat(None, role="reader")
    return replace(reader, heartbeat=replace(reader.heartbeat, feeds={"contact": feed}))


def test_a_load_is_told_with_its_rows_once_it_has_gone_on_for_a_while() -> None:
    found = loading([a_load(20)], NOW)

    assert found is not None
    assert (found.reason.code, found.reason.message, found.role) == ("loading", "contact: 1,200 of 5,023 rows read", "reader")
    assert found.since == NOW - timedelta(seconds=20)
    assert loading([a_load(10)], NOW) is None
    assert loading([a_load(20, phase="live")], NOW) is None
