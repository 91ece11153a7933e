"""Tables under way, and replay in all its ways (control-api.md, Ingress tables; F94 to F98, F119, F120)."""

from __future__ import annotations

import asyncio
import time
from datetime import UTC, datetime
from functools import partial
from typing import Any

from confluent_kafka import Message

from sandbox.web import Fault
from tests.e2e.helpers import eventually, everything_passed, headers_of, messages, run, run_through, until_messages
from tests.e2e.stack import Stack, contacts
from tests.e2e.test_control_config import assert_problem

TABLES = "/api/v1/workflows/ingress/tables"
TABLE = contacts(fields={"lastname": "lastName"})
CITY = {"source": "address1_city", "target": "location.city", "apply_updates": False}  # moves only with a load or a replay (F120)
WITH_CITY = TABLE | {"fields": [*TABLE["fields"], CITY]}
NOBODY = "00000000-0000-4000-8000-000000000000"


async def table(stack: Stack) -> dict[str, Any]:
    """The one mapped table, as the API shows it."""
    (found,) = (await stack.get("/workflows/ingress/tables"))["tables"]
    shown: dict[str, Any] = found
    return shown


async def replay(stack: Stack, when: str, **more: Any) -> dict[str, Any]:
    answer = await stack.http.post(f"{TABLES}/contact/replay", json={"when": when, **more})
    assert answer.status_code == 202, answer.text
    body: dict[str, Any] = answer.json()
    return body


async def replayed(stack: Stack) -> list[Message]:
    """What has come through the replay topic as a replay, not as an initial load."""
    found = await asyncio.to_thread(messages, stack.kafka, "ingress.replay.contact")
    return [message for message in found if headers_of(message)["origin-lane"] == "replay"]


async def until_replay_is_over(stack: Stack, within_s: float = 30) -> None:
    async def over() -> bool:
        shown = await table(stack)
        return shown["replay"] is None and shown["progress"] is None and not shown["replay_armed"]

    await stack.until(over, "the replay is over", within_s)
    await stack.until_caught_up()


def last_name(stack: Stack, key: str) -> str:
    return str((stack.campaign.get("profile", key) or {}).get("lastName"))


def cities(stack: Stack, *keys: str) -> list[str]:
    """What Campaign holds for these."""
    return [str((stack.campaign.get("profile", key) or {"location": {}})["location"].get("city")) for key in keys]


async def moved(stack: Stack, *keys: str) -> None:
    """These have moved in Dynamics, and the change has been dealt with: Campaign still holds the old city."""
    for key in keys:
        stack.dynamics.upsert("contact", {"contactid": key, "address1_city": "New"})
    await everything_passed(stack)
    assert set(cities(stack, *keys)) == {"Old"}


def people(stack: Stack, number: int) -> list[str]:
    return [stack.dynamics.upsert("contact", {"lastname": f"Number {each}", "address1_city": "Old"}) for each in range(number)]


async def test_a_load_shows_its_progress(stack: Stack) -> None:
    people(stack, 2400)
    stack.dynamics.settings.latency_ms = 150
    before = await table(stack)
    assert (before["source"], before["target"], before["progress"], before["replay_armed"]) == ("contact", "profile", None, False)
    await run(stack, TABLE, reader={"DYNAMICS_PAGE_SIZE": "100"})
    seen: list[dict[str, Any]] = []

    async def loaded() -> bool:
        shown = await table(stack)
        if shown["progress"]:
            seen.append(shown["progress"])
        return shown["phase"] == "live" and shown["progress"] is None

    await stack.until(loaded, "the load is over", 60)
    done = [each["done"] for each in seen]
    assert {each["kind"] for each in seen} == {"initial"}
    assert done == sorted(done) and len(set(done)) >= 3, done
    assert all(each["total"] == 2400 and each["done"] <= 2400 for each in seen)
    assert any(each["eta_s"] is not None and 0 <= each["eta_s"] < 60 for each in seen)
    assert all(each["started_at"] for each in seen)
    after = await table(stack)
    assert after["rows_read"] == 2400
    assert 0 <= after["cursor_age_s"] < 30
    assert 6.9 <= after["change_tracking_days_left"] <= 7


async def test_f94_f95_a_replay_for_the_next_start_waits_and_is_done_once(stack: Stack) -> None:
    keys = people(stack, 40)
    await run_through(stack, WITH_CITY)
    await moved(stack, *keys)
    rows = len(stack.dynamics.rows("contact"))
    assert (await replay(stack, "next-start"))["replay_armed"] is True
    await stack.processes["control-1"].terminate()
    stack.service("control")
    await stack.until_status("RUNNING", 20)
    shown = (await table(stack))["replay"]
    assert (shown["when"], shown["state"]) == ("next-start", "armed")
    assert (await stack.http.delete(f"{TABLES}/contact/replay")).status_code == 202
    assert (await table(stack))["replay_armed"] is False

    await stack.stop()
    await stack.start()
    assert await replayed(stack) == [], "a disarmed one is not done"
    for _ in range(2):  # asking twice is asking once
        await replay(stack, "next-start")
    assert set(cities(stack, *keys)) == {"Old"}

    await stack.stop()
    assert (await table(stack))["replay_armed"] is True
    await stack.start()
    await until_replay_is_over(stack)
    assert len(await replayed(stack)) == rows
    assert set(cities(stack, *keys)) == {"New"}
    await stack.stop()
    await stack.start()
    await everything_passed(stack)
    assert len(await replayed(stack)) == rows, "done once"


async def test_a_replay_now_goes_beside_live_changes_and_can_be_cancelled(stack: Stack) -> None:
    keys = people(stack, 1500)
    await run_through(stack, TABLE, reader={"DYNAMICS_PAGE_SIZE": "50"})
    since = [each["since"] for each in (await stack.workflow())["services"]]
    stack.dynamics.settings.latency_ms = 400  # 30 pages: 12 s

    await replay(stack, "now")
    await until_messages_replayed(stack, 60)
    stack.dynamics.upsert("contact", {"contactid": keys[3], "lastname": "Newer"})
    stack.dynamics.upsert("contact", {"contactid": keys[-3], "lastname": "Newer"})
    began = time.monotonic()
    for key in (keys[3], keys[-3]):
        await eventually(stack, partial(is_newer, stack, key), "a live change passes", 10)
    shown = await table(stack)
    assert shown["progress"]["kind"] == "replay", f"under way still, {time.monotonic() - began:.1f} s later"
    assert 0 < shown["progress"]["done"] < shown["progress"]["total"]
    assert (shown["replay"]["when"], shown["replay"]["state"]) == ("now", "running")

    assert (await stack.http.delete(f"{TABLES}/contact/replay")).status_code == 202
    await until_replay_is_over(stack)
    number = len(await replayed(stack))
    assert 0 < number < 1500
    stack.dynamics.settings.latency_ms = 0
    await everything_passed(stack)
    assert len(await replayed(stack)) == number
    workflow = await stack.workflow()
    assert (workflow["status"], [each["since"] for each in workflow["services"]]) == ("RUNNING", since)
    assert (last_name(stack, keys[3]), last_name(stack, keys[-3])) == ("Newer", "Newer")


def is_newer(stack: Stack, key: str) -> bool:
    return last_name(stack, key) == "Newer"


async def until_messages_replayed(stack: Stack, number: int) -> None:
    async def enough() -> bool:
        return len(await replayed(stack)) >= number

    await stack.until(enough, f"{number} rows are replayed", 30)


async def test_a_replayed_row_never_overwrites_a_newer_change(stack: Stack) -> None:
    keys = people(stack, 60)
    await run_through(stack, WITH_CITY, reader={"DYNAMICS_PAGE_SIZE": "20"})
    await moved(stack, *keys)
    stack.campaign.ledger.faults.append(Fault("latency", method="PATCH", path="/profile", seconds=0.3))
    await replay(stack, "now")
    for number in range(5):
        for key in keys[::7]:
            stack.dynamics.upsert("contact", {"contactid": key, "lastname": f"Newest {number}"})
        await until_messages(stack, "ingress.changes.contact", (number + 1) * len(keys[::7]))
    await until_replay_is_over(stack, 60)
    await everything_passed(stack)

    assert {last_name(stack, key) for key in keys[::7]} == {"Newest 4"}
    assert set(cities(stack, *keys)) == {"New"}
    assert stack.differences() == []


async def test_f120_a_replay_of_some_keys_and_of_what_changed_since(stack: Stack) -> None:
    keys = people(stack, 30)
    await run_through(stack, WITH_CITY)
    await moved(stack, *keys[:10])

    await replay(stack, "now", keys=[keys[2], keys[5].upper(), NOBODY])
    await until_replay_is_over(stack)
    assert {(message.key() or b"").decode() for message in await replayed(stack)} == {keys[2], keys[5]}
    assert cities(stack, keys[2], keys[5], keys[6]) == ["New", "New", "Old"]

    stack.dynamics.advance(3600)
    since = datetime.fromtimestamp(stack.dynamics.store.now().timestamp() - 60, UTC)
    await moved(stack, keys[20])
    before = len(await replayed(stack))
    await replay(stack, "now", changed_since=since.isoformat())
    await until_replay_is_over(stack)
    assert len(await replayed(stack)) - before == 2, "the moved one and the sentinel"
    assert cities(stack, keys[20], keys[6]) == ["New", "Old"]

    await replay(stack, "now", keys=[NOBODY])
    await until_replay_is_over(stack)
    assert len(await replayed(stack)) == before + 2
    assert (await stack.workflow())["status"] == "RUNNING"


async def test_a_replay_that_cannot_be_is_refused(stack: Stack) -> None:
    body = assert_problem(await stack.http.post(f"{TABLES}/contact/replay", json={"when": "now"}), 409)
    assert body["detail"]
    for unmapped in ("new_vehicle", "nowhere"):
        assert_problem(await stack.http.post(f"{TABLES}/{unmapped}/replay", json={"when": "next-start"}), 404)
        assert_problem(await stack.http.delete(f"{TABLES}/{unmapped}/replay"), 404)
    now: dict[str, Any] = {"when": "now"}
    bodies: list[dict[str, Any]] = [{}, {"when": "later"}, now | {"keys": []}, now | {"changed_since": "yesterday"}, now | {"speed": 1}]
    for wrong in bodies:
        assert_problem(await stack.http.post(f"{TABLES}/contact/replay", json=wrong), 422)
    assert (await stack.http.delete(f"{TABLES}/contact/replay")).status_code == 202, "idempotent: nothing was armed"

    # F97: two million rows and more are not replayed at the next start
    counted = '{"EntityRecordCountCollection": {"Count": 1, "IsReadOnly": false, "Keys": ["contact"], "Values": [%d]}}'
    fault = Fault("status", path="RetrieveTotalRecordCount", status=200, body=counted % 2_000_000, content_type="application/json")
    stack.dynamics.ledger.faults.append(fault)
    assert_problem(await stack.http.post(f"{TABLES}/contact/replay", json={"when": "next-start"}), 409, "table_too_large")
    assert (await table(stack))["replay_armed"] is False
    fault.body = counted % 1_999_999
    await replay(stack, "next-start")
