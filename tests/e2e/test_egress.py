"""Egress end to end: what happened to an e-mail is on the contact's timeline (F158–F174)."""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator, Mapping
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from bridge.kafka.settings import KafkaSettings
from tests.e2e.helpers import headers_of, messages
from tests.e2e.stack import Stack, running

KINDS = ("send", "open", "click", "bounce")
TABLES = {"send": "adobe_emailsend", "open": "adobe_emailopen", "click": "adobe_emailurlclick", "bounce": "adobe_emailbounce"}
DATES = {"send": "adobe_datesent", "open": "adobe_dateopened", "click": "adobe_dateclicked", "bounce": "adobe_datebounced"}


CLICKED, BOUNCED = "Follow up on URL click", "Reconcile email address"  # F172, F173
FOLLOW_UPS = {
    CLICKED: "Adobe campaign email clicked at 2026-03-01T11:30:00Z",
    BOUNCED: "Adobe campaign email bounced at 2026-03-01T11:30:00Z",
}


def events(*kinds: str) -> dict[str, Any]:
    return {"events": {kind: kind in kinds for kind in KINDS}}


def contact(stack: Stack) -> str:
    return stack.dynamics.upsert("contact", {"lastname": "Lovelace", "emailaddress1": "ada@example.com"})


async def restart(stack: Stack) -> None:
    await stack.stop()
    await stack.start()


async def until_there(stack: Stack, number: int, within_s: float = 60) -> None:
    async def there() -> bool:
        return sum(stack.dynamics.activities().values()) >= number

    await stack.until(there, f"{number} activities", within_s)
    await stack.until_caught_up()


async def until_filtered(stack: Stack, number: int) -> None:
    """Counters come with the heartbeats."""

    async def filtered() -> bool:
        return bool((await stack.workflow())["counters"]["filtered"] == number)

    await stack.until(filtered, f"{number} events are dropped")


def tasks(stack: Stack) -> Counter[str]:
    return Counter(row["subject"] for row in stack.dynamics.rows("task"))


@pytest.fixture
async def stack(kafka_settings: KafkaSettings, tmp_path: Path) -> AsyncIterator[Stack]:
    async with running(kafka_settings, tmp_path, workflow="egress", PARK_BUDGET_S="3") as stack:
        stack.campaign.settings.change({"journal_retry_after_s": 0.2})
        for role in ("reader", "writer"):
            stack.service(role)
        yield stack


async def test_f158_to_f161_nothing_by_default_then_the_kinds_selected_from_the_next_start_on(stack: Stack) -> None:
    person = contact(stack)
    assert (await stack.get("/workflows/egress/config"))["config"] == events()
    assert (await stack.http.post("/api/v1/workflows/egress/start")).status_code == 409
    stack.campaign.emit([{"kind": kind, "external_id": person} for kind in ("send", "open", "soft_bounce", "click")])
    stack.campaign.emit([{"kind": "send", "external_id": person, "member": "proof"}])

    await stack.save(events("send", "bounce"))
    await stack.start()
    await until_there(stack, 1)
    assert [row["activitytypecode"] for row in stack.dynamics.timeline(person)] == ["adobe_emailsend"]
    await until_filtered(stack, 4)
    await stack.save(events("send", "open"))
    stack.campaign.emit([{"kind": "open", "external_id": person}])
    await until_filtered(stack, 5)
    assert (await stack.workflow())["pending_changes"]
    await restart(stack)
    stack.campaign.emit([{"kind": "open", "external_id": person}])
    await until_there(stack, 2)
    assert stack.dynamics.activities()["adobe_emailopen"] == 1, "what was dropped came again"


async def test_f162_to_f174_each_event_is_one_activity_with_its_facts_and_follow_ups_as_switched(stack: Stack) -> None:
    person, at = contact(stack), "2026-03-01T11:30:00+00:00"
    about = {"external_id": person, "campaign": "CAMP2010", "delivery": "DM200", "at": at, "url": "https://shop.example/x"}
    stack.campaign.emit([{"kind": kind, **about} for kind in KINDS])
    await stack.save(events(*KINDS))
    await stack.start()
    await until_there(stack, 6)

    timeline = stack.dynamics.timeline(person)
    by_table: Mapping[str, Any] = {row["activitytypecode"]: row for row in timeline}
    for kind, table in TABLES.items():
        row = by_table[table]
        assert row["subject"] == "Campaign Name: CAMP2010; Delivery Name: DM200"
        assert (row["adobe_campaignname"], row["adobe_deliveryname"]) == ("CAMP2010", "DM200")
        assert (row["regardingobjectid"], row["ownerid"]) == (person, "11111111-0000-4000-8000-000000000001")
        assert row[DATES[kind]] == "2026-03-01T11:30:00Z"
        assert row["adobe_mirrorpageurl"]
        assert row.get("adobe_trackingurl") == ("https://shop.example/x" if kind == "click" else None)
    for task in (row for row in timeline if row["activitytypecode"] == "task"):
        due = datetime.fromisoformat(task["scheduledend"]) - datetime.fromisoformat(task["createdon"])
        assert abs(due - timedelta(days=3)) <= timedelta(seconds=2)
        assert task["description"].startswith(FOLLOW_UPS[task["subject"]]), task["description"]
    assert tasks(stack) == {CLICKED: 1, BOUNCED: 1}
    for click, bounce, there, made in ((True, False, 9, (2, 1)), (False, True, 12, (2, 2)), (False, False, 14, (2, 2))):
        stack.dynamics.settings.change({"click_follow_up": click, "bounce_follow_up": bounce})
        stack.campaign.emit([{"kind": kind, **about} for kind in ("click", "bounce")])
        await until_there(stack, there)
        assert tasks(stack) == {CLICKED: made[0], BOUNCED: made[1]}

    topic = messages(stack.kafka, "egress.email-events")
    assert {(message.key() or b"").decode() for message in topic} == {person}
    assert {"traceparent", "origin-lane", "source-version", "produced-by"} <= headers_of(topic[0]).keys()
    assert not any(b"@" in (message.value() or b"") for message in topic), "an e-mail address travels"
    traced = await stack.get(f"/workflows/egress/records/{person}")
    assert (traced["outcome"], traced["target_status"]) == ("created", 204)


async def test_the_whole_journal_again_and_again_in_any_order_makes_no_activity_twice(stack: Stack) -> None:
    people = [contact(stack) for _ in range(20)]
    stack.dynamics.settings.change({"click_follow_up": False, "bounce_follow_up": False})
    stack.campaign.settings.change({"journal_duplicates": 0.2, "journal_shuffle": True})
    made = stack.campaign.traffic(seed=1, mails=200, keys=people)["expected"]
    await stack.save(events(*KINDS))
    await stack.start()
    await until_there(stack, sum(made.values()))
    for seed in (2, 3):
        stack.campaign.redeliver(seed=seed)

    async def all_again() -> bool:
        counters = (await stack.workflow())["counters"]
        return bool(counters["written"] + counters["unchanged"] >= 3 * sum(made.values()))

    await stack.until(all_again, "everything has come three times")
    await stack.until_caught_up()
    assert {kind: stack.dynamics.activities()[table] for kind, table in TABLES.items()} == made


async def test_what_has_no_contact_is_kept_aside_and_goes_once_it_can(stack: Stack) -> None:
    person, nobody = contact(stack), "99999999-2222-4333-8444-555555555555"
    stack.campaign.emit([{"kind": "send", "external_id": person} for _ in range(99)])
    stack.campaign.emit([{"kind": "send", "external_id": nobody}, {"kind": "send", "external_id": None}])
    await stack.save(events("send"))
    await stack.start()
    await until_there(stack, 99)

    async def both() -> list[Any] | None:
        found: list[Any] = (await stack.get("/workflows/egress/dead-letters?values=true"))["dead_letters"]
        return found if len(found) == 2 else None

    letters = {each["code"]: each for each in await stack.until(both, "both are dead letters")}
    assert letters.keys() == {"contact_missing", "contact_key_missing"}
    assert letters["contact_key_missing"]["value"]["type"] == "directMarketing.emailSent"
    assert letters["contact_missing"]["value"]["contact_key"] == nobody
    stack.dynamics.upsert("contact", {"contactid": nobody, "lastname": "Late"})
    again = await stack.http.post("/api/v1/workflows/egress/dead-letters/redrive", json={"ids": [letters["contact_missing"]["id"]]})
    assert again.json()["redriven"] == 1
    await until_there(stack, 100)
    assert len(stack.dynamics.timeline(nobody)) == 1
