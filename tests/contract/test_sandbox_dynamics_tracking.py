"""The Dynamics stand-in, change tracking (contract section 4): first load, deltas, tombstones, tokens and switches."""

from collections.abc import AsyncIterator
from typing import Any
from urllib.parse import unquote

import httpx
import pytest

from sandbox.dynamics import DynamicsSandbox
from sandbox.dynamics.tables import Column
from sandbox.web import serving

API = "/api/data/v9.2"
START = f"{API}/contacts?$select=lastname"


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


async def page(client: httpx.AsyncClient, path: str, size: int = 5000) -> dict[str, Any]:
    prefer = {"Prefer": f"odata.track-changes,odata.maxpagesize={size}"}
    answer = await client.get(path, headers=prefer)
    assert answer.status_code == 200, answer.text
    result: dict[str, Any] = answer.json()
    return result


async def run(client: httpx.AsyncClient, path: str = START, size: int = 5000) -> tuple[list[dict[str, Any]], str]:
    """Every item of a tracked run, and the delta link at its end; no page has both links."""
    items: list[dict[str, Any]] = []
    while True:
        got = await page(client, path, size)
        items += got["value"]
        assert ("@odata.nextLink" in got) != ("@odata.deltaLink" in got)
        path = got.get("@odata.nextLink", "")
        if not path:
            return items, got["@odata.deltaLink"]


def people(sandbox: DynamicsSandbox, n: int) -> list[str]:
    return sorted(sandbox.upsert("contact", {"lastname": f"L{i:03}"}) for i in range(n))


def names(items: list[dict[str, Any]]) -> list[str]:
    return [item.get("lastname", "deleted") for item in items]


async def refused(client: httpx.AsyncClient, path: str) -> tuple[int, str]:
    answer = await client.get(path, headers={"Prefer": "odata.track-changes"})
    return answer.status_code, answer.json()["error"]["code"]


async def test_4_1_first_read_has_every_row_and_the_link_on_the_last_page(sandbox: DynamicsSandbox, client: httpx.AsyncClient) -> None:
    ids = people(sandbox, 7)
    sandbox.upsert("contact", {"contactid": ids[0], "statecode": 1})
    items, link = await run(client, size=3)

    assert [item["contactid"] for item in items] == ids
    token = unquote(link.partition("$deltatoken=")[2])
    assert token.startswith(f"{sandbox.store.version}!") and "%2f" in link
    assert link.startswith(f"http://{client.base_url.netloc.decode()}{START}&$deltatoken=")


async def test_4_1_delta_link_stands_before_value_and_the_preference_is_applied(client: httpx.AsyncClient) -> None:
    answer = await client.get(START, headers=[("Prefer", "odata.track-changes"), ("Prefer", "odata.maxpagesize=9")])

    assert list(answer.json()) == ["@odata.context", "@odata.deltaLink", "value"]
    assert answer.headers["Preference-Applied"] == "odata.track-changes,odata.maxpagesize=9"


async def test_4_2_a_delta_has_whole_rows_then_tombstones(sandbox: DynamicsSandbox, client: httpx.AsyncClient) -> None:
    ids = people(sandbox, 3)
    _, link = await run(client)
    sandbox.delete("contact", ids[2])
    sandbox.upsert("contact", {"contactid": ids[1], "lastname": "new"})
    sandbox.upsert("contact", {"contactid": ids[0], "jobtitle": "not selected"})
    answer = await client.get(link)  # no Prefer: the token is enough
    items = answer.json()["value"]

    assert [item.get("contactid") for item in items] == [ids[1], ids[0], None]
    root = answer.json()["@odata.context"].partition("$metadata")[0]
    assert items[2] == {"@odata.context": f"{root}$metadata#contacts/$deletedEntity", "id": ids[2], "reason": "deleted"}
    assert answer.json()["@odata.context"].endswith("#contacts(lastname)/$delta")
    assert set(items[0]) == {"@odata.etag", "lastname", "contactid"}


async def test_4_2_nothing_changed_gives_no_items_and_a_new_link(sandbox: DynamicsSandbox, client: httpx.AsyncClient) -> None:
    people(sandbox, 2)
    _, link = await run(client)
    sandbox.advance(5)
    items, newer = await run(client, link)

    assert items == [] and newer != link


async def test_4_4_delta_pages_keep_their_place_while_rows_change(sandbox: DynamicsSandbox, client: httpx.AsyncClient) -> None:
    ids = people(sandbox, 10)
    _, link = await run(client)
    for key in ids[:6]:
        sandbox.upsert("contact", {"contactid": key, "lastname": "first"})
    sandbox.delete("contact", ids[9])
    start = await page(client, link, 2)
    sandbox.upsert("contact", {"contactid": ids[0], "lastname": "again"})
    sandbox.upsert("contact", {"contactid": ids[5], "lastname": "again"})
    rest, newer = await run(client, start["@odata.nextLink"], 2)
    later, _ = await run(client, newer)

    assert names(start["value"] + rest) == ["first"] * 5 + ["deleted"]
    assert {item["contactid"] for item in later} == {ids[0], ids[5]} and set(names(later)) == {"again"}


async def test_4_6_the_first_load_gap_loses_changes_to_rows_already_read(sandbox: DynamicsSandbox, client: httpx.AsyncClient) -> None:
    ids = people(sandbox, 4)
    for gap, expected in (("lost", []), ("included", [ids[0]])):
        sandbox.settings.change({"first_load_gap": gap})
        start = await page(client, START, 2)
        sandbox.upsert("contact", {"contactid": ids[0], "lastname": gap})
        _, link = await run(client, start["@odata.nextLink"], 2)

        assert [item["contactid"] for item in (await run(client, link))[0]] == expected


async def test_4_6_created_and_deleted_between_polls_is_a_tombstone(sandbox: DynamicsSandbox, client: httpx.AsyncClient) -> None:
    _, link = await run(client)
    key = people(sandbox, 1)[0]
    sandbox.delete("contact", key)

    assert [item["id"] for item in (await run(client, link))[0]] == [key]


async def test_4_6_the_same_guid_again_is_one_upsert_or_both(sandbox: DynamicsSandbox, client: httpx.AsyncClient) -> None:
    key = people(sandbox, 1)[0]
    _, link = await run(client)
    sandbox.delete("contact", key)
    sandbox.upsert("contact", {"contactid": key, "lastname": "back"})

    assert names((await run(client, link))[0]) == ["back"]
    sandbox.settings.same_guid = "both"
    assert names((await run(client, link))[0]) == ["back", "deleted"]


async def test_4_5_and_4_6_shuffle_and_repeats(sandbox: DynamicsSandbox, client: httpx.AsyncClient) -> None:
    people(sandbox, 3)
    _, link = await run(client)
    new = {sandbox.upsert("contact", {"lastname": f"N{i:02}"}) for i in range(20)}
    sandbox.settings.shuffle, sandbox.settings.repeats = True, 2
    items, _ = await run(client, link, 7)

    assert len(items) == 22 and new < {item["contactid"] for item in items}
    assert names(items) != sorted(names(items))


@pytest.mark.parametrize("option", ["$filter=lastname eq 'x'", "$orderby=lastname", "$expand=x", "$top=1"])
async def test_4_7_forbidden_options(client: httpx.AsyncClient, option: str) -> None:
    assert await refused(client, f"{API}/contacts?{option}") == (400, "0x80060888")


async def test_4_7_not_enabled_is_an_error_or_a_missing_link(sandbox: DynamicsSandbox, client: httpx.AsyncClient) -> None:
    assert await refused(client, f"{API}/new_untrackeds") == (400, "0x80072491")
    sandbox.settings.not_enabled = "missing_link"
    assert "@odata.deltaLink" not in await page(client, f"{API}/new_untrackeds")


async def test_4_7_global_read_is_needed(sandbox: DynamicsSandbox, client: httpx.AsyncClient) -> None:
    sandbox.settings.global_read = False

    assert await refused(client, START) == (403, "0x80040220")


async def test_4_8_tokens_expire_by_age_or_on_request_with_400_or_410(sandbox: DynamicsSandbox, client: httpx.AsyncClient) -> None:
    sandbox.settings.token_lifetime_s = 10**7
    _, link = await run(client)
    sandbox.expire_tokens()
    assert await refused(client, link) == (400, "0x80044352")
    _, link = await run(client)
    sandbox.settings.expired_status, sandbox.settings.retention_days = 410, 1
    assert (await run(client, link))[0] == []
    sandbox.settings.retention_days = -1
    assert await refused(client, link) == (410, "0x80044352")


async def test_4_8_retention_is_readable(sandbox: DynamicsSandbox, client: httpx.AsyncClient) -> None:
    sandbox.settings.retention_days = 30
    answer = await client.get(f"{API}/organizations?$select=expirechangetrackingindays")

    assert answer.json()["value"][0]["expirechangetrackingindays"] == 30


async def test_4_7_metadata_changes_expire_the_tables_tokens_only(sandbox: DynamicsSandbox, client: httpx.AsyncClient) -> None:
    _, contacts = await run(client)
    _, vehicles = await run(client, f"{API}/new_vehicles?$select=new_color")
    sandbox.add_column("new_vehicle", Column("new_note", "String", "Note", length=50))
    assert await refused(client, vehicles) == (400, "0x80044352")
    assert (await run(client, contacts))[0] == []
    sandbox.upsert("new_vehicle", {"new_note": "hello"})
    items, _ = await run(client, f"{API}/new_vehicles?$select=new_note,new_color")
    assert items[0]["new_note"] == "hello"
    sandbox.remove_column("new_vehicle", "new_color")
    assert await refused(client, f"{API}/new_vehicles?$select=new_color") == (400, "0x80060888")


async def test_4_7_a_foreign_token_is_refused(client: httpx.AsyncClient) -> None:
    assert await refused(client, f"{API}/contacts?$deltatoken=abc") == (400, "0x80060888")
    assert await refused(client, f"{API}/contacts?$deltatoken=9999999999999999!01/01/2030 00:00:00") == (
        400,
        "0x80060888",
    )


async def test_4_9_count_of_changes(sandbox: DynamicsSandbox, client: httpx.AsyncClient) -> None:
    ids = people(sandbox, 3)
    _, link = await run(client)
    sandbox.delete("contact", ids[0])
    people(sandbox, 2)
    token = link.partition("$deltatoken=")[2]

    assert (await client.get(f"{API}/contacts/$count?$deltatoken={token}")).text == "3"


async def test_11_3_annotations_lose_the_delta_link(sandbox: DynamicsSandbox, client: httpx.AsyncClient) -> None:
    prefer = {"Prefer": 'odata.track-changes,odata.include-annotations="*"'}
    assert "@odata.deltaLink" not in (await client.get(START, headers=prefer)).json()
    sandbox.settings.annotations_lose_link = False
    assert "@odata.deltaLink" in (await client.get(START, headers=prefer)).json()


async def test_reset_ends_delta_tokens_of_before(sandbox: DynamicsSandbox, client: httpx.AsyncClient) -> None:
    _, link = await run(client)
    sandbox.reset()
    url = str(client.base_url).rstrip("/")
    form = {"client_id": "sandbox-client", "client_secret": "sandbox-secret", "scope": f"{url}/.default"}
    answer = await client.post("/sandbox-tenant/oauth2/v2.0/token", data=form | {"grant_type": "client_credentials"})
    client.headers["Authorization"] = f"Bearer {answer.json()['access_token']}"

    assert await refused(client, link) == (400, "0x80044352")


@pytest.mark.parametrize("shuffle", [False, True])
async def test_4_a_reader_that_follows_the_links_ends_with_the_same_rows(
    sandbox: DynamicsSandbox, client: httpx.AsyncClient, shuffle: bool
) -> None:
    sandbox.load(200, 0, seed=3)
    sandbox.settings.change({"first_load_gap": "included", "shuffle": shuffle, "repeats": 3})
    path, copy, seed = START, dict[str, str](), 0
    for _ in range(60):
        got = await page(client, path, 17)
        for item in got["value"]:
            if item.get("reason") == "deleted":
                copy.pop(item["id"], None)
            else:
                copy[item["contactid"]] = item["@odata.etag"]
        if seed < 25:
            sandbox.churn(seed := seed + 1, updates=5, inserts=3, deletes=3)
        path = got.get("@odata.nextLink") or got["@odata.deltaLink"]

    assert copy == {row["contactid"]: f'W/"{row["versionnumber"]}"' for row in sandbox.rows("contact")}
