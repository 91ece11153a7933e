"""sandbox.campaign, writing side: create, update, delete, keys, values and error texts, over real HTTP."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest
import pytest_asyncio

from sandbox.campaign import CampaignSandbox
from sandbox.web import serving

EXT = "/sandbox/campaign/profileAndServicesExt"
PROFILES, VEHICLES = f"{EXT}/profile", f"{EXT}/cusVehicle"
CATEGORIES = "/sandbox/campaign/customResources/cusCategory"
GENERIC = "RST-360011 An error has occurred - please contact your administrator."
ANN = {"externalId": "c-1", "firstName": "Ann", "lastName": "Lee", "email": "ann@example.com"}


@pytest.fixture
def sandbox() -> CampaignSandbox:
    return CampaignSandbox()


@pytest_asyncio.fixture
async def api(sandbox: CampaignSandbox) -> AsyncIterator[httpx.AsyncClient]:
    async with serving(sandbox.app()) as url, httpx.AsyncClient(base_url=url, headers=sandbox.headers()) as client:
        yield client


async def test_s16_post_answers_the_full_item(api: httpx.AsyncClient) -> None:
    answer = await api.post(PROFILES, json={**ANN, "birthDate": "2000-02-29", "location": {"city": "Oslo"}})
    item = answer.json()

    assert answer.status_code == 201
    assert (item["title"], item["domain"]) == ("Ann Lee (ann@example.com)", "example.com")
    assert item["postalAddress"]["line1"] == "Ann LEE"
    assert item["age"] >= 25
    assert (item["emailFormat"], item["gender"], item["location"]["zipCode"]) == ("unknown", "unknown", "")
    assert item["created"] == item["lastModified"] != ""
    assert item["PKey"].startswith("@")
    assert item["cryptedId"]


async def test_s16_patch_answers_pkey_and_href_and_keeps_what_was_not_sent(api: httpx.AsyncClient, sandbox: CampaignSandbox) -> None:
    sandbox.put("profile", {**ANN, "location": {"city": "Oslo", "zipCode": "0150"}})

    answer = await api.patch(f"{PROFILES}/c-1", json={"location": {"city": "Bergen"}, "phone": None})

    assert (answer.status_code, set(answer.json())) == (200, {"PKey", "href"})
    row = (await api.get(answer.json()["href"])).json()
    assert (row["location"]["city"], row["location"]["zipCode"], row["firstName"]) == ("Bergen", "0150", "Ann")
    assert (await api.patch(f"{PROFILES}/c-1")).status_code == 200, "an empty body is tolerated"


async def test_s16_delete_is_200_for_profiles_and_204_for_custom_resources(api: httpx.AsyncClient, sandbox: CampaignSandbox) -> None:
    sandbox.put("profile", ANN)
    sandbox.put("cusCategory", {"cusCategoryId": "k/1"})

    answers = [await api.delete(url) for url in (f"{PROFILES}/c-1", f"{PROFILES}/c-1", f"{CATEGORIES}/k%2F1")]

    assert [answer.status_code for answer in answers] == [200, 404, 204]
    assert (sandbox.rows("profile"), sandbox.rows("cusCategory")) == ([], [])


async def test_s17_no_put_no_bulk_no_patch_of_a_collection(api: httpx.AsyncClient, sandbox: CampaignSandbox) -> None:
    put, patch = await api.put(f"{PROFILES}/c-1", json=ANN), await api.patch(PROFILES, json=ANN)
    bulk = await api.post(PROFILES, json=[ANN])

    assert (put.status_code, patch.status_code, bulk.status_code) == (404, 404, 500)
    assert len(sandbox.ledger.unknown_routes) == 2


async def test_s18_a_duplicate_key_names_constraint_and_column(api: httpx.AsyncClient) -> None:
    await api.post(PROFILES, json=ANN)
    answer = await api.post(PROFILES, json=ANN)

    assert (answer.status_code, answer.headers["Content-Type"]) == (500, "text/plain; charset=utf-8")
    assert answer.text == (
        "A 'Profile' with the same key 'c-1' already exists. PGS-220000 PostgreSQL error: ERROR:  duplicate key value "
        'violates unique constraint "nmsrecipient_externalid" DETAIL:  Key (sexternalid)=(c-1) already exists.'
    )


async def test_s18_texts_can_be_json_strings(api: httpx.AsyncClient, sandbox: CampaignSandbox) -> None:
    sandbox.settings.text_errors = "json"

    assert (await api.get(f"{EXT}/cusNothing")).json() == f"{GENERIC} Error rc=-2003"


@pytest.mark.parametrize(
    ("body", "text"),
    [
        ({"age": 3}, "Cannot update the 'age' property that is read-only"),
        ({"cusNo": 3}, "'cusNo' property is not valid for the 'profile' resource."),
        (
            {"gender": "1"},
            f"{GENERIC} The value '1' is not valid for the 'nms:recipient:gender' enumeration of the '@gender' field",
        ),
        (
            {"externalId": "c-2"},
            f"{GENERIC} RST-360012 Inconsistent operation on resource 'profile' – Cannot update key 'c-1' to 'c-2'.",
        ),
        ({"blackList": "true"}, f"{GENERIC} XTK-170036 Unable to parse expression 'true'."),
        ({"firstName": "x" * 31}, "PGS-220000 PostgreSQL error: ERROR:  value too long for type character varying(30)"),
    ],
)
async def test_s18_s19_a_refused_update_says_why_and_changes_nothing(
    api: httpx.AsyncClient, sandbox: CampaignSandbox, body: dict[str, Any], text: str
) -> None:
    before = sandbox.put("profile", ANN)
    answer = await api.patch(f"{PROFILES}/c-1", json={"phone": "1", **body})

    assert (answer.status_code, answer.text) == (500, text)
    assert sandbox.get("profile", "c-1") == before


async def test_s19_a_key_changes_through_a_pkey_url_only_by_switch(api: httpx.AsyncClient, sandbox: CampaignSandbox) -> None:
    sandbox.put("profile", {"externalId": "c-2"})
    url = (await api.post(PROFILES, json=ANN)).json()["href"]

    refused = await api.patch(url, json={"externalId": "c-3"})
    taken = await api.patch(url, json={"externalId": "c-2"})
    sandbox.settings.key_change = True
    free = await api.patch(url, json={"externalId": "c-3"})

    assert ("RST-360012" in refused.text, "PGS-220000" in taken.text, free.status_code) == (True, True, 200)
    assert (sandbox.get("profile", "c-1"), sandbox.get("profile", "c-3") is None) == (None, False)


async def test_s20_data_policies_and_truncation_by_switch(api: httpx.AsyncClient, sandbox: CampaignSandbox) -> None:
    policies = {"profile.firstName": "smartCase", "profile.email": "email"}
    change = {"data_policies": policies, "over_long": "truncate"}
    assert (await api.patch("/_admin/settings", json=change)).status_code == 200

    refused = await api.post(PROFILES, json={"email": "nobody"})
    item = (await api.post(PROFILES, json={"firstName": "ANNE-marie lee", "lastName": "x" * 60})).json()

    assert (refused.status_code, "is not valid for the 'email' data policy" in refused.text) == (500, True)
    assert (item["firstName"], len(item["lastName"])) == ("Anne-Marie Lee", 50)


@pytest.mark.parametrize(
    ("sent", "stored"),
    [
        ("2024-02-29 10:11:12.345Z", "2024-02-29 10:11:12.345Z"),
        ("2024-02-29 10:11:12Z", "2024-02-29 10:11:12.000Z"),
        ("", ""),
        ("2024-02-29T10:11:12Z", None),
        ("2023-02-29 10:11:12.345Z", None),
    ],
)
async def test_s21_date_times_have_the_form_of_campaign(
    api: httpx.AsyncClient, sandbox: CampaignSandbox, sent: str, stored: str | None
) -> None:
    answer = await api.post(VEHICLES, json={"cusVehicleId": "v-1", "cusServiceDue": sent})
    row = sandbox.get("cusVehicle", "v-1")

    assert (answer.status_code, row and row["cusServiceDue"]) == ((500, None) if stored is None else (201, stored))


async def test_s21_iso_date_times_are_taken_by_switch(api: httpx.AsyncClient, sandbox: CampaignSandbox) -> None:
    sandbox.settings.iso_dates = True
    answer = await api.post(VEHICLES, json={"cusServiceDue": "2024-02-29T10:11:12.5+02:00"})

    assert answer.json()["cusServiceDue"] == "2024-02-29 08:11:12.500Z"


@pytest.mark.parametrize(
    ("name", "value", "status"),
    [
        ("cusMileage", 2**31 - 1, 201),
        ("cusMileage", 2**31, 500),
        ("cusMileage", "5", 500),
        ("cusPrice", 1.5, 201),
        ("cusActive", 1, 500),
        ("cusRegistered", "2024-01-02 00:00:00.000Z", 500),
        ("cusName", 5, 500),
        ("cusName", None, 201),
    ],
)
async def test_s21_types_are_checked(api: httpx.AsyncClient, name: str, value: object, status: int) -> None:
    assert (await api.post(VEHICLES, json={name: value})).status_code == status
