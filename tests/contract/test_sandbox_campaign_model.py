"""sandbox.campaign: links, deletes, stamps, publication, accounting and the admin API, over real HTTP."""

from __future__ import annotations

import asyncio
import sys
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


async def test_s22_a_child_is_hidden_until_its_parent_exists(api: httpx.AsyncClient, sandbox: CampaignSandbox) -> None:
    child = {"cusVehicleId": "v-1", "cusContactId": "c-1"}
    created = await api.post(VEHICLES, json=child)
    assert created.status_code == 201

    urls, methods = (f"{VEHICLES}/v-1", created.json()["href"]), ("GET", "PATCH", "DELETE")
    hidden = [await api.request(method, url, json={}) for method in methods for url in urls]
    assert {(answer.status_code, "Unable to find document" in answer.text) for answer in hidden} == {(404, True)}
    assert (await api.get(VEHICLES)).json()["content"] == []
    assert "already exists" in (await api.post(VEHICLES, json=child)).text
    assert (sandbox.rows("cusVehicle")[0]["hidden"], sandbox.counts()["hidden_rows"]["cusVehicle"]) == (True, 1)

    await api.post(PROFILES, json=ANN)
    shown = (await api.get(f"{VEHICLES}/v-1")).json()
    assert (shown["cusOwner"]["name"], shown["cusOwner"]["title"]) == ("c-1", "Ann Lee (ann@example.com)")
    assert (await api.get(shown["cusOwner"]["href"])).json()["externalId"] == "c-1"


async def test_s22_with_0_or_1_no_child_is_hidden(api: httpx.AsyncClient, sandbox: CampaignSandbox) -> None:
    sandbox.settings.cardinality = {"cusVehicle.cusOwner": "0or1"}
    await api.post(VEHICLES, json={"cusVehicleId": "v-1", "cusContactId": "c-1"})

    assert (await api.patch(f"{VEHICLES}/v-1", json={"cusName": "Red"})).status_code == 200


async def test_s22_links_are_set_by_pkey_and_ignored_by_attributes(api: httpx.AsyncClient, sandbox: CampaignSandbox) -> None:
    pkey = (await api.post(PROFILES, json=ANN)).json()["PKey"]
    await api.post(VEHICLES, json={"cusVehicleId": "v-1", "cusOwner": {"PKey": pkey}})
    await api.post(VEHICLES, json={"cusVehicleId": "v-2", "cusOwner": {"firstName": "Ann"}})
    bad = await api.post(VEHICLES, json={"cusVehicleId": "v-3", "cusOwner": {"PKey": "@x"}})

    assert [row["cusContactId"] for row in sandbox.rows("cusVehicle")] == ["c-1", ""]
    assert (bad.status_code, "Profiles (nms:recipient)" in bad.text) == (500, True)


@pytest.mark.parametrize(("rule", "left"), [("keep", 2), ("cascade", 0)])
async def test_s23_deleting_a_parent(api: httpx.AsyncClient, sandbox: CampaignSandbox, rule: str, left: int) -> None:
    sandbox.settings.on_delete = {"cusVehicle.cusOwner": rule}
    sandbox.put("profile", ANN)
    for key in ("v-1", "v-2"):
        sandbox.put("cusVehicle", {"cusVehicleId": key, "cusContactId": "c-1"})

    await api.delete(f"{PROFILES}/c-1")

    assert [row["hidden"] for row in sandbox.rows("cusVehicle")] == [True] * left


async def test_s23_a_parent_can_go_with_its_last_child(api: httpx.AsyncClient, sandbox: CampaignSandbox) -> None:
    sandbox.settings.on_delete = {"cusVehicle.cusOwner": "last"}
    sandbox.put("profile", ANN)
    for key in ("v-1", "v-2"):
        sandbox.put("cusVehicle", {"cusVehicleId": key, "cusContactId": "c-1"})

    await api.delete(f"{VEHICLES}/v-1")
    assert len(sandbox.rows("profile")) == 1
    await api.delete(f"{VEHICLES}/v-2")
    assert len(sandbox.rows("profile")) == 0


async def test_s24_opt_out_times_are_stamped_on_change_only(api: httpx.AsyncClient, sandbox: CampaignSandbox) -> None:
    sandbox.put("profile", ANN)
    await api.patch(f"{PROFILES}/c-1", json={"blackListEmail": True, "ccpaOptOut": False})
    first = sandbox.get("profile", "c-1") or {}
    sandbox.advance(60)
    await api.patch(f"{PROFILES}/c-1", json={"blackListEmail": True})

    assert first["blackListEmailLastModified"] == first["blackListAllLastModified"] == first["lastModified"]
    assert (first["blackListLastModified"], first["ccpaOptOutLastModified"]) == ("", "")
    assert (sandbox.get("profile", "c-1"), sandbox.counts()["unchanged_opt_out_writes"]) == (first, 2)
    sandbox.settings.stamp_unchanged = True
    await api.patch(f"{PROFILES}/c-1", json={"blackListEmail": True})
    assert (sandbox.get("profile", "c-1") or {})["blackListEmailLastModified"] > first["blackListEmailLastModified"]


async def test_s25_fields_and_resources_wait_for_the_publication(api: httpx.AsyncClient, sandbox: CampaignSandbox) -> None:
    fields = [{"name": "cusCode", "length": 9}, {"name": "cusSize", "type": "long"}]
    await api.post("/_admin/fields", json={"resource": "profile", "name": "cusTier", "type": "string", "length": 5})
    await api.post("/_admin/fields", json={"resource": "profile", "name": "firstName", "length": 99})
    await api.post("/_admin/resources", json={"name": "cusBoat", "key": "cusCode", "fields": fields})

    before = [await api.post(PROFILES, json={"cusTier": "gold"}), await api.post(f"{EXT}/cusBoat", json={})]
    sandbox.settings.publish_outage_s = 0.2
    await api.post("/_admin/publish")
    during = await api.get(PROFILES)
    sandbox.engine.publishing_until = 0
    after = [await api.post(PROFILES, json={"cusTier": "gold", "firstName": "x" * 99})]
    after.append(await api.post(f"{EXT}/cusBoat", json={"cusCode": "b-1", "cusSize": 3}))

    assert [answer.status_code for answer in (*before, during, *after)] == [500, 404, 404, 201, 201]
    assert (before[1].text, during.text) == (f"{GENERIC} Error rc=-2003", f"{GENERIC} Error rc=-2003")


async def test_s26_a_resource_is_in_exactly_one_of_ext_and_custom_resources(api: httpx.AsyncClient) -> None:
    ext, custom = (await api.get(f"{EXT}/")).json(), (await api.get("/sandbox/campaign/customResources")).json()

    assert ({"profile", "cusVehicle"} <= set(ext), set(custom)) == (True, {"apiName", "cusCategory"})
    assert ext["cusVehicle"]["type"] == "collection"
    moved = [await api.get(CATEGORIES.replace("customResources", "profileAndServicesExt"))]
    moved.append(await api.get(VEHICLES.replace("profileAndServicesExt", "customResources")))
    assert [answer.status_code for answer in moved] == [404, 404]


async def test_s38_engine_calls_cost_1_2_1_1(api: httpx.AsyncClient, sandbox: CampaignSandbox) -> None:
    def cost() -> dict[str, int]:
        calls: dict[str, int] = sandbox.counts()["engine_calls"]["by_operation"]
        return calls

    await api.post(PROFILES, json=ANN)
    assert cost() == {"insert": 1}
    await api.get(f"{PROFILES}/c-1")
    assert cost() == {"insert": 1, "read": 1}, "an update where Campaign already equals the source"
    await api.patch(f"{PROFILES}/c-1", json={"phone": "1"})
    assert cost() == {"insert": 1, "update": 2}
    await api.delete(f"{PROFILES}/c-1")
    assert cost() == {"insert": 1, "update": 2, "delete": 1}
    assert sandbox.counts()["engine_calls"]["total"] == 4
    assert sandbox.counts()["calls"] == {"profile": {"POST": 1, "GET": 1, "PATCH": 1, "DELETE": 1}}


async def test_s38_every_write_is_listed_by_record(api: httpx.AsyncClient, sandbox: CampaignSandbox) -> None:
    sandbox.settings.refuse = [{"resource": "profile", "field": "lastName", "contains": "poison"}]
    await api.post(PROFILES, json=ANN)
    await api.patch(f"{PROFILES}/c-1", json={"lastName": "a poison"})

    listed = (await api.get("/_admin/writes", params={"resource": "profile", "key": "c-1"})).json()["writes"]

    found = [(write["method"], write["fields"], write["status"]) for write in listed]
    assert found == [("POST", ANN, 201), ("PATCH", {"lastName": "a poison"}, 500)]
    assert all(write["time"] > 0 for write in listed)


async def test_the_program_says_where_it_listens_and_ends_on_sigterm() -> None:
    command = (sys.executable, "-m", "sandbox.campaign", "--port", "0")
    program = await asyncio.create_subprocess_exec(*command, stdout=asyncio.subprocess.PIPE)
    assert program.stdout is not None
    line = (await program.stdout.readline()).decode()
    program.terminate()

    assert "CAMPAIGN_URL=http://127.0.0.1:" in line
    assert (await program.wait(), await program.stdout.read()) == (0, b"")


async def test_admin_rows_are_written_and_removed_as_a_campaign_user_would(api: httpx.AsyncClient, sandbox: CampaignSandbox) -> None:
    added = await api.post("/_admin/resources/profile/rows", json={"rows": [ANN, {"externalId": "c/2"}]})
    changed = await api.patch("/_admin/resources/profile/rows/c/2", json={"blackList": True})
    refused = await api.patch("/_admin/resources/profile/rows/c/2", json={"nothing": 1})
    rows = (await api.get("/_admin/resources/profile/rows")).json()["rows"]

    assert [answer.status_code for answer in (added, changed, refused)] == [201, 200, 400]
    assert [(row["externalId"], row["blackList"], row["hidden"]) for row in rows] == [
        ("c-1", False, False),
        ("c/2", True, False),
    ]
    assert rows[1]["blackListLastModified"] == rows[1]["lastModified"]
    assert (await api.delete("/_admin/resources/profile/rows/c/2")).status_code == 204
    counts = (await api.get("/_admin/counts")).json()
    assert (counts["rows"]["profile"], counts["engine_calls"]["total"], counts["total"]) == (1, 0, 0)
    await api.post("/_admin/reset")
    assert sandbox.rows("profile") == []


@pytest.mark.parametrize("change", [{"nothing": 1}, {"over_long": "perhaps"}, {"big_table": "1"}])
async def test_wrong_settings_are_refused(api: httpx.AsyncClient, change: dict[str, Any]) -> None:
    assert (await api.patch("/_admin/settings", json=change)).status_code == 400
