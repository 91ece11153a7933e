"""Dead letters with cause and cure, where a record is, and the audit."""

from __future__ import annotations

import re

import pytest
from playwright.async_api import Page, expect

from tests.browser.browsing import EGRESS, INGRESS, Visits, messages, row, words
from tests.browser.conftest import Guarded, put
from tests.e2e.helpers import everything_passed, new_key
from tests.e2e.stack import Stack, contacts

pytestmark = pytest.mark.asyncio(loop_scope="session")
LETTERS, RECORDS = "/workflows/ingress/dead-letters", "/workflows/ingress/records"
SHORT = contacts(fields={"lastname": "lastName", "description": "salutation"})


async def with_letters(stack: Stack, number: int = 2) -> list[str]:
    """Records that Campaign refuses, dead-lettered."""
    rule = {"resource": "profile", "field": "lastName", "contains": "Refused"}
    stack.campaign.settings.refuse.append(rule)
    await put(stack, "ingress", {"tables": [SHORT]})
    await stack.start()
    keys = [stack.dynamics.upsert("contact", {"lastname": f"Refused {number}"}) for number in range(number)]

    async def dead() -> bool:
        opened: int = sum(each["open"] for each in (await stack.get("/workflows/ingress/dead-letters/groups"))["groups"])
        return opened >= number

    await stack.until(dead, "dead letters", 40)
    return keys


async def settled(stack: Stack, page: Page, command: str) -> None:
    """Uses the first button of this name, and its dialog."""
    await page.get_by_role("button", name=re.compile(f"^{command} (?!all)")).first.click()
    dialog = page.get_by_role("dialog", name=command)
    if command == "Discard":
        await dialog.get_by_role("button", name="Discard").click()
        await expect(dialog.get_by_label(re.compile("^Reason"))).to_be_focused()  # a reason is needed
        await dialog.get_by_label(re.compile("^Reason")).fill("made for a test")
    await dialog.get_by_role("button", name=command).click()
    await expect(dialog).to_have_count(0)


async def test_dead_letters_are_shown_by_cause_with_the_cure_redriven_and_discarded(live: Stack, live_visits: Visits) -> None:
    keys = await with_letters(live)
    page = await live_visits.page()
    await row(page, INGRESS).get_by_role("link", name="2 dead letters").click()
    await expect(page).to_have_url(re.compile(f"{LETTERS}$"))
    group = page.get_by_role("region").filter(has=page.get_by_role("button", name=re.compile("^Re-drive (?!all)"))).last
    await expect(group).to_contain_text("2 open of 2")
    await expect(group).to_contain_text(words("Cure", "re-drive"))
    await group.get_by_text("The 2 records").click()
    await expect(group.get_by_role("table", name="Records").get_by_role("row")).to_have_count(3)
    await expect(group.get_by_role("link", name=keys[0])).to_have_attribute("href", re.compile(f"{RECORDS}.*{keys[0]}"))
    assert "Refused 0" not in await group.inner_text(), "values are shown on request only"
    await group.get_by_role("button", name="Show values").click()
    await expect(group).to_contain_text("Refused 0")

    live.campaign.settings.refuse.clear()
    await settled(live, page, "Re-drive")
    await expect(messages(page)).to_contain_text("2 records sent again")
    await expect(group).to_contain_text("0 open of 2")
    await live.until_caught_up()
    assert {str((live.campaign.get("profile", key) or {}).get("lastName")) for key in keys} == {"Refused 0", "Refused 1"}

    await with_letters(live, 1)
    await expect(group).to_contain_text("1 open of 3")
    live.campaign.settings.refuse.clear()
    await settled(live, page, "Discard")
    await expect(messages(page)).to_contain_text("1 record discarded")
    await expect(group).to_contain_text("0 open of 3")
    await page.goto("/audit")
    await expect(page.get_by_role("table", name="Audit")).to_contain_text("made for a test")


async def test_without_dead_letters_the_page_says_so(visits: Visits) -> None:
    for workflow in ("ingress", "egress", "optin"):
        page = await visits.page(f"/workflows/{workflow}/dead-letters")
        await expect(page.get_by_role("heading", name="Dead letters", level=1)).to_be_visible()
        await expect(page.get_by_role("main")).to_contain_text("There are no dead letters")
        await expect(page.get_by_role("button", name="Re-drive all")).to_have_count(0)


async def test_where_is_this_record_tells_its_way(live: Stack, live_visits: Visits) -> None:
    await live.start()
    key = await everything_passed(live)
    page = await live_visits.page(RECORDS)
    await page.get_by_label("Key of the record").fill(key)
    await page.keyboard.press("Enter")
    found = page.get_by_role("region", name="Result")
    await expect(found.get_by_role("heading", name=f"contact {key}")).to_be_visible()
    await expect(found).to_contain_text("created in Campaign")
    await expect(found.get_by_role("listitem").first).to_contain_text(words("Read from Dynamics", "partition", "offset"))
    await expect(found.get_by_role("listitem").last).to_contain_text("Dealt with by the writer")
    await page.reload()
    await expect(found).to_contain_text("created in Campaign")


async def test_a_record_that_was_never_seen_is_told_with_what_to_check(visits: Visits) -> None:
    visits.expects("status of 404")
    page = await visits.page(RECORDS)
    await page.get_by_label("Key of the record").fill(new_key())
    await page.get_by_role("button", name="Find").click()
    await expect(page.get_by_role("region", name="Result")).to_contain_text(words("Never seen", "Check table and key"))


async def test_where_is_this_record_tells_the_way_of_an_event_in_the_words_of_egress(mailing: Stack, mailing_visits: Visits) -> None:
    mailing_visits.expects("status of 404")
    person, nobody = mailing.dynamics.upsert("contact", {"lastname": "Lovelace"}), new_key()
    mailing.campaign.emit([{"kind": "send", "external_id": each} for each in (person, nobody)])
    page = await mailing_visits.page()
    await expect(row(page, EGRESS)).to_contain_text("1 event waits for a contact that is not in Dynamics yet (parked).", timeout=30_000)
    await page.goto("/workflows/egress")
    await page.get_by_role("link", name="Where is this record?").click()
    await expect(page).to_have_url(re.compile("/workflows/egress/records$"))
    await page.wait_for_load_state()

    await page.get_by_label("Key of the contact").fill(person)
    await page.keyboard.press("Enter")
    found = page.get_by_role("region", name="Result")
    await expect(found).to_contain_text(words(f"contact {person}", "on the timeline in Dynamics", "Dynamics answered", "HTTP 204"))
    await expect(found.get_by_role("listitem").first).to_contain_text(words("Read from Campaign's journal", "egress.email-events"))
    await expect(found.get_by_role("listitem").last).to_contain_text(words("Dealt with by the writer", "on the timeline"))
    await expect(found).not_to_contain_text(re.compile("in Campaign|from Dynamics|[Vv]ersion"))
    await page.reload()
    await expect(found).to_contain_text("on the timeline in Dynamics")
    await page.get_by_label("Key of the contact").fill(nobody)
    await page.get_by_role("button", name="Find").click()
    await expect(found.get_by_role("listitem")).to_contain_text(words("Waiting in the queue", "egress.email-events"))


@pytest.mark.parametrize(("workflow", "told"), [("egress", "e-mail event"), ("optin", "status was observed in Dynamics or Campaign")])
async def test_records_of_the_other_workflows_are_found_by_their_contact(visits: Visits, workflow: str, told: str) -> None:
    visits.expects("status of 404")
    page = await visits.page(f"/workflows/{workflow}/records?key={new_key()}")
    await expect(page.get_by_role("main")).to_contain_text(told)
    await expect(page.get_by_role("combobox")).to_have_count(0)
    await expect(page.get_by_role("region", name="Result")).to_contain_text(words("Never seen", "Check the id of the contact"))


async def test_the_audit_tells_who_did_what_refusals_included(guarded: Guarded, guarded_visits: Visits) -> None:
    viewer, token = guarded.token("viewer")
    bearer = {"Authorization": f"Bearer {token}"}
    assert (await guarded.stack.http.post("/api/v1/workflows/ingress/start", headers=bearer)).status_code == 403
    _, page = await guarded.signed_in(guarded_visits, "admin")
    await page.goto("/audit")
    entry = page.get_by_role("table", name="Audit").get_by_role("row", name=viewer).first
    await expect(entry).to_contain_text(words("/workflows/ingress/start", "127.0.0.1", "refused"))
    columns = ["When", "Who", "What", "From where", "Before", "After", "Result"]
    await expect(page.get_by_role("table", name="Audit").get_by_role("columnheader")).to_have_text(columns)


async def test_a_viewer_may_look_and_an_operator_may_not_discard_or_see_values(guarded: Guarded, guarded_visits: Visits) -> None:
    _, page = await guarded.signed_in(guarded_visits, "operator")
    await page.goto(LETTERS)
    await expect(page.get_by_role("main")).to_contain_text("There are no dead letters")
    await page.goto("/audit")
    await expect(page.get_by_role("table", name="Audit")).to_be_visible()
