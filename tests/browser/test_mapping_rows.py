"""Edit Table Mapping: field replacements and filters (F126 to F138)."""

from __future__ import annotations

import re
from typing import Any

import pytest
from playwright.async_api import Locator, Page, expect

from tests.browser.browsing import Visits, pick, save
from tests.browser.conftest import put
from tests.e2e.stack import Stack, contacts, vehicles

pytestmark = pytest.mark.asyncio(loop_scope="session")
PATH = "/workflows/ingress/tables/contact"
FIELDS = {"lastname": "lastName", "gendercode": "gender", "donotemail": "blackListEmail", "numberofchildren": "salutation"}
OPERATORS = [
    *("equals", "does not equal", "is less than", "is less than or equal to", "is greater than", "is greater than or equal to"),
    *("contains", "begins with", "ends with", "is one of", "is empty", "is not empty"),
]
DELETE_FILTERED = "Do you want to delete records in Adobe Campaign Standard that will be filtered out from Microsoft Dynamics 365?"


async def opened(stack: Stack, visits: Visits, **more: Any) -> Page:
    """The page of a contact mapping with a field of every kind; its picklists go out with the labels that Campaign has as well."""
    await put(stack, "ingress", {"tables": [await whole(stack, contacts(fields=FIELDS, picklists="display", **more))]})
    page = await visits.page(PATH)
    await expect(page.get_by_role("heading", name="Field Replacements")).to_be_visible()
    return page


async def whole(stack: Stack, table: dict[str, Any]) -> dict[str, Any]:
    """With every member the API gives, so that it can be compared."""
    answer = await stack.http.post("/api/v1/workflows/ingress/config/validate", json={"config": {"tables": [table]}})
    assert answer.json()["valid"], answer.text
    return table


async def mapping(stack: Stack) -> dict[str, Any]:
    found: dict[str, Any] = (await stack.get("/workflows/ingress/config"))["config"]["tables"][0]
    return found


async def replacement(page: Page, field: str) -> Locator:
    """A new line for this field."""
    await page.get_by_role("button", name="Add New Field Replacement").click()
    line = page.get_by_role("group", name=re.compile(r"^Replacement \d+")).last
    await expect(line.get_by_label("Dynamics field")).to_be_focused()
    await line.get_by_label("Dynamics field").select_option(field)
    return line


async def condition(page: Page, field: str) -> Locator:
    await page.get_by_role("button", name="Add New Filter").click()
    line = page.get_by_role("group", name=re.compile(r"^Filter \d+")).last
    box = line.get_by_role("combobox", name="Dynamics field")
    await expect(box).to_be_focused()
    await box.fill(field)
    await line.get_by_role("option", name=re.compile(rf"^{field}(\s|$)")).click()
    return line


async def choices(control: Locator) -> list[str]:
    return await control.get_by_role("option").all_inner_texts()


async def test_f126_f127_a_replacement_is_of_a_mapped_field(idle: Stack, visits: Visits) -> None:
    page = await opened(idle, visits)
    line = await replacement(page, "lastname")
    assert await choices(line.get_by_label("Dynamics field")) == ["Choose…", *FIELDS]
    await line.get_by_label("Existing value").fill("Meyer")
    await line.get_by_label("New value").fill("Maier")
    await save(page)
    assert (await mapping(idle))["replacements"] == [{"source": "lastname", "from": "Meyer", "to": "Maier"}]
    await page.reload()
    await expect(page.get_by_role("group", name="Replacement 1").get_by_label("Existing value")).to_have_value("Meyer")
    await page.get_by_role("button", name="Delete field replacement, row 1").click()
    await save(page)
    assert (await mapping(idle))["replacements"] == []


async def test_f128_picklists_enumerations_and_yes_no_have_drop_downs(idle: Stack, visits: Visits) -> None:
    page = await opened(idle, visits)
    line = await replacement(page, "gendercode")
    assert await choices(line.get_by_label("Existing value")) == ["Choose…", "Male (1)", "Female (2)"]
    offered = await choices(line.get_by_label("New value"))
    assert offered[0] == "Choose…" and {"male", "female"} <= {each.split(" (")[-1].strip(")") for each in offered}
    await line.get_by_label("Existing value").select_option("2")
    await line.get_by_label("New value").select_option("female")
    flag = await replacement(page, "donotemail")
    assert len(await choices(flag.get_by_label("Existing value"))) == 3
    assert len(await choices(flag.get_by_label("New value"))) == 3
    await flag.get_by_role("button", name="Delete").click()
    await save(page)
    assert (await mapping(idle))["replacements"] == [{"source": "gendercode", "from": "2", "to": "female"}]


async def test_f129_f130_texts_and_numbers_have_a_text_box(idle: Stack, visits: Visits) -> None:
    page = await opened(idle, visits)
    await expect(page.get_by_role("region", name="Field Replacements")).to_contain_text("colour's name for its code, or F for 1")
    line = await replacement(page, "numberofchildren")
    await expect(line.get_by_role("textbox", name="Existing value")).to_be_editable()
    await line.get_by_role("textbox", name="Existing value").fill("1")
    await line.get_by_role("textbox", name="New value").fill("F")
    await save(page)
    assert (await mapping(idle))["replacements"] == [{"source": "numberofchildren", "from": "1", "to": "F"}]


async def test_f131_f132_f133_f134_a_filter_takes_any_field_a_comparison_and_a_value(idle: Stack, visits: Visits) -> None:
    page = await opened(idle, visits)
    await expect(page.get_by_role("region", name="Filters")).to_contain_text("Records for which the filters are true are propagated")
    line = await condition(page, "address1_city")  # not mapped
    await line.get_by_label("Comparison").select_option("begins with")
    await line.get_by_label("Value").fill("Os")
    await save(page)
    expected = [{"field": "address1_city", "operator": "begins_with", "value": "Os"}]
    assert (await mapping(idle))["filter"]["conditions"] == expected
    await page.get_by_role("button", name="Delete filter, row 1").click()
    await save(page)
    assert (await mapping(idle))["filter"]["conditions"] == []


async def test_f133_the_value_fits_the_field_and_the_comparison(idle: Stack, visits: Visits) -> None:
    page = await opened(idle, visits)
    state = await condition(page, "statecode")
    assert await choices(state.get_by_label("Value")) == ["Choose…", "Active (0)", "Inactive (1)"]
    await state.get_by_label("Value").select_option("0")
    children = await condition(page, "numberofchildren")
    await children.get_by_label("Comparison").select_option("is one of")
    await children.get_by_label("Values, one a line").fill("1\n2")
    gender = await condition(page, "gendercode")
    await gender.get_by_label("Comparison").select_option("is one of")
    await gender.get_by_role("checkbox", name="Female").check()
    flag = await condition(page, "donotemail")
    await flag.get_by_label("Value").select_option("false")
    email = await condition(page, "emailaddress1")
    await email.get_by_label("Comparison").select_option("is not empty")
    await expect(email.get_by_label("Value")).to_have_count(0)
    await save(page)
    assert (await mapping(idle))["filter"]["conditions"] == [
        {"field": "statecode", "operator": "eq", "value": 0},
        {"field": "numberofchildren", "operator": "in", "value": [1, 2]},
        {"field": "gendercode", "operator": "in", "value": [2]},
        {"field": "donotemail", "operator": "eq", "value": False},
        {"field": "emailaddress1", "operator": "is_not_empty", "value": None},
    ]
    await page.reload()
    await expect(page.get_by_role("group", name="Filter 1").get_by_label("Value")).to_have_value("0")
    await expect(page.get_by_role("group", name="Filter 3").get_by_role("checkbox", name="Female")).to_be_checked()
    await expect(page.get_by_role("group", name="Filter 4").get_by_label("Value")).to_have_value("false")


async def test_f133_a_field_with_several_choices_is_compared_with_sets_of_them(idle: Stack, visits: Visits) -> None:
    await put(idle, "ingress", {"tables": [await whole(idle, vehicles())]})
    page = await visits.page("/workflows/ingress/tables/new_vehicle")
    features = await condition(page, "new_features")
    sets = ["equals", "does not equal", "contains any of", "contains all of", "is empty", "is not empty"]
    assert await choices(features.get_by_label("Comparison")) == sets
    await features.get_by_role("checkbox", name="Navigation").check()
    await features.get_by_role("checkbox", name="Sunroof").check()
    await features.get_by_label("Comparison").select_option("contains any of")
    await expect(features.get_by_role("checkbox", name="Sunroof")).to_be_checked()
    await save(page)
    assert (await mapping(idle))["filter"]["conditions"] == [{"field": "new_features", "operator": "contains_any", "value": [1, 3]}]
    await page.reload()
    again = page.get_by_role("group", name="Filter 1")
    await expect(again.get_by_role("checkbox", checked=True)).to_have_count(2)
    await expect(again.get_by_label("Comparison")).to_have_value("contains_any")


async def test_f133_a_comparison_that_says_nothing_about_a_field_is_not_offered(idle: Stack, visits: Visits) -> None:
    page = await opened(idle, visits)
    flag = await condition(page, "donotemail")
    assert await choices(flag.get_by_label("Comparison")) == ["equals", "does not equal", "is one of", "is empty", "is not empty"]
    state = await condition(page, "statecode")
    assert await choices(state.get_by_label("Comparison")) == [each for each in OPERATORS if each not in OPERATORS[6:9]]


async def test_f135_filters_are_joined_by_and_or_or(idle: Stack, visits: Visits) -> None:
    page = await opened(idle, visits)
    question = page.get_by_role("group", name="Choose the filter comparison operator")
    await expect(question.get_by_role("radio", name="And")).to_be_checked()
    await expect(question).to_contain_text("all filters are true")
    await question.get_by_role("radio", name="Or").check()
    await save(page)
    assert (await mapping(idle))["filter"]["match"] == "any"


async def test_f136_records_that_are_filtered_out_are_deleted_on_request(idle: Stack, visits: Visits) -> None:
    page = await opened(idle, visits)
    question = page.get_by_role("group", name=DELETE_FILTERED)
    await expect(question.get_by_role("radio", name="No", exact=True)).to_be_checked()
    await question.get_by_role("radio", name="Yes", exact=True).check()
    await save(page)
    assert (await mapping(idle))["filter"]["delete_filtered_out"] is True


async def test_f137_without_filters_all_modified_records_are_propagated_and_the_page_says_so(idle: Stack, visits: Visits) -> None:
    page = await opened(idle, visits)
    await expect(page.get_by_role("region", name="Filters")).to_contain_text("Without filters all modified records are")
    await expect(page.get_by_role("group", name=re.compile(r"^Filter \d+"))).to_have_count(0)


async def test_f138_all_comparison_operators_are_offered_in_words(idle: Stack, visits: Visits) -> None:
    page = await opened(idle, visits)
    line = await condition(page, "lastname")
    assert await choices(line.get_by_label("Comparison")) == OPERATORS


async def test_a_picker_is_used_by_keyboard_alone(idle: Stack, visits: Visits) -> None:
    page = await opened(idle, visits)
    await page.get_by_role("button", name="Add new field mapping").press("Enter")
    box = page.get_by_role("combobox", name="Dynamics field, row 5", exact=True)
    await expect(box).to_be_focused()
    await page.keyboard.press("ArrowDown")
    await expect(box).to_have_attribute("aria-expanded", "true")
    await page.keyboard.press("Escape")
    await expect(box).to_have_attribute("aria-expanded", "false")
    await page.keyboard.type("job")
    active = page.locator(f"#{await box.get_attribute('aria-activedescendant')}")
    await expect(active).to_contain_text("jobtitle")
    await page.keyboard.press("Enter")
    await expect(box).to_have_value("jobtitle")
    await page.keyboard.press("Tab")
    await expect(page.get_by_role("combobox", name="Campaign field, row 5", exact=True)).to_be_focused()
    await pick(page, "Campaign field, row 5", "middleName")
    await save(page)
    assert (await mapping(idle))["fields"][-1]["source"] == "jobtitle"
