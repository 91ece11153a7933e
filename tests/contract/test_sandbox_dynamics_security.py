"""The Dynamics stand-in, column security: who is shown what, and what is told of it (Microsoft's pages on column-level security)."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest

from sandbox.dynamics import DynamicsSandbox
from sandbox.dynamics.permissions import Permission
from sandbox.dynamics.security import ADMINISTRATOR, PROFILES, TEAM
from sandbox.dynamics.tables import APP_USER
from sandbox.web import serving
from tests.contract.test_sandbox_dynamics import API, TOKEN, code, form, get

EMAIL, MASKED = "john.doe@example.com", "jo******@example.com"
ATTRIBUTES = "/EntityDefinitions(LogicalName='contact')/Attributes"
PRIVILEGES = f"/systemusers({APP_USER})/Microsoft.Dynamics.CRM.RetrievePrincipalAttributePrivileges()"


@pytest.fixture
def sandbox() -> DynamicsSandbox:
    return DynamicsSandbox()


@pytest.fixture
async def client(sandbox: DynamicsSandbox) -> AsyncIterator[httpx.AsyncClient]:
    async with serving(sandbox.app()) as url, httpx.AsyncClient(base_url=url) as http:
        answer = await http.post(TOKEN, data=form(url))
        http.headers["Authorization"] = f"Bearer {answer.json()['access_token']}"
        yield http


@pytest.mark.parametrize(
    ("permission", "administrator", "plain", "unmasked_list", "unmasked_one"),
    [
        (Permission(), False, EMAIL, EMAIL, EMAIL),
        (Permission(through=None), False, None, None, None),
        (Permission(read=0), False, None, None, None),
        (Permission(through=None), True, EMAIL, EMAIL, EMAIL),
        (Permission(masked=True), False, MASKED, MASKED, MASKED),
        (Permission(masked=True, unmasked=1), False, MASKED, MASKED, EMAIL),
        (Permission(masked=True, unmasked=3), False, MASKED, EMAIL, EMAIL),
        (Permission(masked=True, through=None), True, MASKED, EMAIL, EMAIL),
    ],
)
async def test_what_is_shown_of_a_secured_column(
    client: httpx.AsyncClient,
    sandbox: DynamicsSandbox,
    permission: Permission,
    administrator: bool,
    plain: str | None,
    unmasked_list: str | None,
    unmasked_one: str | None,
) -> None:
    sandbox.settings.change({"system_administrator": administrator})
    sandbox.secure("contact", "emailaddress1", permission)
    key, select = sandbox.upsert("contact", {"emailaddress1": EMAIL}), "$select=emailaddress1"

    async def shown(path: str, prefer: str = "") -> Any:
        answer = await get(client, path, prefer)
        return answer.get("value", [answer])[0]["emailaddress1"]

    assert await shown(f"/contacts?{select}") == await shown(f"/contacts({key})?{select}") == plain
    assert await shown(f"/contacts?{select}", "odata.track-changes") == plain
    assert await shown(f"/contacts?{select}&UnMaskedData=true", "odata.track-changes") == unmasked_list
    assert await shown(f"/contacts?{select}&UnMaskedData=true") == unmasked_list
    assert await shown(f"/contacts({key})?{select}&UnMaskedData=true") == unmasked_one
    assert sandbox.rows("contact")[0]["emailaddress1"] == EMAIL


async def test_a_secured_column_is_changed_by_whoever_may(client: httpx.AsyncClient, sandbox: DynamicsSandbox) -> None:
    key = sandbox.upsert("contact", {"lastname": "Doe"})
    sandbox.secure("contact", "donotemail", Permission(update=0))

    assert code(await client.patch(f"{API}/contacts({key})", json={"donotemail": True})) == (403, "0x8004f507")
    assert (await client.patch(f"{API}/contacts({key})", json={"lastname": "Roe"})).status_code == 204
    sandbox.secure("contact", "donotemail", Permission())
    assert (await client.patch(f"{API}/contacts({key})", json={"donotemail": True})).status_code == 204


async def test_what_is_told_of_it(client: httpx.AsyncClient, sandbox: DynamicsSandbox) -> None:
    sandbox.secure("contact", "emailaddress1", Permission(masked=True, unmasked=3, update=0))
    sandbox.secure("contact", "jobtitle", Permission(through="team"))
    sandbox.secure("account", "name", Permission(through=None))
    columns = {row["LogicalName"]: row for row in (await get(client, f"{ATTRIBUTES}?$select=LogicalName,IsSecured"))["value"]}

    told = (await get(client, PRIVILEGES))["AttributePrivileges"]
    of_contact = "$filter=entityname eq 'contact'"
    permissions = (await get(client, f"/fieldpermissions?$select=attributelogicalname,_fieldsecurityprofileid_value&{of_contact}"))["value"]

    assert {name for name, row in columns.items() if row["IsSecured"]} == {"emailaddress1", "jobtitle"}
    assert [(each["CanRead"], each["CanReadUnMasked"], each["CanUpdate"]) for each in told] == [(4, 3, 0), (4, 0, 4)]
    assert [each["AttributeId"] for each in told] == [columns[name]["MetadataId"] for name in ("emailaddress1", "jobtitle")]
    assert {each["attributelogicalname"]: each["_fieldsecurityprofileid_value"] for each in permissions} == {
        "emailaddress1": PROFILES["user"],
        "jobtitle": PROFILES["team"],
    }
    rules = (await get(client, f"/attributemaskingrules?{of_contact}"))["value"]
    assert [each["attributelogicalname"] for each in rules] == ["emailaddress1"]
    assert (await get(client, f"/systemusers({APP_USER})/teammembership_association?$select=teamid"))["value"] == [{"teamid": TEAM}]
    roles = f"/systemusers({APP_USER})/systemuserroles_association?$select=_roletemplateid_value"
    assert (await get(client, roles))["value"] == []
    sandbox.settings.change({"system_administrator": True})
    assert (await get(client, roles))["value"] == [{"_roletemplateid_value": ADMINISTRATOR}]


async def test_what_may_not_be_told_and_the_switches_from_outside(client: httpx.AsyncClient, sandbox: DynamicsSandbox) -> None:
    body = {"table": "contact", "column": "emailaddress1", "permission": {"masked": True}}
    assert (await client.post("/_admin/secured", json=body)).status_code == 200
    assert sandbox.store.secured == {("contact", "emailaddress1"): Permission(masked=True)}
    for how, expected in (("forbidden", 403), ("missing", 404)):
        await client.patch("/_admin/settings", json={"attribute_privileges": how, "security_tables": how})
        answers = [await client.get(f"{API}{path}") for path in (PRIVILEGES, "/fieldpermissions", "/attributemaskingrules")]
        assert [each.status_code for each in answers] == [expected] * 3
    assert (await client.post("/_admin/secured", json=body | {"permission": None})).status_code == 200
    assert sandbox.store.secured == {}
    added = await client.post("/_admin/tables", json={"add": "msdynmkt_contactpointconsent4"})
    assert "msdynmkt_contactpointconsent4" in added.json()["tables"]
    assert (await get(client, "/msdynmkt_contactpointconsent4s"))["value"] == []
