"""What a change costs in calls of Campaign: none when nothing differs, else one with what differs (campaign.md §9.1)."""

from __future__ import annotations

import asyncio

from tests.e2e.helpers import calls_of, eventually, everything_passed, kept, messages, run_through, until_messages
from tests.e2e.stack import CONTACT_FIELDS, Stack, contacts

FLAGS = {"donotemail": "blackListEmail", "donotbulkemail": "blackList", "donotphone": "blackListPhone"}


async def test_a_change_that_means_nothing_to_campaign_costs_no_call(stack: Stack) -> None:
    """An unmapped column, a value written again, and a record Dynamics repeats."""
    stack.dynamics.load(contacts=100, seed=7)
    await run_through(stack, contacts())
    keys = [row["contactid"] for row in stack.dynamics.rows("contact") if row["lastname"] != "Sentinel"]
    before, calls = len(stack.campaign.writes()), calls_of(stack, "profile")
    stack.dynamics.settings.repeats = 20

    for key in keys[:40]:
        stack.dynamics.upsert("contact", {"contactid": key, "jobtitle": "Gardener"})
    for key in keys[40:80]:
        stack.dynamics.upsert("contact", {"contactid": key, "lastname": stack.dynamics.store.data["contact"].rows[key]["lastname"]})
    sentinel = stack.dynamics.upsert("contact", {"lastname": "Sentinel"})
    await eventually(stack, lambda: stack.campaign.get("profile", sentinel), "the contact written last arrives")
    stack.dynamics.settings.repeats = 0
    await stack.until_caught_up()

    assert [write["key"] for write in stack.campaign.writes()[before:]] == [sentinel]
    assert calls_of(stack, "profile") == calls | {"POST": calls["POST"] + 1}
    assert stack.campaign.counts()["unchanged_updates"] == 0


async def test_an_update_sends_only_what_has_changed(stack: Stack) -> None:
    key = stack.dynamics.upsert("contact", {"firstname": "Anna", "lastname": "Meyer", "address1_city": "Turin"})
    await run_through(stack, contacts())

    stack.dynamics.upsert("contact", {"contactid": key, "address1_city": "Leeds", "jobtitle": "Nurse"})
    await everything_passed(stack)

    assert [write["method"] for write in stack.campaign.writes("profile", key)] == ["POST", "PATCH"]
    assert stack.campaign.writes("profile", key)[-1]["fields"] == {"location": {"city": "Leeds"}}


async def test_consents_are_written_when_they_change_and_never_else(stack: Stack) -> None:
    stack.dynamics.load(contacts=150, seed=8)
    await run_through(stack, contacts(fields=CONTACT_FIELDS | FLAGS))
    created = [write["fields"] for write in stack.campaign.writes("profile") if write["method"] == "POST"]
    assert not [body for body in created if any(body.get(flag) is False for flag in FLAGS.values())]
    row = next(row for row in stack.dynamics.rows("contact") if not row["donotemail"])

    stack.dynamics.upsert("contact", {"contactid": row["contactid"], "donotemail": True})
    await everything_passed(stack)
    assert kept(stack, "profile", row["contactid"])[-1]["fields"] == {"blackListEmail": True}
    stack.dynamics.upsert("contact", {"contactid": row["contactid"], "donotemail": False, "lastname": "Changed"})
    stack.dynamics.churn(seed=9, updates=120, inserts=20)
    await everything_passed(stack)

    assert stack.campaign.counts()["unchanged_opt_out_writes"] == 0
    for row in stack.dynamics.rows("contact"):
        profile = stack.campaign.get("profile", row["contactid"]) or {}
        assert [profile[flag] for flag in FLAGS.values()] == [row[flag] for flag in FLAGS]


async def test_ten_changes_of_one_contact_that_wait_cost_one_call(stack: Stack) -> None:
    key = stack.dynamics.upsert("contact", {"firstname": "Anna", "lastname": "Start"})
    await run_through(stack, contacts(), reader={"DYNAMICS_POLL_INTERVAL_S": "0.1"})
    calls = calls_of(stack, "profile")
    published = len(await asyncio.to_thread(messages, stack.kafka, "ingress.changes.contact"))
    assert await stack.processes["writer-1"].terminate() == 0

    for number in range(10):
        stack.dynamics.upsert("contact", {"contactid": key, "lastname": f"Change {number}"})
        await until_messages(stack, "ingress.changes.contact", published + number + 1)
    stack.service("writer")
    await eventually(stack, lambda: (stack.campaign.get("profile", key) or {})["lastName"] == "Change 9", "the last change arrives")
    await stack.until_caught_up()

    assert [write["fields"] for write in kept(stack, "profile", key)[1:]] == [{"lastName": "Change 9"}]
    now = calls_of(stack, "profile")
    assert (now["POST"], now["PATCH"]) == (calls["POST"], calls.get("PATCH", 0) + 1)
