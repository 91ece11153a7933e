"""What the loops log of records: one line of each at most, with keys, places and codes, and nothing of what it holds."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest

from services.optin.handler import Decided
from tests.flow.resolving import Bench
from tests.flow.test_consent_writer import a_rig
from tests.flow.test_resolving import releasing
from tests.flow.writing import Rig, away, no_parent, record, refused
from tests.unit.control_app import logging_as

KEYS = {"event", "level", "timestamp", "service", "instance", "key", "position", "code", "stage", "attempts", "flags", "status"}
VALUE = "lovelace@example.com"


def lines(told: str) -> list[dict[str, Any]]:
    assert VALUE not in told
    return [json.loads(line) for line in told.splitlines()]


async def test_a_record_that_waits_fails_and_is_refused_at_last_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    rig = Rig()
    rig.handler.script["a"] = [away(), away(attempts=8), no_parent(), away(3), refused()]
    records = [record("a", 0, VALUE), record("b", 1, VALUE), record("c", 2, f"bad {VALUE}")]

    with logging_as("json"):
        await rig.work(*records)

    found = lines(capsys.readouterr().err)
    assert sorted((each["event"], each["code"]) for each in found) == [
        ("record_dead_lettered", "not_avro"),
        ("record_dead_lettered", "value_refused"),
    ]
    assert len({each["position"] for each in found}) == 2
    assert all(set(each) <= KEYS for each in found)


async def test_a_decision_that_is_held_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    bench = Bench(limit=0)

    with logging_as("json"):
        await releasing(bench, "c-1")

    (line,) = lines(capsys.readouterr().err)
    assert (line["event"], line["key"], line["flags"]) == ("release_held", "c-1", ["donotemail"])
    assert set(line) <= KEYS


async def test_what_the_writer_observes_again_in_both_systems_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    async with a_rig() as rig:
        rig.dynamics.upsert("contact", {"contactid": rig.person, "donotemail": True})
        rig.campaign.opt_out(rig.person, "blackListEmail", True)
        decision = rig.decision("dynamics", donotemail=False)
        inputs = {"donotemail": {**decision.inputs["donotemail"], "dynamics": False}}
        with logging_as("json"):
            result = await rig.handler.write(Decided(replace(decision, inputs=inputs)), None)

        assert result.outcome == "observed_again" and len(rig.observed) == 1

    (line,) = lines(capsys.readouterr().err)
    assert (line["event"], line["key"]) == ("observed_again", rig.person)
