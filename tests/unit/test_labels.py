"""Labels that are null or blank, in the metadata of both systems, never become a text of their own (dataverse.md §6.1)."""

from __future__ import annotations

import json
from typing import Any

import pytest

from bridge.campaign.client import CampaignClient
from bridge.campaign.metadata import read_resource
from bridge.campaign.settings import CampaignSettings
from bridge.dynamics.catalogue import list_columns, yes_no_labels
from bridge.dynamics.client import DynamicsClient
from bridge.dynamics.metadata import localized
from bridge.model.settings import load
from sandbox.campaign import CampaignSandbox
from sandbox.dynamics import DynamicsSandbox
from sandbox.dynamics.tables import Column
from sandbox.web import Fault, serving
from tests.unit.fakes import FakeClock, tracked


def a_label(own: Any, *others: Any) -> dict[str, Any]:
    return {"UserLocalizedLabel": own, "LocalizedLabels": [{"Label": each, "LanguageCode": 1033} for each in others]}


@pytest.mark.parametrize(
    ("label", "shown"),
    [
        (a_label({"Label": "Weiblich"}, "Female"), "Weiblich"),
        (a_label(None, "Female"), "Female"),
        (a_label({"Label": None}, "Female"), "Female"),
        (a_label({"Label": " "}, None, "Female"), "Female"),
        (a_label({"Label": None}, None, ""), ""),
        (a_label({}), ""),
        ({"LocalizedLabels": None}, ""),
        (None, ""),
    ],
)
def test_the_text_of_a_label_is_the_first_that_there_is(label: dict[str, Any] | None, shown: str) -> None:
    assert localized(label) == shown


async def test_an_option_without_a_label_is_shown_by_its_number_on_pages_and_has_none_in_events(
    client: DynamicsClient, sandbox: DynamicsSandbox
) -> None:
    sandbox.add_option("contact", "gendercode", 3, None)
    sandbox.add_column("contact", Column("new_vip", "Boolean", options={1: None, 0: None}))

    columns = {each.name: each for each in await list_columns(client, "contact")}
    table = (await tracked(client, "contact", "gendercode")).table

    assert columns["gendercode"].options == (("1", "Male"), ("2", "Female"), ("3", "3"))
    assert columns["new_vip"].options == (("true", "true"), ("false", "false"))
    assert (await yes_no_labels(client, "contact"))["new_vip"][1] == "true"
    assert table.columns["gendercode"].options == {1: "Male", 2: "Female", 3: ""}


@pytest.mark.parametrize("values", [{"high": {"label": None}}, [{"name": "high", "label": None}]], ids=["by name", "as a list"])
async def test_a_value_of_campaigns_enumeration_without_a_label_is_called_by_its_name(values: Any) -> None:
    sandbox = CampaignSandbox()
    async with serving(sandbox.app()) as url:
        body = json.dumps({"content": {"cusLevel": {"type": "enumeration", "resType": "string", "values": values}}})
        sandbox.ledger.faults.append(Fault("status", "GET", "resourceType/profile|profile/metadata", 200, body, "application/json"))
        environment = {
            "CAMPAIGN_URL": f"{url}/sandbox",
            "CAMPAIGN_ORG_ID": "sandbox@AdobeOrg",
            "CAMPAIGN_CLIENT_ID": "sandbox-campaign",
            "CAMPAIGN_CLIENT_SECRET": "sandbox-secret",
            "CAMPAIGN_TOKEN_URL": f"{url}/ims/token/v3",
        }
        client = CampaignClient(load(CampaignSettings, environment), FakeClock())
        try:
            resource = await read_resource(client, "profile")
        finally:
            await client.close()

    assert resource.fields["cusLevel"].options == (("high", "high"),)
