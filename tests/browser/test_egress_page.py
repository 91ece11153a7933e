"""Campaign to Microsoft Dynamics 365: which events are sent (F158 to F161)."""

from __future__ import annotations

import re
from typing import Any

import pytest
from playwright.async_api import Locator, Page, expect

from tests.browser.browsing import EGRESS, Visits, save, start, words
from tests.e2e.stack import Stack

pytestmark = pytest.mark.asyncio(loop_scope="session")
PATH = "/workflows/egress"
EVENTS = {"Sends": "send", "Clicks": "click", "Opens": "open", "Bounces": "bounce"}


def event(page: Page, name: str) -> Locator:
    return page.get_by_role("group", name=name, exact=True)


async def config(stack: Stack) -> dict[str, Any]:
    found: dict[str, Any] = (await stack.get("/workflows/egress/config"))["config"]["events"]
    return found


async def test_f158_f159_the_four_events_are_yes_or_no_and_no_by_default(visits: Visits) -> None:
    page = await visits.page(PATH)
    await expect(page.get_by_role("heading", name="Campaign events that will be sent to Microsoft Dynamics 365")).to_be_visible()
    groups = page.get_by_role("group", name=re.compile("^(" + "|".join(EVENTS) + ")$"))
    await expect(groups).to_have_count(4)
    told = [(await each.inner_text()).split("\n")[0] for each in await groups.all()]
    assert told == list(EVENTS), "the order of the original"
    for name in EVENTS:
        await expect(event(page, name).get_by_role("radio", name="No", exact=True)).to_be_checked()
        await expect(event(page, name).get_by_role("radio", name="Yes", exact=True)).not_to_be_checked()
    await expect(page.get_by_role("button", name="Save", exact=True)).to_be_enabled()
    await page.get_by_role("link", name="Cancel").click()
    await expect(page).to_have_url(re.compile(r"/$"))


async def test_f160_only_the_chosen_events_are_saved_and_the_workflow_can_be_started_then(idle: Stack, visits: Visits) -> None:
    page = await visits.page(PATH)
    await event(page, "Clicks").get_by_role("radio", name="Yes", exact=True).check()
    await event(page, "Bounces").get_by_role("radio", name="Yes", exact=True).check()
    await page.get_by_label(re.compile("^Comment")).fill("clicks and bounces")
    await save(page)
    assert await config(idle) == {"send": False, "open": False, "click": True, "bounce": True}
    await expect(page.get_by_role("region", name="History")).to_contain_text(words("Revision", "clicks and bounces"))

    await page.reload()
    await expect(event(page, "Clicks").get_by_role("radio", name="Yes", exact=True)).to_be_checked()
    await event(page, "Bounces").get_by_role("radio", name="No", exact=True).check()
    await save(page)
    assert (await config(idle))["bounce"] is False
    await page.goto("/")
    await expect(start(page, EGRESS)).to_be_enabled()


async def test_f161_every_event_says_what_it_is(visits: Visits) -> None:
    page = await visits.page(PATH)
    for name, about in (("Sends", "was sent"), ("Clicks", "URL"), ("Opens", "was opened"), ("Bounces", "hard")):
        await expect(event(page, name)).to_contain_text(about)
        await expect(event(page, name).get_by_role("radio").first).to_have_accessible_description(re.compile(about))


async def test_the_radios_are_reached_and_changed_by_keyboard(idle: Stack, visits: Visits) -> None:
    page = await visits.page(PATH)
    await event(page, "Opens").get_by_role("radio", name="No", exact=True).focus()
    await page.keyboard.press("ArrowUp")
    await expect(event(page, "Opens").get_by_role("radio", name="Yes", exact=True)).to_be_checked()
    await expect(page.get_by_role("main")).to_contain_text("There are unsaved changes")
    await page.get_by_label(re.compile("^Comment")).press("Enter")
    await expect(page.get_by_role("region", name="Messages")).to_contain_text("Saved as revision")
    assert (await config(idle))["open"] is True


async def test_the_last_save_is_undone(idle: Stack, visits: Visits) -> None:
    page = await visits.page(PATH)
    await event(page, "Sends").get_by_role("radio", name="Yes", exact=True).check()
    await save(page)
    await page.get_by_role("button", name="Undo the last save").click()
    dialog = page.get_by_role("dialog", name="Undo the last save")
    await expect(dialog.get_by_role("row", name="Sends")).to_contain_text(words("Yes", "No"))
    await dialog.get_by_role("button", name="Undo the last save").click()
    await expect(event(page, "Sends").get_by_role("radio", name="No", exact=True)).to_be_checked()
    assert (await config(idle))["send"] is False
