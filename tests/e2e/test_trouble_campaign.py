"""Trouble on the side of Campaign: lost answers, outages, limits. Nothing is doubled, nothing is missing."""

from __future__ import annotations

from dataclasses import replace

import pytest

from sandbox.web import Fault
from tests.e2e.helpers import eventually, everything_passed, run, run_through
from tests.e2e.stack import Stack, contacts


def assert_no_doubles(stack: Stack) -> None:
    keys = [row["externalId"] for row in stack.campaign.rows("profile")]
    assert len(keys) == len(set(keys))


async def test_answers_lost_before_and_after_a_post_leave_one_profile_each(stack: Stack) -> None:
    stack.dynamics.load(contacts=150, seed=3)
    stack.campaign.ledger.faults += [
        Fault("cut_before", method="POST", path="/profile", skip=10, times=10),
        Fault("cut_after", method="POST", path="/profile", skip=20, times=10),
        Fault("status_after", method="POST", path="/profile", skip=40, times=5, status=503),
        Fault("status_after", method="POST", path="/profile", skip=60, times=5, status=500, body="RST-360011 An error has occurred"),
    ]

    await run(stack, contacts())
    await stack.until_equal()
    workflow = await stack.until_caught_up()

    assert all(fault.struck == fault.times for fault in stack.campaign.ledger.faults)
    assert_no_doubles(stack)
    assert (workflow["status"], workflow["counters"]["dead_lettered"]) == ("RUNNING", 0)
    patched = [write for write in stack.campaign.writes("profile") if write["method"] == "PATCH"]
    assert patched == [], "what was applied without an answer equals Dynamics already"


async def test_answers_lost_before_and_after_a_patch_or_a_delete(stack: Stack) -> None:
    stack.dynamics.load(contacts=100, seed=3)
    await run_through(stack, contacts(apply_deletes=True))
    for method in ("PATCH", "DELETE"):
        stack.campaign.ledger.faults += [
            Fault("cut_before", method=method, path="/profile", times=3),
            Fault("cut_after", method=method, path="/profile", times=3),
        ]

    stack.dynamics.churn(seed=4, updates=60, inserts=5, deletes=15)
    await stack.until_equal()
    await everything_passed(stack)

    assert all(fault.struck == fault.times for fault in stack.campaign.ledger.faults)
    assert_no_doubles(stack)
    assert stack.differences() == []
    assert (await stack.workflow())["counters"]["dead_lettered"] == 0


async def test_an_outage_with_html_holds_everything_and_then_goes_on(stack: Stack) -> None:
    stack.dynamics.load(contacts=100, seed=3)
    page = "<html><body>Bad gateway</body></html>"
    stack.campaign.ledger.faults += [
        Fault("status", path="/profile", status=503, body=page, content_type="text/html", skip=20, times=20),
        Fault("status", path="/profile", status=502, body=page, content_type="text/html", skip=20, times=20),
    ]

    await run(stack, contacts())
    await stack.until_equal()

    workflow = await stack.until_caught_up()
    assert (workflow["status"], workflow["counters"]["dead_lettered"]) == ("RUNNING", 0)
    assert_no_doubles(stack)


async def test_the_rate_limit_of_campaign_is_respected(stack: Stack) -> None:
    """Calls that were under way when the limit was told cannot be taken back, all others wait."""
    stack.dynamics.load(contacts=150, seed=3)
    stack.campaign.settings.change({"calls_per_second": 40.0, "retry_after_s": 1})

    await run(stack, contacts(), writer={"CAMPAIGN_CONCURRENCY": "4"})
    await stack.until_equal()

    refused = stack.campaign.ledger.statuses[429]
    assert refused > 0
    assert stack.campaign.counts()["early_calls"] <= 3 * refused
    assert stack.campaign.ledger.most_in_flight <= 4
    assert (await stack.until_caught_up())["counters"]["dead_lettered"] == 0


async def test_a_wait_asked_for_by_campaign_holds_all_workers(stack: Stack) -> None:
    stack.dynamics.load(contacts=60, seed=3)
    stack.campaign.ledger.faults.append(
        Fault("status", method="POST", path="/profile", status=429, headers={"Retry-After": "2"}, skip=20, times=1)
    )

    await run(stack, contacts(), writer={"CAMPAIGN_CONCURRENCY": "1"})
    await stack.until_equal()

    assert stack.campaign.counts()["early_calls"] == 0


async def test_a_profile_deleted_in_campaign_is_made_again_with_the_next_change(stack: Stack) -> None:
    key = stack.dynamics.upsert("contact", {"firstname": "Anna", "lastname": "Meyer"})
    await run_through(stack, contacts())
    stack.campaign.remove("profile", key)

    stack.dynamics.upsert("contact", {"contactid": key, "lastname": "Maier"})
    await everything_passed(stack)

    profile = stack.campaign.get("profile", key) or {}
    assert (profile["firstName"], profile["lastName"]) == ("Anna", "Maier")


@pytest.mark.parametrize(
    "fault",
    [
        Fault("status", path="/profile", status=503, body="busy"),
        Fault("status", path="/profile", status=429, headers={"Retry-After": "30"}),
        Fault("stall", path="/profile", seconds=30),
    ],
    ids=["busy", "told to wait", "no answer"],
)
async def test_f84_stop_during_an_outage_is_quick_and_start_after_it_goes_on(stack: Stack, fault: Fault) -> None:
    stack.dynamics.load(contacts=40, seed=3)
    stack.campaign.ledger.faults.append(replace(fault, skip=10))
    await run(stack, contacts())
    await eventually(stack, lambda: stack.campaign.ledger.faults[0].struck, "the outage is met")

    await stack.stop(wait=False)
    await stack.until_status("STOPPED", 12)
    stack.campaign.ledger.faults.clear()
    await stack.start()
    await stack.until_equal()
    await stack.until_caught_up()

    assert_no_doubles(stack)


async def test_sigterm_while_an_answer_of_campaign_does_not_end(stack: Stack) -> None:
    stack.dynamics.load(contacts=40, seed=3)
    stack.campaign.ledger.faults.append(Fault("stall", method="POST", path="/profile", seconds=30, skip=10, times=5))
    await run(stack, contacts())
    await eventually(stack, lambda: stack.campaign.ledger.faults[0].struck == 5, "calls hang")

    assert await stack.processes["writer-1"].terminate(within_s=10) == 0
    stack.service("writer")
    await stack.until_equal()
    assert_no_doubles(stack)
