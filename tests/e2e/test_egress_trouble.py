"""Egress when something is wrong: expired journal, missing tables, late contacts, Dynamics at its limits."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from bridge.kafka.settings import KafkaSettings
from tests.e2e.helpers import headers_of, until_messages
from tests.e2e.stack import Stack, running
from tests.e2e.test_egress import KINDS, contact, events, until_there


async def prepared(stack: Stack, *kinds: str) -> None:
    stack.campaign.settings.change({"journal_retry_after_s": 0.2})
    for role in ("reader", "writer"):
        stack.service(role)
    await stack.save(events(*(kinds or KINDS)))


@pytest.mark.parametrize(("position", "there"), [("oldest", 7), ("latest", 5)])
async def test_an_expired_journal_is_told_with_the_choice_and_goes_on_as_chosen(
    kafka_settings: KafkaSettings, tmp_path: Path, position: str, there: int
) -> None:
    async with running(kafka_settings, tmp_path, workflow="egress") as stack:
        await prepared(stack, "send")
        person = contact(stack)
        stack.campaign.emit([{"kind": "send", "external_id": person} for _ in range(5)])
        await stack.start()
        await until_there(stack, 5)
        await stack.stop()
        stack.campaign.emit([{"kind": "send", "external_id": person} for _ in range(5)])
        stack.campaign.expire(keep=2)
        await stack.start(wait=False)
        reason: Any = (await stack.until_status("FAILED"))["reason"]
        refused = await stack.http.put("/api/v1/workflows/egress/cursors/journal", json={"position": position})
        await stack.stop()
        chosen = await stack.http.put("/api/v1/workflows/egress/cursors/journal", json={"position": position})
        await stack.start()
        await until_there(stack, there)

        assert (reason["code"], reason["origin"], reason["role"]) == ("journal_expired", "source", "reader")
        assert "oldest" in reason["hint"] and "latest" in reason["hint"]
        assert (refused.status_code, chosen.status_code) == (409, 202)
        assert len(stack.dynamics.timeline(person)) == there


async def test_missing_tables_and_columns_are_named_and_nothing_is_consumed(kafka_settings: KafkaSettings, tmp_path: Path) -> None:
    async with running(kafka_settings, tmp_path, workflow="egress") as stack:
        await prepared(stack)
        person = contact(stack)
        stack.dynamics.rename_table("adobe_emailopen", "xyz_open")
        stack.dynamics.rename_column("adobe_emailbounce", "adobe_datebounced", "xyz_when")
        stack.campaign.emit([{"kind": kind, "external_id": person} for kind in KINDS])
        await stack.start(wait=False)
        failed = await stack.until_status("FAILED")
        tested = (await stack.http.post("/api/v1/systems/dynamics/test")).json()
        journal = (await stack.http.post("/api/v1/systems/campaign/test")).json()

        assert failed["reason"]["code"] == "target_tables_missing"
        assert "adobe_emailopen" in failed["reason"]["message"] and "adobe_datebounced" in failed["reason"]["message"]
        assert failed["counters"]["written"] == 0 and sum(stack.dynamics.activities().values()) == 0
        assert [check["status"] for check in tested["checks"] if check["name"] == "permissions"] == ["failed"]
        assert [check["status"] for check in journal["checks"] if check["name"] == "journal"] == ["ok"]
        await stack.stop()
        stack.processes["writer-1"].kill()
        stack.service("writer", DYNAMICS_OPEN_TABLE="xyz_open", DYNAMICS_BOUNCE_DATE_COLUMN="xyz_when")
        await stack.start()
        await until_there(stack, 6)
        assert {row["activitytypecode"] for row in stack.dynamics.timeline(person)} >= {"xyz_open", "adobe_emailbounce"}


async def test_a_contact_that_comes_late_gets_its_event_and_holds_up_nobody(kafka_settings: KafkaSettings, tmp_path: Path) -> None:
    late = "99999999-2222-4333-8444-555555555555"
    async with running(kafka_settings, tmp_path, workflow="egress") as stack:
        await prepared(stack, "send")
        person = contact(stack)
        stack.campaign.emit([{"kind": "send", "external_id": late}, {"kind": "send", "external_id": person}])
        await stack.start()

        async def parked() -> bool:
            return bool((await stack.workflow())["counters"]["parked"] == 1 and stack.dynamics.timeline(person))

        await stack.until(parked, "one waits, the other is there")
        stack.dynamics.upsert("contact", {"contactid": late, "lastname": "Late"})
        await until_there(stack, 2)
        assert len(stack.dynamics.timeline(late)) == 1


async def test_the_limits_of_dynamics_are_respected(kafka_settings: KafkaSettings, tmp_path: Path) -> None:
    async with running(kafka_settings, tmp_path, workflow="egress", DYNAMICS_BATCH_MAX="20", DYNAMICS_CONCURRENCY="1") as stack:
        people = [contact(stack) for _ in range(10)]
        stack.dynamics.settings.change({"throttle": True, "limit_requests": 10, "window_s": 2.0, "early_grace_ms": 20.0})
        await prepared(stack, "send")
        stack.campaign.emit([{"kind": "send", "external_id": people[number % 10]} for number in range(600)])
        await stack.start()
        await until_there(stack, 600, within_s=90)

        counts = stack.dynamics.ledger.summary()
        assert counts["statuses"].get("429", 0) > 0, "the limit was never reached"
        assert stack.dynamics.limits.came_early == 0


async def parked(stack: Stack, number: int) -> bool:
    return int((await stack.workflow())["backlog"]["parked"]) >= number


async def test_a_thousand_events_of_people_who_are_not_there_stop_nothing_and_are_a_letter_each(
    kafka_settings: KafkaSettings, tmp_path: Path
) -> None:
    """After two restarts, too: since when they wait is kept in Kafka."""
    async with running(kafka_settings, tmp_path, workflow="egress", PARK_BUDGET_S="25") as stack:
        await prepared(stack, "send")
        stack.campaign.emit([{"kind": "send", "external_id": str(uuid4())} for _ in range(1_000)])
        await stack.start()
        await stack.until(lambda: parked(stack, 1_000), "all of them wait", 60)
        await until_messages(stack, "egress.email-events", 2_000, 60)  # each is there a second time, with since when it waits
        killed = datetime.now(UTC)
        for number in (2, 3):
            stack.processes[f"writer-{number - 1}"].kill()
            stack.service("writer", f"writer-{number}")
            await stack.until(lambda: parked(stack, 1), "they wait", 60)

        found = await until_messages(stack, "egress.dead-letters", 1_000, 120)
        await stack.until_caught_up()
        assert (await stack.workflow())["status"] == "RUNNING"
        assert {headers_of(each)["dlq.code"] for each in found} == {"contact_missing"}
        assert len(await until_messages(stack, "egress.dead-letters", 1_000)) == len({each.key() for each in found}) == 1_000
        waited_since = [datetime.fromisoformat(headers_of(each)["dlq.first-failed-at"]) for each in found]
        assert max(waited_since) < killed
