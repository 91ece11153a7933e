"""Ingress mappings from end to end: what a contact or a vehicle becomes in Campaign (campaign.md §14.9 to §14.13)."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest

from sandbox.dynamics.tables import Column
from tests.e2e.helpers import eventually, everything_passed, headers_of, kept, new_key, run_through, until_messages
from tests.e2e.stack import CONTACT_FIELDS, Stack, contacts, mapping, vehicles


def field(source: str, target: str, **more: Any) -> dict[str, Any]:
    return {"source": source, "target": target, **more}


async def test_f112_f116_contactid_is_the_external_id_and_dotted_targets_are_nested(stack: Stack) -> None:
    key = stack.dynamics.upsert("contact", {"lastname": "Meyer", "address1_city": "Turin"})

    await run_through(stack, contacts())

    profile = stack.campaign.get("profile", key)
    assert profile is not None
    assert (profile["externalId"], profile["lastName"], profile["location"]["city"]) == (key, "Meyer", "Turin")
    assert stack.campaign.writes("profile", key)[0]["fields"]["location"] == {"city": "Turin"}

    stack.campaign.put("profile", {"externalId": key, "location": {"address1": "typed in Campaign"}})
    stack.dynamics.upsert("contact", {"contactid": key, "address1_city": "Leeds"})
    await everything_passed(stack)

    location = (stack.campaign.get("profile", key) or {})["location"]
    assert (location["city"], location["address1"]) == ("Leeds", "typed in Campaign")


async def test_f113_the_id_of_a_custom_table_goes_to_any_key_column(stack: Stack) -> None:
    definitions = [{"name": "cusSourceId", "length": 40}, {"name": "cusName", "length": 100}]
    stack.campaign.add_resource("cusCar", key="cusSourceId", fields=definitions)
    stack.campaign.publish()
    key = stack.dynamics.upsert("new_vehicle", {"new_name": "Astra"})

    await run_through(stack, contacts(), mapping("new_vehicle", "cusCar", ("new_vehicleid", "cusSourceId"), {"new_name": "cusName"}))

    car = stack.campaign.get("cusCar", key)
    assert car is not None and (car["cusSourceId"], car["cusName"]) == (key, "Astra")


async def test_f119_f120_without_apply_updates_the_value_goes_at_creation_and_stays(stack: Stack) -> None:
    loaded = stack.dynamics.upsert("contact", {"firstname": "Anna", "lastname": "First", "address1_city": "Turin"})
    fields = [
        field("firstname", "firstName", apply_updates=False),
        field("address1_city", "location.city", apply_updates=False),
        field("lastname", "lastName", apply_updates=True),
    ]
    await run_through(stack, contacts() | {"fields": fields})
    live = stack.dynamics.upsert("contact", {"firstname": "Ben", "lastname": "First", "address1_city": "Turin"})
    await everything_passed(stack)
    created = stack.campaign.get("profile", live) or {}
    assert (created["firstName"], created["location"]["city"]) == ("Ben", "Turin")

    for key in (loaded, live):
        stack.dynamics.upsert("contact", {"contactid": key, "firstname": "Other", "lastname": "Second", "address1_city": "Leeds"})
    await everything_passed(stack)

    for key, first in ((loaded, "Anna"), (live, "Ben")):
        profile = stack.campaign.get("profile", key) or {}
        assert (profile["firstName"], profile["location"]["city"], profile["lastName"]) == (first, "Turin", "Second")
        assert kept(stack, "profile", key)[-1]["fields"] == {"lastName": "Second"}

    before = len(stack.campaign.writes("profile", loaded))
    stack.dynamics.upsert("contact", {"contactid": loaded, "firstname": "Third"})
    await everything_passed(stack)
    assert len(stack.campaign.writes("profile", loaded)) == before


async def test_f126_to_f130_values_are_replaced(stack: Stack) -> None:
    """Picklist (gendercode), number, yes/no and text; a value without a replacement passes as it is."""
    fields = CONTACT_FIELDS | {"gendercode": "gender", "numberofchildren": "salutation", "donotphone": "fax", "jobtitle": "phone"}
    replaced = [("gendercode", "1", "male"), ("gendercode", "2", "female"), ("numberofchildren", "3", "three")]
    replaced += [("donotphone", "true", "F"), ("donotphone", "false", "M"), ("jobtitle", "Nurse", "N")]
    replacements = [{"source": source, "from": before, "to": after} for source, before, after in replaced]
    values = {"gendercode": 1, "numberofchildren": 3, "donotphone": True, "jobtitle": "Nurse", "lastname": "One"}
    one = stack.dynamics.upsert("contact", values)
    other = {"gendercode": 2, "numberofchildren": 4, "donotphone": False, "jobtitle": "Nurses", "lastname": "Two"}
    two = stack.dynamics.upsert("contact", other)

    await run_through(stack, contacts(fields=fields, replacements=replacements))

    first, second = stack.campaign.get("profile", one) or {}, stack.campaign.get("profile", two) or {}
    shown = ("gender", "salutation", "fax", "phone")
    assert [first[name] for name in shown] == ["male", "three", "F", "N"]
    assert [second[name] for name in shown] == ["female", "4", "M", "Nurses"]


@pytest.mark.parametrize(("picklists", "status", "features"), [("technical", "2", "1,3"), ("display", "Married", "Navigation, Sunroof")])
async def test_f140_picklists_go_as_technical_or_as_display_values(stack: Stack, picklists: str, status: str, features: str) -> None:
    stack.campaign.settings.cardinality = {"cusVehicle.cusOwner": "0or1"}
    key = stack.dynamics.upsert("contact", {"lastname": "Meyer", "familystatuscode": 2})
    car = stack.dynamics.upsert("new_vehicle", {"new_name": "Clio", "new_features": "1,3", "new_contactid": key})
    people = contacts(fields=CONTACT_FIELDS | {"familystatuscode": "salutation"}, picklists=picklists)

    await run_through(stack, people, vehicles(fields={"new_name": "cusName", "new_features": "cusFeatures"}, picklists=picklists))

    assert (stack.campaign.get("profile", key) or {})["salutation"] == status
    await eventually(stack, lambda: stack.campaign.get("cusVehicle", car), "the vehicle arrives")
    shown = (stack.campaign.get("cusVehicle", car) or {})["cusFeatures"]
    assert shown.replace(" ", "") == features.replace(" ", "")


async def test_f142_f143_inactive_contacts_are_loaded_and_later_only_changes_travel(stack: Stack) -> None:
    stack.dynamics.load(contacts=100, seed=2)
    inactive = {row["contactid"] for row in stack.dynamics.rows("contact") if row["statecode"] == 1}
    assert inactive
    await run_through(stack, contacts())
    assert all(stack.campaign.get("profile", key) for key in inactive)

    changed = sorted(inactive)[0]
    before = len(stack.campaign.writes())
    stack.dynamics.upsert("contact", {"contactid": changed, "lastname": "Changed"})
    sentinel = await everything_passed(stack)

    written = stack.campaign.writes()[before:]
    assert {write["key"] for write in written} == {changed, sentinel}
    await stack.stop()
    await stack.start()
    second = await everything_passed(stack)
    assert [write["key"] for write in stack.campaign.writes()[before + 2 :]] == [second]


async def test_f147_records_of_others_stay_and_one_with_our_key_is_adopted(stack: Stack) -> None:
    stack.dynamics.load(contacts=20, seed=5)
    foreign = stack.campaign.put("profile", {"externalId": "loyalty-77", "lastName": "Foreign", "email": "f@example.com"})
    nameless = stack.campaign.put("profile", {"lastName": "No key", "email": "n@example.com"})
    key = new_key()
    row = {"firstname": "Anna", "lastname": "Meyer", "address1_city": "Turin", "donotemail": True, "donotbulkemail": False}
    stack.dynamics.upsert("contact", {"contactid": key, **row})
    there = {"externalId": key, "firstName": "Anna", "lastName": "Maier", "location": {"city": "Turin", "zipCode": "10121"}}
    stack.campaign.put("profile", {**there, "blackListEmail": True, "blackList": True})
    flags = {"donotemail": "blackListEmail", "donotphone": "blackListPhone"}

    await run_through(stack, contacts(fields=CONTACT_FIELDS | flags, apply_deletes=True))

    assert [write["fields"] for write in kept(stack, "profile", key)] == [{"lastName": "Meyer"}]
    adopted = stack.campaign.get("profile", key) or {}
    assert (adopted["lastName"], adopted["location"]["zipCode"], adopted["blackList"]) == ("Meyer", "10121", True)
    assert stack.campaign.counts()["unchanged_opt_out_writes"] == 0
    stack.dynamics.churn(seed=6, updates=20, inserts=5, deletes=10)
    await everything_passed(stack)
    assert foreign in stack.campaign.rows("profile")
    assert nameless in stack.campaign.rows("profile")
    assert stack.campaign.writes("profile", "loyalty-77") == []


async def test_f154_types_are_converted(stack: Stack) -> None:
    """Each type to its own, and between the sets of types."""
    stack.campaign.settings.cardinality = {"cusVehicle.cusOwner": "0or1"}
    owner = stack.dynamics.upsert("contact", {"firstname": "Maximiliana-Theodora-Alexandrina-Josephine", "lastname": "Meyer"})
    values = {
        "new_name": "Leaf",
        "new_price": 1234.5,
        "new_weight": 1500.25,
        "new_range": 412.125,
        "new_mileage": 12345,
        "new_registered": "2020-02-29",
        "new_servicedue": "2025-03-01T08:30:00Z",
        "new_active": True,
        "new_contactid": owner,
    }
    same = ("new_price cusPrice|new_weight cusWeight|new_range cusRange|new_mileage cusMileage|new_registered cusRegistered").split("|")
    same += ["new_servicedue cusServiceDue", "new_active cusActive", "new_contactid cusContactId", "new_name cusName"]
    car = stack.dynamics.upsert("new_vehicle", values)

    await run_through(stack, contacts(), vehicles(fields=dict(pair.split() for pair in same)))

    assert (stack.campaign.get("profile", owner) or {})["firstName"] == "Maximiliana-Theodora-Alexandri"
    await eventually(stack, lambda: stack.campaign.get("cusVehicle", car), "the vehicle arrives")
    vehicle = stack.campaign.get("cusVehicle", car) or {}
    assert (vehicle["cusPrice"], vehicle["cusWeight"], vehicle["cusRange"], vehicle["cusMileage"]) == (1234.5, 1500.25, 412.125, 12345)
    assert (vehicle["cusRegistered"], vehicle["cusServiceDue"]) == ("2020-02-29", "2025-03-01 08:30:00.000Z")
    assert (vehicle["cusActive"], vehicle["cusContactId"]) == (True, owner)


TEXT_FIELDS = [("Id", "string"), ("Price", "string"), ("Miles", "double"), ("Active", "long"), ("Day", "datetime"), ("Moment", "date")]


async def test_f154_types_are_converted_into_others(stack: Stack) -> None:
    fields = [{"name": f"cus{n}", "type": kind} for n, kind in TEXT_FIELDS]
    stack.campaign.add_resource("cusText", key="cusId", fields=fields)
    stack.campaign.publish()
    values = {"new_price": 1234.5, "new_mileage": 12345, "new_active": True, "new_registered": "2020-02-29"}
    car = stack.dynamics.upsert("new_vehicle", {**values, "new_servicedue": "2025-03-01T08:30:00Z"})
    chosen = {"new_price": "cusPrice", "new_mileage": "cusMiles", "new_active": "cusActive", "new_registered": "cusDay"}

    table = mapping("new_vehicle", "cusText", ("new_vehicleid", "cusId"), {**chosen, "new_servicedue": "cusMoment"})
    await run_through(stack, contacts(), table)

    await eventually(stack, lambda: stack.campaign.get("cusText", car), "the vehicle arrives")
    found = stack.campaign.get("cusText", car) or {}
    assert Decimal(found["cusPrice"]) == Decimal("1234.5")
    assert (found["cusMiles"], found["cusActive"]) == (12345.0, 1)
    assert (found["cusDay"], found["cusMoment"]) == ("2020-02-29 00:00:00.000Z", "2025-03-01")


async def test_an_emptied_field_becomes_empty_in_campaign(stack: Stack) -> None:
    key = stack.dynamics.upsert("contact", {"firstname": "Anna", "lastname": "Meyer", "address1_city": "Turin"})
    await run_through(stack, contacts())

    stack.dynamics.upsert("contact", {"contactid": key, "firstname": None, "address1_city": None})
    await everything_passed(stack)

    profile = stack.campaign.get("profile", key) or {}
    assert (profile["firstName"], profile["location"]["city"], profile["lastName"]) == ("", "", "Meyer")


async def test_days_addresses_and_numbers_arrive_as_people_mean_them(stack: Stack) -> None:
    stack.dynamics.add_column("contact", Column("new_memberday", "DateTime", behavior="UserLocal", format="DateOnly"))
    stack.dynamics.add_column("contact", Column("new_homepage", "String", length=200, format="Url"))
    stack.campaign.add_field("profile", name="cusShare", length=20)
    stack.campaign.add_field("profile", name="cusHome", length=30)
    stack.campaign.publish()
    columns = {"emailaddress1": "email", "new_memberday": "birthDate", "new_homepage": "cusHome", "address1_latitude": "cusShare"}
    row = {"lastname": "Meyer", "emailaddress1": "ada@example.org\u00a0", "new_memberday": "2026-06-14T22:00:00Z"}
    key = stack.dynamics.upsert("contact", {**row, "address1_latitude": 0.00001})
    refused = stack.dynamics.upsert("contact", {"lastname": "Meyer", "new_homepage": f"https://example.org/{'x' * 20}"})

    await run_through(stack, contacts(fields=CONTACT_FIELDS | columns), reader={"DYNAMICS_TIME_ZONE": "Europe/Berlin"})

    profile = stack.campaign.get("profile", key) or {}
    assert (profile["birthDate"], profile["email"], profile["cusShare"]) == ("2026-06-15", "ada@example.org", "0.00001")
    (letter,) = await until_messages(stack, "ingress.dead-letters", 1)
    assert ((letter.key() or b"").decode(), headers_of(letter)["dlq.code"]) == (refused, "too_long")
    assert stack.campaign.get("profile", refused) is None
