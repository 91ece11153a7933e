"""Filters and deletes of ingress from end to end: who is propagated, who leaves and who comes back (campaign.md §14.11, §14.12)."""

from __future__ import annotations

from typing import Any

import pytest

from sandbox.dynamics.tables import Column
from tests.e2e.helpers import everything_passed, kept, names, run_through
from tests.e2e.stack import CONTACT_FIELDS, Stack, contacts

SENTINEL = {"field": "lastname", "operator": "eq", "value": "Sentinel"}


def condition(field: str, operator: str, value: Any = None) -> dict[str, Any]:
    return {"field": field, "operator": operator, "value": value}


def only(*conditions: dict[str, Any], match: str = "any", delete_filtered_out: bool = False) -> dict[str, Any]:
    return {"match": match, "conditions": list(conditions), "delete_filtered_out": delete_filtered_out}


def in_leeds(delete_filtered_out: bool) -> dict[str, Any]:
    """Contacts of Leeds, and the sentinels."""
    return only(condition("address1_city", "eq", "Leeds"), SENTINEL, delete_filtered_out=delete_filtered_out)


@pytest.mark.parametrize(("match", "expected"), [("all", {"Both"}), ("any", {"Both", "City", "Children"})])
async def test_f131_to_f135_conditions_are_joined_with_and_or_or(stack: Stack, match: str, expected: set[str]) -> None:
    """On columns that are not mapped, too (F132)."""
    for last, city, children in (("Both", "Leeds", 3), ("City", "Leeds", 1), ("Children", "Turin", 3), ("None", "Turin", None)):
        stack.dynamics.upsert("contact", {"lastname": last, "address1_country": city, "numberofchildren": children})
    wanted = only(condition("address1_country", "eq", "Leeds"), condition("numberofchildren", "ge", 2), match=match)

    await stack.configure(contacts(filter=wanted))
    stack.service("reader")
    stack.service("writer")
    await stack.start()
    key = stack.dynamics.upsert("contact", {"lastname": "Last", "address1_country": "Leeds", "numberofchildren": 9})
    await stack.until(lambda: _there(stack, key), "the last contact arrives")
    await stack.until_caught_up()

    assert names(stack) - {"Last"} == expected


async def _there(stack: Stack, key: str) -> bool:
    return stack.campaign.get("profile", key) is not None


async def test_f133_operators_on_text_dates_lists_and_empty_fields(stack: Stack) -> None:
    rows: dict[str, dict[str, Any]] = {
        "Contains": {"jobtitle": "Chief Engineer of ships"},
        "Begins": {"address1_line1": "Park Avenue 3"},
        "Listed": {"familystatuscode": 3},
        "Old": {"birthdate": "1949-12-31"},
        "Rich": {"creditlimit": 10000.5},
        "Stranger": {"address1_country": "Nowhere"},
    }
    for last, values in rows.items():
        stack.dynamics.upsert("contact", {"lastname": last, "address1_country": "Italy", "address1_county": "x", **values})
    stack.dynamics.upsert("contact", {"lastname": "Empty", "address1_country": "Italy"})
    wanted = only(
        condition("jobtitle", "contains", "Engineer"),
        condition("address1_line1", "begins_with", "Park"),
        condition("familystatuscode", "in", [3, 4]),
        condition("birthdate", "lt", "1950-01-01"),
        condition("creditlimit", "gt", 10000),
        condition("address1_county", "is_empty"),
        SENTINEL,
    )

    await run_through(stack, contacts(filter=wanted))

    assert names(stack) == {"Contains", "Begins", "Listed", "Old", "Rich", "Empty"}


async def test_f133_several_choices_are_compared_as_sets_and_guids_in_any_form(stack: Stack) -> None:
    options = {100_000_000: "Sport", 100_000_002: "Music", 11: "Go"}
    stack.dynamics.add_column("contact", Column("new_interests", "MultiSelectPicklist", options=options))
    company = stack.dynamics.upsert("account", {"name": "Contoso"})
    rows: dict[str, dict[str, Any]] = {
        "Any": {"new_interests": "11,100000002"},
        "Exactly": {"new_interests": "11,100000000"},
        "None": {"new_interests": "11"},
        "Company": {"parentcustomerid": company},
    }
    for last, values in rows.items():
        stack.dynamics.upsert("contact", {"lastname": last, **values})
    wanted = only(
        condition("new_interests", "contains_any", [100_000_002]),
        condition("new_interests", "eq", [100_000_000, 11]),
        condition("parentcustomerid", "eq", f"{{{company.upper()}}}"),
        SENTINEL,
    )

    await run_through(stack, contacts(filter=wanted))

    assert names(stack) == {"Any", "Exactly", "Company"}


async def test_f136_yes_deletes_who_leaves_the_filter_and_creates_who_comes_back(stack: Stack) -> None:
    key = stack.dynamics.upsert("contact", {"firstname": "Anna", "lastname": "Meyer", "address1_city": "Leeds"})
    outside = stack.dynamics.upsert("contact", {"lastname": "Outside", "address1_city": "Turin"})
    fields = [{"source": name, "target": to, "apply_updates": name != "firstname"} for name, to in CONTACT_FIELDS.items()]
    await run_through(stack, contacts(filter=in_leeds(True)) | {"fields": fields})
    assert names(stack) == {"Meyer"}

    stack.dynamics.upsert("contact", {"contactid": key, "address1_city": "Turin", "firstname": "Berta"})
    await everything_passed(stack)
    assert stack.campaign.get("profile", key) is None
    stack.dynamics.upsert("contact", {"contactid": key, "lastname": "Away"})
    await everything_passed(stack)
    assert [write["method"] for write in kept(stack, "profile", key)] == ["POST", "DELETE"]

    stack.dynamics.upsert("contact", {"contactid": key, "address1_city": "Leeds"})
    await everything_passed(stack)
    back = stack.campaign.get("profile", key) or {}
    assert (back["firstName"], back["lastName"], back["location"]["city"]) == ("Berta", "Away", "Leeds")
    assert [write["method"] for write in kept(stack, "profile", key)] == ["POST", "DELETE", "POST"]
    assert stack.campaign.writes("profile", outside) == []


async def test_f136_no_leaves_who_leaves_the_filter_and_updates_who_comes_back(stack: Stack) -> None:
    key = stack.dynamics.upsert("contact", {"firstname": "Anna", "lastname": "Meyer", "address1_city": "Leeds"})
    await run_through(stack, contacts(filter=in_leeds(False)))

    stack.dynamics.upsert("contact", {"contactid": key, "address1_city": "Turin", "firstname": "Berta"})
    await everything_passed(stack)
    profile = stack.campaign.get("profile", key) or {}
    assert (profile["firstName"], profile["location"]["city"]) == ("Anna", "Leeds")
    assert len(stack.campaign.writes("profile", key)) == 1

    stack.dynamics.upsert("contact", {"contactid": key, "address1_city": "Leeds"})
    await everything_passed(stack)
    assert (stack.campaign.get("profile", key) or {})["firstName"] == "Berta"
    assert kept(stack, "profile", key)[-1]["fields"] == {"firstName": "Berta"}


async def test_f139_deletes_are_ignored_when_switched_off(stack: Stack) -> None:
    key = stack.dynamics.upsert("contact", {"lastname": "Meyer"})
    await run_through(stack, contacts(apply_deletes=False))

    stack.dynamics.delete("contact", key)
    await everything_passed(stack)

    assert stack.campaign.get("profile", key) is not None
    assert [write["method"] for write in stack.campaign.writes("profile", key)] == ["POST"]


async def test_f139_deletes_go_out_when_switched_on_and_not_found_is_success(stack: Stack) -> None:
    key, gone = (stack.dynamics.upsert("contact", {"lastname": last}) for last in ("Meyer", "Gone"))
    await run_through(stack, contacts(apply_deletes=True))
    stack.campaign.remove("profile", gone)

    stack.dynamics.delete("contact", key)
    stack.dynamics.delete("contact", gone)
    await everything_passed(stack)

    assert stack.campaign.get("profile", key) is None
    assert stack.campaign.writes("profile", gone)[-1]["status"] == 404

    async def counted() -> bool:
        return bool((await stack.workflow())["counters"]["deleted"] == 2)

    await stack.until(counted, "both deletions are counted", 5)
    workflow = await stack.workflow()
    assert (workflow["status"], workflow["counters"]["dead_lettered"], workflow["backlog"]["records"]) == ("RUNNING", 0, 0)


async def test_f139_a_contact_deleted_and_made_again_with_its_guid_stays(stack: Stack) -> None:
    """Dynamics shows both in one answer, the deletion last."""
    stack.dynamics.settings.same_guid = "both"
    key = stack.dynamics.upsert("contact", {"firstname": "Anna", "lastname": "Before"})
    await run_through(stack, contacts(apply_deletes=True))

    stack.dynamics.delete("contact", key)
    stack.dynamics.upsert("contact", {"contactid": key, "lastname": "After"})
    await everything_passed(stack)

    profile = stack.campaign.get("profile", key)
    assert profile is not None
    assert (profile["firstName"], profile["lastName"]) == ("", "After")
