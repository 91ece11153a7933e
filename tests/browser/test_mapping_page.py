"""Edit Table Mapping: tables, key, field mappings, advanced settings, Plan (F101 to F125, F139, F140)."""

from __future__ import annotations

import re
from typing import Any

import pytest
from playwright.async_api import Locator, Page, expect

from tests.browser.browsing import Visits, pick, row, save, saved, words
from tests.browser.conftest import DEFAULT, put
from tests.e2e.stack import Stack, contacts, vehicles

pytestmark = pytest.mark.asyncio(loop_scope="session")
CONTACT = "/workflows/ingress/tables/contact"
VEHICLE = "/workflows/ingress/tables/new_vehicle?target=cusVehicle"
SECTIONS = ["Tables", "Field Mappings", "Field Replacements", "Filters", "Advanced Settings"]
KEY, TARGET_KEY = "Primary key in Dynamics", "Key field in Campaign"


async def mapping(stack: Stack, source: str = "contact") -> dict[str, Any]:
    """As it is saved."""
    found = (await stack.get("/workflows/ingress/config"))["config"]["tables"]
    return next(each for each in found if each["source"] == source)


async def opened(visits: Visits, path: str = CONTACT) -> Page:
    page = await visits.page(path)
    await expect(page.get_by_role("heading", name="Field Mappings")).to_be_visible()
    return page


def fields(page: Page) -> Locator:
    return page.get_by_role("table", name="Field Mappings")


def source(page: Page, number: int) -> Locator:
    return page.get_by_role("combobox", name=f"Dynamics field, row {number}", exact=True)


def target(page: Page, number: int) -> Locator:
    return page.get_by_role("combobox", name=f"Campaign field, row {number}", exact=True)


async def add_field(page: Page, number: int, fed_by: str, feeds: str) -> None:
    await page.get_by_role("button", name="Add new field mapping").click()
    await expect(source(page, number)).to_be_focused()
    await pick(page, f"Dynamics field, row {number}", fed_by)
    await pick(page, f"Campaign field, row {number}", feeds)


async def listed(page: Page, label: str) -> dict[str, str]:
    """What a searchable list offers: name → the rest of the option's text."""
    await page.get_by_role("combobox", name=label, exact=True).click()
    options = page.get_by_role("listbox", name=label, exact=True).get_by_role("option")
    await expect(options.first).to_be_visible()
    texts = [(await each.inner_text()).split("\n", 1) for each in await options.all()]
    await page.keyboard.press("Escape")
    return {name: more[0] if more else "" for name, *more in texts}


async def test_f105_f106_the_sections_stand_in_order_with_cancel_and_save(visits: Visits) -> None:
    page = await opened(visits)
    headings = page.get_by_role("main").get_by_role("heading", level=2)
    assert [each for each in await headings.all_inner_texts() if each in SECTIONS] == SECTIONS
    await expect(page.get_by_role("button", name="Save", exact=True)).to_be_enabled()
    await expect(page.get_by_role("button", name="Plan", exact=True)).to_be_enabled()
    await page.get_by_role("link", name="Cancel").click()
    await expect(page).to_have_url(re.compile("/workflows/ingress$"))


async def test_f104_f107_f109_f112_tables_and_key_of_a_saved_mapping_are_read_only(visits: Visits) -> None:
    page = await opened(visits)
    fixed = {"Microsoft Dynamics 365 table": "contact", "Campaign table": "profile", KEY: "contactid", TARGET_KEY: "externalId"}
    for label, value in fixed.items():
        await expect(page.get_by_label(label, exact=True)).to_have_value(value)
        await expect(page.get_by_label(label, exact=True)).not_to_be_editable()


async def test_f110_f111_the_key_is_the_first_row_with_its_icon_and_a_warning_with_a_help_link(visits: Visits) -> None:
    page = await opened(visits)
    first = fields(page).get_by_role("row").nth(1)
    await expect(first.get_by_label(KEY)).to_be_visible()
    await expect(first.get_by_text("Primary key", exact=True)).to_be_attached()
    await expect(first.get_by_role("cell").first.locator("svg")).to_be_visible()
    await expect(first).to_contain_text("Custom Identification Key")
    await first.get_by_role("link", name=re.compile("Help")).click()
    await expect(page.get_by_role("heading", name="Identification keys")).to_be_in_viewport()


async def test_f107_f108_f113_of_a_new_mapping_the_dynamics_key_is_found_and_the_campaign_key_chosen_among_all_columns(
    idle: Stack, visits: Visits
) -> None:
    page = await opened(visits, VEHICLE)
    await expect(page.get_by_label(KEY)).to_have_value("new_vehicleid")
    await expect(page.get_by_label(KEY)).not_to_be_editable()
    offered = await listed(page, TARGET_KEY)
    assert {"cusVehicleId", "cusPlate", "cusName"} <= offered.keys()

    await page.get_by_role("button", name="Save", exact=True).click()
    await expect(page.get_by_role("alert")).to_contain_text("Choose the Campaign field that takes the key")
    await expect(page.get_by_label(TARGET_KEY, exact=True).first).to_have_attribute("aria-invalid", "true")
    await pick(page, TARGET_KEY, "cusVehicleId")
    await add_field(page, 1, "new_name", "cusName")
    await save(page)
    assert (await mapping(idle, "new_vehicle"))["key"] == {"source": "new_vehicleid", "target": "cusVehicleId"}
    await expect(page.get_by_label(TARGET_KEY, exact=True)).not_to_be_editable()  # F109
    await page.reload()
    await expect(page.get_by_label(TARGET_KEY, exact=True)).to_have_value("cusVehicleId")


async def test_f112_the_key_of_contact_is_externalid_even_when_it_is_added_again(idle: Stack, visits: Visits) -> None:
    await put(idle, "ingress", {"tables": []})
    page = await opened(visits, f"{CONTACT}?target=profile")
    await expect(page.get_by_label(TARGET_KEY, exact=True)).to_have_value("externalId")
    await expect(page.get_by_label(TARGET_KEY, exact=True)).not_to_be_editable()
    await add_field(page, 1, "lastname", "lastName")
    await save(page)
    assert (await mapping(idle))["key"] == {"source": "contactid", "target": "externalId"}


async def send_labels(page: Page) -> None:
    """Display values of picklists: Campaign's gender takes Male, and no number."""
    group = page.get_by_role("group", name="Use technical values in Microsoft Dynamics 365 picklists?")
    await group.get_by_role("radio", name="No", exact=True).check()


async def test_f114_f115_f116_f117_a_new_row_offers_the_fields_of_both_tables_with_their_types(idle: Stack, visits: Visits) -> None:
    page = await opened(visits)
    number = len(DEFAULT["tables"][0]["fields"]) + 1
    await page.get_by_role("button", name="Add new field mapping").click()
    await expect(source(page, number)).to_be_focused()
    for system, table, label in (("dynamics", "contact", "Dynamics"), ("campaign", "profile", "Campaign")):
        known = (await idle.get(f"/systems/{system}/tables/{table}/fields"))["fields"]
        offered = await listed(page, f"{label} field, row {number}")
        assert set(offered) == {each["name"] for each in known if not (each["key"] and system == "dynamics")}
        assert all(each["type"] in offered[each["name"]] for each in known if each["name"] in offered), "the type is told"
    assert {"location.address2", "location.city"} <= set(await listed(page, f"Campaign field, row {number}")), "F116"

    await pick(page, f"Dynamics field, row {number}", "gendercode")
    await expect(source(page, number)).to_have_accessible_description(re.compile("^Picklist"))
    await pick(page, f"Campaign field, row {number}", "gender")
    await expect(target(page, number)).to_have_accessible_description(re.compile("^enum"))
    await expect(source(page, 1)).to_have_accessible_description(re.compile(r"^String \(50\)"))
    await send_labels(page)
    await save(page)
    assert (await mapping(idle))["fields"][-1] == {"source": "gendercode", "target": "gender", "apply_updates": True}


async def test_f118_f119_f120_f121_every_row_has_a_switch_that_is_on_for_new_rows(idle: Stack, visits: Visits) -> None:
    page = await opened(visits)
    number = len(DEFAULT["tables"][0]["fields"])
    for each in range(1, number + 1):
        await expect(page.get_by_role("switch", name=f"Apply updates, row {each}", exact=True)).to_be_checked()
    await add_field(page, number + 1, "salutation", "salutation")
    await expect(page.get_by_role("switch", name=f"Apply updates, row {number + 1}")).to_be_checked()
    await page.get_by_role("switch", name="Apply updates, row 2", exact=True).focus()
    await page.keyboard.press("Space")
    await save(page)
    assert [each["apply_updates"] for each in (await mapping(idle))["fields"]] == [True, False] + [True] * (number - 1)


async def test_f122_the_heading_apply_updates_sets_all_switches_on_or_off(idle: Stack, visits: Visits) -> None:
    page = await opened(visits)
    heading = fields(page).get_by_role("columnheader", name="Apply updates").get_by_role("button", name="Apply updates")
    switches = page.get_by_role("switch", name=re.compile("Apply updates"))
    number = await switches.count()
    await heading.click()
    await expect(page.get_by_role("switch", checked=True)).to_have_count(0)
    await save(page)
    assert {each["apply_updates"] for each in (await mapping(idle))["fields"]} == {False}
    await switches.first.check()
    await heading.press("Enter")
    await expect(page.get_by_role("switch", checked=True)).to_have_count(number)


async def test_f123_two_dynamics_fields_cannot_go_to_one_campaign_field(idle: Stack, visits: Visits) -> None:
    visits.expects("status of 422")
    page = await opened(visits)
    number = len(DEFAULT["tables"][0]["fields"]) + 1
    await page.get_by_role("button", name="Add new field mapping").click()
    await pick(page, f"Dynamics field, row {number}", "jobtitle")
    await target(page, number).fill("lastName")
    option = page.get_by_role("option", name=re.compile("^lastName"))
    await expect(option).to_have_attribute("aria-disabled", "true")
    await expect(option).to_contain_text("fed by lastname already")
    await page.keyboard.press("Tab")  # typed all the same
    await expect(fields(page)).to_contain_text("lastName is fed by lastname already")
    await page.get_by_role("button", name="Save", exact=True).click()
    await expect(page.get_by_role("alert")).to_contain_text("fed by lastname already")
    await expect(target(page, number)).to_have_attribute("aria-invalid", "true")
    assert await mapping(idle) == DEFAULT["tables"][0]


async def test_f124_f125_fields_are_added_and_taken_away_later(idle: Stack, visits: Visits) -> None:
    page = await opened(visits)
    before = len(DEFAULT["tables"][0]["fields"])
    await page.get_by_role("button", name="Delete field mapping middlename, row 2").click()
    await expect(source(page, 2)).to_have_value("lastname")
    await add_field(page, before, "salutation", "salutation")
    await save(page)
    sources = [each["source"] for each in (await mapping(idle))["fields"]]
    assert "middlename" not in sources and sources[-1] == "salutation" and len(sources) == before

    await page.get_by_role("button", name=f"Delete field mapping salutation, row {before}").click()
    await page.get_by_role("button", name="Save", exact=True).click()
    await expect(fields(page).get_by_role("row")).to_have_count(before + 1)
    await saved(page)


@pytest.mark.parametrize(
    ("question", "answer", "expected"),
    [
        ("Apply deletes in Microsoft Dynamics 365 to Campaign?", "Yes", {"apply_deletes": True}),
        ("Use technical values in Microsoft Dynamics 365 picklists?", "No", {"picklists": "display"}),
    ],
    ids=["f139", "f140"],
)
async def test_f139_f140_advanced_settings(idle: Stack, visits: Visits, question: str, answer: str, expected: dict[str, Any]) -> None:
    page = await opened(visits)
    group = page.get_by_role("group", name=question)
    await expect(group.get_by_role("radio", checked=True)).to_have_value({"Yes": "false", "No": "technical"}[answer])
    await group.get_by_role("radio", name=answer, exact=True).check()
    await save(page)
    assert {name: (await mapping(idle))[name] for name in expected} == expected


async def test_plan_tells_what_a_draft_would_do_to_a_live_sample_and_writes_nothing(idle: Stack, visits: Visits) -> None:
    idle.dynamics.upsert("contact", {"firstname": "F" * 40, "lastname": "Long", "gendercode": 1})
    page = await opened(visits)
    number = len(DEFAULT["tables"][0]["fields"]) + 1
    await add_field(page, number, "gendercode", "gender")
    await send_labels(page)
    await page.get_by_role("button", name="Plan", exact=True).click()
    plan = page.get_by_role("region", name="Plan")
    await expect(plan).to_contain_text(words("A live sample of", "contact", "Nothing was written"))
    counted = await plan.get_by_role("definition").all_inner_texts()
    assert len(counted) == 6 and sum(int(each) for each in counted) == len(idle.dynamics.rows("contact"))
    await expect(plan).to_contain_text("Estimated calls to Campaign")
    await expect(plan.get_by_role("table", name="Would be truncated").get_by_role("row", name="firstname")).to_contain_text("30 characters")
    await expect(plan.get_by_role("table", name="Picklist values without replacement")).to_contain_text("gendercode")
    assert idle.campaign.rows("profile") == [] and await mapping(idle) == DEFAULT["tables"][0]


async def test_after_plan_the_focus_is_on_what_it_tells(visits: Visits) -> None:
    page = await opened(visits)
    await page.get_by_role("button", name="Plan", exact=True).press("Enter")
    await expect(page.get_by_role("region", name="Plan")).to_contain_text("Nothing was written")
    await expect(page.get_by_role("region", name="Plan")).to_be_focused()


async def test_f195_more_than_fifty_fields_are_warned_of_and_saved(idle: Stack, visits: Visits) -> None:
    """More than Campaign's guardrail: a warning, not an error."""
    names = [f"cusExtra{number}" for number in range(51)]
    for name in names:
        idle.campaign.add_field("cusVehicle", name=name, length=100)
    idle.campaign.publish()
    many = [{"source": "new_name", "target": name} for name in names]
    await put(idle, "ingress", {"tables": [contacts(), vehicles() | {"fields": many}]})
    page = await opened(visits, "/workflows/ingress/tables/new_vehicle")
    await page.get_by_label("Comment").fill("fifty-one")
    await save(page)
    await expect(page.get_by_role("main")).to_contain_text(re.compile("guardrail"))


async def test_changes_say_that_they_take_effect_at_the_next_start(live: Stack, live_visits: Visits) -> None:
    await live.start()
    page = await live_visits.page(CONTACT)
    await page.get_by_role("button", name="Delete field mapping fax, row 7").click()
    await save(page)
    await expect(page.get_by_role("region", name="Messages")).to_contain_text("stopped and started")
    await expect(page.get_by_role("main")).to_contain_text("Saved changes await a stop and start")
    await page.goto("/")
    await expect(row(page, "Microsoft Dynamics 365 to Campaign")).to_contain_text("Pending changes")
