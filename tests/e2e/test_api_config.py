"""Revisions, two operators at once, and what is checked before a configuration is saved (control-api.md, Configuration)."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_asyncio

from sandbox.kafka import LocalKafka
from sandbox.kafka.local import free_port
from tests.e2e.stack import Stack, contacts, mapping, running, vehicles
from tests.e2e.test_api_access import settings
from tests.e2e.test_control_config import CONFIG, assert_problem

pytestmark = pytest.mark.asyncio(loop_scope="module")
OPTIN = "/api/v1/workflows/optin/config"
UNTRACKED = mapping("new_untracked", "cusCategory", ("new_untrackedid", "cusCategoryId"), {"new_name": "cusName"})
FIELDS = {"firstname": "firstName", "gendercode": "gender"}
FEW = {"lastname": "lastName"}


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def open_stack(kafka: LocalKafka, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Stack]:
    """One running control for all tests of the module: each saves what it needs."""
    async with running(settings(kafka), tmp_path_factory.mktemp("config")) as made:
        yield made


async def put(stack: Stack, config: Any, etag: str | None = None, path: str = CONFIG, comment: str | None = None) -> Any:
    """Saves; by default over what is saved now."""
    etag = etag or (await stack.http.get(path)).headers["etag"]
    return await stack.http.put(path, json={"config": config, "comment": comment}, headers={"If-Match": etag})


async def saved(stack: Stack, config: Any, path: str = CONFIG, comment: str | None = None) -> dict[str, Any]:
    answer = await put(stack, config, path=path, comment=comment)
    assert answer.status_code == 200, answer.text
    body: dict[str, Any] = answer.json()
    return body


async def validated(stack: Stack, config: Any, path: str = CONFIG) -> dict[str, Any]:
    answer = await stack.http.post(f"{path}/validate", json={"config": config})
    assert answer.status_code == 200, answer.text
    body: dict[str, Any] = answer.json()
    assert body["valid"] == (not body["errors"])
    return body


async def test_revisions_are_kept_and_a_restored_one_is_a_new_one(open_stack: Stack) -> None:
    before = await saved(open_stack, {"tables": [contacts()]}, comment="the first")
    after = await saved(open_stack, {"tables": [contacts(apply_deletes=True)]}, comment="the second")
    first, second = before["revision"], after["revision"]
    history = (await open_stack.get("/workflows/ingress/config/revisions"))["revisions"]
    assert [each["revision"] for each in history] == list(range(second, 0, -1))
    assert [(each["comment"], each["revision"]) for each in history[:2]] == [("the second", second), ("the first", first)]
    assert all(each["saved_at"] and each["saved_by"] for each in history)

    restored = await open_stack.http.post(f"{CONFIG}/revisions/{first}/restore", json={"comment": "as it was"})

    assert (restored.status_code, restored.json()["revision"]) == (200, second + 1)
    assert restored.headers["etag"] == (await open_stack.http.get(CONFIG)).headers["etag"]
    assert restored.json()["config"] == before["config"]
    kept = (await open_stack.get("/workflows/ingress/config/revisions"))["revisions"]
    assert kept[1:] == history
    assert kept[0]["comment"] == "as it was"
    for number, config in ((first, before["config"]), (second, after["config"])):
        assert (await open_stack.get(f"/workflows/ingress/config/revisions/{number}"))["config"] == config


async def test_there_is_no_other_revision(open_stack: Stack) -> None:
    for number in (0, 99_999):
        assert_problem(await open_stack.http.get(f"{CONFIG}/revisions/{number}"), 404)
        assert_problem(await open_stack.http.post(f"{CONFIG}/revisions/{number}/restore"), 404)
    assert_problem(await open_stack.http.get(f"{CONFIG}/revisions/one"), 422)
    stale = await open_stack.http.post(f"{CONFIG}/revisions/1/restore", headers={"If-Match": '"99999"'})
    assert_problem(stale, 412)


async def test_of_two_operators_the_second_is_told_and_sees_what_the_first_changed(open_stack: Stack) -> None:
    await saved(open_stack, {"tables": [contacts()]})
    await open_stack.start(wait=False)
    etag = (await open_stack.http.get(CONFIG)).headers["etag"]

    first = await put(open_stack, {"tables": [contacts(apply_deletes=True)]}, etag, comment="deletes, please")
    second = await put(open_stack, {"tables": [contacts(picklists="display")]}, etag)

    assert first.status_code == 200
    assert_problem(second, 412)
    assert_problem(await open_stack.http.put(CONFIG, json={"config": {"tables": []}}), 428)
    seen = await open_stack.http.get(CONFIG)
    assert seen.headers["etag"] != etag
    assert seen.json()["config"]["tables"][0]["apply_deletes"] is True
    assert {"path": "/tables/0/apply_deletes", "running": False, "saved": True} in seen.json()["diff"]
    merged = await put(open_stack, {"tables": [contacts(apply_deletes=True, picklists="display")]}, seen.headers["etag"])
    assert merged.status_code == 200
    assert {each["path"] for each in merged.json()["diff"]} == {"/tables/0/apply_deletes", "/tables/0/picklists"}
    await open_stack.stop()


async def test_of_two_that_save_in_the_same_moment_one_is_refused(open_stack: Stack) -> None:
    before = await saved(open_stack, {"tables": [contacts()]})
    etag = (await open_stack.http.get(CONFIG)).headers["etag"]

    answers = await asyncio.gather(*(put(open_stack, {"tables": [contacts(apply_deletes=on)]}, etag) for on in (True, False) * 3))

    assert sorted(each.status_code for each in answers) == [200] + [412] * 5
    assert (await open_stack.get("/workflows/ingress/config"))["revision"] == before["revision"] + 1


def with_filter(field: str, operator: str, value: Any) -> dict[str, Any]:
    return contacts(filter={"conditions": [{"field": field, "operator": operator, "value": value}]})


def replacing(source: str, old: str, new: str, **more: Any) -> dict[str, Any]:
    fields = {each: FIELDS[each] for each in {"firstname", source}}
    return contacts(fields=fields, replacements=[{"source": source, "from": old, "to": new}], **more)


def leaving(field: str, operator: str, value: Any, **more: Any) -> dict[str, Any]:
    """What the filter lets through stays; all else is deleted in Campaign."""
    conditions = [{"field": field, "operator": operator, "value": value}]
    return contacts(filter={"conditions": conditions, "delete_filtered_out": True}, **more)


def features(operator: str, value: Any) -> dict[str, Any]:
    return vehicles() | {"filter": {"conditions": [{"field": "new_features", "operator": operator, "value": value}]}}


WRONG: list[tuple[str, dict[str, Any], str]] = [
    ("a table that Dynamics does not have", mapping("nowhere", "cusVehicle", ("id", "cusVehicleId"), FEW), "/tables/0/source"),
    ("a resource that Campaign does not have", vehicles() | {"target": "cusNowhere"}, "/tables/0/target"),
    ("a column that the table does not have", contacts(fields=FEW | {"nothing": "firstName"}), "/tables/0/fields/1/source"),
    ("a field that the resource does not have", contacts(fields=FEW | {"firstname": "cusNothing"}), "/tables/0/fields/1/target"),
    ("a sub-field that is not there (F116)", contacts(fields={"address1_city": "location.nothing"}), "/tables/0/fields/0/target"),
    ("a key that the table does not have", vehicles() | {"key": {"source": "no", "target": "cusVehicleId"}}, "/tables/0/key"),
    ("a key that the resource does not have", vehicles() | {"key": {"source": "new_vehicleid", "target": "no"}}, "/tables/0/key"),
    ("a read-only target", contacts(fields={"jobtitle": "title"}), "/tables/0/fields/0/target"),
    ("another read-only target", contacts(fields={"modifiedon": "lastModified"}), "/tables/0/fields/0/target"),
    ("a link", contacts(fields={"address1_country": "country"}), "/tables/0/fields/0/target"),
    ("a link of a custom resource", vehicles(fields={"new_contactid": "cusOwner"}), "/tables/0/fields/0/target"),
    ("a collection", contacts(fields={"jobtitle": "subscriptions"}), "/tables/0/fields/0/target"),
    ("a table without change tracking", UNTRACKED, "/tables/0/source"),
    ("a replaced value that the picklist does not have (F128)", replacing("gendercode", "7", "male"), "/tables/0/replacements/0/from"),
    ("a new value that Campaign's list does not have", replacing("gendercode", "1", "man"), "/tables/0/replacements/0/to"),
    ("a new value that is longer than its target", replacing("firstname", "Jo", "J" * 31), "/tables/0/replacements/0/to"),
    ("a filter by a column that is not there", with_filter("nothing", "eq", "1"), "/tables/0/filter/conditions/0/field"),
    ("a filter by a state that is not there", with_filter("statecode", "eq", 7), "/tables/0/filter/conditions/0/value"),
    ("a filter that compares a number with a text", with_filter("numberofchildren", "gt", "many"), "/tables/0/filter/conditions/0/value"),
    ("one bad value among good ones", with_filter("gendercode", "in", [1, 2, 9]), "/tables/0/filter/conditions/0/value"),
    ("a filter that compares a yes/no with a text", with_filter("donotemail", "eq", "perhaps"), "/tables/0/filter/conditions/0/value"),
    ("a filter by a label", leaving("gendercode", "eq", "Female", picklists="display"), "/tables/0/filter/conditions/0/value"),
    ("a filter by a company's name", leaving("parentcustomerid", "eq", "Contoso"), "/tables/0/filter/conditions/0/value"),
    ("a filter by no value", leaving("gendercode", "in", []), "/tables/0/filter/conditions/0/value"),
    ("a filter by one of several choices with in", features("in", [1]), "/tables/0/filter/conditions/0/operator"),
    ("a filter by a part of a choice's number", features("contains", "1"), "/tables/0/filter/conditions/0/operator"),
    ("a choice that is not there", features("contains_any", [1, 7]), "/tables/0/filter/conditions/0/value"),
    ("a technical picklist to a list of Campaign", contacts(fields={"gendercode": "gender"}), "/tables/0/fields/0/target"),
    ("a label that is never replaced", replacing("gendercode", "Female", "female"), "/tables/0/replacements/0/from"),
    ("a filter that compares a date with a text", with_filter("birthdate", "gt", "yesterday"), "/tables/0/filter/conditions/0/value"),
]


@pytest.mark.parametrize(("table", "path"), [each[1:] for each in WRONG], ids=[each[0] for each in WRONG])
async def test_what_does_not_fit_the_systems_is_refused_where_it_stands(open_stack: Stack, table: dict[str, Any], path: str) -> None:
    found = await validated(open_stack, {"tables": [table]})

    assert not found["valid"], found
    assert any(each["path"].startswith(path) for each in found["errors"]), found["errors"]
    assert all(each["code"] and each["message"] for each in found["errors"])
    assert assert_problem(await put(open_stack, {"tables": [table]}), 422)["errors"] == found["errors"]


GOOD: list[tuple[str, dict[str, Any]]] = [
    ("an option by its number", with_filter("gendercode", "eq", 1)),
    ("a state", with_filter("statecode", "ne", 1)),
    ("a date", with_filter("birthdate", "ge", "1990-01-01")),
    ("a filter by an unmapped column (F132)", with_filter("jobtitle", "begins_with", "N")),
    ("empty", with_filter("emailaddress1", "is_not_empty", None)),
    ("a company's GUID in capitals", with_filter("parentcustomerid", "eq", "{A1B2C3D4-0000-4000-8000-00000000000F}")),
    ("any of several choices", features("contains_any", [1, 3])),
    ("all of several choices", features("contains_all", ["1", "3"])),
    ("exactly these choices", features("eq", [3, 1])),
    ("a replaced label", replacing("gendercode", "Female", "female", picklists="display")),
    ("a replaced option (F128)", replacing("gendercode", "1", "male")),
    ("a replaced text (F129)", replacing("firstname", "Jo", "Joseph")),
]


async def test_what_fits_is_valid(open_stack: Stack) -> None:
    for what, table in GOOD:
        found = await validated(open_stack, {"tables": [table]})
        assert found["errors"] == [], what


async def test_a_source_that_is_longer_than_its_target_is_a_warning_and_can_be_saved(open_stack: Stack) -> None:
    found = await validated(open_stack, {"tables": [contacts(fields={"firstname": "firstName"})]})

    assert found["valid"]
    (warning,) = found["warnings"]
    assert warning["path"].startswith("/tables/0/fields/0")
    assert "50" in warning["message"] and "30" in warning["message"]
    assert (await put(open_stack, {"tables": [contacts(fields={"firstname": "firstName"})]})).status_code == 200


async def test_f109_the_key_of_an_existing_mapping_cannot_change(open_stack: Stack) -> None:
    await saved(open_stack, {"tables": [contacts(), vehicles()]})
    other = vehicles(fields={"new_name": "cusName"}) | {"key": {"source": "new_vehicleid", "target": "cusPlate"}}

    body = assert_problem(await put(open_stack, {"tables": [contacts(), other]}), 422)

    assert any(each["path"].startswith("/tables/1/key") for each in body["errors"])


OPT_WRONG: list[tuple[str, dict[str, Any], str]] = [
    ("no yes/no column (F181)", {"source": "jobtitle", "target": "blackListEmail"}, "/mappings/0/source"),
    ("a column that is not there", {"source": "nothing", "target": "blackListEmail"}, "/mappings/0/source"),
    ("no flag of Campaign (F182)", {"source": "donotemail", "target": "isExternal"}, "/mappings/0/target"),
]


async def test_f181_f182_opt_in_maps_yes_no_columns_to_the_eight_flags(open_stack: Stack) -> None:
    for what, mapped, path in OPT_WRONG:
        found = await validated(open_stack, {"direction": "bidirectional", "mappings": [mapped]}, OPTIN)
        assert any(each["path"].startswith(path) for each in found["errors"]), (what, found)
    good = {"source": "donotemail", "target": "denyListEmail"}
    assert (await validated(open_stack, {"direction": "bidirectional", "mappings": [good]}, OPTIN))["valid"]
    found = await validated(open_stack, {"direction": "dynamics-to-campaign", "mappings": [good]}, OPTIN)
    assert [each["path"] for each in found["errors"]] == ["/mappings"]


async def test_one_flag_cannot_be_mapped_in_two_workflows(open_stack: Stack) -> None:
    await saved(open_stack, {"tables": [contacts(fields=FEW | {"donotemail": "blackListEmail"})]})
    both = {"direction": "campaign-to-dynamics", "mappings": [{"source": "donotbulkemail", "target": "denyListEmail"}]}
    assert_problem(await put(open_stack, both, path=OPTIN), 422)

    await saved(open_stack, {"tables": [contacts(fields=FEW)]})
    await saved(open_stack, both, OPTIN)
    body = assert_problem(await put(open_stack, {"tables": [contacts(fields=FEW | {"donotemail": "blackListEmail"})]}), 422)
    assert body["errors"][0]["path"].startswith("/tables/0/fields/1")
    revisions = (await open_stack.get("/workflows/ingress/config/revisions"))["revisions"]
    found = [each["revision"] for each in revisions if each["revision"] > 1]
    clash = await open_stack.http.post(f"{CONFIG}/revisions/{found[1]}/restore")
    assert_problem(clash, 422)
    await saved(open_stack, {"direction": "disabled", "mappings": []}, OPTIN)


@pytest.mark.parametrize("system", ["dynamics", "campaign"])
async def test_with_a_system_away_saving_is_possible_with_a_warning(
    kafka: LocalKafka, tmp_path_factory: pytest.TempPathFactory, system: str
) -> None:
    url = f"http://127.0.0.1:{free_port()}"
    nowhere: dict[str, Any] = {"DYNAMICS_URL": url} if system == "dynamics" else {"CAMPAIGN_URL": f"{url}/sandbox"}
    async with running(settings(kafka), tmp_path_factory.mktemp(system), **nowhere) as stack:
        found = await validated(stack, {"tables": [contacts()]})
        assert found["valid"]
        assert any(system in (each["code"] + each["message"]).lower() for each in found["warnings"]), found
        assert (await put(stack, {"tables": [contacts()]})).status_code == 200

        twice = {"tables": [contacts(), contacts()]}
        assert_problem(await put(stack, twice), 422)
        checks = (await stack.http.post(f"/api/v1/systems/{system}/test")).json()
        assert not checks["ok"]
        assert all(each["hint"] for each in checks["checks"] if each["status"] == "failed")
        view = await stack.get(f"/systems/{system}")
        assert (view["connection"]["state"], view["last_error"] is None) == ("failed", False)
        assert (await stack.http.get(f"/api/v1/systems/{system}/tables")).status_code == 503
