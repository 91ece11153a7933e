"""Why a workflow that runs asks for attention: opt-outs that have not arrived come before what is held, and that before other notices."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from bridge.kafka.settings import KafkaSettings
from bridge.model.desired import Heartbeat, Reason, Workflow
from services.control.rules import actions
from services.control.rules.actions import By
from services.control.rules.lifecycle import ROLES
from tests.contract.broker import eventually
from tests.contract.consenting import Bench, consenting
from tests.contract.test_held import key
from tests.unit.control_app import AT

BY = By("anna", None, AT)
NOTICE = Reason("export_overdue", "no export has come", "Start it.", "source")
BROKEN = Reason("target_refused", "Campaign refuses", "Look.", "target")


@pytest.fixture
async def bench(kafka_settings: KafkaSettings, tmp_path: Path) -> AsyncIterator[Bench]:
    async with consenting(kafka_settings, tmp_path) as made:
        await made.store.run(actions.start("ingress", ("STOPPED", 0), BY, None))
        yield made


async def beat(bench: Bench, workflow: Workflow = "ingress", role: str = "writer", **more: Any) -> None:
    """A heartbeat, once control has heard it."""
    told = Heartbeat(workflow, role, "one", more.pop("status", "RUNNING"), 1, 1, AT, "1", **more)
    await bench.producer.send(f"{bench.kafka.topic_prefix}control.services", told.key.encode(), json.dumps(told.to_json()).encode())
    await eventually(lambda: any(each.heartbeat == told for each in bench.store.beats(workflow)))


async def letter(bench: Bench, opt_outs: str) -> str:
    topic = f"{bench.kafka.topic_prefix}ingress.changes.contact"
    facts = {"dlq.code": "value_refused", "dlq.topic": topic, "dlq.partition": "0", "dlq.opt-outs": opt_outs}
    return await bench.put("ingress.dead-letters", key(), b"{}", **facts)


async def shown(bench: Bench, workflow: str = "ingress") -> tuple[str | None, int]:
    """The code of the reason, and how many opt-outs wait."""
    found = await bench.get(workflow)
    return found["reason"]["code"] if found["reason"] else None, found["backlog"]["optouts_waiting"]


async def test_what_asks_for_attention_first_is_told(bench: Bench) -> None:
    for role in ROLES["ingress"]:
        await beat(bench, role=role)
    assert await shown(bench) == (None, 0)

    await beat(bench, reason=NOTICE)
    assert await shown(bench) == ("export_overdue", 0)

    await bench.held("ingress", key())
    await bench.held_delete(key())
    await bench.held_delete(key())
    held = (await bench.get("ingress"))["reason"]
    assert (held["code"], held["role"]) == ("releases_held", "writer")
    assert "1 decision that takes an opt-out away (OPTIN_RELEASE_LIMIT) and 2 deletes in Campaign (DELETE_LIMIT)" in held["message"]
    assert "bridge held list ingress" in held["hint"]

    await beat(bench, reason=NOTICE, counters={"optouts_waiting": 2})
    waiting = (await bench.get("ingress"))["reason"]
    assert waiting["code"] == "optouts_waiting" and waiting["message"].startswith("2 opt-outs have not been written yet:")
    assert "tried again by themselves" in waiting["hint"]

    await beat(bench, status="FAILED", reason=BROKEN)
    assert (await bench.get("ingress"))["reason"]["code"] == "target_refused"


async def test_opt_outs_in_dead_letters_are_told_until_somebody_has_dealt_with_them(bench: Bench) -> None:
    for role in ROLES["ingress"]:
        await beat(bench, role=role, counters={"optouts_waiting": 1})
    first, second = await letter(bench, "3"), await letter(bench, "1")
    await letter(bench, "none")

    told = (await bench.get("ingress"))["reason"]
    assert await shown(bench) == ("optouts_waiting", 2 + 4)
    assert "4 of them in dead letters" in told["message"] and "re-drive" in told["hint"]
    assert 'bridge_optouts_waiting{workflow="ingress"} 6.0' in (await bench.http.get("/metrics")).text

    body = {"ids": [first], "reason": "a test"}
    assert (await bench.http.post("/api/v1/workflows/ingress/dead-letters/discard", json=body)).status_code == 202
    assert await shown(bench) == ("optouts_waiting", 2 + 1)
    body = {"ids": [second]}
    assert (await bench.http.post("/api/v1/workflows/ingress/dead-letters/redrive", json=body)).status_code == 202
    for role in ROLES["ingress"]:
        await beat(bench, role=role)
    assert await shown(bench) == (None, 0)


async def test_opt_outs_in_dead_letters_of_a_workflow_that_is_stopped_are_told_as_well(bench: Bench) -> None:
    await bench.store.run(actions.stop("ingress", BY, None))
    await letter(bench, "2")

    found = await bench.get("ingress")

    assert (found["status"], found["reason"]["code"]) == ("STOPPED", "optouts_waiting")
    assert await shown(bench, "optin") == (None, 0)
