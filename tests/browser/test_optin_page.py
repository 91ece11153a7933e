"""Opt In/Out: direction and mappings (F175 to F191)."""

from __future__ import annotations

import re
from typing import Any

import pytest
from playwright.async_api import Locator, Page, expect

from bridge.model.flags import OPT_OUT_FLAGS
from tests.browser.browsing import OPTIN, Visits, pick, save, start, words
from tests.browser.conftest import put
from tests.e2e.stack import Stack

pytestmark = pytest.mark.asyncio(loop_scope="session")
PATH = "/workflows/optin"
DIRECTIONS = {
    "disabled": "Disabled",
    "dynamics-to-campaign": "Unidirectional (Microsoft Dynamics 365 to Campaign)",
    "campaign-to-dynamics": "Unidirectional (Campaign to Microsoft Dynamics 365)",
    "bidirectional": "Bidirectional",
}


async def config(stack: Stack) -> dict[str, Any]:
    found: dict[str, Any] = (await stack.get("/workflows/optin/config"))["config"]
    return found


def direction(page: Page) -> Locator:
    return page.get_by_label("Opt in/out synchronization direction")


def mappings(page: Page) -> Locator:
    return page.get_by_role("table", name="Mappings")


async def opened(visits: Visits, chosen: str = "disabled") -> Page:
    page = await visits.page(PATH)
    await expect(direction(page)).to_be_visible()
    await direction(page).select_option(chosen)
    return page


async def test_f175_the_tables_are_contact_and_profile_and_read_only(visits: Visits) -> None:
    page = await opened(visits)
    for label, value in (("Microsoft Dynamics 365 table", "contact"), ("Campaign table", "profile")):
        await expect(page.get_by_label(label)).to_have_value(value)
        await expect(page.get_by_label(label)).not_to_be_editable()


async def test_f176_f177_f190_the_direction_is_a_drop_down_and_disabled_by_default(visits: Visits) -> None:
    page = await opened(visits)
    assert await direction(page).get_by_role("option").all_inner_texts() == list(DIRECTIONS.values())
    await expect(direction(page)).to_have_value("disabled")
    await expect(mappings(page)).to_be_hidden()
    await expect(direction(page)).to_have_accessible_description(
        words("No opt-in or opt-out information moves", "another process handles it")
    )


async def test_f178_from_dynamics_the_flags_are_mapped_in_the_contact_mapping_and_not_here(idle: Stack, visits: Visits) -> None:
    page = await opened(visits, "dynamics-to-campaign")
    await expect(mappings(page)).to_be_hidden()
    await expect(page.get_by_role("main")).to_contain_text("mapped in the contact mapping")
    await save(page)
    assert await config(idle) == {"direction": "dynamics-to-campaign", "mappings": []}
    await page.get_by_role("link", name="Go to the contact mapping").click()
    await expect(page).to_have_url(re.compile("/workflows/ingress/tables/contact$"))


async def test_f179_f182_f183_from_campaign_the_eight_flags_can_be_mapped_and_are_fixed(idle: Stack, visits: Visits) -> None:
    page = await opened(visits, "campaign-to-dynamics")
    await expect(direction(page)).to_have_accessible_description(words("set by hand in Dynamics are overwritten"))
    await expect(mappings(page).get_by_role("row")).to_have_count(1 + len(OPT_OUT_FLAGS))
    for number, flag in enumerate(OPT_OUT_FLAGS, 1):
        cell = mappings(page).get_by_role("row").nth(number).get_by_role("cell").nth(1)
        await expect(cell).to_contain_text(flag)
        await expect(cell.get_by_role("textbox")).to_have_count(0)
        await expect(cell.get_by_role("combobox")).to_have_count(0)

    await pick(page, "Dynamics field for blackListEmail", "donotemail")
    await save(page)
    assert await config(idle) == {
        "direction": "campaign-to-dynamics",
        "mappings": [{"source": "donotemail", "target": "blackListEmail"}],
    }
    await page.goto("/")
    await expect(start(page, OPTIN)).to_be_enabled()


async def test_f180_f184_bidirectional_shows_the_mappings_and_takes_effect_at_the_next_start(idle: Stack, visits: Visits) -> None:
    page = await opened(visits, "bidirectional")
    await pick(page, "Dynamics field for blackListPhone", "donotphone")
    await pick(page, "Dynamics field for ccpaOptOut", "donotbulkemail")
    await save(page)
    await expect(page.get_by_role("region", name="Messages")).to_contain_text("takes effect at the next start")
    assert [each["target"] for each in (await config(idle))["mappings"]] == ["blackListPhone", "ccpaOptOut"]
    await page.reload()
    await expect(page.get_by_role("combobox", name="Dynamics field for blackListPhone")).to_have_value("donotphone")
    await page.get_by_role("combobox", name="Dynamics field for blackListPhone").fill("")
    await save(page)
    assert [each["target"] for each in (await config(idle))["mappings"]] == ["ccpaOptOut"]
    await page.get_by_role("link", name="Cancel").click()
    await expect(page).to_have_url(re.compile(r"/$"))


async def test_f181_f185_of_dynamics_the_boolean_fields_are_offered_only(idle: Stack, visits: Visits) -> None:
    page = await opened(visits, "bidirectional")
    await expect(page.get_by_role("region", name="Mappings")).to_contain_text("donot")
    await page.get_by_role("combobox", name="Dynamics field for blackList", exact=True).click()
    options = page.get_by_role("listbox", name="Dynamics field for blackList", exact=True).get_by_role("option")
    await expect(options.first).to_be_visible()
    known = (await idle.get("/systems/dynamics/tables/contact/fields"))["fields"]
    booleans = {each["name"] for each in known if each["type"] == "Boolean"}
    assert {(await each.inner_text()).split("\n")[0] for each in await options.all()} == booleans
    assert {"donotemail", "merged"} <= booleans, "those that do not start with donot, too"


async def test_f181_a_field_of_another_type_is_refused_where_it_stands(idle: Stack, visits: Visits) -> None:
    visits.expects("status of 422")
    page = await opened(visits, "bidirectional")
    box = page.get_by_role("combobox", name="Dynamics field for blackListFax")
    await box.fill("lastname")
    await page.keyboard.press("Tab")
    await page.get_by_role("button", name="Save", exact=True).click()
    await expect(box).to_have_attribute("aria-invalid", "true")
    await expect(box).to_have_accessible_description(words("lastname is of type String", "yes/no"))
    assert (await config(idle))["mappings"] == []


async def test_f178_a_flag_that_is_mapped_in_both_workflows_is_refused(idle: Stack, visits: Visits) -> None:
    visits.expects("status of 422")
    contact = (await idle.get("/workflows/ingress/config"))["config"]["tables"][0]
    flag = {"source": "donotemail", "target": "blackListEmail", "apply_updates": True}
    await put(idle, "ingress", {"tables": [contact | {"fields": [*contact["fields"], flag]}]})
    page = await opened(visits, "bidirectional")
    await pick(page, "Dynamics field for blackListEmail", "donotemail")
    await page.get_by_role("button", name="Save", exact=True).click()
    await expect(page.get_by_role("alert")).to_contain_text(words("blackListEmail", "can be in one only"))


async def test_f186_f187_the_conflict_rule_and_the_daily_run_are_told_with_the_direction(visits: Visits) -> None:
    page = await opened(visits, "bidirectional")
    await expect(direction(page)).to_have_accessible_description(
        words("later change wins if it was made in Campaign", "opted out wins if either side says so", "once per day", "SFTP")
    )
    await direction(page).select_option("campaign-to-dynamics")
    await expect(direction(page)).to_have_accessible_description(words("once per day", "SFTP"))


async def test_f188_f191_the_documentation_says_what_is_restarted_by_hand_and_what_is_not_supported(visits: Visits) -> None:
    page = await visits.page("/documentation")
    await expect(page.get_by_role("main")).to_contain_text(words("Campaign workflow that exports it stops", "restarted by hand"))
    await expect(page.get_by_role("main")).to_contain_text("Subscriptions are not supported")


async def test_f189_the_page_says_to_check_typology_rules_first(visits: Visits) -> None:
    page = await opened(visits)
    await expect(page.get_by_role("main")).to_contain_text(words("typology rules", "transactional messages"))
