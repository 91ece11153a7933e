"""What the API tells is true soon after the fact, whoever is killed, and whichever control is asked (control-api.md, Workflows)."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import datetime, timedelta
from typing import Any

import httpx
import pytest

from tests.e2e.helpers import eventually, everything_passed, heartbeat, messages, run, run_through
from tests.e2e.stack import Stack, contacts
from tests.e2e.test_api_dead_letters import second_control
from tests.e2e.test_control_config import CONFIG

INGRESS = "/api/v1/workflows/ingress"
TRUE_WITHIN_S = 5


async def until_told(stack: Stack, client: httpx.AsyncClient, holds: Callable[[dict[str, Any]], bool], what: str, within_s: float) -> Any:
    """Until this control tells of the workflow what holds; that."""

    async def told() -> dict[str, Any] | None:
        answer = await client.get(INGRESS)
        return answer.json() if answer.status_code == 200 and holds(answer.json()) else None

    return await stack.until(told, what, within_s)


@asynccontextmanager
async def two_controls(stack: Stack) -> AsyncIterator[httpx.AsyncClient]:
    """A second control beside the first; a client of it, once it is ready."""
    other = second_control(stack)
    try:
        await until_told(stack, other, lambda _: True, "the second control answers", 20)
        yield other
    finally:
        await other.aclose()


@asynccontextmanager
async def flowing(stack: Stack, keys: list[str]) -> AsyncIterator[None]:
    """Records change all the time while the block runs."""

    async def edit() -> None:
        number = 0
        while True:
            for key in keys:
                number += 1
                stack.dynamics.upsert("contact", {"contactid": key, "lastname": f"Edit {number}"})
                await asyncio.sleep(0.02)

    editing = asyncio.create_task(edit())
    try:
        yield
    finally:
        editing.cancel()


def people(stack: Stack, number: int) -> list[str]:
    return [
        stack.dynamics.upsert("contact", {"lastname": f"Number {each}", "emailaddress1": f"p{each}@x.example"}) for each in range(number)
    ]


async def generations(stack: Stack) -> list[Any]:
    """The generation of every start that was recorded, each once, in order."""
    found = await asyncio.to_thread(messages, stack.kafka, "control.workflows")
    states = [json.loads(message.value() or b"{}") for message in found if message.key() == b"ingress"]
    return list(dict.fromkeys(state["generation"] for state in states if state["desired"] == "RUNNING"))


async def test_the_status_follows_the_facts_within_five_seconds(stack: Stack) -> None:
    await stack.configure(contacts())
    for role in ("reader", "writer"):
        stack.service(role)
    await stack.start(wait=False)

    async def both(status: str) -> bool:
        beats = [await asyncio.to_thread(heartbeat, stack, role) for role in ("reader", "writer")]
        return [beat.get("status") for beat in beats] == [status] * 2

    await stack.until(lambda: both("RUNNING"), "both say so", 30)
    running = await stack.until_status("RUNNING", TRUE_WITHIN_S)
    assert (await stack.workflow())["status_since"] == running["status_since"]
    key = stack.dynamics.upsert("contact", {"lastname": "One"})
    await eventually(stack, lambda: stack.campaign.get("profile", key), "it is written")
    await until_told(
        stack,
        stack.http,
        lambda told: bool(
            told["counters"]["written"] == told["counters"]["read"] == 1 and told["last_read_at"] and told["last_written_at"]
        ),
        "it is counted",
        TRUE_WITHIN_S,
    )

    stack.dynamics.remove_column("contact", "firstname")
    await stack.until(lambda: one_failed(stack), "the reader says so", 30)
    failed = await stack.until_status("FAILED", TRUE_WITHIN_S)
    assert (failed["reason"]["role"], failed["reason"]["origin"]) == ("reader", "source")
    await stack.stop(wait=False)
    await stack.until(lambda: both("STOPPED"), "both say so", 30)
    stopped = await stack.until_status("STOPPED", TRUE_WITHIN_S)
    assert (stopped["desired"], stopped["running_revision"]) == ("STOPPED", None)


async def one_failed(stack: Stack) -> bool:
    return (await asyncio.to_thread(heartbeat, stack, "reader")).get("status") == "FAILED"


@pytest.mark.parametrize(("role", "how"), [("reader", "killed"), ("writer", "killed"), ("writer", "ended")])
async def test_f80_a_killed_service_is_told_within_its_deadline_and_a_new_one_clears_it(stack: Stack, role: str, how: str) -> None:
    people(stack, 20)
    await run_through(stack, contacts())
    await ended(stack, role, how)
    gone = time.monotonic()

    failed = await stack.until_status("FAILED", 15)

    assert time.monotonic() - gone < 15
    reason = failed["reason"]
    assert (reason["role"], reason["code"], reason["origin"], failed["desired"]) == (role, "service_silent", "service", "RUNNING")
    assert reason["hint"] and reason["message"] and reason["since"]
    for _ in range(12):
        again = await stack.workflow()
        assert [again[each] for each in ("status", "status_since", "reason")] == ["FAILED", failed["status_since"], reason]
        await asyncio.sleep(0.5)
    stack.service(role)
    cleared = await stack.until_status("RUNNING", 30)
    assert cleared["reason"] is None
    await everything_passed(stack)
    assert stack.differences() == []


async def ended(stack: Stack, role: str, how: str) -> None:
    """By kill -9, or by SIGTERM, which lets it say goodbye."""
    if how == "killed":
        stack.processes[f"{role}-1"].kill()
    else:
        assert await stack.processes[f"{role}-1"].terminate() == 0


async def test_control_restarted_says_since_the_same_time_that_a_service_is_silent(stack: Stack) -> None:
    await run(stack, contacts())
    stack.processes["writer-1"].kill()
    before = await stack.until_status("FAILED", 15)

    assert await stack.processes["control-1"].terminate() == 0
    stack.service("control")
    after = await stack.until_status("FAILED", 20)

    assert after["reason"]["code"] == "service_silent"
    for told in (after["status_since"], after["reason"]["since"], before["reason"]["since"]):
        assert abs(datetime.fromisoformat(told) - datetime.fromisoformat(before["status_since"])) <= timedelta(seconds=3)


async def test_what_one_control_saves_the_other_can_edit(stack: Stack) -> None:
    async with two_controls(stack) as other:
        await stack.configure(contacts())
        etag = (await stack.http.get(CONFIG)).headers["etag"]
        await until_told(stack, other, lambda told: told["saved_revision"] == 2, "the revision", TRUE_WITHIN_S)
        config = {"tables": [contacts(apply_deletes=True)]}
        saved = await other.put(CONFIG, json={"config": config}, headers={"If-Match": etag})
        assert (saved.status_code, saved.json().get("revision")) == (200, 3), saved.text
        stale = await stack.http.put(CONFIG, json={"config": config}, headers={"If-Match": etag})
        assert stale.status_code == 412, "even before the first control has heard of it"
        await until_told(stack, stack.http, lambda told: told["saved_revision"] == 3, "the revision", TRUE_WITHIN_S)
        assert (await stack.http.get(CONFIG)).headers["etag"] == saved.headers["etag"]


async def test_what_one_control_starts_the_other_can_replay(stack: Stack) -> None:
    people(stack, 3)
    async with two_controls(stack) as other:
        await run_through(stack, contacts())
        await until_told(stack, other, lambda told: told["status"] == "RUNNING", "it runs", TRUE_WITHIN_S)
        asked = await other.post(f"{INGRESS}/tables/contact/replay", json={"when": "now"})
        assert asked.status_code == 202, asked.text
        await stack.stop()
        deleted = await other.delete(f"{INGRESS}/cursors/contact")
        assert deleted.status_code == 202, deleted.text


async def test_start_pressed_on_two_controls_at_once_starts_once(stack: Stack) -> None:
    await stack.configure(contacts())
    for role in ("reader", "writer"):
        stack.service(role)
    async with two_controls(stack) as other:
        pressed = await asyncio.gather(*(client.post(f"{INGRESS}/start") for client in (stack.http, other) * 3))
        assert {each.status_code for each in pressed} == {202}
        for client in (stack.http, other):
            told = await until_told(stack, client, lambda told: told["status"] == "RUNNING", "it runs", 30)
            assert (told["running_revision"], told["pending_changes"]) == (2, False)
        assert len(await generations(stack)) == 1, "pressed six times, started once"
        assert (await other.post(f"{INGRESS}/tables/contact/replay", json={"when": "next-start"})).status_code == 202

        async def armed() -> bool:
            return bool((await stack.get("/workflows/ingress/tables"))["tables"][0]["replay_armed"])

        await stack.until(armed, "the replay is armed on the other, too", TRUE_WITHIN_S)
        assert (await other.post(f"{INGRESS}/stop", json={"comment": "from the other"})).status_code == 202
        for client in (stack.http, other):
            await until_told(stack, client, lambda told: told["status"] == "STOPPED", "it is stopped", 20)


async def press(client: httpx.AsyncClient, first: int) -> list[str]:
    """Start and Stop in turn, twenty-five times; the answers that were not 202."""
    paths = [f"{INGRESS}/{('start', 'stop')[(first + number) % 2]}" for number in range(25)]
    answers = [await client.post(path, timeout=60) for path in paths]  # each waits for those of the others
    return [f"{answer.status_code} {answer.text}" for answer in answers if answer.status_code != 202]


async def test_a_hundred_presses_by_four_people_on_two_controls_lose_nothing(stack: Stack) -> None:
    keys = people(stack, 60)
    await run(stack, contacts(apply_deletes=True))
    async with two_controls(stack) as other, flowing(stack, keys):
        four = await asyncio.gather(*(press(client, number // 2) for number, client in enumerate((stack.http, other) * 2)))
        assert (await other.post(f"{INGRESS}/stop")).status_code == 202
        for client in (stack.http, other):
            told = await until_told(stack, client, lambda told: told["status"] == told["desired"] == "STOPPED", "it is stopped", 40)
            assert told["reason"] is None
    await stack.start()
    for key in keys[::9]:
        stack.dynamics.delete("contact", key)
    await everything_passed(stack)
    await stack.until_equal()
    created = [write["key"] for write in stack.campaign.writes("profile") if write["status"] == 201]
    assert len(created) == len(set(created))
    assert (await stack.workflow())["counters"]["dead_lettered"] == 0
    assert [refused for each in four for refused in each] == [], "every press is recorded"


async def test_without_control_the_work_goes_on_and_it_comes_back_with_the_truth(stack: Stack) -> None:
    keys = people(stack, 30)
    await run_through(stack, contacts())
    before, config = await stack.workflow(), await stack.get("/workflows/ingress/config")
    async with flowing(stack, keys[:10]):
        assert await stack.processes["control-1"].terminate() == 0
        new = stack.dynamics.upsert("contact", {"lastname": "Meanwhile"})
        await eventually(stack, lambda: stack.campaign.get("profile", new), "it is written without control")
        stack.service("control")
        after = await stack.until_status("RUNNING", 20)
    assert await stack.get("/workflows/ingress/config") == config
    runs = [{(each["instance"], each["since"]) for each in told["services"]} for told in (before, after)]
    assert runs[0] == runs[1], "nobody was started again"
    assert after["running_revision"] == before["running_revision"]
    assert after["counters"]["written"] > before["counters"]["written"]
    assert after["counters"]["read"] > before["counters"]["read"]
    await everything_passed(stack)
    assert stack.differences() == []
