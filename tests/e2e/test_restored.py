"""Dynamics is restored from a backup while the product runs: its versions start over, and nothing said afterwards is lost (K5)."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

from bridge.kafka.avro import Decoder, load_schema
from bridge.kafka.registry import HttpRegistry
from bridge.kafka.settings import KafkaSettings
from bridge.model.events import ChangeEvent
from tests.e2e.consent import config, consenting, person, until_both
from tests.e2e.helpers import eventually, everything_passed, latest, messages, run_through, until_reason
from tests.e2e.stack import Stack, contacts

RESTORED = "/api/v1/systems/dynamics/restored"


async def say_restored(stack: Stack) -> dict[str, int]:
    answer = await stack.http.post(RESTORED, json={"reason": "restored to 3 March"})
    assert answer.status_code == 202, answer.text
    epochs: dict[str, int] = answer.json()
    return epochs


async def until_live_in_epoch(stack: Stack, epoch: int, workflow: str = "ingress") -> dict[str, Any]:
    """Until the cursor of contact is there, and its full read over; the cursor."""

    async def reached() -> dict[str, Any] | None:
        cursor = (await asyncio.to_thread(latest, stack.kafka, f"{workflow}.cursors")).get("dynamics:contact") or {}
        return cursor if cursor.get("epoch") == epoch and cursor["phase"] == "live" else None

    found: dict[str, Any] = await stack.until(reached, f"contact is live in epoch {epoch}", 40)
    return found


async def changes_of(stack: Stack, key: str) -> list[ChangeEvent]:
    """All live events of one contact, in their order."""
    decoder = Decoder(HttpRegistry(stack.kafka), load_schema("ChangeEvent"), ChangeEvent)
    found = await asyncio.to_thread(messages, stack.kafka, "ingress.changes.contact")
    return [await decoder.decode(each.value()) for each in found if (each.key() or b"").decode() == key]


async def loaded_then_put_back(stack: Stack) -> str:
    """A contact is read; it changes a few times after a backup, and the backup is restored. Its key."""
    key = stack.dynamics.upsert("contact", {"lastname": "at the backup"})
    await run_through(stack, contacts(apply_deletes=True))
    state = stack.dynamics.backup()
    for number in range(5):
        stack.dynamics.advance(2)
        stack.dynamics.upsert("contact", {"contactid": key, "lastname": f"after the backup {number}"})
        await everything_passed(stack)
    stack.dynamics.settings.future_token = "taken"
    stack.dynamics.restore(state)
    return key


async def test_restored_is_said_without_anything_configured_needs_a_reason_and_is_audited(stack: Stack) -> None:
    assert (await stack.http.post(RESTORED, json={})).status_code == 422
    assert (await stack.http.post(RESTORED, json={"reason": ""})).status_code == 422

    assert [await say_restored(stack) for _ in range(2)] == [{"ingress": 1, "optin": 1}, {"ingress": 2, "optin": 2}]

    entries = [each for each in (await stack.get("/audit"))["entries"] if each["what"] == "restored"]
    assert [each["after"] for each in entries] == [{"ingress": each, "optin": each, "reason": "restored to 3 March"} for each in (2, 1)]
    await stack.until_status("STOPPED")


async def test_said_restored_a_running_reader_reads_everything_again_and_later_changes_arrive(stack: Stack) -> None:
    key = await loaded_then_put_back(stack)
    before = max(each.version or 0 for each in await changes_of(stack, key))

    await say_restored(stack)
    await until_live_in_epoch(stack, 1)
    await stack.until_equal(20)
    stack.dynamics.upsert("contact", {"contactid": key, "lastname": "after the restore"})

    await eventually(stack, lambda: (stack.campaign.get("profile", key) or {}).get("lastName") == "after the restore", "the change arrives")
    last = (await changes_of(stack, key))[-1]
    assert (last.epoch, last.lane) == (1, "live")
    assert (last.version or 0) < before
    workflow = await stack.workflow()
    assert workflow["status"] == "RUNNING"


async def test_said_restored_while_it_is_stopped_the_next_start_reads_everything_again(stack: Stack) -> None:
    await loaded_then_put_back(stack)
    await stack.stop()

    await say_restored(stack)
    await stack.start()

    await until_live_in_epoch(stack, 1)
    await stack.until_equal(20)
    reader = stack.processes["reader-1"]
    reader.kill()
    stack.service("reader", instance="reader-2")
    await everything_passed(stack)
    assert (await until_live_in_epoch(stack, 1))["restored"] == 1


async def test_unsaid_it_fails_with_words_and_start_puts_it_right(stack: Stack) -> None:
    key = await loaded_then_put_back(stack)
    stack.dynamics.advance(10)
    stack.dynamics.upsert("contact", {"contactid": key, "lastname": "after the restore"})

    reason = await until_reason(stack, "versions_went_back")
    assert "contact" in reason["message"]
    assert "after the restore" not in str(reason)
    stack.processes["reader-1"].kill()
    stack.service("reader", instance="reader-2")
    await until_reason(stack, "versions_went_back")
    await stack.start()

    await until_live_in_epoch(stack, 1)
    await eventually(stack, lambda: (stack.campaign.get("profile", key) or {}).get("lastName") == "after the restore", "the change arrives")
    await everything_passed(stack)
    await stack.until_equal(20)
    assert (await stack.workflow())["status"] == "RUNNING"


async def test_an_opt_out_given_after_the_restore_reaches_campaign(kafka_settings: KafkaSettings, tmp_path: Path) -> None:
    async with consenting(kafka_settings, tmp_path) as stack:
        ada, bob = person(stack, "Ada"), person(stack, "Bob")
        await stack.save(config())
        await stack.start()
        await until_live_in_epoch(stack, 0, "optin")
        state = stack.dynamics.backup()
        for _ in range(4):
            stack.dynamics.upsert("contact", {"contactid": bob, "lastname": "edited"})
        stack.dynamics.upsert("contact", {"contactid": bob, "donotemail": True})
        await until_both(stack, bob, True)
        stack.dynamics.restore(state)

        await say_restored(stack)
        await until_live_in_epoch(stack, 1, "optin")
        stack.dynamics.upsert("contact", {"contactid": ada, "donotemail": True})

        await until_both(stack, ada, True)
        await until_both(stack, bob, True)


async def test_a_cursor_that_is_forgotten_after_another_organisation_answered_begins_in_its_epoch(
    kafka_settings: KafkaSettings, tmp_path: Path
) -> None:
    """Else all that is observed then would look older than what is known."""
    async with consenting(kafka_settings, tmp_path) as stack:
        ada = person(stack, "Ada")
        await stack.save(config())
        await stack.start()
        await until_live_in_epoch(stack, 0, "optin")
        stack.dynamics.settings.organization = "22222222-0000-4000-8000-00000000000a"
        stack.processes["reader-1"].kill()
        stack.service("reader", instance="reader-2", STATE_DIR=str(tmp_path / "state"))
        reason = await until_reason(stack, "versions_went_back")
        assert "22222222" not in str(reason)

        await stack.stop()
        assert (await stack.http.delete("/api/v1/workflows/optin/cursors/contact")).status_code == 202
        await stack.start()

        cursor = await until_live_in_epoch(stack, 1, "optin")
        assert (cursor["lane"], cursor["organisation"]) == ("initial", stack.dynamics.settings.organization)
        stack.dynamics.upsert("contact", {"contactid": ada, "donotemail": True})
        await until_both(stack, ada, True)
