"""Every error an operator can make in a mapping, two at once, and changes that would be lost."""

from __future__ import annotations

import re
from typing import Any

import pytest
from playwright.async_api import Locator, Page, expect

from tests.browser.browsing import Visits, messages, pick, save, saved, words
from tests.browser.conftest import DEFAULT, Guarded, put
from tests.e2e.stack import Stack, contacts

pytestmark = pytest.mark.asyncio(loop_scope="session")
CONTACT, EGRESS = "/workflows/ingress/tables/contact", "/workflows/egress"
ROWS = len(DEFAULT["tables"][0]["fields"])


async def mapping(stack: Stack) -> dict[str, Any]:
    found: dict[str, Any] = (await stack.get("/workflows/ingress/config"))["config"]["tables"][0]
    return found


async def opened(visits: Visits) -> Page:
    visits.expects("status of 422")
    page = await visits.page(CONTACT)
    await expect(page.get_by_role("heading", name="Field Mappings")).to_be_visible()
    return page


async def pressed_save(page: Page) -> Locator:
    """Presses Save; the list of what is wrong."""
    await page.get_by_role("button", name="Save", exact=True).click()
    alert = page.get_by_role("alert")
    await expect(alert).to_contain_text("Not saved. Please correct:")
    return alert


async def typed_row(page: Page, source: str, target: str) -> tuple[Locator, Locator]:
    """A new row, typed and not chosen from the lists."""
    await page.get_by_role("button", name="Add new field mapping").click()
    boxes = [page.get_by_role("combobox", name=f"{side} field, row {ROWS + 1}", exact=True) for side in ("Dynamics", "Campaign")]
    for box, value in zip(boxes, (source, target), strict=True):
        await box.fill(value)
        await page.keyboard.press("Escape")
        await box.fill(value)
        await box.blur()
    return boxes[0], boxes[1]


async def no_change(stack: Stack) -> None:
    assert await mapping(stack) == DEFAULT["tables"][0]


async def test_f123_two_sources_to_one_target_are_refused_with_the_row_named(idle: Stack, visits: Visits) -> None:
    page = await opened(visits)
    _, target = await typed_row(page, "jobtitle", "email")
    alert = await pressed_save(page)
    await expect(alert).to_contain_text("email is fed by emailaddress1 already")
    await expect(target).to_have_attribute("aria-invalid", "true")
    await expect(target).to_have_accessible_description(words("email is fed by emailaddress1 already"))
    await alert.get_by_role("link").first.click()
    await expect(target).to_be_focused()
    await no_change(idle)


async def test_after_a_refused_save_the_focus_is_on_the_list_of_errors(visits: Visits) -> None:
    page = await opened(visits)
    await page.get_by_role("button", name="Add new field mapping").click()
    await page.get_by_role("button", name="Save", exact=True).press("Enter")
    await expect(page.get_by_role("alert")).to_contain_text("Not saved. Please correct:")
    await expect(page.get_by_role("alert")).to_be_focused()


@pytest.mark.parametrize(
    ("source", "target", "told"),
    [
        ("nothing", "salutation", "table contact has no readable column nothing"),
        ("jobtitle", "cusNothing", "resource profile has no published field cusNothing"),
        ("jobtitle", "title", "title cannot be written in Campaign"),
        ("jobtitle", "country", "country is a link"),
    ],
    ids=["unknown column", "unknown field", "read-only target", "link"],
)
async def test_a_field_that_cannot_be_mapped_is_refused_where_it_stands(
    idle: Stack, visits: Visits, source: str, target: str, told: str
) -> None:
    page = await opened(visits)
    boxes = await typed_row(page, source, target)
    await expect(await pressed_save(page)).to_contain_text(told)
    wrong = boxes[0] if source == "nothing" else boxes[1]
    await expect(wrong).to_have_attribute("aria-invalid", "true")
    await expect(wrong).to_have_accessible_description(words(told))
    await no_change(idle)


async def test_f126_rows_that_are_not_filled_in_are_told_one_by_one(idle: Stack, visits: Visits) -> None:
    page = await opened(visits)
    for button in ("Add new field mapping", "Add New Field Replacement", "Add New Filter"):
        await page.get_by_role("button", name=button).click()
    alert = await pressed_save(page)
    for told in ("Choose a Dynamics field", "Choose a Campaign field", "Choose a field, or delete the row"):
        await expect(alert).to_contain_text(told)
    await no_change(idle)


async def test_f127_the_replacement_of_a_field_that_is_not_mapped_any_more_is_refused(idle: Stack, visits: Visits) -> None:
    replaced = contacts(
        fields={"lastname": "lastName", "firstname": "firstName"}, replacements=[{"source": "firstname", "from": "Jo", "to": "Joe"}]
    )
    await put(idle, "ingress", {"tables": [replaced]})
    page = await opened(visits)
    await page.get_by_role("button", name="Delete field mapping firstname, row 2").click()
    await expect(page.get_by_role("group", name="Replacement 1")).to_contain_text("firstname is not mapped any more")
    alert = await pressed_save(page)
    await expect(alert).to_contain_text("firstname is not mapped: add a field mapping for it, or remove the replacement")
    await page.get_by_role("button", name="Delete field replacement, row 1").click()
    await save(page)


async def test_f128_f133_values_that_do_not_fit_are_refused_beside_their_box(idle: Stack, visits: Visits) -> None:
    page = await opened(visits)
    await page.get_by_role("button", name="Add New Filter").click()
    line = page.get_by_role("group", name="Filter 1")
    await line.get_by_role("combobox", name="Dynamics field").fill("numberofchildren")
    await page.keyboard.press("Enter")
    await line.get_by_label("Value").fill("many")
    await page.get_by_role("button", name="Add New Field Replacement").click()
    replacement = page.get_by_role("group", name="Replacement 1")
    await replacement.get_by_label("Dynamics field").select_option("firstname")
    await replacement.get_by_label("Existing value").fill("Jo")
    await replacement.get_by_label("New value").fill("J" * 31)
    await pressed_save(page)
    await expect(line.get_by_label("Value")).to_have_attribute("aria-invalid", "true")
    await expect(line.get_by_label("Value")).to_have_accessible_description(words("Integer", "give a number"))
    await expect(replacement.get_by_label("New value")).to_have_attribute("aria-invalid", "true")
    await no_change(idle)


async def test_a_draft_is_checked_before_it_is_saved(visits: Visits) -> None:
    page = await opened(visits)
    await typed_row(page, "description", "salutation")  # 2000 characters into 20
    await expect(page.get_by_role("table", name="Field Mappings")).to_contain_text(re.compile("20"))
    await expect(page.get_by_role("row").filter(has=page.get_by_label(f"Campaign field, row {ROWS + 1}"))).to_contain_text(
        re.compile("longer|cut|truncat", re.IGNORECASE)
    )


async def test_the_second_of_two_who_save_sees_who_saved_and_the_difference(guarded: Guarded, guarded_visits: Visits) -> None:
    guarded_visits.expects("status of 412")
    first_name, first = await guarded.signed_in(guarded_visits, "admin")
    _, second = await guarded.signed_in(guarded_visits, "admin")
    for page in (first, second):
        await page.goto(EGRESS)
        await expect(page.get_by_role("group", name="Sends")).to_be_visible()
    await first.get_by_role("group", name="Sends", exact=True).get_by_label("Yes").check()
    await save(first)
    await second.get_by_role("group", name="Clicks", exact=True).get_by_label("Yes").check()
    await second.get_by_role("button", name="Save", exact=True).click()

    dialog = second.get_by_role("dialog", name="Somebody else has saved meanwhile")
    await expect(dialog).to_contain_text(words(first_name, "saved revision"))
    theirs, merged = dialog.get_by_role("table").nth(0), dialog.get_by_role("table").nth(1)
    await expect(theirs.get_by_role("row", name="Sends")).to_contain_text(words("No", "Yes"))
    await expect(merged.get_by_role("row", name="Clicks")).to_contain_text(words("No", "Yes"))
    await dialog.get_by_role("button", name="Merge mine on top").click()
    await saved(second)
    for name in ("Sends", "Clicks"):
        await expect(second.get_by_role("group", name=name, exact=True).get_by_label("Yes")).to_be_checked()


async def test_of_two_who_edit_one_mapping_both_are_kept_when_the_second_merges(idle: Stack, visits: Visits) -> None:
    visits.expects("status of 412")
    first, second = await opened(visits), await opened(visits)
    await pick_last(first, "salutation", "salutation")
    await save(first)
    await second.get_by_role("group", name=re.compile("^Apply deletes")).get_by_label("Yes").check()
    await second.get_by_role("button", name="Save", exact=True).click()
    dialog = second.get_by_role("dialog", name="Somebody else has saved meanwhile")
    await expect(dialog).to_contain_text(words("What they changed", "field mapping to salutation"))
    await dialog.get_by_role("button", name="Merge mine on top").click()
    await saved(second)
    kept = await mapping(idle)
    assert kept["apply_deletes"] is True
    assert kept["fields"][-1]["source"] == "salutation", "what the first changed and the second did not touch stays"
    await expect(second.get_by_role("combobox", name=f"Dynamics field, row {ROWS + 1}", exact=True)).to_have_value("salutation")
    await expect(second.get_by_role("button", name="Save", exact=True)).to_be_focused()
    await expect(second.get_by_text("There are unsaved changes")).to_have_count(0)

    await messages(second).get_by_role("button", name="Dismiss").click()
    await second.get_by_role("group", name=re.compile("^Use technical")).get_by_label("No").check()
    await save(second)
    assert await mapping(idle) == kept | {"picklists": "display"}, "nor does the next save take it away"


async def pick_last(page: Page, source: str, target: str) -> None:
    await page.get_by_role("button", name="Add new field mapping").click()
    await pick(page, f"Dynamics field, row {ROWS + 1}", source)
    await pick(page, f"Campaign field, row {ROWS + 1}", target)


async def test_take_theirs_shows_what_the_other_saved(idle: Stack, visits: Visits) -> None:
    visits.expects("status of 412")
    page = await opened(visits)
    await put(idle, "ingress", {"tables": [DEFAULT["tables"][0] | {"picklists": "display"}]})
    await page.get_by_role("group", name=re.compile("^Apply deletes")).get_by_label("Yes").check()
    await page.get_by_role("button", name="Save", exact=True).click()
    await page.get_by_role("dialog").get_by_role("button", name="Take theirs").click()
    await expect(page.get_by_role("group", name=re.compile("^Use technical")).get_by_label("No")).to_be_checked()
    await expect(page.get_by_role("group", name=re.compile("^Apply deletes")).get_by_label("No")).to_be_checked()
    assert (await mapping(idle))["apply_deletes"] is False


async def test_unsaved_changes_are_asked_about_before_they_are_lost(idle: Stack, visits: Visits) -> None:
    page = await opened(visits)
    dirty = page.get_by_text("There are unsaved changes")
    await expect(dirty).to_have_count(0)
    await page.get_by_role("button", name="Delete field mapping fax, row 7").click()
    await expect(dirty).to_be_visible()
    await page.get_by_role("link", name="Cancel").click()
    dialog = page.get_by_role("dialog", name="Unsaved changes")
    await dialog.get_by_role("button", name="Stay").click()
    await expect(page).to_have_url(re.compile("contact$"))
    async with page.expect_event("dialog") as asked:  # the browser's own question
        await page.close(run_before_unload=True)
    question = await asked.value
    assert question.type == "beforeunload"
    await question.dismiss()
    await page.get_by_role("link", name="Cancel").click()
    await dialog.get_by_role("button", name="Leave without saving").click()
    await expect(page).to_have_url(re.compile("/workflows/ingress$"))
    await no_change(idle)


async def test_a_change_that_is_taken_back_is_no_change(visits: Visits) -> None:
    page = await visits.page(EGRESS)
    group = page.get_by_role("group", name="Opens", exact=True)
    await group.get_by_label("Yes").check()
    await expect(page.get_by_text("There are unsaved changes")).to_be_visible()
    await group.get_by_label("No").check()
    await expect(page.get_by_text("There are unsaved changes")).to_have_count(0)
    await page.get_by_role("link", name="Cancel").click()
    await expect(page).to_have_url(re.compile(r"/$"))
    await expect(messages(page)).to_have_text("")
