"""Trouble on the side of Dynamics: limits, outages, expired tracking, and changes in the middle of a first load."""

from __future__ import annotations

import pytest

from sandbox.web import Fault
from tests.e2e.helpers import eventually, everything_passed, new_key, run, run_through, service_logs
from tests.e2e.stack import CONTACT_FIELDS, Stack, contacts, vehicles

PAGES = {"DYNAMICS_PAGE_SIZE": "20"}


async def go(stack: Stack) -> None:
    """Starts both services and what is saved."""
    stack.service("reader", **PAGES)
    stack.service("writer")
    await stack.start()


async def test_no_call_comes_within_the_wait_that_dynamics_asked_for(stack: Stack) -> None:
    stack.dynamics.load(contacts=200, vehicles=40, seed=3)
    stack.campaign.settings.cardinality = {"cusVehicle.cusOwner": "0or1"}
    await stack.configure(contacts(), vehicles())  # before, since control asks for metadata, several at once
    stack.dynamics.settings.change({"throttle": True, "limit_requests": 8, "window_s": 2.0})

    await go(stack)
    await stack.until_equal()

    assert stack.dynamics.ledger.statuses[429] > 0
    assert stack.dynamics.limits.came_early <= stack.dynamics.ledger.statuses[429] // 2, "only the other table's call was under way"
    assert (await stack.workflow())["status"] == "RUNNING"


async def test_a_429_is_waited_out_before_the_next_call(stack: Stack) -> None:
    """One table, so that no other request can be under way."""
    stack.dynamics.load(contacts=200, seed=3)
    await stack.configure(contacts())
    stack.dynamics.settings.change({"throttle": True, "limit_requests": 8, "window_s": 2.0})

    await go(stack)
    await stack.until_equal()

    assert stack.dynamics.ledger.statuses[429] > 0
    assert stack.dynamics.limits.came_early == 0


async def test_pages_of_html_and_cut_connections_are_survived(stack: Stack) -> None:
    stack.dynamics.load(contacts=200, seed=3)
    page = "<html><body>Service Unavailable</body></html>"
    stack.dynamics.ledger.faults += [
        Fault("status", path="contacts", status=503, body=page, content_type="text/html", skip=2, times=2),
        Fault("cut_before", path="contacts", skip=5, times=2),
        Fault("cut_after", path="contacts", skip=7, times=2),
        Fault("status", path="contacts", status=200, body=page, content_type="text/html", skip=10, times=1),
    ]

    await run(stack, contacts(apply_deletes=True), reader=PAGES)
    await stack.until_equal()
    stack.dynamics.ledger.faults.append(Fault("status", status=502, body=page, content_type="text/html", times=3))
    stack.dynamics.churn(seed=4, updates=20, inserts=5, deletes=5)
    await stack.until_equal()

    assert all(fault.struck for fault in stack.dynamics.ledger.faults)
    workflow = await stack.until_caught_up()
    assert (workflow["status"], workflow["counters"]["dead_lettered"]) == ("RUNNING", 0)
    assert len(stack.campaign.rows("profile")) == len(stack.dynamics.rows("contact"))


async def test_bearer_tokens_revoked_on_both_sides_are_replaced_without_a_stop(stack: Stack) -> None:
    stack.dynamics.load(contacts=50, seed=3)
    await run_through(stack, contacts())

    stack.dynamics.tokens.revoke()
    stack.campaign.revoke_tokens()
    await everything_passed(stack)

    assert "credentials_refused" not in service_logs(stack)
    workflow = await stack.workflow()
    assert (workflow["status"], workflow["counters"]["dead_lettered"]) == ("RUNNING", 0)


async def test_tracking_expired_while_stopped_reads_again_and_deletes_what_has_vanished(stack: Stack) -> None:
    stack.dynamics.load(contacts=100, seed=3)
    await run_through(stack, contacts(apply_deletes=True))
    await stack.stop()
    keys = [row["contactid"] for row in stack.dynamics.rows("contact")]
    for key in keys[:7]:
        stack.dynamics.delete("contact", key)
    stack.dynamics.upsert("contact", {"contactid": keys[8], "lastname": "Changed meanwhile"})
    added = stack.dynamics.upsert("contact", {"lastname": "Added meanwhile"})
    stack.dynamics.expire_tokens()
    before = len(stack.campaign.writes())

    await stack.start()
    await stack.until_equal()
    await stack.until_caught_up()

    written = [(write["method"], write["key"]) for write in stack.campaign.writes()[before:]]
    assert sorted(written) == sorted([*(("DELETE", key) for key in keys[:7]), ("PATCH", keys[8]), ("POST", added)])


async def test_tracking_expired_while_running_is_the_same(stack: Stack) -> None:
    stack.dynamics.load(contacts=100, seed=3)
    await run_through(stack, contacts(apply_deletes=True))
    keys = [row["contactid"] for row in stack.dynamics.rows("contact")]

    for key in keys[:5]:
        stack.dynamics.delete("contact", key)
    stack.dynamics.expire_tokens()
    await stack.until_equal()

    assert (await stack.until_caught_up())["status"] == "RUNNING"


async def test_f125_a_field_added_to_the_mapping_reaches_existing_records(stack: Stack) -> None:
    stack.dynamics.load(contacts=60, seed=3)
    await run_through(stack, contacts(apply_deletes=True))
    await stack.stop()
    gone = stack.dynamics.rows("contact")[3]["contactid"]
    stack.dynamics.delete("contact", gone)
    await stack.configure(contacts(fields=CONTACT_FIELDS | {"jobtitle": "salutation"}, apply_deletes=True))

    await stack.start()
    await everything_passed(stack)

    for row in stack.dynamics.rows("contact"):
        profile = stack.campaign.get("profile", row["contactid"]) or {}
        assert profile["salutation"] == (row["jobtitle"] or "")
    assert stack.campaign.get("profile", gone) is None
    updates = [write["fields"] for write in stack.campaign.writes("profile") if write["method"] == "PATCH"]
    assert updates and all(set(body) == {"salutation"} for body in updates)


async def test_what_happens_during_a_long_first_load_is_not_lost(stack: Stack) -> None:
    """Changed, created and deleted before and behind the place where the load is; the delta after it shows none of that."""
    stack.dynamics.settings.first_load_gap = "lost"
    stack.dynamics.load(contacts=300, seed=3)
    keys = [row["contactid"] for row in stack.dynamics.rows("contact")]
    stack.dynamics.ledger.faults.append(Fault("latency", path=r"contacts\?.*modifiedon", seconds=0.4))
    await run(stack, contacts(apply_deletes=True), reader=PAGES)
    await eventually(stack, lambda: stack.campaign.get("profile", keys[59]), "the first pages have arrived")
    assert stack.campaign.get("profile", keys[299]) is None

    for key in (keys[0], keys[15], keys[295]):
        stack.dynamics.upsert("contact", {"contactid": key, "lastname": "Changed during the load"})
    for key in (keys[1], keys[16], keys[296]):
        stack.dynamics.delete("contact", key)
    early = stack.dynamics.upsert("contact", {"contactid": "00000000-0000-4000-8000-000000000001", "lastname": "Early"})
    late = stack.dynamics.upsert("contact", {"contactid": "ffffffff-0000-4000-8000-000000000001", "lastname": "Late"})
    brief = stack.dynamics.upsert("contact", {"contactid": "ffffffff-0000-4000-8000-000000000002", "lastname": "Brief"})
    stack.dynamics.delete("contact", brief)
    assert stack.campaign.get("profile", keys[299]) is None, "the load was over too early: the test proves nothing"
    await stack.until_equal()
    await everything_passed(stack)

    assert stack.differences() == []
    assert stack.campaign.get("profile", early) and stack.campaign.get("profile", late)
    assert stack.campaign.get("profile", brief) is None
    assert (stack.campaign.get("profile", keys[0]) or {})["lastName"] == "Changed during the load"


@pytest.mark.parametrize("end", ["kill", "terminate"])
async def test_a_first_load_goes_on_where_its_reader_was_ended(stack: Stack, end: str) -> None:
    stack.dynamics.load(contacts=300, seed=3)
    stack.dynamics.ledger.faults.append(Fault("latency", path=r"contacts\?.*modifiedon", seconds=0.3))
    await run(stack, contacts(apply_deletes=True), reader=PAGES)
    await eventually(stack, lambda: len(stack.campaign.rows("profile")) >= 80, "some pages have arrived")

    reader = stack.processes["reader-1"]
    if end == "kill":
        reader.kill()
    else:
        assert await reader.terminate() == 0
    asked = stack.dynamics.ledger.requests["GET contacts"]
    stack.dynamics.ledger.faults.clear()
    stack.service("reader", **PAGES)
    await stack.until_equal()
    await everything_passed(stack)

    assert stack.dynamics.ledger.requests["GET contacts"] - asked >= 10
    created = [write["key"] for write in stack.campaign.writes("profile") if write["method"] == "POST"]
    assert len(created) == len(set(created))


async def test_f139_a_guid_deleted_and_made_again_while_stopped(stack: Stack) -> None:
    stack.dynamics.settings.same_guid = "both"
    key, other = stack.dynamics.upsert("contact", {"lastname": "Before"}), new_key()
    await run_through(stack, contacts(apply_deletes=True))
    await stack.stop()

    stack.dynamics.delete("contact", key)
    stack.dynamics.upsert("contact", {"contactid": key, "lastname": "After"})
    stack.dynamics.upsert("contact", {"contactid": other, "lastname": "Short"})
    stack.dynamics.delete("contact", other)
    await stack.start()
    await everything_passed(stack)

    assert (stack.campaign.get("profile", key) or {})["lastName"] == "After"
    assert stack.campaign.get("profile", other) is None
    assert stack.differences() == []


async def test_f120_a_full_read_again_does_not_send_what_is_not_to_be_updated(stack: Stack) -> None:
    """Neither after expired tracking nor after a column was added: both are read in the resync lane."""
    fields = [{"source": "firstname", "target": "firstName", "apply_updates": False}, {"source": "lastname", "target": "lastName"}]
    key = stack.dynamics.upsert("contact", {"firstname": "Anna", "lastname": "Meyer", "jobtitle": "Nurse"})
    await run_through(stack, contacts() | {"fields": fields})
    await stack.stop()
    stack.dynamics.upsert("contact", {"contactid": key, "firstname": "Berta", "lastname": "Maier"})
    stack.dynamics.expire_tokens()
    await stack.start()
    await everything_passed(stack)
    profile = stack.campaign.get("profile", key) or {}
    assert (profile["firstName"], profile["lastName"]) == ("Anna", "Maier")

    await stack.stop()
    await stack.configure(contacts() | {"fields": [*fields, {"source": "jobtitle", "target": "salutation"}]})
    await stack.start()
    await everything_passed(stack)

    profile = stack.campaign.get("profile", key) or {}
    assert (profile["firstName"], profile["salutation"]) == ("Anna", "Nurse")


async def test_sigterm_while_an_answer_of_dynamics_does_not_end(stack: Stack) -> None:
    await run_through(stack, contacts())
    stack.dynamics.ledger.faults.append(Fault("stall", path="contacts", seconds=30))
    await eventually(stack, lambda: stack.dynamics.ledger.faults[0].struck, "a poll hangs")

    assert await stack.processes["reader-1"].terminate(within_s=10) == 0


@pytest.mark.parametrize("way", ["stop", "terminate"])
async def test_f84_a_stop_while_a_first_load_is_compared_with_what_is_published(stack: Stack, way: str) -> None:
    stack.dynamics.load(contacts=200, seed=3)
    await run(stack, contacts())
    reader = stack.processes["reader-1"]
    await eventually(stack, lambda: "load_finished" in reader.log.read_text(), "the load ends")

    if way == "terminate":
        assert await reader.terminate() == 0
        stack.service("reader")
    else:
        await stack.stop()
        assert reader.popen.poll() is None, f"the reader has crashed: {reader.popen.returncode}"
        await stack.start(wait=False)
    await stack.until_status("RUNNING", 20)
    await stack.until_equal()
    await everything_passed(stack)

    assert stack.processes["reader-1"].popen.poll() is None
