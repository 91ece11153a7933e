"""Start, Stop and status over the API, with real services behind it (control-api.md, campaign.md §14.7)."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from bridge.kafka.settings import KafkaSettings
from sandbox.web import Fault
from tests.e2e.helpers import eventually, everything_passed, group_state, run
from tests.e2e.stack import Stack, contacts, running

SILENT = ("FAILED", "RUNNING", "writer", "service_silent")


def totals(stack: Stack) -> tuple[int, int]:
    """Requests that either system has seen so far."""
    return sum(stack.dynamics.ledger.requests.values()), sum(stack.campaign.ledger.requests.values())


@asynccontextmanager
async def nothing_is_called(stack: Stack, seconds: float = 3) -> AsyncIterator[None]:
    """Fails if either system is called within so many seconds from the start of the block."""
    before, until = totals(stack), time.monotonic() + seconds
    yield
    await asyncio.sleep(max(0.0, until - time.monotonic()))
    assert totals(stack) == before


async def no_members(stack: Stack) -> bool:
    found = [await asyncio.to_thread(group_state, stack.kafka, group) for group in ("ingress", "ingress-reader")]
    return found == [("EMPTY", 0), ("EMPTY", 0)]


async def test_f70_workflows_are_listed_in_order_and_nothing_runs_before_start(stack: Stack) -> None:
    stack.dynamics.load(contacts=5)
    stack.service("reader")
    stack.service("writer")

    async def both_there() -> bool:
        return len((await stack.workflow())["services"]) == 2

    await stack.until(both_there, "both services report", 20)
    async with nothing_is_called(stack):
        listed = (await stack.get("/workflows"))["workflows"]
        assert [each["id"] for each in listed] == ["ingress", "egress", "optin"]
        assert [each["status"] for each in listed] == ["STOPPED"] * 3
        assert [each["configured"] for each in listed] == [True, False, False]
        assert listed[0]["name"] == "Microsoft Dynamics 365 to Campaign"
    assert totals(stack) == (0, 0)


async def test_f77_to_f84_stopped_starting_running_stopped(stack: Stack) -> None:
    assert (await stack.workflow())["status"] == "STOPPED"
    await stack.start(wait=False)
    assert (await stack.workflow())["status"] == "STARTING"
    stack.service("reader")
    await asyncio.sleep(0)
    assert (await stack.workflow())["status"] == "STARTING"

    stack.service("writer")
    running = await stack.until_status("RUNNING", 30)
    assert {(each["role"], each["status"]) for each in running["services"]} == {("reader", "RUNNING"), ("writer", "RUNNING")}
    assert running["running_revision"] == running["saved_revision"] == 1
    assert running["reason"] is None

    await stack.stop(wait=False)
    assert (await stack.workflow())["desired"] == "STOPPED"
    stopped = await stack.until_status("STOPPED", 15)
    assert stopped["running_revision"] is None


async def test_f83_start_and_stop_are_idempotent(stack: Stack) -> None:
    await run(stack, contacts())
    before = await stack.workflow()

    for _ in range(3):
        answer = await stack.http.post("/api/v1/workflows/ingress/start", json={"comment": "again"})
        assert (answer.status_code, answer.json()["status"]) == (202, "RUNNING")

    after = await stack.workflow()
    assert [each["since"] for each in after["services"]] == [each["since"] for each in before["services"]]
    await stack.stop()
    for _ in range(2):
        assert (await stack.http.post("/api/v1/workflows/ingress/stop")).status_code == 202
    assert (await stack.workflow())["status"] == "STOPPED"


@pytest.mark.parametrize("workflow", ["egress", "optin"])
async def test_f85_a_workflow_without_configuration_cannot_be_started(stack: Stack, workflow: str) -> None:
    answer = await stack.http.post(f"/api/v1/workflows/{workflow}/start")

    assert (answer.status_code, answer.json()["code"]) == (409, "not_configured")
    assert (await stack.get(f"/workflows/{workflow}"))["desired"] == "STOPPED"


async def test_f78_stop_in_the_middle_of_a_load_leaves_nothing_running_and_start_goes_on(stack: Stack) -> None:
    stack.dynamics.load(contacts=600, seed=3)
    stack.campaign.ledger.faults.append(Fault("latency", method="POST", path="/profile", seconds=0.1))
    await run(stack, contacts(apply_deletes=True))
    await eventually(stack, lambda: len(stack.campaign.rows("profile")) > 50, "some are written")

    await stack.stop()
    async with nothing_is_called(stack):
        stack.dynamics.churn(seed=4, updates=20, deletes=5)
    await stack.until(lambda: no_members(stack), "both groups are Empty once the session timeout of 10 s is over", 15)
    assert 50 < len(stack.campaign.rows("profile")) < 600
    waiting = (await stack.workflow())["backlog"]
    assert (waiting["records"] or 0) > 0

    stack.campaign.ledger.faults.clear()
    await stack.start()
    await stack.until_equal()
    await stack.until_caught_up()
    created = [write["key"] for write in stack.campaign.writes("profile") if write["status"] == 201]
    assert len(created) == len(set(created))


async def test_f80_a_killed_writer_shows_as_failed_and_a_new_one_as_running(stack: Stack) -> None:
    await run(stack, contacts())
    killed_at = time.monotonic()

    stack.processes["writer-1"].kill()
    failed = await stack.until_status("FAILED", 15)
    assert 5 < time.monotonic() - killed_at < 15
    assert (failed["reason"]["role"], failed["reason"]["code"], failed["reason"]["origin"]) == ("writer", "service_silent", "service")
    assert failed["reason"]["hint"]

    stack.service("writer")
    running = await stack.until_status("RUNNING", 20)
    assert running["reason"] is None
    await everything_passed(stack)


async def test_control_restarted_remembers_and_the_work_goes_on_meanwhile(stack: Stack) -> None:
    await run(stack, contacts())
    assert await stack.processes["control-1"].terminate() == 0
    key = stack.dynamics.upsert("contact", {"lastname": "Meanwhile"})
    await eventually(stack, lambda: stack.campaign.get("profile", key), "the services work without control")

    stack.service("control")
    running = await stack.until_status("RUNNING", 20)

    assert (running["running_revision"], running["saved_revision"], running["desired"]) == (2, 2, "RUNNING")
    saved = await stack.get("/workflows/ingress/config")
    assert len(saved["config"]["tables"]) == 1
    assert saved["diff"] == []


async def test_f78_a_stopped_workflow_stays_stopped_when_everything_is_restarted(stack: Stack) -> None:
    await run(stack, contacts())
    await stack.stop()
    for name in ("reader-1", "writer-1", "control-1"):
        assert await stack.processes[name].terminate() == 0
    stack.dynamics.upsert("contact", {"lastname": "Not now"})

    for role in ("control", "reader", "writer"):
        stack.service(role)
    await stack.until_status("STOPPED", 20)

    async def both_there() -> bool:
        return len((await stack.workflow())["services"]) == 2

    await stack.until(both_there, "both services report", 20)
    async with nothing_is_called(stack):
        assert (await stack.workflow())["desired"] == "STOPPED"


async def test_f79_f80_starting_for_too_long_is_failed(kafka_settings: KafkaSettings, tmp_path: Path) -> None:
    async with running(kafka_settings, tmp_path, CONTROL_START_DEADLINE_S="2") as stack:
        stack.service("reader")
        await stack.start(wait=False)

        async def told() -> bool:
            """Of the writer; for a moment the reader may be late as well."""
            found = await stack.workflow()
            reason = found["reason"] or {}
            return (found["status"], found["desired"], reason.get("role"), reason.get("code")) == SILENT

        await stack.until(told, "FAILED, for want of a writer", 10)
        stack.service("writer")
        await stack.until_status("RUNNING", 15)


async def test_health_and_readiness(stack: Stack) -> None:
    assert (await stack.http.get("/healthz")).status_code == 200
    assert (await stack.http.get("/readyz")).status_code == 200
