"""The Dynamics stand-in, reading side: access, rows, plain queries, and metadata (contract 1-3, 5, 6)."""

from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest

from sandbox.dynamics import DynamicsSandbox
from sandbox.web import serving

API = "/api/data/v9.2"
TOKEN = "/sandbox-tenant/oauth2/v2.0/token"


@pytest.fixture
def sandbox() -> DynamicsSandbox:
    return DynamicsSandbox()


@pytest.fixture
async def client(sandbox: DynamicsSandbox) -> AsyncIterator[httpx.AsyncClient]:
    async with serving(sandbox.app()) as url, httpx.AsyncClient(base_url=url) as http:
        answer = await http.post(TOKEN, data=form(url))
        http.headers["Authorization"] = f"Bearer {answer.json()['access_token']}"
        yield http


def form(url: str, **changes: str) -> dict[str, str]:
    good = {"client_id": "sandbox-client", "client_secret": "sandbox-secret", "scope": f"{url}/.default"}
    return {"grant_type": "client_credentials", **good, **changes}


def code(answer: httpx.Response) -> tuple[int, str]:
    return answer.status_code, answer.json()["error"]["code"]


async def get(client: httpx.AsyncClient, path: str, prefer: str = "") -> dict[str, Any]:
    answer = await client.get(path if path.startswith("http") else API + path, headers={"Prefer": prefer})
    assert answer.status_code == 200, answer.text
    result: dict[str, Any] = answer.json()
    return result


def people(sandbox: DynamicsSandbox, n: int) -> list[str]:
    return sorted(sandbox.upsert("contact", {"lastname": f"L{i:03}", "numberofchildren": i}) for i in range(n))


@pytest.mark.parametrize(
    ("changes", "status", "number"),
    [
        ({"scope": "nonsense"}, 400, 70011),
        ({"scope": "https://other.example/.default"}, 400, 500011),
        ({"client_secret": "wrong"}, 401, 7000215),
        ({"client_id": "wrong"}, 400, 700016),
        ({"grant_type": "password"}, 400, 900144),
    ],
)
async def test_1_3_token_errors(client: httpx.AsyncClient, changes: dict[str, str], status: int, number: int) -> None:
    answer = await client.post(TOKEN, data=form(str(client.base_url).rstrip("/")) | changes)

    assert (answer.status_code, answer.json()["error_codes"]) == (status, [number])


async def test_1_1_tokens_are_asked_for_by_form_only(client: httpx.AsyncClient) -> None:
    answer = await client.post(TOKEN, json=form(str(client.base_url).rstrip("/")))

    assert answer.status_code == 400 and answer.json()["error"] == "invalid_request"


async def test_1_4_missing_expired_and_revoked_tokens_give_an_empty_401(sandbox: DynamicsSandbox, client: httpx.AsyncClient) -> None:
    missing = await client.get(f"{API}/WhoAmI", headers={"Authorization": ""})
    assert missing.status_code == 401 and missing.content == b""
    assert missing.headers["WWW-Authenticate"].startswith("Bearer authorization_uri=")
    sandbox.advance(3600)
    assert (await client.get(f"{API}/WhoAmI")).status_code == 401
    sandbox.advance(-3600)
    assert (await client.get(f"{API}/WhoAmI")).status_code == 200
    sandbox.tokens.revoke()
    assert (await client.get(f"{API}/WhoAmI")).status_code == 401


async def test_1_4_an_app_that_is_no_user_gives_403(sandbox: DynamicsSandbox, client: httpx.AsyncClient) -> None:
    sandbox.settings.member = False

    assert code(await client.get(f"{API}/WhoAmI")) == (403, "0x80072560")


async def test_2_5_response_headers_and_2_6_who_am_i(client: httpx.AsyncClient) -> None:
    answer = await client.get(f"{API}/WhoAmI")

    assert {"BusinessUnitId", "UserId", "OrganizationId"} < set(answer.json())
    assert answer.headers["OData-Version"] == "4.0" and answer.headers["x-ms-dop-hint"] == "8"
    assert answer.headers["Content-Type"] == "application/json; odata.metadata=minimal"
    assert answer.headers["x-ms-ratelimit-burst-remaining-xrm-requests"] == "5999"
    assert {"req_id", "x-ms-service-request-id", "set-cookie"} < set(answer.headers)


async def test_2_1_names_are_case_sensitive_and_unknown_routes_are_told(sandbox: DynamicsSandbox, client: httpx.AsyncClient) -> None:
    assert code(await client.get(f"{API}/Contacts")) == (404, "0x8006088a")
    assert (await client.get("/somewhere")).status_code == 404

    assert sandbox.ledger.unknown_routes == ["GET Contacts", "GET /somewhere"]


async def test_3_2_rows_have_etag_key_lookups_and_nulls(sandbox: DynamicsSandbox, client: httpx.AsyncClient) -> None:
    boss = sandbox.upsert("account", {"name": "ACME"})
    key = sandbox.upsert("contact", {"firstname": "A", "parentcustomerid": boss, "creditlimit": 5})
    row = await get(client, f"/contacts({key})?$select=firstname,lastname,_parentcustomerid_value,creditlimit")

    version = sandbox.rows("contact")[0]["versionnumber"]
    assert row["@odata.etag"] == f'W/"{version}"' and row["contactid"] == key
    assert row["_parentcustomerid_value"] == boss and row["lastname"] is None
    assert row["_transactioncurrencyid_value"] and "statecode" not in row


async def test_3_4_formatted_values_come_only_when_asked(sandbox: DynamicsSandbox, client: httpx.AsyncClient) -> None:
    owner = sandbox.upsert("contact", {"firstname": "Ann", "lastname": "Lee", "gendercode": 2})
    sandbox.upsert("new_vehicle", {"new_contactid": owner, "new_fueltype": 100000002, "new_features": "1,3"})
    path = "/new_vehicles?$select=_new_contactid_value,new_fueltype,new_features"
    plain = (await get(client, path))["value"][0]
    row = (await get(client, path, 'odata.include-annotations="*"'))["value"][0]

    assert not any("@OData.Community" in name for name in plain)
    shown = "@OData.Community.Display.V1.FormattedValue"
    assert row["new_fueltype" + shown] == "Electric" and row["new_features" + shown] == "Navigation; Sunroof"
    assert row["_new_contactid_value" + shown] == "Ann Lee"
    assert row["_new_contactid_value@Microsoft.Dynamics.CRM.lookuplogicalname"] == "contact"
    assert row["_new_contactid_value@Microsoft.Dynamics.CRM.associatednavigationproperty"] == "new_ContactId"


@pytest.mark.parametrize(
    ("expression", "expected"),
    [
        ("numberofchildren ge 2 and numberofchildren lt 4", ["L002", "L003"]),
        ("not (numberofchildren gt 0) or lastname eq 'l004'", ["L000", "L004"]),
        ("contains(lastname,'03') or endswith(lastname,'1')", ["L001", "L003"]),
        ("startswith(lastname,'L00') and firstname eq null and numberofchildren eq 2", ["L002"]),
        ("modifiedon ge 2000-01-01T00:00:00Z and donotemail eq false and numberofchildren le 0", ["L000"]),
        ("firstname ne null", []),
    ],
)
async def test_5_filters(sandbox: DynamicsSandbox, client: httpx.AsyncClient, expression: str, expected: list[str]) -> None:
    people(sandbox, 5)
    answer = await client.get(f"{API}/contacts", params={"$filter": expression, "$orderby": "lastname"})

    assert [row["lastname"] for row in answer.json()["value"]] == expected


@pytest.mark.parametrize("query", ["$select=nope", "$filter=nope eq 1", "$orderby=nope", "$filter=lastname eq 5", "$skip=2"])
async def test_5_bad_queries_give_400(client: httpx.AsyncClient, query: str) -> None:
    assert code(await client.get(f"{API}/contacts?{query}")) == (400, "0x80060888")


async def test_5_paging_repeats_the_preference_and_sorts_by_key(sandbox: DynamicsSandbox, client: httpx.AsyncClient) -> None:
    ids = people(sandbox, 5)
    first = await get(client, "/contacts?$select=lastname&$count=true", "odata.maxpagesize=2")
    rest = await get(client, first["@odata.nextLink"])  # the size is not in the link

    assert [row["contactid"] for row in first["value"] + rest["value"]] == ids
    assert first["@odata.count"] == 5 and "@odata.nextLink" not in rest
    by_name = await get(client, "/contacts?$orderby=numberofchildren desc", "odata.maxpagesize=3")
    tail = await get(client, by_name["@odata.nextLink"], "odata.maxpagesize=3")
    assert [row["numberofchildren"] for row in by_name["value"] + tail["value"]] == [4, 3, 2, 1, 0]


async def test_5_an_order_by_key_goes_on_after_the_last_key_whatever_left_meanwhile(
    sandbox: DynamicsSandbox, client: httpx.AsyncClient
) -> None:
    """Checklist of §12, paging: cookies."""
    ids = people(sandbox, 5)
    first = await get(client, "/contacts?$select=lastname,versionnumber&$orderby=contactid asc", "odata.maxpagesize=2")
    sandbox.delete("contact", ids[0])
    rest = await get(client, first["@odata.nextLink"])

    assert [row["contactid"] for row in first["value"] + rest["value"]] == ids
    assert all(row["@odata.etag"] == f'W/"{row["versionnumber"]}"' for row in rest["value"])


async def test_5_counts_and_their_cap(sandbox: DynamicsSandbox, client: httpx.AsyncClient) -> None:
    people(sandbox, 5)
    sandbox.settings.page_limit = 3

    assert (await client.get(f"{API}/contacts/$count")).text == "3"
    total = await get(client, '/RetrieveTotalRecordCount(EntityNames=@p1)?@p1=["contact","account"]')
    assert total["EntityRecordCountCollection"]["Values"] == [5, 0]
    assert len((await get(client, "/contacts?$top=2"))["value"]) == 2


async def test_7_4_conditional_get(sandbox: DynamicsSandbox, client: httpx.AsyncClient) -> None:
    key = people(sandbox, 1)[0]
    etag = (await client.get(f"{API}/contacts({key})", headers={"If-None-Match": "null"})).headers["ETag"]

    assert (await client.get(f"{API}/contacts({key})", headers={"If-None-Match": etag})).status_code == 304
    gone = await client.get(f"{API}/contacts(00000000-0000-0000-0000-000000000001)")
    assert code(gone) == (404, "0x80040217")


async def test_6_1_tables_with_filters(client: httpx.AsyncClient) -> None:
    query = "$select=LogicalName,EntitySetName&$filter=ChangeTrackingEnabled eq true and IsPrivate eq false"
    found = (await get(client, f"/EntityDefinitions?{query}"))["value"]

    sets = {row["LogicalName"]: row["EntitySetName"] for row in found}
    assert sets == {
        "contact": "contacts",
        "account": "accounts",
        "new_vehicle": "new_vehicles",
        "new_category": "new_categories",
    }
    assert all(row["MetadataId"] for row in found)
    refused = await client.get(f"{API}/EntityDefinitions?$filter=startswith(LogicalName,'new')")
    assert code(refused) == (400, "0x80060888")
    assert code(await client.get(f"{API}/EntityDefinitions(LogicalName='x')")) == (404, "0x80060888")
    owned = "OwnershipType eq Microsoft.Dynamics.CRM.OwnershipTypes'UserOwned' and CanChangeTrackingBeEnabled/Value eq true"
    assert len((await get(client, f"/EntityDefinitions?$filter={owned}"))["value"]) == 14


async def test_6_2_columns_casts_and_options(client: httpx.AsyncClient) -> None:
    vehicle = "/EntityDefinitions(LogicalName='new_vehicle')/Attributes"
    types = {row["LogicalName"]: row for row in (await get(client, vehicle))["value"]}
    fuel = f"{vehicle}(LogicalName='new_fueltype')/Microsoft.Dynamics.CRM.PicklistAttributeMetadata"
    one = await get(client, f"{fuel}?$select=LogicalName&$expand=OptionSet,GlobalOptionSet")
    active = (await get(client, f"{vehicle}/Microsoft.Dynamics.CRM.BooleanAttributeMetadata?$expand=OptionSet"))["value"]

    assert types["new_features"]["AttributeType"] == "Virtual"
    assert types["new_features"]["AttributeTypeName"] == {"Value": "MultiSelectPicklistType"}
    assert types["new_fueltypename"]["AttributeOf"] == "new_fueltype"
    assert [o["Label"]["UserLocalizedLabel"]["Label"] for o in one["OptionSet"]["Options"]] == [
        "Petrol",
        "Diesel",
        "Electric",
    ]
    assert one["GlobalOptionSet"]["IsGlobal"] is True and "DisplayName" not in one
    assert active[0]["OptionSet"]["TrueOption"]["Value"] == 1
    assert next(o["Value"] for o in (await get(client, f"{fuel}/OptionSet?$select=Options"))["Options"]) == 100000000


@pytest.mark.parametrize(
    ("cast", "column", "expected"),
    [
        ("String", "new_plate", {"MaxLength": 20}),
        ("DateTime", "new_registered", {"DateTimeBehavior": {"Value": "DateOnly"}}),
        ("Integer", "new_mileage", {"MinValue": 0, "MaxValue": 10_000_000}),
        ("Money", "new_price", {"Precision": 2}),
        ("Lookup", "new_contactid", {"Targets": ["contact"]}),
    ],
)
async def test_6_2_casts_add_properties(client: httpx.AsyncClient, cast: str, column: str, expected: dict[str, Any]) -> None:
    where = f"/EntityDefinitions(LogicalName='new_vehicle')/Attributes/Microsoft.Dynamics.CRM.{cast}AttributeMetadata"
    rows = (await get(client, f"{where}?$select=LogicalName,{','.join(expected)}"))["value"]

    assert expected.items() <= next(row for row in rows if row["LogicalName"] == column).items()
    base = await client.get(f"{API}{where.rpartition('/')[0]}?$select=MaxLength")
    assert code(base) == (400, "0x80060888")  # only casts have it


async def test_3_6_relationships_tell_the_navigation_property(client: httpx.AsyncClient) -> None:
    where = "/EntityDefinitions(LogicalName='new_vehicle')/ManyToOneRelationships"
    rows = (await get(client, f"{where}?$filter=ReferencingAttribute eq 'new_contactid'"))["value"]

    assert [(row["ReferencedEntity"], row["ReferencingEntityNavigationPropertyName"]) for row in rows] == [("contact", "new_ContactId")]
    assert (await get(client, "/EntityDefinitions(LogicalName='contact')/Keys"))["value"] == []


async def test_half_an_answer_ends_before_its_promised_length_though_what_was_asked_is_done(
    client: httpx.AsyncClient, sandbox: DynamicsSandbox
) -> None:
    await client.post("/_admin/faults", json={"kind": "half", "method": "POST", "times": 1})
    with pytest.raises(httpx.RemoteProtocolError):
        await client.post(f"{API}/contacts", json={"lastname": "Half"}, headers={"Prefer": "return=representation"})
    assert [row["lastname"] for row in sandbox.rows("contact")] == ["Half"]


async def test_links_lead_to_another_host_when_told_so(client: httpx.AsyncClient, sandbox: DynamicsSandbox) -> None:
    people(sandbox, 3)
    await client.patch("/_admin/settings", json={"foreign_links": True})
    page = await get(client, "/contacts?$select=lastname", "odata.maxpagesize=2")
    assert page["@odata.nextLink"].startswith("https://dynamics.example.net/api/data/")
