"""The Dynamics stand-in, writing side (contract 7.1-7.4, 7.6, 9.2), limits (8.1) and the admin interface."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any
from uuid import uuid4

import httpx
import pytest

from sandbox.dynamics import DynamicsSandbox
from sandbox.web import serving

API = "/api/data/v9.2"
REPRESENT = {"Prefer": "return=representation"}


@pytest.fixture
def sandbox() -> DynamicsSandbox:
    return DynamicsSandbox()


@pytest.fixture
async def client(sandbox: DynamicsSandbox) -> AsyncIterator[httpx.AsyncClient]:
    async with serving(sandbox.app()) as url, httpx.AsyncClient(base_url=url) as http:
        form = {"client_id": "sandbox-client", "client_secret": "sandbox-secret", "scope": f"{url}/.default"}
        answer = await http.post("/sandbox-tenant/oauth2/v2.0/token", data=form | {"grant_type": "client_credentials"})
        http.headers["Authorization"] = f"Bearer {answer.json()['access_token']}"
        yield http


def code(answer: httpx.Response) -> tuple[int, str]:
    return answer.status_code, answer.json()["error"]["code"]


def one(sandbox: DynamicsSandbox, table: str = "contact") -> dict[str, Any]:
    (row,) = sandbox.rows(table)
    return row


async def test_7_1_create(sandbox: DynamicsSandbox, client: httpx.AsyncClient) -> None:
    answer = await client.post(f"{API}/contacts", json={"firstname": "Ann", "lastname": ""})
    row = one(sandbox)

    assert answer.status_code == 204 and answer.content == b""
    assert answer.headers["OData-EntityId"] == f"{str(client.base_url).rstrip('/')}{API}/contacts({row['contactid']})"
    assert row["fullname"] == "Ann" and row["lastname"] is None and row["createdon"] == row["modifiedon"]
    again = await client.post(f"{API}/contacts", json={"contactid": row["contactid"]})
    assert code(again) == (412, "0x80040237")
    shown = await client.post(f"{API}/contacts?$select=firstname", json={"firstname": "Bo"}, headers=REPRESENT)
    assert shown.status_code == 201 and shown.json()["firstname"] == "Bo" and "OData-EntityId" not in shown.headers


async def test_7_2_update_changes_only_what_was_sent(sandbox: DynamicsSandbox, client: httpx.AsyncClient) -> None:
    key = sandbox.upsert("contact", {"firstname": "Ann", "jobtitle": "Nurse"})
    before = one(sandbox)["versionnumber"]
    sandbox.advance(10)
    answer = await client.patch(f"{API}/contacts({key.upper()})", json={"firstname": "Bo", "statecode": 1})
    row = one(sandbox)

    assert answer.status_code == 204 and (row["firstname"], row["jobtitle"], row["statuscode"]) == ("Bo", "Nurse", 2)
    wrong = await client.patch(f"{API}/contacts({key})", json={"statuscode": 1})
    assert code(wrong) == (400, "0x80048408")  # the row is inactive
    assert row["versionnumber"] > before and row["modifiedon"] > row["createdon"] and row["modifiedon"].endswith("Z")
    assert (await client.put(f"{API}/contacts({key})/jobtitle", json={"value": "Buyer"})).status_code == 204
    assert one(sandbox)["jobtitle"] == "Buyer"
    assert (await client.delete(f"{API}/contacts({key})/jobtitle")).status_code == 204
    assert one(sandbox)["jobtitle"] is None and len(sandbox.writes("contact", key)) == 3


async def test_7_3_patch_is_an_upsert(sandbox: DynamicsSandbox, client: httpx.AsyncClient) -> None:
    url = f"{API}/contacts({uuid4()})?$select=lastname"
    statuses = [(await client.patch(url, json={"lastname": n}, headers=REPRESENT)).status_code for n in "ab"]

    assert statuses == [201, 200] and one(sandbox)["lastname"] == "b"
    assert code(await client.patch(f"{API}/contacts", json={})) == (405, "0x80060888")


@pytest.mark.parametrize(
    ("method", "header", "value", "exists", "status", "error"),
    [
        ("PATCH", "If-Match", "*", True, 204, ""),
        ("PATCH", "If-Match", "*", False, 404, "0x80040217"),
        ("PATCH", "If-None-Match", "*", True, 412, "0x80040237"),
        ("PATCH", "If-None-Match", "*", False, 204, ""),
        ("PATCH", "If-None-Match", "null", True, 204, ""),
        ("PATCH", "If-Match", "same", True, 204, ""),
        ("PATCH", "If-Match", 'W/"1"', True, 412, "0x80060882"),
        ("PATCH", "If-Match", 'W/"1"', False, 404, "0x80040217"),
        ("DELETE", "If-Match", 'W/"1"', True, 412, "0x80060882"),
        ("DELETE", "If-Match", "same", True, 204, ""),
        ("DELETE", "If-Match", "*", True, 204, ""),
        ("DELETE", "X-None", "", False, 404, "0x80040217"),
    ],
)
async def test_7_4_conditions(
    sandbox: DynamicsSandbox,
    client: httpx.AsyncClient,
    method: str,
    header: str,
    value: str,
    exists: bool,
    status: int,
    error: str,
) -> None:
    key = sandbox.upsert("contact", {"lastname": "x"}) if exists else str(uuid4())
    headers = {header: f'W/"{one(sandbox)["versionnumber"]}"' if value == "same" else value}
    body = {"lastname": "y"} if method == "PATCH" else None
    answer = await client.request(method, f"{API}/contacts({key})", json=body, headers=headers)

    assert answer.status_code == status and (not error or answer.json()["error"]["code"] == error)


async def test_7_6_delete_and_again(sandbox: DynamicsSandbox, client: httpx.AsyncClient) -> None:
    key = sandbox.upsert("contact", {})

    assert (await client.delete(f"{API}/contacts({key})")).status_code == 204
    assert code(await client.delete(f"{API}/contacts({key})")) == (404, "0x80040217")


@pytest.mark.parametrize(
    ("body", "error"),
    [
        ({"firstname": "x" * 51}, "0x80044331"),
        ({"gendercode": 5}, "0x8004431A"),
        ({"numberofchildren": -1}, "0x8004432F"),
        ({"creditlimit": -1}, "0x80044330"),
        ({"birthdate": "1980-05-17T00:00:00Z"}, "0x80048d19"),
        ({"overriddencreatedon": "2020-01-01"}, "0x80048d19"),
        ({"nope": 1}, "0x80048d19"),
        ({"firstname": 5}, "0x80048d19"),
        ({"donotemail": "true"}, "0x80048d19"),
        ({"_parentcustomerid_value": str(uuid4())}, "0x80048d19"),
        ({"firstname": "a\x00b"}, "0x80040278"),
        ({"statuscode": 2}, "0x80048408"),
    ],
)
async def test_9_2_values_are_checked(client: httpx.AsyncClient, body: dict[str, Any], error: str) -> None:
    assert code(await client.post(f"{API}/contacts", json=body)) == (400, error)


async def test_3_5_lookups_are_bound_by_navigation_property(sandbox: DynamicsSandbox, client: httpx.AsyncClient) -> None:
    owner = sandbox.upsert("contact", {"lastname": "Lee"})

    async def bound(name: str, value: str | None) -> httpx.Response:
        return await client.patch(f"{API}/new_vehicles({owner})", json={name: value})

    assert (await bound("new_ContactId@odata.bind", f"/contacts({owner})")).status_code == 204
    assert one(sandbox, "new_vehicle")["new_contactid"] == owner
    assert code(await bound("new_contactid@odata.bind", f"/contacts({owner})")) == (400, "0x80048d19")
    assert code(await bound("new_ContactId@odata.bind", f"contacts({uuid4()})")) == (404, "0x80040217")
    assert code(await bound("new_ContactId@odata.bind", f"/accounts({owner})")) == (400, "0x80048d19")
    assert (await bound("new_ContactId@odata.bind", None)).status_code == 204
    assert one(sandbox, "new_vehicle")["new_contactid"] is None


async def test_8_1_requests_are_limited_by_a_sliding_window(sandbox: DynamicsSandbox, client: httpx.AsyncClient) -> None:
    sandbox.settings.change({"throttle": True, "limit_requests": 2})
    statuses = [(await client.get(f"{API}/WhoAmI")).status_code for _ in range(2)]
    refused = await client.get(f"{API}/WhoAmI")
    assert statuses == [200, 200] and code(refused) == (429, "0x80072322")
    assert refused.headers["x-ms-ratelimit-burst-remaining-xrm-requests"] == "0"
    assert (await client.get(f"{API}/WhoAmI")).status_code == 429 and sandbox.limits.came_early == 1
    sandbox.advance(int(refused.headers["Retry-After"]) + 2)  # two: the early one made it grow
    assert (await client.get(f"{API}/WhoAmI")).status_code == 200 and sandbox.limits.came_early == 1


async def test_8_1_execution_time_and_concurrency_are_limited(sandbox: DynamicsSandbox, client: httpx.AsyncClient) -> None:
    sandbox.settings.change({"throttle": True, "limit_concurrent": 2, "latency_ms": 50})
    answers = await asyncio.gather(*(client.get(f"{API}/WhoAmI") for _ in range(4)))
    refused = [answer for answer in answers if answer.status_code == 429]
    assert len(refused) == 2 and code(refused[0]) == (429, "0x80072326")
    sandbox.settings.change({"latency_ms": 0, "request_cost_ms": 2_000_000})
    await client.get(f"{API}/WhoAmI")
    assert code(await client.get(f"{API}/WhoAmI")) == (429, "0x80072321")


async def test_admin_rows_load_and_churn(sandbox: DynamicsSandbox, client: httpx.AsyncClient) -> None:
    await client.post("/_admin/load", json={"contacts": 300, "vehicles": 50, "seed": 7})
    other = DynamicsSandbox()
    other.load(300, 50, 7)
    assert [row["contactid"] for row in sandbox.rows("contact")] == [row["contactid"] for row in other.rows("contact")]
    assert 5 < sum(row["statecode"] for row in sandbox.rows("contact")) < 50
    assert all(
        row["new_contactid"] is None or row["new_contactid"] in sandbox.store.data["contact"].rows for row in sandbox.rows("new_vehicle")
    )
    churned = (await client.post("/_admin/churn", json={"seed": 1, "updates": 9, "inserts": 5, "deletes": 3})).json()
    assert [churned[name] for name in ("updates", "inserts", "deletes")] == [9, 5, 3]
    rows = "/_admin/tables/account/rows"
    (key,) = (await client.post(rows, json={"rows": [{"name": "ACME"}]})).json()["ids"]
    await client.patch(f"{rows}/{key}", json={"accountnumber": "A1"})
    (row,) = (await client.get(rows)).json()["rows"]
    assert (row["name"], row["accountnumber"]) == ("ACME", "A1") and row["versionnumber"] == sandbox.store.version
    await client.delete(f"{rows}/{key}")
    assert (await client.get(rows)).json() == {"rows": []}
    assert (await client.post(rows, json={"rows": [{"nope": 1}]})).status_code == 400


async def test_admin_settings_columns_clock_counts_and_reset(sandbox: DynamicsSandbox, client: httpx.AsyncClient) -> None:
    assert (await client.patch("/_admin/settings", json={"shuffle": True})).json()["shuffle"] is True
    assert (await client.patch("/_admin/settings", json={"shuffle": 1})).status_code == 400
    spec = {"name": "new_grade", "type": "Picklist", "options": {"1": "Good", "2": "Bad"}}
    assert "new_grade" in (await client.post("/_admin/columns", json={"table": "contact", "add": spec})).json()["columns"]
    key = (await client.post(f"{API}/contacts", json={"new_grade": 2}, headers=REPRESENT)).json()["contactid"]
    writes = (await client.get(f"/_admin/writes?table=contact&key={key}")).json()["writes"]
    assert [write["body"] for write in writes] == [{"new_grade": 2}]
    before = sandbox.store.now_text()
    assert (await client.post("/_admin/clock", json={"advance_s": 3600})).json()["now"] > before
    counts = (await client.get("/_admin/counts")).json()
    assert counts["rows"]["contact"] == 1 and counts["requests"]["POST contacts"] == 1
    assert counts["requests_inside_retry_after"] == 0
    for path in ("expire-tokens", "revoke-tokens", "reset"):
        assert (await client.post(f"/_admin/{path}")).status_code == 200
    assert sandbox.rows("contact") == [] and sandbox.settings.shuffle is False


async def test_faults_strike_the_web_api_but_not_admin(sandbox: DynamicsSandbox, client: httpx.AsyncClient) -> None:
    await client.post("/_admin/faults", json={"kind": "status_after", "method": "POST", "path": "contacts", "status": 503, "times": 1})

    assert (await client.post(f"{API}/contacts", json={})).status_code == 503
    assert len(sandbox.rows("contact")) == 1
