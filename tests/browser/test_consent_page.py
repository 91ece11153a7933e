"""Opt In/Out while it runs: held decisions, the decisions of a contact, and what the other pages say of them."""

from __future__ import annotations

import asyncio
import re
from pathlib import Path

import pytest
from playwright.async_api import Locator, Page, expect

from bridge.kafka.topics import Topics, ingress_topics
from tests.browser.browsing import INGRESS, OPTIN, Visits, messages, row, words
from tests.browser.conftest import Guarded
from tests.browser.deciding import come_back, discard_all, put_held, put_held_by_ingress, put_letter, until_held
from tests.e2e.consent import in_campaign, in_dynamics, until_both
from tests.e2e.helpers import new_key
from tests.e2e.stack import Stack

pytestmark = pytest.mark.asyncio(loop_scope="session")
PATH = "/workflows/optin"


def held(page: Page) -> Locator:
    return page.get_by_role("region", name="Held items")


def rows(page: Page) -> Locator:
    """The held items, without the headings."""
    return held(page).get_by_role("table").get_by_role("row").filter(has=page.get_by_role("cell"))


def found(page: Page) -> Locator:
    return page.get_by_role("region", name="Decisions found")


async def settled(page: Page, command: str, reason: str) -> None:
    """Uses a button of the section, and its two dialogs: without a reason nothing is done."""
    await held(page).get_by_role("button", name=command, exact=True).click()
    dialog = page.get_by_role("dialog", name=command, exact=True)
    await dialog.get_by_role("button", name=command).click()
    await expect(dialog.get_by_label(re.compile("^Reason"))).to_be_focused()
    await expect(dialog.get_by_label(re.compile("^Reason"))).to_have_attribute("aria-invalid", "true")
    await dialog.get_by_label(re.compile("^Reason")).fill(reason)
    await dialog.get_by_role("button", name=command).click()
    again = page.get_by_role("dialog", name=f"{command}: are you sure?")
    await again.get_by_role("button", name=f"{command} now").click()
    await expect(page.get_by_role("dialog")).to_have_count(0)


async def test_when_nothing_is_held_the_page_says_what_would_be(visits: Visits) -> None:
    page = await visits.page(PATH)
    await expect(held(page)).to_contain_text(words("Nothing is held", "OPTIN_RELEASE_LIMIT", "opt-outs are never held"))
    await expect(held(page).get_by_role("button")).to_have_count(0)
    await expect(page.get_by_role("link", name=re.compile("held"))).to_have_count(0)


async def test_held_decisions_are_warned_of_released_and_discarded_and_are_no_failure(deciding: Stack, deciding_visits: Visits) -> None:
    page = await deciding_visits.page()
    people = await come_back(deciding, 3)
    status = row(page, OPTIN).get_by_role("cell").nth(2)
    await expect(status).to_contain_text(words("RUNNING", "Warning:", "3 decisions", "is held", "release or discard"))
    await expect(status).not_to_contain_text("FAILED")
    await row(page, OPTIN).get_by_role("link", name="3 held").click()

    await expect(page).to_have_url(re.compile(f"{PATH}#held$"))
    await expect(held(page)).to_be_in_viewport()
    await expect(page.get_by_role("main")).to_contain_text(words("RUNNING", "3 held", "Warning:"))
    await expect(rows(page)).to_have_count(3)
    for each in people:
        facts = words(each, "In Dynamics", "donotemail", "opted in", "Campaign's change is the later one")
        await expect(rows(page).filter(has_text=each)).to_contain_text(facts)
    await expect(held(page).get_by_role("button", name="Release")).to_be_disabled()
    await held(page).get_by_role("checkbox", name=f"Choose {people[0]}").check()
    await settled(page, "Release", "asked for by phone")
    await expect(messages(page)).to_contain_text("1 item released.")
    await expect(rows(page)).to_have_count(2)
    await until_both(deciding, people[0], False)

    await held(page).get_by_role("checkbox", name="All", exact=True).check()
    await settled(page, "Discard", "a wrong import")
    await expect(messages(page)).to_contain_text("2 items discarded.")
    await expect(held(page)).to_contain_text("Nothing is held")
    await expect(page.get_by_role("main")).not_to_contain_text("Warning:")
    assert [in_dynamics(deciding, each) for each in people] == [False, True, True]
    assert [in_campaign(deciding, each) for each in people] == [False, False, False]
    await page.goto("/audit")
    for reason in ("asked for by phone", "a wrong import"):
        await expect(page.get_by_role("table", name="Audit")).to_contain_text(reason)


async def test_what_comes_to_be_held_appears_and_what_is_chosen_stays_chosen(deciding: Stack, deciding_visits: Visits) -> None:
    (first,) = await put_held(deciding)
    page = await deciding_visits.page(PATH)
    await held(page).get_by_role("checkbox", name=f"Choose {first}").check()
    await held(page).get_by_role("checkbox", name=f"Choose {first}").focus()

    (second,) = await put_held(deciding)
    await expect(rows(page)).to_have_count(2)
    await expect(held(page).get_by_role("checkbox", name=f"Choose {first}")).to_be_checked()
    await expect(held(page).get_by_role("checkbox", name=f"Choose {first}")).to_be_focused()
    await expect(held(page).get_by_role("checkbox", name=f"Choose {second}")).not_to_be_checked()
    await expect(held(page).get_by_role("status")).to_have_text("1 item is chosen.")


async def test_many_held_decisions_come_by_page_and_all_can_be_chosen_beyond_it(deciding: Stack, deciding_visits: Visits) -> None:
    await put_held(deciding, 120)
    await until_held(deciding, 120)
    page = await deciding_visits.page(PATH)
    await expect(rows(page)).to_have_count(50)
    await held(page).get_by_role("button", name="More held items").click()
    await expect(rows(page)).to_have_count(100)
    await held(page).get_by_role("checkbox", name="All that are shown").check()
    await expect(held(page).get_by_role("status")).to_have_text("100 items are chosen.")
    await held(page).get_by_role("checkbox", name="All 120, also those that are not shown").check()
    await expect(held(page).get_by_role("status")).to_have_text("All 120 are chosen.")
    await settled(page, "Discard", "made for a test")
    await expect(messages(page)).to_contain_text("120 items discarded.")
    await expect(held(page)).to_contain_text("Nothing is held")


async def test_only_an_administrator_may_settle_what_is_held(guarded: Guarded, guarded_visits: Visits) -> None:
    (contact,) = await put_held(guarded.stack)
    _, page = await guarded.signed_in(guarded_visits, "operator")
    await page.goto(PATH)
    await expect(rows(page)).to_contain_text([contact])
    for name in ("Release", "Discard"):
        await expect(held(page).get_by_role("button", name=name)).to_be_disabled()
    for box in await held(page).get_by_role("checkbox").all():
        await expect(box).to_be_disabled()
    await expect(held(page)).to_contain_text(words("needs the role admin", "operator"))


async def test_the_decisions_of_a_contact_tell_who_said_what_and_what_came_of_it(
    deciding: Stack, deciding_visits: Visits, tmp_path: Path
) -> None:
    (contact,) = await come_back(deciding, 1)
    page = await deciding_visits.page(PATH)
    await rows(page).get_by_role("link", name=contact).click()
    table = found(page).get_by_role("table", name=f"Decisions of {contact}")
    told = table.get_by_role("row")
    columns = ["When", "For", "Flags", "Why", "Campaign said", "Dynamics said", "Outcome"]
    await expect(table.get_by_role("columnheader")).to_have_text(columns)
    await expect(told).to_have_count(3)
    await expect(told.nth(1)).to_contain_text(
        words("Dynamics", "donotemail opted in", "later one", "opted in", "since", "opted out", "held")
    )
    await expect(told.nth(2)).to_contain_text(words("Dynamics", "donotemail opted out", "Campaign says opted out", "written"))
    await expect(page).to_have_url(re.compile(f"contact={contact}#decisions$"))
    await page.reload()
    await expect(told).to_have_count(3)
    await expect(page.get_by_label("Id of the contact")).to_have_value(contact)

    async with page.expect_download() as started:
        await found(page).get_by_role("button", name="Download as CSV").click()
    download = await started.value
    assert download.suggested_filename == f"decisions-optin-{contact}.csv"
    await download.save_as(tmp_path / "file.csv")
    path, accept = f"/api/v1/workflows/optin/decisions?contact={contact}", {"Accept": "text/csv"}
    assert (tmp_path / "file.csv").read_bytes().decode() == (await deciding.http.get(path, headers=accept)).text


async def test_a_contact_that_is_none_and_one_of_whom_nothing_was_decided(visits: Visits) -> None:
    page = await visits.page(PATH)
    box = page.get_by_label("Id of the contact")
    await box.fill("Ada")
    await page.keyboard.press("Enter")
    await expect(box).to_have_attribute("aria-invalid", "true")
    await expect(box).to_have_accessible_description(words("This is not the id of a contact"))
    await box.fill(new_key().upper())
    await page.keyboard.press("Enter")
    await expect(box).to_have_attribute("aria-invalid", "false")
    await expect(found(page)).to_contain_text(words("No decision is kept of this contact"))


async def test_where_a_contact_is_and_its_dead_letters_are_told_in_the_words_of_optin(deciding: Stack, deciding_visits: Visits) -> None:
    (contact,) = await come_back(deciding, 1)
    page = await deciding_visits.page(f"{PATH}/records?key={contact}")
    result = page.get_by_role("region", name="Result")
    await expect(result).to_contain_text(words(f"contact {contact}", "Decided", "Written"))
    await expect(result).not_to_contain_text(re.compile("undefined|observed_again|Campaign answered"))

    nobody = await put_letter(deciding, "profile_missing", "the contact has no profile in Campaign")
    refused = await put_letter(deciding, "flag_refused", "PATCH /contacts -> 400 0x80040265")
    await page.goto(f"{PATH}/dead-letters")
    for cause, cure in (("has no profile in Campaign", "map or replay contact"), ("A system refuses the flag", "cannot be written")):
        group = page.get_by_role("region", name=re.compile(cause))
        await expect(group).to_contain_text(words("1 open of 1", "Cure", cure))
        await expect(group).not_to_contain_text("unknown")
        await group.get_by_text("The 1 record").click()
    for each in (nobody, refused):
        await expect(page.get_by_role("link", name=each)).to_have_attribute("href", f"{PATH}/records?key={each}")


async def test_at_400_px_held_decisions_and_decisions_are_cards_and_can_be_settled(deciding: Stack, deciding_visits: Visits) -> None:
    (contact,) = await put_held(deciding)
    page = await deciding_visits.page(f"{PATH}?contact={contact}", viewport={"width": 400, "height": 800})
    await expect(found(page).get_by_role("row")).to_have_count(2)
    wide = await page.evaluate("[document.scrollingElement.scrollWidth, innerWidth]")
    assert wide[0] <= wide[1]
    await held(page).get_by_role("checkbox", name="All", exact=True).check()
    await settled(page, "Discard", "made for a test")
    await expect(held(page)).to_contain_text("Nothing is held")


async def test_what_ingress_holds_is_shown_with_its_evidence_released_and_discarded(idle: Stack, visits: Visits) -> None:
    await asyncio.to_thread(Topics(idle.kafka).ensure, ingress_topics(["contact", "new_vehicle"]))
    await discard_all(idle, "ingress")
    person, gone, car = await put_held_by_ingress(idle)
    page = await visits.page()
    await row(page, INGRESS).get_by_role("link", name="3 held").click()

    await expect(page).to_have_url(re.compile("/workflows/ingress#held$"))
    await expect(held(page)).to_be_in_viewport()
    await expect(rows(page)).to_have_count(3)
    for key, facts in (
        (
            person,
            ("In Campaign", "blackListEmail opted in", "taken back in Dynamics", "opted out", "profile", "opted in", "version 915244"),
        ),
        (gone, ("In Campaign", "deleted", "The record was deleted in Dynamics")),
        (car, ("In Campaign", "deleted", "A filter leaves the record out")),
    ):
        await expect(rows(page).filter(has_text=key)).to_contain_text(words(key, *facts))
    await expect(held(page).get_by_role("link", name=car)).to_have_attribute("href", re.compile(f"records.*{car}.*new_vehicle"))

    await held(page).get_by_role("checkbox", name=f"Choose the delete of {gone}").check()
    await held(page).get_by_role("checkbox", name=f"Choose {person}", exact=True).check()
    await settled(page, "Release", "the list was cleaned")
    await expect(messages(page)).to_contain_text("2 items released.")
    await expect(rows(page)).to_have_count(1)
    await held(page).get_by_role("checkbox", name="All", exact=True).check()
    await settled(page, "Discard", "a wrong filter")
    await expect(held(page)).to_contain_text(words("Nothing is held", "DELETE_LIMIT"))

    await page.get_by_label("Id of the contact").fill(person)
    await page.keyboard.press("Enter")
    await expect(found(page).get_by_role("row").nth(1)).to_contain_text(
        words("Campaign", "blackListEmail", "profile", "version", "released")
    )


async def test_releasing_by_keyboard_asks_twice_and_escape_gives_up(idle: Stack, visits: Visits) -> None:
    await discard_all(idle, "ingress")
    person, gone, _ = await put_held_by_ingress(idle)
    page = await visits.page("/workflows/ingress")
    for name in (f"Choose {person}", f"Choose the delete of {gone}"):
        await held(page).get_by_role("checkbox", name=name, exact=True).focus()
        await page.keyboard.press("Space")
    await held(page).get_by_role("button", name="Release").focus()
    await page.keyboard.press("Enter")
    await page.keyboard.type("asked by phone")
    await page.get_by_role("dialog").get_by_role("button", name="Release").focus()
    await page.keyboard.press("Enter")
    sure = page.get_by_role("dialog", name="Release: are you sure?")
    await expect(sure).to_contain_text(words("1 item takes an opt-out away", "1 item deletes a record in Campaign"))
    await page.keyboard.press("Escape")
    await expect(page.get_by_role("dialog")).to_have_count(0)
    await expect(rows(page)).to_have_count(3)
    await expect(held(page).get_by_role("button", name="Release")).to_be_focused()
    await discard_all(idle, "ingress")
