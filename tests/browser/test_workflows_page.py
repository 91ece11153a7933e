"""The first page: names, backlog, status, commands, all live (F70 to F88)."""

from __future__ import annotations

import asyncio
import os
import re
import signal

import pytest
from playwright.async_api import Locator, Page, Response, expect

from sandbox.kafka import LocalKafka
from sandbox.web import Fault
from tests.browser.browsing import EGRESS, INGRESS, OPTIN, Visits, row, start, stop, words
from tests.browser.conftest import DEFAULT, put
from tests.e2e.stack import Stack

pytestmark = pytest.mark.asyncio(loop_scope="session")
NAMES = (INGRESS, EGRESS, OPTIN)
UNKNOWN_WITHIN_MS, DEADLINE_MS = 45_000, 25_000


async def status(page: Page, word: str, workflow: str = INGRESS, within_ms: float = 10_000) -> None:
    await expect(row(page, workflow).get_by_role("status")).to_contain_text(word, timeout=within_ms)


async def dot_colour(page: Page, workflow: str = INGRESS) -> tuple[int, int, int]:
    """Of the drawing beside the status word, which screen readers leave out."""
    dot = row(page, workflow).get_by_role("status").locator("[aria-hidden=true]")
    found = await dot.evaluate("(each) => getComputedStyle(each).backgroundColor")
    red, green, blue = (int(part) for part in re.findall(r"\d+", found)[:3])
    return red, green, blue


async def started(page: Page) -> None:
    await start(page).click()
    await status(page, "RUNNING", within_ms=30_000)


def details(page: Page, workflow: str = INGRESS) -> Locator:
    return page.get_by_role("row").filter(has=page.get_by_text(f"Details of {workflow}", exact=True))


async def test_f70_f71_the_default_page_lists_three_workflows_in_four_columns(visits: Visits) -> None:
    page = await visits.page("/")
    table = page.get_by_role("table", name="Workflows")
    await expect(table.get_by_role("columnheader")).to_have_text(["NAME", "BACKLOG", "STATUS", "ACTIONS"])
    await expect(table.get_by_role("link", name=re.compile("^Edit"))).to_have_count(3)
    shown = await table.get_by_role("link", name=re.compile("^Edit")).evaluate_all("(all) => all.map((each) => each.ariaLabel)")
    assert shown == [f"Edit {name}" for name in NAMES]


async def test_f72_f73_f74_every_workflow_says_what_it_is_for(visits: Visits) -> None:
    page = await visits.page()
    for name, told in ((INGRESS, "Contacts and custom"), (EGRESS, "E-mail marketing events"), (OPTIN, "statuses, either way or both")):
        await expect(row(page, name)).to_contain_text(told)


async def test_f75_f76_the_backlog_is_what_was_read_and_is_not_yet_written(live: Stack, live_visits: Visits) -> None:
    page = await live_visits.page()
    await expect(page.get_by_role("main")).to_contain_text(words("read and queued", "not yet written to the destination"))
    await expect(page.get_by_role("main")).to_contain_text(words("first", "records do not update"))
    await started(page)
    await live.until_caught_up()
    live.campaign.ledger.faults.append(Fault("latency", path="/profile", seconds=3.0))
    for number in range(60):
        live.dynamics.upsert("contact", {"lastname": f"Backlog {number}"})

    backlog = row(page, INGRESS).get_by_role("cell").nth(1)
    await expect(backlog).to_contain_text(re.compile(r"^\s*[1-9]\d* records?"), timeout=20_000)
    waiting = (await live.workflow())["backlog"]["records"]
    assert waiting > 0
    live.campaign.ledger.faults.clear()
    await expect(backlog).to_contain_text(re.compile(r"^\s*0 records"), timeout=30_000)
    await expect(backlog).to_contain_text("nothing waits")
    graph = backlog.get_by_role("img")
    await expect(graph).to_have_attribute("aria-label", re.compile(r"at most [1-9]\d*, now 0 records"))


async def test_f77_f78_f79_f81_f83_f84_start_goes_starting_then_running_and_toggles_into_stop(live: Stack, live_visits: Visits) -> None:
    page = await live_visits.page()
    loads: list[Response] = []
    page.on("response", lambda answer: loads.append(answer) if answer.request.resource_type == "document" else None)
    await status(page, "STOPPED")
    red, green, blue = await dot_colour(page)
    assert red > green and red > blue, "F81: the dot is red for STOPPED"
    await expect(stop(page)).to_be_hidden()
    live.processes["writer-1"].kill()

    await start(page).click()
    await status(page, "STARTING")
    await expect(row(page, INGRESS)).to_contain_text("becomes RUNNING within a few minutes")
    await expect(start(page)).to_be_hidden()
    await expect(stop(page)).to_be_visible()
    yellow = await dot_colour(page)
    live.service("writer")
    await status(page, "RUNNING", within_ms=30_000)
    red, green, blue = await dot_colour(page)
    assert green > red, "the dot is green for RUNNING"
    assert yellow != (red, green, blue)
    await expect(row(page, INGRESS).get_by_role("status")).not_to_contain_text("STARTING")

    await stop(page).click()
    await status(page, "STOPPED", within_ms=20_000)
    await expect(start(page)).to_be_visible()
    await expect(start(page)).to_be_enabled()
    await expect(stop(page)).to_be_hidden()
    assert loads == [], "all of it without a reload"


async def test_f80_a_failed_workflow_says_why_in_words_and_goes_on_when_the_service_is_back(live: Stack, live_visits: Visits) -> None:
    page = await live_visits.page()
    await started(page)
    live.processes["writer-1"].kill()

    await status(page, "FAILED", within_ms=DEADLINE_MS)
    why = words("No writer has been heard of", "See whether the writer's process runs")
    await expect(row(page, INGRESS)).to_contain_text(why)
    beside = await live_visits.page("/workflows/ingress")
    await expect(beside.locator("#state")).to_contain_text(why)
    await expect(beside.locator("#state")).to_contain_text("start it again")
    again = page.get_by_role("button", name=re.compile(f"^Start again.*{INGRESS}$"))
    await expect(again).to_be_enabled()
    red, green, blue = await dot_colour(page)
    assert red > green and red > blue
    await again.click()
    await expect(stop(page)).to_be_visible()
    live.service("writer")
    await status(page, "RUNNING", within_ms=30_000)
    await expect(row(page, INGRESS)).not_to_contain_text("No writer has been heard of")


@pytest.mark.parametrize(("workflow", "path"), [(INGRESS, "ingress"), (EGRESS, "egress"), (OPTIN, "optin")])
async def test_f82_the_pencil_opens_the_page_of_the_workflow(visits: Visits, workflow: str, path: str) -> None:
    page = await visits.page()
    pencil = page.get_by_role("link", name=f"Edit {workflow}", exact=True)
    await expect(pencil.locator("svg")).to_have_count(1)
    await pencil.click()
    await expect(page).to_have_url(re.compile(f"/workflows/{path}$"))
    await expect(page.get_by_role("heading", name=workflow, level=1)).to_be_visible()


async def test_f85_start_is_greyed_with_the_reason_while_a_workflow_is_not_configured(idle: Stack, visits: Visits) -> None:
    await put(idle, "ingress", {"tables": []})
    page = await visits.page()
    for workflow, missing in ((INGRESS, "table mapping"), (EGRESS, "at least one event"), (OPTIN, "Bidirectional, and map a field")):
        await expect(start(page, workflow)).to_be_disabled()
        await expect(start(page, workflow)).to_have_accessible_description(re.compile(f"Not configured.*{missing}"))
        await expect(row(page, workflow)).to_contain_text("Not configured")

    await put(idle, "egress", {"events": {"send": True, "open": False, "click": False, "bounce": False}})
    await put(idle, "ingress", DEFAULT)
    for workflow in (INGRESS, EGRESS):
        await expect(start(page, workflow)).to_be_enabled()
        await expect(row(page, workflow)).not_to_contain_text("Not configured")
    await expect(start(page, OPTIN)).to_be_disabled()


async def test_f86_f87_stop_carries_a_warning_while_saved_edits_await_a_restart(live: Stack, live_visits: Visits) -> None:
    page = await live_visits.page()
    pending = row(page, INGRESS).get_by_text("Pending changes")
    await started(page)
    await expect(pending).to_be_hidden()

    changed = {"tables": [{**DEFAULT["tables"][0], "apply_deletes": True, "fields": DEFAULT["tables"][0]["fields"][1:]}]}
    await put(live, "ingress", changed)
    await expect(pending).to_be_visible()
    await expect(pending.locator("..").locator("svg")).to_be_visible()
    await pending.focus()
    await pending.click()
    listed = page.get_by_role("table", name=f"Pending changes of {INGRESS}")
    await expect(listed.get_by_role("row")).to_have_count(3)
    await expect(listed.get_by_role("row", name="Apply deletes")).to_contain_text(words("No", "Yes"))
    await expect(listed.get_by_role("row", name="field mapping to firstName")).to_contain_text("nothing")
    assert (await live.workflow())["running_revision"] < (await live.workflow())["saved_revision"], "F86: nothing has taken effect"

    await stop(page).click()
    await status(page, "STOPPED", within_ms=20_000)
    await started(page)
    await expect(pending).to_be_hidden()
    workflow = await live.workflow()
    assert workflow["running_revision"] == workflow["saved_revision"]


async def test_f88_the_page_of_ingress_says_to_stop_it_before_models_are_published(visits: Visits) -> None:
    page = await visits.page("/workflows/ingress")
    await expect(page.get_by_role("main")).to_contain_text(words("Stop this workflow before you publish", "data can be lost"))


async def test_a_backlog_that_is_not_known_is_never_shown_as_0(kafka: LocalKafka, live_visits: Visits) -> None:
    page = await live_visits.page()
    live_visits.expects("status of 50[34]", "503", "ERR_INCOMPLETE_CHUNKED_ENCODING", "ERR_NETWORK")
    backlog = row(page, INGRESS).get_by_role("cell").nth(1)
    await expect(backlog).to_contain_text(re.compile(r"\d+ record"))
    process = int((kafka.home / "kafka.pid").read_text())
    os.kill(process, signal.SIGSTOP)
    try:
        await expect(backlog).to_contain_text(words("unknown", "Kafka cannot be asked"), timeout=UNKNOWN_WITHIN_MS)
        await expect(backlog).not_to_contain_text(re.compile(r"\b0\b"))
        await page.reload()
        await expect(backlog).to_contain_text("unknown")
        await expect(backlog).not_to_contain_text(re.compile(r"\b0\b"))
    finally:
        os.kill(process, signal.SIGCONT)
    await expect(backlog).to_contain_text(re.compile(r"\d+ record"), timeout=UNKNOWN_WITHIN_MS)


async def test_the_details_show_services_queues_and_counters(live: Stack, live_visits: Visits) -> None:
    page = await live_visits.page()
    await started(page)
    await details(page).get_by_text(f"Details of {INGRESS}", exact=True).click()
    await expect(details(page)).to_contain_text(words("Backlog, last 60 minutes", "since its own start"))
    services = page.get_by_role("table", name=f"Services of {INGRESS}")
    for role in ("reader", "writer"):
        await expect(services.get_by_role("row", name=role)).to_contain_text("RUNNING")
    await expect(page.get_by_role("table", name=f"Queues of {INGRESS}")).to_contain_text("ingress.changes.contact")
    await expect(details(page).get_by_role("link", name=re.compile("^Dead letters"))).to_be_visible()
    await expect(details(page).get_by_role("link", name="Where is this record?")).to_be_visible()


async def test_start_and_stop_work_by_keyboard_and_keep_the_focus(live: Stack, live_visits: Visits) -> None:
    page = await live_visits.page()
    await start(page).focus()
    await page.keyboard.press("Enter")
    await expect(stop(page)).to_be_focused()
    await status(page, "RUNNING", within_ms=30_000)
    await page.keyboard.press("Space")
    await status(page, "STOPPED", within_ms=20_000)
    await expect(start(page)).to_be_focused()


async def test_two_browsers_see_the_same_within_seconds(live: Stack, live_visits: Visits) -> None:
    first, second = await live_visits.page(), await live_visits.page()
    await started(first)
    await status(second, "RUNNING", within_ms=5_000)
    await stop(first).click()
    await asyncio.gather(status(first, "STOPPED", within_ms=20_000), status(second, "STOPPED", within_ms=25_000))
