"""bridge.dynamics.changes and metadata against the stand-in: pages, deltas, tombstones, and what can be missing (dataverse.md §4)."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from bridge.dynamics.changes import Page, version
from bridge.dynamics.client import DynamicsClient
from bridge.dynamics.errors import QueryRefused, TrackingExpired
from bridge.dynamics.identity import WhoAmI
from bridge.dynamics.metadata import read_table, synchronised
from bridge.dynamics.settings import DynamicsSettings
from bridge.model.errors import HaltError, RetryError
from bridge.model.settings import load
from sandbox.dynamics import DynamicsSandbox
from sandbox.web import Fault, serving
from tests.clock import FakeClock
from tests.unit.fakes import NOON, tracked


async def test_a_full_read_goes_page_by_page_and_the_last_one_has_the_delta_link(client: DynamicsClient, sandbox: DynamicsSandbox) -> None:
    ids = {sandbox.upsert("contact", {"lastname": "x"}) for _ in range(5)}
    table, pages, link = await tracked(client, "contact", "lastname", page_size=2), list[Page](), None

    while not pages or link:
        pages.append(await table.page(link))
        link = pages[-1].next_link

    assert [len(page.rows) for page in pages] == [2, 2, 1]
    assert {table.key(row) for page in pages for row in page.rows} == ids
    assert [page.delta_link is None for page in pages] == [True, True, False]


async def test_a_delta_has_whole_rows_and_tombstones_and_the_next_link_to_ask(client: DynamicsClient, sandbox: DynamicsSandbox) -> None:
    changed, deleted = (sandbox.upsert("contact", {"lastname": "x", "firstname": "y"}) for _ in range(2))
    table = await tracked(client, "contact", "lastname", "firstname")
    first = await table.page(None)

    sandbox.upsert("contact", {"contactid": changed, "lastname": "new"})
    sandbox.delete("contact", deleted)
    delta = await table.page(first.delta_link)
    idle = await table.page(delta.delta_link)

    (row,) = delta.rows
    assert table.upsert(row, "live", NOON).fields == {"lastname": "new", "firstname": "y"}
    assert delta.deleted == [deleted]
    assert (list(idle.rows), list(idle.deleted), idle.next_link) == ([], [], None)
    assert idle.delta_link


async def test_a_delete_is_an_event_with_the_highest_version_seen_and_no_fields(client: DynamicsClient) -> None:
    event = (await tracked(client, "contact", "lastname")).delete("c-1", "live", 915244, NOON)

    assert (event.op, event.key, event.version, event.changed_at) == ("delete", "c-1", 915244, None)
    assert (event.fields, event.labels) == ({}, {})


@pytest.mark.parametrize("status", [400, 410])
async def test_an_expired_token_is_told_as_such(client: DynamicsClient, sandbox: DynamicsSandbox, status: Any) -> None:
    table = await tracked(client, "contact", "lastname")
    link = (await table.page(None)).delta_link
    sandbox.settings.expired_status = status
    sandbox.expire_tokens()

    with pytest.raises(TrackingExpired):
        await table.page(link)


async def test_a_link_the_server_does_not_know_is_a_refused_query(client: DynamicsClient) -> None:
    table = await tracked(client, "contact", "lastname")

    with pytest.raises(QueryRefused):
        await table.page("contacts?$select=lastname&$deltatoken=nonsense")


@pytest.mark.parametrize(("status", "body"), [(200, "{}"), (200, ""), (204, ""), (200, '{"value": []}')])
async def test_a_delta_without_rows_in_any_form_is_an_empty_page(
    client: DynamicsClient, sandbox: DynamicsSandbox, status: int, body: str
) -> None:
    table = await tracked(client, "contact", "lastname")
    sandbox.ledger.faults.append(Fault("status", "GET", "contacts", status, body, "application/json"))

    assert await table.page("contacts?$deltatoken=1") == Page([], [], None, None)
    assert await table.page("contacts?$select=lastname&%24deltatoken=1") == Page([], [], None, None)


@pytest.mark.parametrize(("status", "body"), [(200, "{}"), (200, ""), (204, "")])
async def test_only_a_delta_may_be_answered_with_nothing(client: DynamicsClient, sandbox: DynamicsSandbox, status: int, body: str) -> None:
    """Of a list of all rows it would say that all of them are gone."""
    table = await tracked(client, "contact", "lastname")
    sandbox.ledger.faults.append(Fault("status", "GET", "contacts", status, body, "application/json"))

    for call in (table.page(None), table.page("contacts?$skiptoken=1"), table.keys(None), table.rows(None), table.row("c-1")):
        with pytest.raises(RetryError) as caught:
            await call
        assert caught.value.code == "bad_answer"


@pytest.mark.parametrize(
    "body",
    ["[]", "3", "null", '{"value": null}', '{"value": [3]}', '{"value": [{"lastname": "x"}]}', '{"error": {}}', '{"value": {}}', "{"],
)
async def test_an_answer_of_another_shape_is_no_answer(client: DynamicsClient, sandbox: DynamicsSandbox, body: str) -> None:
    table = await tracked(client, "contact", "lastname")
    sandbox.ledger.faults.append(Fault("status", "GET", "contacts", 200, body, "application/json"))

    for call in (table.page(None), table.keys(None), table.rows(None)):
        with pytest.raises(RetryError) as caught:
            await call
        assert caught.value.code == "bad_answer"


async def test_a_tombstone_without_an_id_is_no_answer(client: DynamicsClient, sandbox: DynamicsSandbox) -> None:
    table = await tracked(client, "contact", "lastname")
    body = '{"value": [{"@odata.context": "x#contacts/$deletedEntity", "reason": "deleted"}]}'
    sandbox.ledger.faults.append(Fault("status", "GET", "contacts", 200, body, "application/json"))

    with pytest.raises(RetryError):
        await table.page(None)


async def test_a_link_to_another_host_is_refused_with_the_page_that_has_it(client: DynamicsClient, sandbox: DynamicsSandbox) -> None:
    table = await tracked(client, "contact", "lastname")
    sandbox.settings.change({"foreign_links": True})

    with pytest.raises(HaltError) as caught:
        await table.page(None)

    assert caught.value.code == "foreign_link"


async def test_a_link_to_another_host_is_not_followed(client: DynamicsClient) -> None:
    table = await tracked(client, "contact", "lastname")

    with pytest.raises(HaltError) as caught:
        await table.page("https://evil.example/api/data/v9.2/contacts")

    assert caught.value.code == "foreign_link"


@pytest.mark.parametrize(
    ("table", "columns", "code", "named"),
    [
        ("new_nothing", [], "source_table_missing", "new_nothing"),
        ("new_untracked", ["new_name"], "change_tracking_off", "new_untracked"),
        ("contact", ["lastname", "new_gone"], "source_column_missing", "new_gone"),
        ("contact", ["gendercodename"], "source_column_missing", "gendercodename"),
    ],
)
async def test_what_is_missing_in_dynamics_halts_and_is_named(
    client: DynamicsClient, table: str, columns: list[str], code: str, named: str
) -> None:
    with pytest.raises(HaltError) as caught:
        await read_table(client, table, columns)

    assert (caught.value.code, caught.value.origin) == (code, "source")
    assert named in str(caught.value)
    assert caught.value.hint


async def test_tracking_that_was_switched_off_while_running_halts(client: DynamicsClient, sandbox: DynamicsSandbox) -> None:
    table = await tracked(client, "contact", "lastname")
    sandbox.store.tables["contact"].tracked = False

    with pytest.raises(HaltError) as caught:
        await table.page(None)

    assert caught.value.code == "change_tracking_off"


async def test_a_column_that_was_removed_while_running_halts_a_look_at_one_row(client: DynamicsClient, sandbox: DynamicsSandbox) -> None:
    key = sandbox.upsert("new_vehicle", {"new_name": "Volvo", "new_color": "red"})
    table = await tracked(client, "new_vehicle", "new_color")
    sandbox.remove_column("new_vehicle", "new_color")

    with pytest.raises(HaltError) as caught:
        await table.row(key)

    assert caught.value.code == "source_query_refused"


async def test_one_row_is_read_as_it_is_now_and_none_when_it_is_gone(client: DynamicsClient, sandbox: DynamicsSandbox) -> None:
    key = sandbox.upsert("contact", {"lastname": "Ada"})
    table = await tracked(client, "contact", "lastname")

    there = await table.row(key)
    sandbox.delete("contact", key)

    assert there is not None
    assert (there["lastname"], await table.row(key)) == ("Ada", None)


async def test_keys_and_versions_come_page_by_page(client: DynamicsClient, sandbox: DynamicsSandbox) -> None:
    for _ in range(5):
        sandbox.upsert("contact", {"lastname": "x"})
    table, found, link = await tracked(client, "contact", "lastname", page_size=2), list[tuple[str, int | None]](), None

    while True:
        page, link = await table.keys(link)
        found += page
        if link is None:
            break

    assert dict(found) == {row["contactid"]: row["versionnumber"] for row in sandbox.rows("contact")}


async def test_untracked_reads_are_by_key_and_need_no_etags(client: DynamicsClient, sandbox: DynamicsSandbox) -> None:
    ids = sorted(sandbox.upsert("contact", {"lastname": "x"}) for _ in range(5))
    table, paths, collection = await tracked(client, "contact", "lastname", page_size=2), list[str](), client.collection

    async def without_etags(path: str, prefer: str) -> Any:
        paths.append(path)
        answer = await collection(path, prefer)
        return {**answer, "value": [{name: row[name] for name in row if name != "@odata.etag"} for row in answer["value"]]}

    client.collection = without_etags  # type: ignore[method-assign]
    found, row_link = (await table.keys(None))[0], (await table.rows(None))[1]
    rows = [*(await table.rows(None))[0], *(await table.rows(row_link))[0]]

    versions = {row["contactid"]: row["versionnumber"] for row in sandbox.rows("contact")}
    assert found == [(key, versions[key]) for key in ids[:2]]
    assert [(table.key(row), version(row)) for row in rows] == [(key, versions[key]) for key in ids[:4]]
    assert all("$orderby=contactid asc" in path for path in paths if "skiptoken" not in path)


async def test_the_number_of_rows_is_told_or_not_known(client: DynamicsClient, sandbox: DynamicsSandbox) -> None:
    sandbox.upsert("contact", {"lastname": "x"})
    table = await tracked(client, "contact", "lastname")

    known = await table.count()
    sandbox.ledger.faults.append(Fault("status", path="RetrieveTotalRecordCount", status=404))

    assert (known, await table.count()) == (1, None)


async def test_a_revoked_token_is_replaced_without_anybody_noticing(client: DynamicsClient, sandbox: DynamicsSandbox) -> None:
    table = await tracked(client, "contact", "lastname")
    sandbox.tokens.revoke()

    assert (await table.page(None)).delta_link


async def test_a_busy_server_is_a_retry_with_its_wait(client: DynamicsClient, sandbox: DynamicsSandbox) -> None:
    table = await tracked(client, "contact", "lastname")
    sandbox.ledger.faults.append(Fault("status", path="contacts", status=429, headers={"Retry-After": "17"}))

    with pytest.raises(RetryError) as caught:
        await table.page(None)

    assert caught.value.retry_after_s == 17


@pytest.mark.parametrize("question", ["RetrieveTotalRecordCount", "WhoAmI", "EntityDefinitions"])
async def test_a_question_before_a_load_is_asked_again_by_itself(client: DynamicsClient, sandbox: DynamicsSandbox, question: str) -> None:
    """Else the load would begin again, with all questions before it, and meet the same limit."""
    sandbox.ledger.faults.append(Fault("status", path=question, status=429, headers={"Retry-After": "1"}, times=3))
    table = await tracked(client, "contact", "lastname")

    assert await table.count() is not None
    assert (await WhoAmI(client, FakeClock()).ask()).user
    assert sandbox.ledger.statuses[429] == 3


async def test_a_long_wait_before_a_load_is_told(client: DynamicsClient, sandbox: DynamicsSandbox) -> None:
    table = await tracked(client, "contact", "lastname")
    sandbox.ledger.faults.append(Fault("status", path="RetrieveTotalRecordCount", status=429, headers={"Retry-After": "60"}))

    with pytest.raises(RetryError) as caught:
        await table.count()

    assert caught.value.retry_after_s == 60


async def test_a_path_in_the_address_of_the_environment_is_part_of_the_operations_of_a_batch(client: DynamicsClient) -> None:
    environment = {"TENANT_ID": "t", "CLIENT_ID": "c", "CLIENT_SECRET": "s", "URL": "https://crm.example/orga/"}
    settings = load(DynamicsSettings, {f"DYNAMICS_{name}": value for name, value in environment.items()})
    inside = DynamicsClient(settings, FakeClock())
    await inside.close()

    assert (client.root, inside.root) == ("/api/data/v9.2/", "/orga/api/data/v9.2/")


LAGS = [
    (404, ""),
    (404, "0x80060891"),
    (400, "0x0"),  # "Invalid property"
    (400, "0x80040216"),
]


@asynccontextmanager
async def a_patient_one(url: str) -> AsyncIterator[tuple[DynamicsClient, FakeClock]]:
    names = {"TENANT_ID": "sandbox-tenant", "CLIENT_ID": "sandbox-client", "CLIENT_SECRET": "sandbox-secret"}
    environment = {**names, "URL": url, "TOKEN_URL": f"{url}/sandbox-tenant/oauth2/v2.0/token"}
    clock = FakeClock()
    made = DynamicsClient(load(DynamicsSettings, {f"DYNAMICS_{name}": value for name, value in environment.items()}), clock, patient=True)
    try:
        yield made, clock
    finally:
        await made.close()


@pytest.mark.parametrize("times", [1, 2])
@pytest.mark.parametrize(("status", "code"), LAGS)
async def test_metadata_that_are_not_there_yet_after_a_publication_are_waited_for(
    sandbox: DynamicsSandbox, status: int, code: str, times: int
) -> None:
    """Dataverse.md §6.3: wait 3 to 10 s and repeat."""
    body = json.dumps({"error": {"code": code, "message": "x"}})
    sandbox.ledger.faults.append(Fault("status", "GET", "EntityDefinitions", status, body, "application/json", times=times))
    async with serving(sandbox.app()) as url, a_patient_one(url) as (client, clock):
        began = clock.monotonic()
        table = await read_table(client, "contact", ["lastname"])
        waited = clock.monotonic() - began

    assert table.set_name == "contacts"
    assert 3 <= waited <= 10


async def test_a_table_that_does_not_come_is_missing_after_some_seconds(sandbox: DynamicsSandbox) -> None:
    async with serving(sandbox.app()) as url, a_patient_one(url) as (client, clock):
        began = clock.monotonic()
        with pytest.raises(HaltError) as caught:
            await read_table(client, "new_nothing", [])
        waited = clock.monotonic() - began

    assert caught.value.code == "source_table_missing"
    assert 3 <= waited <= 10


@pytest.mark.parametrize(
    ("type", "named", "there"),
    [
        ("Virtual", "MultiSelectPicklistType", True),
        ("Virtual", "ImageType", False),
        ("Virtual", "FileType", False),
        ("Virtual", "VirtualType", False),
        ("Virtual", None, False),
        ("String", "StringType", True),
        ("String", None, True),
        ("PartyList", "PartyListType", False),
    ],
)
def test_columns_that_hold_no_value_are_not_offered(type: str, named: str | None, there: bool) -> None:
    """Dataverse.md §3.3, §6.2."""
    attribute = {"AttributeType": type, "AttributeTypeName": named and {"Value": named}, "IsValidForRead": True, "AttributeOf": None}

    assert synchronised(attribute) is there
