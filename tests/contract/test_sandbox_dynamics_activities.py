"""The Dynamics stand-in, activities (contract 3.6, 6, 7.5, 10), what batches of them cost (7.7, 8.1) and other names for their tables."""

import asyncio
import time
from collections.abc import AsyncIterator
from typing import Any
from uuid import NAMESPACE_URL, uuid4, uuid5

import httpx
import pytest

from sandbox.dynamics import DynamicsSandbox
from sandbox.web import serving

API = "/api/data/v9.2"
OPEN, CLICK, BOUNCE = "adobe_emailopen", "adobe_emailurlclick", "adobe_emailbounce"
NEW = {"If-None-Match": "*"}
DONE = {"statecode": 1, "statuscode": 2}
ADOBE = ["Adobe Campaign Email Send", "Adobe Campaign Email Open", "Adobe Campaign Email URL Click", "Adobe Campaign Email Bounce"]


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


@pytest.fixture
def contact(sandbox: DynamicsSandbox) -> str:
    return sandbox.upsert("contact", {"firstname": "Ann"})


def code(answer: httpx.Response) -> tuple[int, str]:
    return answer.status_code, answer.json()["error"]["code"]


def one(sandbox: DynamicsSandbox, table: str) -> dict[str, Any]:
    (row,) = sandbox.rows(table)
    return row


def regarding(contact: str, table: str, **more: Any) -> dict[str, Any]:
    return {f"regardingobjectid_contact_{table}@odata.bind": f"/contacts({contact})", "subject": "s", **more}


async def definitions(client: httpx.AsyncClient, path: str) -> list[dict[str, Any]]:
    answer = await client.get(f"{API}/EntityDefinitions{path}")
    assert answer.status_code == 200, answer.text
    rows: list[dict[str, Any]] = answer.json()["value"]
    return rows


def part(request: str, body: str = "", content_id: str = "") -> str:
    head = "Content-Type: application/http\r\nContent-Transfer-Encoding: binary\r\n"
    head += f"Content-ID: {content_id}\r\n" if content_id else ""
    return f"{head}\r\n{request} HTTP/1.1\r\nContent-Type: application/json\r\n\r\n{body}"


def joined(mark: str, *parts: str) -> str:
    return "".join(f"--{mark}\r\n{one_part}\r\n" for one_part in parts) + f"--{mark}--\r\n"


async def send(client: httpx.AsyncClient, *parts: str, change_set: bool = False) -> httpx.Response:
    if change_set:
        parts = ("Content-Type: multipart/mixed; boundary=set\r\n\r\n" + joined("set", *parts),)
    kind = {"Content-Type": "multipart/mixed; boundary=b"}
    return await client.post(f"{API}/$batch", content=joined("b", *parts).encode(), headers=kind)


# ---------------------------------------------------------------------------------------------------- metadata


async def test_6_1_and_10_the_custom_activities_are_found_by_their_labels(client: httpx.AsyncClient) -> None:
    query = "$select=LogicalName,EntitySetName,DisplayName,PrimaryIdAttribute&$filter=IsActivity eq true and IsCustomEntity eq true"
    found = await definitions(client, f"?{query}")

    assert [row["DisplayName"]["UserLocalizedLabel"]["Label"] for row in found] == ADOBE
    assert [row["EntitySetName"] for row in found] == [f"adobe_email{kind}" for kind in ("sends", "opens", "urlclicks", "bounces")]
    assert {row["PrimaryIdAttribute"] for row in found} == {"activityid"}
    every = {row["LogicalName"] for row in await definitions(client, "?$filter=IsActivity eq true")}
    assert every - {row["LogicalName"] for row in found} == {"task", "activitypointer"}


async def test_6_2_columns_lengths_and_states(client: httpx.AsyncClient) -> None:
    where = f"(LogicalName='{CLICK}')/Attributes"
    columns = {row["LogicalName"]: row for row in await definitions(client, where) if row["AttributeOf"] is None}
    texts = await definitions(client, f"{where}/Microsoft.Dynamics.CRM.StringAttributeMetadata?$select=LogicalName,MaxLength")
    lengths = {row["LogicalName"]: row["MaxLength"] for row in texts}
    custom = {name: row["DisplayName"]["UserLocalizedLabel"]["Label"] for name, row in columns.items() if row["IsCustomAttribute"]}

    assert custom == {
        "adobe_campaignname": "Campaign Name",
        "adobe_deliveryname": "Delivery Name",
        "adobe_dateclicked": "Date Clicked",
        "adobe_trackingurl": "Tracking URL",
        "adobe_mirrorpageurl": "Mirror Page URL",
    }
    assert columns["subject"]["IsPrimaryName"] and columns["activitytypecode"]["AttributeType"] == "EntityName"
    assert not columns["activitytypecode"]["IsValidForCreate"] and not columns["statecode"]["IsValidForCreate"]
    assert lengths == {
        "subject": 200,
        "adobe_campaignname": 100,
        "adobe_deliveryname": 100,
        "adobe_trackingurl": 500,
        "adobe_mirrorpageurl": 500,
    }
    assert await _options(client, CLICK, "Status", "State") == {1: 0, 2: 1, 3: 2, 4: 3}
    assert await _options(client, CLICK, "State", "DefaultStatus") == {0: 1, 1: 2, 2: 3, 3: 4}
    assert await _options(client, "task", "State", "DefaultStatus") == {0: 2, 1: 5, 2: 6}
    assert await _options(client, "contact", "State", "DefaultStatus") == {0: 1, 1: 2}


async def _options(client: httpx.AsyncClient, table: str, kind: str, member: str) -> dict[int, int]:
    cast = f"Microsoft.Dynamics.CRM.{kind}AttributeMetadata?$select=LogicalName&$expand=OptionSet"
    (row,) = await definitions(client, f"(LogicalName='{table}')/Attributes/{cast}")
    return {option["Value"]: option[member] for option in row["OptionSet"]["Options"]}


async def test_3_6_the_navigation_property_of_regarding_is_discovered(client: httpx.AsyncClient) -> None:
    members = "ReferencingAttribute,ReferencedEntity,ReferencingEntityNavigationPropertyName"
    query = f"$select=SchemaName,{members}&$filter=ReferencingAttribute eq 'regardingobjectid'"
    found = {
        table: {
            row["ReferencedEntity"]: row["ReferencingEntityNavigationPropertyName"]
            for row in await definitions(client, f"(LogicalName='{table}')/ManyToOneRelationships?{query}")
        }
        for table in (OPEN, "task", "activitypointer")
    }

    assert found[OPEN] == {to: f"regardingobjectid_{to}_{OPEN}" for to in ("contact", "account")}
    assert found["task"]["contact"] == "regardingobjectid_contact_task"
    assert found["activitypointer"]["contact"] == "regardingobjectid_contact"


# ---------------------------------------------------------------------------------------------------- writes


async def test_7_5_create_with_an_id_of_ones_own_and_read_it_in_both_tables(
    sandbox: DynamicsSandbox, client: httpx.AsyncClient, contact: str
) -> None:
    key = str(uuid5(NAMESPACE_URL, "event-1"))
    body = regarding(contact, OPEN, activityid=key, adobe_dateopened="2026-01-02T03:04:05.678+01:00", adobe_campaignname="C1", statecode=1)
    body |= {"overriddencreatedon": "2026-01-02T03:04:05Z", "activitytypecode": "task"}
    answer = await client.post(f"{API}/adobe_emailopens", json=body)
    row = one(sandbox, OPEN)

    assert answer.status_code == 204 and answer.headers["OData-EntityId"].endswith(f"{API}/adobe_emailopens({key})")
    assert row["adobe_dateopened"] == "2026-01-02T02:04:05Z" and row["createdon"] == "2026-01-02T03:04:05Z"
    assert (row["statecode"], row["statuscode"], row["activitytypecode"]) == (0, 1, OPEN)  # the statecode of a create is ignored
    assert row["ownerid"] == row["modifiedby"] == (await client.get(f"{API}/WhoAmI")).json()["UserId"]
    query = f"$filter=_regardingobjectid_value eq {contact} and activitytypecode eq '{OPEN}'&$select=subject,activitytypecode"
    (base,) = (await client.get(f"{API}/activitypointers?{query}")).json()["value"]
    assert (base["activityid"], base["subject"], base["activitytypecode"]) == (key, "s", OPEN)
    assert code(await client.patch(f"{API}/activitypointers({key})", json={"subject": "x"})) == (405, "0x80060888")
    shown = await client.get(f"{API}/adobe_emailopens({key})", headers={"Prefer": 'odata.include-annotations="*"'})
    assert shown.json()["_regardingobjectid_value@Microsoft.Dynamics.CRM.lookuplogicalname"] == "contact"


async def test_7_1_and_7_4_a_duplicate_is_refused(sandbox: DynamicsSandbox, client: httpx.AsyncClient, contact: str) -> None:
    key, body = str(uuid5(NAMESPACE_URL, "event-1")), regarding(contact, OPEN)
    url = f"{API}/adobe_emailopens({key})"

    assert (await client.patch(url, json=body, headers=NEW)).status_code == 204
    assert code(await client.patch(url, json=body, headers=NEW)) == (412, "0x80040237")
    assert code(await client.post(f"{API}/adobe_emailopens", json=body | {"activityid": key})) == (412, "0x80040237")
    other = await client.patch(f"{API}/tasks({key})", json={"subject": "t"}, headers=NEW)
    assert code(other) == (412, "0x80040237")  # all activities share one key
    assert sandbox.activities() == {"task": 0, "adobe_emailsend": 0, OPEN: 1, CLICK: 0, BOUNCE: 0}
    assert (await client.delete(url)).status_code == 204 and sandbox.rows("activitypointer") == []


async def test_3_6_regarding_needs_the_suffix_and_a_row(sandbox: DynamicsSandbox, client: httpx.AsyncClient, contact: str) -> None:
    url, base = f"{API}/adobe_emailopens", {"regardingobjectid_contact@odata.bind": f"/contacts({contact})"}

    assert code(await client.post(url, json=base)) == (400, "0x80048d19")
    missing = await client.post(url, json=regarding(str(uuid4()), OPEN))
    assert code(missing) == (404, "0x80040217") and "Entity 'contact'" in missing.text and "Does Not Exist" in missing.text
    assert code(await client.post(url, json=regarding(contact, CLICK))) == (400, "0x80048d19")  # another table's suffix
    account = sandbox.upsert("account", {"name": "ACME"})
    bound = {f"regardingobjectid_account_{OPEN}@odata.bind": f"/accounts({account})"}
    assert (await client.post(url, json=bound)).status_code == 204 and one(sandbox, OPEN)["regardingobjectid"] == account
    sandbox.settings.base_regarding = True
    assert (await client.post(url, json=base)).status_code == 204 and len(sandbox.timeline(contact)) == 1


async def test_7_5_states_and_lengths(sandbox: DynamicsSandbox, client: httpx.AsyncClient) -> None:
    url = f"{API}/adobe_emailopens"

    assert code(await client.post(url, json={"statuscode": 2})) == (400, "0x80048408")
    assert code(await client.post(url, json={"statecode": 1, "statuscode": 2})) == (400, "0x80048408")
    long = await client.post(url, json={"subject": "x" * 201})
    assert code(long) == (400, "0x80044331") and "the 'subject' attribute of the 'adobe_emailopen'" in long.text
    assert code(await client.post(url, json={"adobe_trackingurl": "x"})) == (400, "0x80048d19")  # clicks only
    assert sandbox.rows(OPEN) == []


async def test_7_5_a_completed_activity_is_closed_until_it_is_opened_again(sandbox: DynamicsSandbox, client: httpx.AsyncClient) -> None:
    url = f"{API}/adobe_emailopens({sandbox.upsert(OPEN, {'subject': 's'})})"

    assert (await client.patch(url, json=DONE | {"actualend": "2026-01-02T03:04:05Z"})).status_code == 204
    for change in ({"subject": "x"}, DONE, {"statecode": 0, "statuscode": 1, "subject": "x"}):
        assert code(await client.patch(url, json=change)) == (400, "0x80040230")
    assert code(await client.put(f"{url}/subject", json={"value": "x"})) == (400, "0x80040230")
    assert (await client.patch(url, json={"statecode": 0, "statuscode": 1})).status_code == 204
    assert (await client.patch(url, json={"subject": "x"})).status_code == 204 and one(sandbox, OPEN)["subject"] == "x"
    task = sandbox.upsert("task", {"subject": "t"})
    assert (await client.patch(f"{API}/tasks({task})", json={"statecode": 1})).status_code == 204
    assert one(sandbox, "task")["statuscode"] == 5 and one(sandbox, "task")["actualend"] == sandbox.store.now_text()


async def test_7_5_create_and_completion_in_one_change_set(sandbox: DynamicsSandbox, client: httpx.AsyncClient, contact: str) -> None:
    bind = f'"regardingobjectid_contact_{CLICK}@odata.bind":"/contacts({contact})"'
    create = part(f"POST {API}/adobe_emailurlclicks", f'{{"subject":"s",{bind}}}', "1")
    complete = part("PATCH $1", '{"statecode":1,"statuscode":2}', "2")
    answer = await send(client, create, complete, change_set=True)

    assert answer.status_code == 200 and one(sandbox, CLICK)["statecode"] == 1 and len(sandbox.writes(CLICK)) == 2
    assert [row["activitytypecode"] for row in sandbox.timeline(contact)] == [CLICK, "task"]
    failed = await send(client, create, part("PATCH $1", '{"statecode":1,"statuscode":1}', "2"), change_set=True)
    assert failed.status_code == 400 and "0x80048408" in failed.text
    assert sandbox.activities() == {"task": 1, "adobe_emailsend": 0, OPEN: 0, CLICK: 1, BOUNCE: 0}  # no task of what was rolled back
    assert len(sandbox.rows("activitypointer")) == 2


# ---------------------------------------------------------------------------------------------------- follow-ups, timeline


async def test_10_1_clicks_and_bounces_make_tasks(sandbox: DynamicsSandbox, client: httpx.AsyncClient, contact: str) -> None:
    clicked = regarding(contact, CLICK, adobe_dateclicked="2026-01-02T03:04:05Z")
    await client.post(f"{API}/adobe_emailurlclicks", json=clicked)
    task = one(sandbox, "task")

    assert (task["subject"], task["description"]) == ("Follow up on URL click", "Adobe campaign email clicked at 2026-01-02T03:04:05Z")
    assert task["regardingobjectid"] == contact and task["scheduledend"] > sandbox.store.now_text() and task["statecode"] == 0
    assert sandbox.writes("task") == [] and len(sandbox.writes()) == 1
    await client.patch(f"{API}/adobe_emailurlclicks({one(sandbox, CLICK)['activityid']})", json={"subject": "again"})
    assert sandbox.activities()["task"] == 1  # only a create counts
    await client.post(f"{API}/adobe_emailbounces", json=regarding(contact, BOUNCE))
    assert {row["subject"] for row in sandbox.rows("task")} == {"Follow up on URL click", "Reconcile email address"}
    sandbox.settings.change({"click_follow_up": False, "bounce_follow_up": False})
    for table in (CLICK, BOUNCE, OPEN):
        await client.post(f"{API}/{table}s", json=regarding(contact, table))
    assert sandbox.activities()["task"] == 2


async def test_the_timeline_of_a_contact(sandbox: DynamicsSandbox, client: httpx.AsyncClient, contact: str) -> None:
    other = sandbox.upsert("contact", {})
    sandbox.settings.click_follow_up = False
    times = {CLICK: "2026-01-03T00:00:00Z", OPEN: "2026-01-02T00:00:00Z", "task": "2026-01-04T00:00:00Z"}
    for table, at in times.items():
        await client.post(f"{API}/{table}s", json=regarding(contact, table, overriddencreatedon=at))
    await client.post(f"{API}/adobe_emailopens", json=regarding(other, OPEN))
    rows = (await client.get(f"/_admin/timeline/{contact.upper()}")).json()["rows"]

    assert [row["activitytypecode"] for row in rows] == [OPEN, CLICK, "task"] and "adobe_trackingurl" in rows[1]
    assert rows == sandbox.timeline(contact) and len(sandbox.timeline(other)) == 1 and sandbox.timeline(str(uuid4())) == []
    counts = (await client.get("/_admin/activities")).json()
    assert counts == {"task": 1, "adobe_emailsend": 0, OPEN: 2, CLICK: 1, BOUNCE: 0}


# ---------------------------------------------------------------------------------------------------- other names


async def test_tables_and_columns_under_other_names(sandbox: DynamicsSandbox, client: httpx.AsyncClient, contact: str) -> None:
    sandbox.upsert(CLICK, {"regardingobjectid": contact, "adobe_dateclicked": "2026-01-02T03:04:05Z"})
    sandbox.rename_table(CLICK, "xyz_click", "xyz_clickes")
    sandbox.rename_column("xyz_click", "adobe_dateclicked", "xyz_when")
    answer = await client.post(f"{API}/xyz_clickes", json=regarding(contact, "xyz_click", xyz_when="2026-01-02T03:04:06Z"))

    assert answer.status_code == 204 and [row["activitytypecode"] for row in sandbox.timeline(contact)] == ["xyz_click", "task"] * 2
    assert sandbox.rows("task")[0]["description"].startswith("Adobe campaign email clicked at 2026-01-02T03:04:0")
    assert sorted(row["xyz_when"][-3:] for row in sandbox.rows("xyz_click")) == ["05Z", "06Z"]
    assert code(await client.post(f"{API}/adobe_emailurlclicks", json={})) == (404, "0x8006088a")
    assert code(await client.get(f"{API}/EntityDefinitions(LogicalName='{CLICK}')")) == (404, "0x80060888")
    (found,) = await definitions(client, "?$filter=EntitySetName eq 'xyz_clickes'")
    assert found["LogicalName"] == "xyz_click" and found["DisplayName"]["UserLocalizedLabel"]["Label"] == ADOBE[2]
    when = await client.get(f"{API}/EntityDefinitions(LogicalName='xyz_click')/Attributes(LogicalName='xyz_when')")
    assert when.json()["IsCustomAttribute"] and when.json()["DisplayName"]["UserLocalizedLabel"]["Label"] == "Date Clicked"
    sandbox.reset()
    assert CLICK in sandbox.activities()


async def test_tables_and_columns_renamed_and_removed_by_the_admin_interface(
    sandbox: DynamicsSandbox, client: httpx.AsyncClient, contact: str
) -> None:
    sandbox.upsert(OPEN, {"regardingobjectid": contact})
    columns = await client.post("/_admin/columns", json={"table": BOUNCE, "rename": "adobe_campaignname", "to": "xyz_campaign"})
    assert "xyz_campaign" in columns.json()["columns"] and "adobe_campaignname" not in columns.json()["columns"]
    await client.post("/_admin/columns", json={"table": BOUNCE, "remove": "xyz_campaign"})
    assert code(await client.post(f"{API}/adobe_emailbounces", json={"xyz_campaign": "x"})) == (400, "0x80048d19")
    names = (await client.post("/_admin/tables", json={"rename": BOUNCE, "to": "xyz_bounce"})).json()["tables"]
    assert "xyz_bounce" in names and (await client.get(f"{API}/xyz_bounces")).json()["value"] == []
    assert OPEN not in (await client.post("/_admin/tables", json={"remove": OPEN})).json()["tables"]
    assert code(await client.get(f"{API}/adobe_emailopens")) == (404, "0x8006088a") and sandbox.timeline(contact) == []
    for table, body, status in (
        ("tables", {"remove": "task"}, 400),
        ("tables", {"remove": OPEN}, 404),
        ("tables", {"rename": CLICK, "to": "xyz_bounce"}, 400),
        ("columns", {"table": CLICK, "rename": "statecode", "to": "x"}, 400),
        ("columns", {"table": CLICK, "rename": "nope", "to": "x"}, 404),
    ):
        assert (await client.post(f"/_admin/{table}", json=body)).status_code == status


# ---------------------------------------------------------------------------------------------------- service protection


async def test_8_1_a_batch_is_one_request_but_its_time_counts_in_full(sandbox: DynamicsSandbox, client: httpx.AsyncClient) -> None:
    create = part(f"POST {API}/adobe_emailopens", '{"subject":"s"}')
    sandbox.settings.change({"throttle": True, "limit_requests": 4, "limit_execution_s": 0.3, "operation_cost_ms": 20})
    started = time.perf_counter()
    answer = await send(client, *[create] * 10)
    took = time.perf_counter() - started

    assert answer.status_code == 200 and took >= 0.2 and answer.headers["x-ms-ratelimit-burst-remaining-xrm-requests"] == "3"
    assert float(answer.headers["x-ms-ratelimit-time-remaining-xrm-requests"]) <= 0.1
    started = time.perf_counter()
    assert (await client.post(f"{API}/adobe_emailopens", json={})).status_code == 204 and time.perf_counter() - started >= 0.02
    assert (await send(client, *[create] * 5)).status_code == 200
    refused = await send(client, create)
    assert code(refused) == (429, "0x80072321") and int(refused.headers["Retry-After"]) >= 1  # plain JSON, no multipart
    assert sandbox.activities()[OPEN] == 16


async def test_8_1_requests_under_way_when_a_429_leaves_are_not_early(sandbox: DynamicsSandbox, client: httpx.AsyncClient) -> None:
    sandbox.settings.change({"throttle": True, "limit_requests": 1, "early_grace_ms": 300})
    assert (await client.get(f"{API}/WhoAmI")).status_code == 200
    answers = await asyncio.gather(*(client.get(f"{API}/WhoAmI") for _ in range(6)))
    assert {answer.status_code for answer in answers} == {429} and sandbox.limits.came_early == 0
    sandbox.advance(0.4)
    await client.get(f"{API}/WhoAmI")
    assert sandbox.limits.came_early == 1
    sandbox.advance(sandbox.settings.window_s + 2)
    assert (await client.get(f"{API}/WhoAmI")).status_code == 200 and sandbox.limits.came_early == 1


async def test_8_1_a_request_held_up_since_before_the_429_is_not_early(sandbox: DynamicsSandbox, client: httpx.AsyncClient) -> None:
    sandbox.settings.change({"throttle": True, "limit_requests": 1})
    hold = {"kind": "latency", "path": "contacts", "seconds": 0.3}
    assert (await client.post("/_admin/faults", json=hold)).status_code == 201
    held = asyncio.create_task(client.get(f"{API}/contacts"))
    await asyncio.sleep(0.1)
    statuses = [(await client.get(f"{API}/WhoAmI")).status_code for _ in range(2)]

    assert statuses == [200, 429] and (await held).status_code == 429 and sandbox.limits.came_early == 0
