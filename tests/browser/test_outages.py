"""What is away while a page is open: the rights, the session, control, a system."""

from __future__ import annotations

import json
import re
from contextlib import suppress

import pytest
from playwright.async_api import Dialog, Page, expect
from playwright.async_api import Error as PageError

from sandbox.web import Fault
from tests.browser.browsing import INGRESS, Visits, messages, row, start, stop, words
from tests.browser.conftest import Guarded
from tests.e2e.helpers import eventually
from tests.e2e.stack import Stack

pytestmark = pytest.mark.asyncio(loop_scope="session")
CONTACT, EGRESS = "/workflows/ingress/tables/contact", "/workflows/egress"
GONE = (
    "ERR_CONNECTION_REFUSED",
    "ERR_INCOMPLETE_CHUNKED_ENCODING",
    "ERR_CONNECTION_RESET",
    "ERR_EMPTY_RESPONSE",
    "ERR_CONTENT_LENGTH_MISMATCH",
)


async def control_answers(stack: Stack) -> None:
    async def answers() -> bool:
        return (await stack.http.get("/api/v1/workflows")).status_code == 200

    await stack.until(answers, "control answers", 30)


async def read_only(page: Page, role: str) -> None:
    """Everything can be read, nothing changed, and the page says what role it takes."""
    await expect(page.get_by_role("button", name="Save", exact=True)).to_be_disabled()
    await expect(page.get_by_role("main")).to_contain_text(words("This needs the role admin", role))


async def test_a_viewer_sees_all_and_is_told_what_role_a_command_needs(guarded: Guarded, guarded_visits: Visits) -> None:
    name, page = await guarded.signed_in(guarded_visits, "viewer")
    await expect(start(page)).to_be_disabled()
    await expect(start(page)).to_have_accessible_description(re.compile(f"role operator.*{name}"))
    await page.goto("/workflows/ingress")
    for button in ("Add New Mapping", "Delete mapping contact to profile", "Replay Data of contact"):
        await expect(page.get_by_role("button", name=button)).to_be_disabled()
    await page.goto(CONTACT)
    await expect(page.get_by_role("combobox", name="Dynamics field, row 1", exact=True)).to_be_disabled()
    await read_only(page, "viewer")
    for path in (EGRESS, "/workflows/optin"):
        await page.goto(path)
        await read_only(page, "viewer")


async def test_an_operator_starts_and_stops_and_changes_no_configuration(guarded: Guarded, guarded_visits: Visits) -> None:
    _, page = await guarded.signed_in(guarded_visits, "operator")
    await start(page).click()
    await expect(stop(page)).to_be_visible()
    await stop(page).click()
    await expect(start(page)).to_be_visible()
    await page.goto("/workflows/ingress")
    await expect(page.get_by_role("button", name="Replay Data of contact")).to_be_enabled()
    await expect(page.get_by_role("button", name="Add New Mapping")).to_be_disabled()
    await page.goto(CONTACT)
    await read_only(page, "operator")


async def test_rights_that_were_taken_away_meanwhile_are_refused_in_words(guarded: Guarded, guarded_visits: Visits) -> None:
    guarded_visits.expects("status of 403", "status of 401")
    name, page = await guarded.signed_in(guarded_visits, "admin")
    await page.goto(EGRESS)
    await page.get_by_role("group", name="Sends", exact=True).get_by_label("Yes").check()
    kept = json.loads(guarded.tokens.path.read_text(encoding="utf-8"))
    next(each for each in kept["tokens"] if each["name"] == name)["role"] = "viewer"
    guarded.tokens.path.write_text(json.dumps(kept), encoding="utf-8")
    await page.get_by_role("button", name="Save", exact=True).click()
    await expect(messages(page)).to_contain_text("admin")
    await expect(page.get_by_role("group", name="Sends", exact=True).get_by_label("Yes")).to_be_checked()


async def test_a_revoked_token_leads_to_sign_in_and_nothing_happens(guarded: Guarded, guarded_visits: Visits) -> None:
    guarded_visits.expects("status of 401")
    name, page = await guarded.signed_in(guarded_visits, "admin")
    await expect(start(page)).to_be_enabled()
    button = await start(page).element_handle()
    assert button is not None
    assert guarded.tokens.revoke(name)
    with suppress(PageError):  # the page may have noticed by itself, and be gone
        await button.evaluate("button => button.click()")
    await expect(page).to_have_url(re.compile(r"/login"))
    await expect(page.get_by_label("Token")).to_be_visible()


async def test_an_expired_session_says_why_one_has_to_sign_in_again(guarded: Guarded, guarded_visits: Visits) -> None:
    guarded_visits.expects("status of 401")
    _, page = await guarded.signed_in(guarded_visits, "admin")
    await page.goto("/workflows/ingress")  # which asks for progress again and again
    await expect(page.get_by_role("table", name="Mapped tables")).to_be_visible()
    await page.context.clear_cookies(name="bridge_session")
    await expect(page).to_have_url(re.compile(r"/login"))
    await expect(page.get_by_role("main")).to_contain_text(re.compile("session has ended|sign in again", re.IGNORECASE))


async def test_unsaved_changes_survive_the_end_of_the_session(guarded: Guarded, guarded_visits: Visits) -> None:
    """Who signs in again in another tab can go on: the page does not throw away what was typed without asking."""
    guarded_visits.expects("status of 401")
    name, page = await guarded.signed_in(guarded_visits, "admin")
    await page.goto(EGRESS)
    await page.get_by_role("group", name="Opens", exact=True).get_by_label("Yes").check()
    asked: list[str] = []

    async def stay(question: Dialog) -> None:
        asked.append(question.type)
        await question.dismiss()

    page.on("dialog", stay)
    assert guarded.tokens.revoke(name)
    await page.get_by_role("button", name="Save", exact=True).click()
    await eventually(guarded.stack, lambda: "beforeunload" in asked, "the browser asks")
    await expect(page.get_by_role("group", name="Opens", exact=True).get_by_label("Yes")).to_be_checked()


async def test_while_control_is_gone_the_page_says_so_and_goes_on_by_itself(idle: Stack, visits: Visits) -> None:
    visits.expects(*GONE, "status of 503")
    page = await visits.page()
    live = page.get_by_role("contentinfo").get_by_role("status")
    await expect(live).to_have_text("Live")
    idle.processes["control-1"].kill()
    await expect(live).to_contain_text(re.compile("Not (live|up to date)"))
    await start(page).click()
    await expect(messages(page)).to_contain_text("This server cannot be reached")
    await expect(row(page, INGRESS).get_by_role("status")).to_contain_text("STOPPED")

    idle.service("control")
    await control_answers(idle)
    await expect(live).to_have_text("Live", timeout=30_000)
    await start(page).click()
    await expect(row(page, INGRESS).get_by_role("status")).to_contain_text("STARTING")
    await stop(page).click()
    await expect(start(page)).to_be_visible()


async def test_what_was_typed_survives_while_control_is_gone(idle: Stack, visits: Visits) -> None:
    visits.expects(*GONE, "status of 503")  # until it has read its topics
    page = await visits.page(EGRESS)
    await page.get_by_role("group", name="Clicks", exact=True).get_by_label("Yes").check()
    idle.processes["control-1"].kill()
    await page.get_by_role("button", name="Save", exact=True).click()
    await expect(messages(page)).to_contain_text("This server cannot be reached")
    idle.service("control")
    await control_answers(idle)
    await page.get_by_role("button", name="Save", exact=True).click()
    await expect(messages(page)).to_contain_text("Saved as revision")


@pytest.mark.parametrize(("system", "shown", "other"), [("dynamics", "Microsoft Dynamics 365", "Campaign"), ("campaign", "Campaign", "")])
async def test_f32_with_a_system_away_the_mapping_can_be_read_and_the_page_says_what_is_missing(
    idle: Stack, visits: Visits, system: str, shown: str, other: str
) -> None:
    visits.expects("status of 50[0-9]")
    sandbox = idle.dynamics if system == "dynamics" else idle.campaign
    assert (await idle.http.post(f"/api/v1/systems/{system}/test")).status_code == 200  # forgets what is known of the tables
    sandbox.ledger.faults.append(Fault("cut_before"))
    page = await visits.page(CONTACT)
    await expect(page.get_by_role("main")).to_contain_text(f"Unable to connect to {shown}", timeout=20_000)
    await expect(page.get_by_role("combobox", name="Dynamics field, row 1", exact=True)).to_have_value("firstname")
    await expect(page.get_by_role("combobox", name="Campaign field, row 1", exact=True)).to_have_value("firstName")
    if other:
        await expect(page.get_by_role("main")).not_to_contain_text(f"Unable to connect to {other}")
