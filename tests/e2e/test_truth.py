"""What a workflow says while a system that it needs does not answer."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from bridge.kafka.settings import KafkaSettings
from sandbox.web import Fault
from tests.e2e.stack import Stack, contacts, running

HANGS = Fault("latency", seconds=600)


async def until_workflow(stack: Stack, what: str, within_s: float, **wanted: Any) -> dict[str, Any]:
    """Until these members are so; `verdict` and `code` are those of backlog and reason."""
    told: dict[str, Any] = {}

    async def so() -> bool:
        nonlocal told
        told = await stack.workflow()
        flat = {**told, "verdict": told["backlog"]["verdict"], "code": (told["reason"] or {}).get("code")}
        return all(flat[name] == value for name, value in wanted.items())

    await stack.until(so, what, within_s)
    return told


async def begun(stack: Stack) -> None:
    stack.dynamics.load(contacts=5, vehicles=0, seed=1)
    await stack.configure(contacts())
    stack.service("reader")
    stack.service("writer")
    await stack.start()
    await stack.until_equal(60)
    await until_workflow(stack, "all is well", 30, status="RUNNING", health="ok", verdict="IDLE", code=None)


async def test_a_target_that_hangs_is_said_while_it_lasts(kafka_settings: KafkaSettings, tmp_path: Path) -> None:
    async with running(kafka_settings, tmp_path, CAMPAIGN_REQUEST_TIMEOUT_S="12", DYNAMICS_REQUEST_TIMEOUT_S="12") as stack:
        await begun(stack)
        stack.campaign.ledger.faults.append(HANGS)
        stack.dynamics.churn(seed=2, updates=5, inserts=5)

        told = await until_workflow(stack, "the target is said to be away", 40, health="degraded", code="target_unreachable")
        assert told["status"] == "RUNNING"
        assert (told["reason"]["origin"], told["reason"]["role"]) == ("target", "writer")
        assert "Campaign" in told["reason"]["message"]
        assert "in Kafka" in told["reason"]["hint"]

        stack.campaign.ledger.faults.clear()
        await until_workflow(stack, "all is well again", 90, health="ok", code=None, verdict="IDLE")


async def test_nothing_is_idle_whose_source_hangs(kafka_settings: KafkaSettings, tmp_path: Path) -> None:
    async with running(kafka_settings, tmp_path, CAMPAIGN_REQUEST_TIMEOUT_S="12", DYNAMICS_REQUEST_TIMEOUT_S="12") as stack:
        await begun(stack)
        stack.dynamics.ledger.faults.append(HANGS)

        told = await until_workflow(stack, "the source is said to be away", 40, health="degraded", code="source_unreachable")
        assert told["backlog"]["verdict"] == "SOURCE_AWAY"
        assert (told["status"], told["reason"]["origin"], told["reason"]["role"]) == ("RUNNING", "source", "reader")

        stack.dynamics.ledger.faults.clear()
        await until_workflow(stack, "all is well again", 90, health="ok", code=None, verdict="IDLE")


async def test_a_start_that_waits_for_a_system_says_for_which(kafka_settings: KafkaSettings, tmp_path: Path) -> None:
    async with running(kafka_settings, tmp_path, CAMPAIGN_REQUEST_TIMEOUT_S="30") as stack:
        await stack.configure(contacts())
        stack.service("reader")
        stack.service("writer")
        stack.campaign.ledger.faults.append(HANGS)
        await stack.http.post("/api/v1/workflows/ingress/start", timeout=60)  # control asks Campaign as well, for so long

        async def said() -> bool:
            told = await stack.workflow()
            reasons = [each["reason"] for each in told["services"] if each["role"] == "writer" and each["reason"]]
            return told["status"] == "STARTING" and any("Campaign does not answer" in each["message"] for each in reasons)

        await stack.until(said, "the writer says what it waits for", 40)
        stack.campaign.ledger.faults.clear()
        await until_workflow(stack, "all is well", 60, status="RUNNING", health="ok", code=None)
