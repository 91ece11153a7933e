"""`bridge test` tells which step of the set-up is missing (docs/getting-started.md): each one by itself, at the wire."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any, cast

import httpx
import pytest

from bridge.campaign.client import CampaignClient
from bridge.campaign.journal import JournalClient
from bridge.campaign.settings import CampaignSettings, JournalSettings
from bridge.campaign.sftp import SftpFolder
from bridge.dynamics.client import DynamicsClient
from bridge.dynamics.settings import DynamicsSettings
from bridge.model.config import EgressConfig, IngressConfig, OptinConfig, default_ingress
from bridge.model.errors import BridgeError, HaltError, RetryError
from bridge.model.settings import load
from services.control.models.system_json import CheckOut, System
from services.control.systems.connection_tests import Checks
from services.control.systems.connections import Systems
from tests.clock import FakeClock

ROOT = Path(__file__).parents[2]
ENVIRONMENT = {
    "DYNAMICS_URL": "https://org.example",
    "DYNAMICS_TENANT_ID": "tenant",
    "DYNAMICS_CLIENT_ID": "app",
    "DYNAMICS_CLIENT_SECRET": "s",
    "DYNAMICS_TOKEN_URL": "https://login.example/token",
    "CAMPAIGN_URL": "https://mc.example/instance",
    "CAMPAIGN_CLIENT_ID": "key",
    "CAMPAIGN_CLIENT_SECRET": "s",
    "CAMPAIGN_ORG_ID": "1@AdobeOrg",
    "CAMPAIGN_TOKEN_URL": "https://login.example/ims",
    "CAMPAIGN_JOURNAL_URL": "https://events.example/journal",
}
OPTIN = OptinConfig.model_validate({"direction": "bidirectional", "mappings": [{"source": "donotemail", "target": "blackListEmail"}]})
EGRESS = EgressConfig.model_validate({"events": {"send": True}})
Answer = tuple[int, Any]
Fault = dict[str, Answer]  # part of an address → what is answered there instead


def answers(fault: Fault) -> Callable[[httpx.Request], httpx.Response]:
    """Both systems as they are when every step has been done, but for `fault`."""
    right: Fault = {
        "/token": (200, {"access_token": "t", "expires_in": 3600}),
        "/ims": (200, {"access_token": "t", "expires_in": 3600}),
        "WhoAmI": (200, {"UserId": "u"}),
        "/Attributes": (200, {"value": [{"LogicalName": "contactid", "AttributeType": "Uniqueidentifier"}]}),
        "EntityDefinitions": (
            200,
            {"LogicalName": "contact", "EntitySetName": "contacts", "PrimaryIdAttribute": "contactid", "ChangeTrackingEnabled": True},
        ),
        "/contacts": (200, {"value": []}),
        "/resourceType/profile": (200, {"content": {"email": {"type": "string"}}}),
        "/profileAndServicesExt/profile": (200, {"content": []}),
        "/profileAndServicesExt": (200, {"profile": {}}),
        "/journal": (204, None),
    }

    def answer(request: httpx.Request) -> httpx.Response:
        status, body = next(found for part, found in [*fault.items(), *right.items()] if part in str(request.url))
        return httpx.Response(status, content=b"" if body is None else json.dumps(body).encode(), request=request)

    return answer


class Folder:
    """The folder of the exports, or what there is in its place."""

    def __init__(self, error: BridgeError | None = None) -> None:
        self._error = error

    async def files(self) -> list[Any]:
        if self._error:
            raise self._error
        return []


class Rig:
    def __init__(self) -> None:
        clock, self.fault = FakeClock(), Fault()
        self.ingress, self.egress, self.optin = default_ingress(), EgressConfig(), OptinConfig()
        http = httpx.AsyncClient(transport=httpx.MockTransport(lambda request: answers(self.fault)(request)))
        dynamics, campaign = load(DynamicsSettings, ENVIRONMENT), load(CampaignSettings, ENVIRONMENT)
        self.systems = Systems(dynamics, campaign, clock)
        self.unused = [self.systems._dynamics, self.systems._campaign]
        self.systems._dynamics = DynamicsClient(dynamics, clock, http)
        self.systems._campaign = CampaignClient(campaign, clock, http)
        self.systems.journal = JournalClient(load(JournalSettings, ENVIRONMENT), campaign, clock, http)
        self.systems.exports = cast(SftpFolder, Folder())

    async def failed(self, system: System) -> list[CheckOut]:
        done = await Checks(self.systems, self.ingress, self.egress, self.optin).run(system)
        return [each for each in done.checks if each.status == "failed"]


@pytest.fixture
async def rig() -> AsyncIterator[Rig]:
    rig = Rig()
    yield rig
    await rig.systems.close()
    for client in rig.unused:
        if client is not None:
            await client.close()


def odata(status: int, code: str) -> Answer:
    return status, {"error": {"code": code, "message": "ada@example.com"}}


def gateway(code: int) -> Answer:
    return 403, {"error_code": str(code), "message": "ada@example.com"}


async def test_nothing_is_missing_when_every_step_has_been_done(rig: Rig) -> None:
    rig.optin = OPTIN

    assert await rig.failed("dynamics") == []
    assert await rig.failed("campaign") == []


@pytest.mark.parametrize(
    ("fault", "check", "hint"),
    [
        ({"/token": (401, {"error": "invalid_client", "error_codes": [7000215]})}, "token", "copy its value, not its id"),
        ({"/token": (401, {"error": "invalid_client", "error_codes": [7000222]})}, "token", "has expired"),
        ({"/token": (400, {"error": "unauthorized_client", "error_codes": [700016]})}, "token", "DYNAMICS_CLIENT_ID"),
        ({"/token": (400, {"error": "invalid_request", "error_codes": [90002]})}, "token", "DYNAMICS_TENANT_ID"),
        ({"/token": (400, {"error": "invalid_resource", "error_codes": [500011]})}, "token", "DYNAMICS_URL"),
        ({"WhoAmI": odata(403, "0x80072560")}, "identity", "application user of this environment"),
        ({"WhoAmI": odata(403, "0x80095ffc")}, "identity", "allow this application id"),
        ({"/contacts": odata(403, "0x80040220")}, "permissions", "role with organisation-level"),
        ({"/contacts": odata(403, "0x80041d00")}, "permissions", "docs/getting-started.md"),
    ],
)
async def test_each_missing_step_in_dynamics_is_named(rig: Rig, fault: Fault, check: str, hint: str) -> None:
    rig.fault = fault

    failed = await rig.failed("dynamics")

    assert [each.name for each in failed] == [check]
    assert hint in (failed[0].hint or "")
    assert "ada@" not in failed[0].message


async def test_a_table_without_change_tracking_is_named(rig: Rig) -> None:
    untracked = {"LogicalName": "contact", "EntitySetName": "contacts", "PrimaryIdAttribute": "contactid", "ChangeTrackingEnabled": False}
    rig.fault = {"contact')?$select=LogicalName,EntitySetName": (200, untracked)}
    rig.ingress, rig.optin = IngressConfig(), OPTIN  # mapped for its flags only

    failed = await rig.failed("dynamics")

    assert [(each.name, each.hint) for each in failed] == [
        ("change-tracking", "Switch on 'Track changes' for contact in Dynamics, or remove its mapping, then start again.")
    ]


@pytest.mark.parametrize(
    ("fault", "checks", "hint"),
    [
        ({"/ims": (400, {"error": "invalid_scope"})}, ["token"], "CAMPAIGN_SCOPES"),
        ({"/ims": (400, {"error": "invalid_client"})}, ["token"], "client secret"),
        ({"mc.example": gateway(403011)}, ["identity", "permissions"], "scopes named in docs/getting-started.md"),
        ({"mc.example": gateway(403013)}, ["identity", "permissions"], "allow-list"),
        ({"mc.example": gateway(403023)}, ["identity", "permissions"], "product profile"),
        ({"mc.example": gateway(403003)}, ["identity", "permissions"], "CAMPAIGN_CLIENT_ID"),
        ({"/profileAndServicesExt": (404, {"error_code": "404", "message": "x"})}, ["identity"], "Profiles & Services Ext API"),
        ({"/journal": (403, {})}, ["journal"], "event_receiver_api"),
        ({"/journal": (404, {})}, ["journal"], "CAMPAIGN_JOURNAL_URL"),
    ],
)
async def test_each_missing_step_at_adobe_is_named(rig: Rig, fault: Fault, checks: list[str], hint: str) -> None:
    rig.fault = fault

    failed = await rig.failed("campaign")

    assert [each.name for each in failed] == checks
    assert hint in (failed[0].hint or "")
    assert "ada@" not in failed[0].message


@pytest.mark.parametrize(
    ("error", "hint"),
    [
        (RetryError("folder d365_loads/exports is not there", code="export_folder_missing"), "Create this folder"),
        (RetryError("ConnectionRefusedError", code="source_unavailable"), "Control Panel allows this machine's public address"),
        (HaltError("log-in refused", code="source_refused", hint="Check the public key.", origin="source"), "Check the public key."),
    ],
)
async def test_what_is_missing_on_the_sftp_server_is_named(rig: Rig, error: BridgeError, hint: str) -> None:
    rig.systems.exports = cast(SftpFolder, Folder(error))

    failed = await rig.failed("campaign")

    assert [each.name for each in failed] == ["sftp"]
    assert hint in (failed[0].hint or "")


async def test_settings_that_a_configured_workflow_needs_are_missed_and_no_others(rig: Rig) -> None:
    rig.systems.journal, rig.systems.exports = None, None

    assert await rig.failed("campaign") == []
    rig.egress, rig.optin = EGRESS, OPTIN
    assert [each.name for each in await rig.failed("campaign")] == ["journal", "sftp"]


def test_places_that_hints_lead_to_are_there() -> None:
    """Hints name pages of docs/; every one of them exists, and names what it is named for."""
    page = (ROOT / "docs/getting-started.md").read_text()

    for word in ("CAMPAIGN_SCOPES", "change tracking", "product profile", "application user", "d365_loads/exports", "CAMPAIGN_JOURNAL_URL"):
        assert word.lower() in page.lower(), word


CONSENT = "msdynmkt_contactpointconsent4"


def consent_table(status: int, body: Any) -> Fault:
    described = {
        "LogicalName": CONSENT,
        "EntitySetName": f"{CONSENT}s",
        "PrimaryIdAttribute": f"{CONSENT}id",
        "ChangeTrackingEnabled": True,
    }
    return {f"/{CONSENT}s": (status, body), f"'{CONSENT}')?$select=LogicalName,EntitySetName": (200, described)}


async def consent(rig: Rig) -> CheckOut:
    done = await Checks(rig.systems, rig.ingress, rig.egress, rig.optin).run("dynamics")
    assert done.ok
    return next(each for each in done.checks if each.name == "contact-point-consent")


@pytest.mark.parametrize(
    ("fault", "status", "says", "hint"),
    [
        (consent_table(200, {"value": [{f"{CONSENT}id": "x"}]}), "ok", "is not synchronised", True),
        (consent_table(200, {"value": []}), "ok", "has no rows", False),
        (consent_table(403, {"error": {"code": "0x80040220"}}), "skipped", "cannot be seen", False),
        ({f"'{CONSENT}')": (404, {"error": {"code": "0x80060888"}})}, "ok", "there is no table", False),
    ],
)
async def test_consent_by_contact_point_is_no_failure_but_has_to_be_known(
    rig: Rig, fault: Fault, status: str, says: str, hint: bool
) -> None:
    rig.fault = fault

    found = await consent(rig)

    assert (found.status, says in found.message) == (status, True)
    assert ("docs/operations.md#contact-point-consent" in (found.hint or "")) is hint
    assert "## Contact point consent\n" in (ROOT / "docs/operations.md").read_text()


async def test_secured_columns_that_are_mapped_fail_the_permissions(rig: Rig) -> None:
    attribute = {"AttributeType": "String", "IsSecured": True}
    columns = [{"LogicalName": name, "MetadataId": name, **attribute} for name in ("emailaddress1", "jobtitle")]
    rig.fault = {"/Attributes": (200, {"value": columns}), "systemusers(": (200, {"AttributePrivileges": [], "value": []})}
    rig.fault["attributemaskingrules"] = (200, {"value": []})

    (failed,) = await rig.failed("dynamics")

    assert (failed.name, "emailaddress1 (read)" in failed.message, "jobtitle" in failed.message) == ("permissions", True, False)
