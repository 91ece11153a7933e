"""The page of Microsoft Dynamics 365 to Campaign: mapped tables, replay, new mappings (F88 to F103)."""

from __future__ import annotations

import asyncio
import json
import re
from typing import Any

import pytest
from playwright.async_api import Locator, Page, Route, expect

from sandbox.web import Fault
from tests.browser.browsing import INGRESS, Visits, messages, row, saved, words
from tests.browser.conftest import DEFAULT, put
from tests.e2e.stack import Stack, contacts, vehicles

pytestmark = pytest.mark.asyncio(loop_scope="session")
PATH = "/workflows/ingress"
CONFIG = "/workflows/ingress/config"
DYNAMICS, CAMPAIGN = "Microsoft Dynamics 365 table", "Campaign table"


def mapped(page: Page) -> Locator:
    return page.get_by_role("table", name="Mapped tables")


def table_row(page: Page, source: str) -> Locator:
    return mapped(page).get_by_role("row").filter(has=page.get_by_role("link", name=re.compile(f"Edit mapping {source} ")))


async def config(stack: Stack) -> dict[str, Any]:
    found: dict[str, Any] = (await stack.get(CONFIG))["config"]
    return found


async def select_resources(page: Page) -> Locator:
    await page.get_by_role("button", name="Add New Mapping").click()
    dialog = page.get_by_role("dialog", name="Select Resources/Entities")
    await expect(dialog).to_be_visible()
    return dialog


async def offered(page: Page, dialog: Locator, label: str) -> list[str]:
    """The names in one of the two lists of the dialog."""
    await dialog.get_by_role("combobox", name=label, exact=True).click()
    options = dialog.get_by_role("listbox", name=label, exact=True).get_by_role("option")
    await expect(options.first).to_be_visible()
    await expect(options.first).not_to_contain_text("Nothing fits")
    names = [(await each.inner_text()).split("\n")[0] for each in await options.all()]
    await page.keyboard.press("Escape")
    await expect(options.first).to_be_hidden()
    await expect(dialog).to_be_visible()
    return names


async def test_f89_f90_f92_the_default_mapping_is_there_with_its_columns_and_actions(visits: Visits) -> None:
    page = await visits.page(PATH)
    columns = await mapped(page).get_by_role("columnheader").all_inner_texts()
    assert [each for each in columns if each in (DYNAMICS, CAMPAIGN, "Actions")] == [DYNAMICS, CAMPAIGN, "Actions"]
    await expect(table_row(page, "contact")).to_contain_text(words("contact", "profile"))
    for action in ("Delete mapping contact to profile", "Replay Data of contact"):
        await expect(page.get_by_role("button", name=action)).to_be_enabled()

    await page.get_by_role("link", name="Edit mapping contact to profile").click()
    await expect(page).to_have_url(re.compile("/workflows/ingress/tables/contact$"))


async def test_f93_deleting_a_mapping_is_asked_about_says_what_becomes_of_its_records_and_can_be_undone(
    idle: Stack, visits: Visits
) -> None:
    await put(idle, "ingress", {"tables": [contacts(), vehicles()]})
    page = await visits.page(PATH)
    delete = page.get_by_role("button", name="Delete mapping new_vehicle to cusVehicle")
    await delete.click()
    dialog = page.get_by_role("dialog", name="Delete mapping")
    await expect(dialog).to_contain_text("records stay in Campaign")
    await dialog.get_by_role("button", name="Cancel").click()
    await expect(delete).to_be_focused()
    await delete.click()
    await dialog.get_by_role("button", name="Delete mapping").click()

    await saved(page)
    await expect(table_row(page, "new_vehicle")).to_have_count(0)
    assert [each["source"] for each in (await config(idle))["tables"]] == ["contact"]
    await page.get_by_role("button", name="Undo the last save").click()
    await page.get_by_role("dialog").get_by_role("button", name="Undo the last save").click()
    await expect(table_row(page, "new_vehicle")).to_have_count(1)
    assert len((await config(idle))["tables"]) == 2


async def test_f94_f95_a_replay_is_armed_for_the_next_start_and_its_icon_disabled_until_then(live: Stack, live_visits: Visits) -> None:
    await live.start()
    page = await live_visits.page(PATH)
    replay = page.get_by_role("button", name="Replay Data of contact")
    await replay.click()
    dialog = page.get_by_role("dialog", name="Replay Data: contact")
    await expect(dialog.get_by_role("radio", name="At the next stop and start")).to_be_checked()
    await expect(dialog.get_by_role("radio", name="All records of the table")).to_be_checked()
    await dialog.get_by_role("button", name="Replay Data").click()

    await expect(messages(page)).to_contain_text(words("armed", "stopped and started"))
    await expect(replay).to_be_disabled()
    await expect(table_row(page, "contact")).to_contain_text("Armed for the next stop and start")
    await page.reload()
    await expect(replay).to_be_disabled()
    await live.stop()
    await expect(replay).to_be_disabled()
    await live.start()
    await expect(replay).to_be_enabled(timeout=30_000)
    await expect(table_row(page, "contact")).not_to_contain_text("Armed")


async def test_f96_a_replay_is_refused_while_two_million_records_wait(visits: Visits) -> None:
    """The API's own refusal is tested where two million records do wait (tests/e2e/test_replay_limits.py)."""
    visits.expects("status of 409")
    page = await visits.page(PATH)
    problem = {
        "type": "about:blank",
        "title": "Conflict",
        "status": 409,
        "code": "backlog_too_large",
        "detail": "2000000 records wait already",
    }

    async def refused(route: Route) -> None:
        await route.fulfill(status=409, content_type="application/problem+json", body=json.dumps(problem))

    await page.route("**/tables/contact/replay", refused)
    await page.get_by_role("button", name="Replay Data of contact").click()
    dialog = page.get_by_role("dialog")
    await dialog.get_by_role("button", name="Replay Data").click()
    await expect(dialog.get_by_role("alert")).to_contain_text("2000000 records wait already")
    await dialog.get_by_role("button", name="Cancel").click()
    await expect(page.get_by_role("button", name="Replay Data of contact")).to_be_enabled()


async def test_f97_a_replay_of_a_table_with_two_million_rows_is_refused_and_the_way_out_told(idle: Stack, visits: Visits) -> None:
    visits.expects("status of 409")
    count = {"EntityRecordCountCollection": {"Count": 1, "IsReadOnly": False, "Keys": ["contact"], "Values": [2_000_000]}}
    idle.dynamics.ledger.faults.append(Fault("status", "GET", "RetrieveTotalRecordCount", 200, json.dumps(count), "application/json"))
    page = await visits.page(PATH)
    await page.get_by_role("button", name="Replay Data of contact").click()
    dialog = page.get_by_role("dialog")
    await dialog.get_by_role("button", name="Replay Data").click()
    await expect(dialog.get_by_role("alert")).to_contain_text(words("2000000 rows", "changed_since"))
    await expect(dialog).to_be_visible()


async def test_f98_the_progress_of_a_replay_is_seen_on_the_page_and_in_the_backlog(live: Stack, live_visits: Visits) -> None:
    await live.start()
    await live.until_caught_up()
    live.campaign.ledger.faults.append(Fault("latency", path="/profile", seconds=2.0))
    live.dynamics.load(contacts=120, vehicles=0, seed=7)
    page, first = await live_visits.page(PATH), await live_visits.page()
    await page.get_by_role("button", name="Replay Data of contact").click()
    dialog = page.get_by_role("dialog")
    await dialog.get_by_role("radio", name="Now").check()
    await dialog.get_by_role("button", name="Replay Data").click()

    await expect(messages(page)).to_contain_text("runs beside the live changes")
    await expect(page.get_by_role("button", name="Replay Data of contact")).to_be_disabled()
    await expect(row(first, INGRESS).get_by_role("cell").nth(1)).to_contain_text(re.compile(r"^\s*\d\d+ records"), timeout=20_000)
    live.campaign.ledger.faults.clear()
    await expect(page.get_by_role("button", name="Replay Data of contact")).to_be_enabled(timeout=40_000)
    await expect(row(first, INGRESS).get_by_role("cell").nth(1)).to_contain_text("nothing waits", timeout=40_000)


async def test_f91_f99_f101_f103_any_other_table_is_added_in_a_dialog(idle: Stack, visits: Visits) -> None:
    page = await visits.page(PATH)
    dialog = await select_resources(page)
    await expect(dialog.get_by_role("combobox", name=DYNAMICS, exact=True)).to_be_focused()
    await dialog.get_by_role("button", name="Cancel").click()
    await expect(dialog).to_have_count(0)
    await expect(page.get_by_role("button", name="Add New Mapping")).to_be_focused()

    dialog = await select_resources(page)
    await dialog.get_by_role("button", name="OK").click()
    await expect(dialog).to_be_visible()  # nothing is chosen
    await page.keyboard.type("vehicle")
    await page.keyboard.press("Enter")
    await expect(dialog.get_by_role("combobox", name=DYNAMICS, exact=True)).to_have_value("new_vehicle")
    await page.keyboard.press("Tab")
    await page.keyboard.type("cusVeh")
    await page.keyboard.press("Enter")
    await dialog.get_by_role("button", name="OK").click()

    await expect(page).to_have_url(re.compile(r"/tables/new_vehicle\?target=cusVehicle$"))
    await expect(page.get_by_label(DYNAMICS)).to_have_value("new_vehicle")
    await expect(page.get_by_label(CAMPAIGN)).to_have_value("cusVehicle")
    await page.get_by_role("button", name="Add new field mapping").click()
    options = page.get_by_role("listbox", name="Dynamics field, row 1").get_by_role("option")
    await page.get_by_role("combobox", name="Dynamics field, row 1").click()
    await expect(options.filter(has_text="new_mileage")).to_have_count(1)
    assert [each["source"] for each in (await config(idle))["tables"]] == ["contact"], "nothing is saved before Save"


async def test_f102_a_mapped_table_is_not_offered_again_on_either_side(idle: Stack, visits: Visits) -> None:
    page = await visits.page(PATH)
    dialog = await select_resources(page)
    sources, targets = await offered(page, dialog, DYNAMICS), await offered(page, dialog, CAMPAIGN)
    assert "contact" not in sources and "profile" not in targets
    assert {"new_vehicle", "account"} <= set(sources) and {"cusVehicle", "cusCategory"} <= set(targets)
    await page.keyboard.press("Escape")
    await expect(dialog).to_have_count(0)

    await put(idle, "ingress", {"tables": [contacts(), vehicles()]})
    dialog = await select_resources(page)
    sources, targets = await offered(page, dialog, DYNAMICS), await offered(page, dialog, CAMPAIGN)
    assert not {"contact", "new_vehicle"} & set(sources) and not {"profile", "cusVehicle"} & set(targets)


async def test_f102_a_list_that_is_still_being_read_is_not_shown_as_empty(visits: Visits) -> None:
    page = await visits.page(PATH)
    answer = asyncio.Event()

    async def later(route: Route) -> None:
        await answer.wait()
        await route.continue_()

    await page.route("**/systems/dynamics/tables", later)
    dialog = await select_resources(page)
    await dialog.get_by_role("combobox", name=DYNAMICS, exact=True).click()
    await expect(dialog.get_by_role("option", name="Nothing fits")).to_have_count(0)
    answer.set()
    await expect(dialog.get_by_role("option", name=re.compile("^new_vehicle"))).to_be_visible()


async def test_f25_a_table_without_change_tracking_is_offered_with_the_reason_why_it_cannot_be_chosen(visits: Visits) -> None:
    page = await visits.page(PATH)
    dialog = await select_resources(page)
    await offered(page, dialog, DYNAMICS)
    await dialog.get_by_role("combobox", name=DYNAMICS, exact=True).click()
    option = dialog.get_by_role("option", name=re.compile("^new_untracked"))
    await expect(option).to_have_attribute("aria-disabled", "true")
    await expect(option).to_contain_text(words("changes are not tracked", "Track changes"))


async def test_f100_return_leads_back_to_the_workflows(visits: Visits) -> None:
    page = await visits.page(PATH)
    await page.get_by_role("link", name="Return").click()
    await expect(page).to_have_url(re.compile(r"/$"))


async def test_without_a_mapping_the_page_says_how_to_begin(idle: Stack, visits: Visits) -> None:
    await put(idle, "ingress", {"tables": []})
    page = await visits.page(PATH)
    await expect(page.get_by_role("main")).to_contain_text("No table is mapped yet")
    await expect(page.get_by_role("button", name="Add New Mapping")).to_be_enabled()


async def test_every_save_is_a_revision_that_can_be_restored(idle: Stack, visits: Visits) -> None:
    await put(idle, "ingress", {"tables": []})
    before = (await idle.get(CONFIG))["revision"]
    await put(idle, "ingress", DEFAULT)
    page = await visits.page(PATH)
    await page.get_by_text(re.compile(r"^All revisions")).click()
    await page.get_by_role("button", name=f"Restore revision {before}", exact=True).click()
    dialog = page.get_by_role("dialog", name=f"Restore revision {before}")
    await expect(dialog.get_by_role("row", name="contact → profile")).to_contain_text("nothing")
    await dialog.get_by_role("button", name=f"Restore revision {before}").click()
    await expect(page.get_by_role("main")).to_contain_text("No table is mapped yet")
    assert (await config(idle))["tables"] == []
