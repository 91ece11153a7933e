"""From a row of Dynamics to the fields of Campaign: days, addresses and numbers arrive as people mean them (systems-2026.md §4)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from bridge.campaign.metadata import read_resource
from bridge.campaign.settings import CampaignSettings
from bridge.consent.settings import ConsentSettings
from bridge.dynamics.changes import TrackedTable
from bridge.dynamics.client import DynamicsClient
from bridge.dynamics.metadata import read_table
from bridge.dynamics.settings import DynamicsSettings
from bridge.mapping.convert import TargetField
from bridge.mapping.rows import Mapped, Mapper
from bridge.model.config import Config, EgressConfig, IngressConfig, OptinConfig, TableMapping
from bridge.model.desired import Workflow
from bridge.model.errors import RejectError
from bridge.model.events import ChangeEvent, Value
from bridge.model.settings import load
from sandbox.campaign import CampaignSandbox
from sandbox.dynamics import DynamicsSandbox
from sandbox.dynamics.tables import Column
from sandbox.web import serving
from services.control.systems.connections import Systems
from services.control.systems.drafts import validated
from tests.clock import FakeClock
from tests.flow.handling import serving_rig
from tests.unit.fakes import NOON

DAY = Column("new_memberday", "DateTime", behavior="UserLocal", format="DateOnly")
TIME = Column("new_lastvisit", "DateTime", behavior="UserLocal")
WALL_CLOCK = Column("new_opening", "DateTime", behavior="TimeZoneIndependent")
CHOSEN_DAY = Column("new_chosen", "DateTime", behavior="DateOnly")
BERLIN, AUCKLAND, LOS_ANGELES = ZoneInfo("Europe/Berlin"), ZoneInfo("Pacific/Auckland"), ZoneInfo("America/Los_Angeles")
ZONES = [None, BERLIN, AUCKLAND, LOS_ANGELES]
TARGET = {
    "externalId": TargetField("externalId", "string", length=100),
    "birthDate": TargetField("birthDate", "date"),
    "seen": TargetField("seen", "datetime"),
    "cusText": TargetField("cusText", "string", length=12),
}


async def event(client: DynamicsClient, sandbox: DynamicsSandbox, column: Column, value: Any, zone: ZoneInfo | None = None) -> ChangeEvent:
    """The only contact there is, read with this column."""
    if column.name not in sandbox.store.tables["contact"].columns:
        sandbox.add_column("contact", column)
    sandbox.upsert("contact", {column.name: value})
    table = TrackedTable(client, await read_table(client, "contact", [column.name]), 10, zone)
    (row,) = (await table.page(None)).rows
    return table.upsert(row, "live", NOON)


def fields(event: ChangeEvent, target: str, replacements: Mapping[str, str] | None = None) -> Mapping[str, Value]:
    (source,) = event.fields
    table = {
        "source": "contact",
        "target": "profile",
        "key": {"source": "contactid", "target": "externalId"},
        "fields": [{"source": source, "target": target}],
        "replacements": [{"source": source, "from": old, "to": new} for old, new in (replacements or {}).items()],
    }
    mapped = Mapper(TableMapping.model_validate(table), TARGET).to_campaign(event)
    assert isinstance(mapped, Mapped)
    return mapped.fields


@pytest.mark.parametrize("column", [DAY, TIME])
@pytest.mark.parametrize(
    ("zone", "value", "day"),
    [
        (BERLIN, "2026-06-14T22:00:00Z", "2026-06-15"),
        (BERLIN, "2026-01-14T22:30:00Z", "2026-01-14"),  # winter
        (BERLIN, "2026-01-14T23:00:00Z", "2026-01-15"),
        (AUCKLAND, "2026-06-14T12:00:00Z", "2026-06-15"),
        (LOS_ANGELES, "2026-06-15T03:00:00Z", "2026-06-14"),
        (BERLIN, "9999-12-31T23:30:00Z", "9999-12-31"),
        (BERLIN, "1753-01-01T00:00:00Z", "1753-01-01"),
        (None, "2026-06-14T22:00:00Z", "2026-06-14"),
    ],
)
async def test_the_day_of_a_user_local_time_is_that_of_the_zone(
    client: DynamicsClient, sandbox: DynamicsSandbox, column: Column, zone: ZoneInfo | None, value: str, day: str
) -> None:
    read = await event(client, sandbox, column, value, zone)

    assert fields(read, "birthDate") == {"birthDate": day}
    assert read.fields == {column.name: value}  # for filters, texts and times it stays the time it is


async def test_it_is_after_a_new_option_was_learned_as_well(client: DynamicsClient, sandbox: DynamicsSandbox) -> None:
    await event(client, sandbox, DAY, "2026-06-14T22:00:00Z", BERLIN)
    table = await TrackedTable(client, await read_table(client, "contact", [DAY.name]), 10, BERLIN).with_options()
    (row,) = (await table.page(None)).rows

    assert fields(table.upsert(row, "live", NOON), "birthDate") == {"birthDate": "2026-06-15"}


@pytest.mark.parametrize("zone", ZONES)
async def test_a_wall_clock_is_never_shifted(client: DynamicsClient, sandbox: DynamicsSandbox, zone: ZoneInfo | None) -> None:
    read = await event(client, sandbox, WALL_CLOCK, "2026-06-14T22:00:00Z", zone)

    assert fields(read, "birthDate") == {"birthDate": "2026-06-14"}
    assert fields(read, "seen") == {"seen": "2026-06-14 22:00:00.000Z"}


@pytest.mark.parametrize("zone", ZONES)
async def test_a_day_stays_that_day(client: DynamicsClient, sandbox: DynamicsSandbox, zone: ZoneInfo | None) -> None:
    read = await event(client, sandbox, CHOSEN_DAY, "2026-06-15", zone)

    assert fields(read, "birthDate") == {"birthDate": "2026-06-15"}


async def test_a_column_that_became_a_day_while_it_is_read_stays_that_day(client: DynamicsClient, sandbox: DynamicsSandbox) -> None:
    read = await event(client, sandbox, DAY, "2026-06-15T00:00:00Z", LOS_ANGELES)
    table = TrackedTable(client, await read_table(client, "contact", [DAY.name]), 10, LOS_ANGELES)

    changed = table.upsert({"contactid": read.key, DAY.name: "2026-06-15"}, "live", NOON)

    assert fields(changed, "birthDate") == {"birthDate": "2026-06-15"}


@pytest.mark.parametrize("zone", ZONES)
async def test_a_time_keeps_its_moment_in_any_zone(client: DynamicsClient, sandbox: DynamicsSandbox, zone: ZoneInfo | None) -> None:
    read = await event(client, sandbox, TIME, "2026-06-14T22:00:00Z", zone)

    assert fields(read, "seen") == {"seen": "2026-06-14 22:00:00.000Z"}


@pytest.mark.parametrize("form", ["Email", "Phone", "Url"])
async def test_an_address_is_not_cut_whatever_its_field_is_called(client: DynamicsClient, sandbox: DynamicsSandbox, form: str) -> None:
    read = await event(client, sandbox, Column("new_contactpoint", "String", length=100, format=form), "0123456789012")

    with pytest.raises(RejectError) as caught:
        fields(read, "cusText")
    assert caught.value.code == "too_long"


@pytest.mark.parametrize("form", ["Text", "TextArea"])
async def test_words_are_cut_at_the_length_of_their_field(client: DynamicsClient, sandbox: DynamicsSandbox, form: str) -> None:
    read = await event(client, sandbox, Column("new_remark", "String", length=100, format=form), "0123456789012")

    assert fields(read, "cusText") == {"cusText": "012345678901"}


@pytest.mark.parametrize(
    ("column", "value"),
    [
        (Column("parentcustomerid", "Customer"), "0a1b2c3d-1111-4222-8333-444455556666"),
        (Column("new_amount", "Decimal", precision=4), 123456789.1234),
        (Column("new_count", "Integer"), 1234567890),
        (TIME, "2026-06-14T22:00:00Z"),
    ],
)
async def test_ids_numbers_and_times_are_not_cut(client: DynamicsClient, sandbox: DynamicsSandbox, column: Column, value: Any) -> None:
    target = TARGET["cusText"].length or 0
    read = await event(client, sandbox, column, value)

    if len(str(value)) > target:
        with pytest.raises(RejectError):
            fields(read, "cusText")
    else:
        assert fields(read, "cusText") == {"cusText": str(value)}


@pytest.mark.parametrize(("kind", "value"), [("Money", 5), ("Decimal", 5), ("Double", 5.0), ("Integer", 5)])
@pytest.mark.parametrize("written", ["5", "5.0000"])
async def test_a_number_of_any_type_is_found_by_its_replacement(
    client: DynamicsClient, sandbox: DynamicsSandbox, kind: str, value: Any, written: str
) -> None:
    read = await event(client, sandbox, Column("new_amount", kind), value)

    assert fields(read, "cusText", {written: "five"}) == {"cusText": "five"}


@pytest.mark.parametrize(("value", "written"), [(0.00001, "0.00001"), (1.0, "1"), (2.5, "2.5")])
async def test_a_double_reaches_a_text_as_people_write_it(
    client: DynamicsClient, sandbox: DynamicsSandbox, value: float, written: str
) -> None:
    read = await event(client, sandbox, Column("new_share", "Double"), value)

    assert fields(read, "cusText") == {"cusText": written}


@pytest.mark.parametrize(
    ("column", "zone", "warned"),
    [(DAY, "", True), (TIME, "", True), (DAY, "Europe/Berlin", False), (WALL_CLOCK, "", False), (CHOSEN_DAY, "", False)],
)
async def test_a_draft_whose_day_depends_on_a_zone_that_is_not_set_is_warned_of(
    sandbox: DynamicsSandbox, column: Column, zone: str, warned: bool
) -> None:
    sandbox.add_column("contact", column)
    async with serving(sandbox.app()) as dynamics, serving(CampaignSandbox().app()) as campaign:
        warnings = await warned_of(dynamics, campaign, zone, {"source": column.name, "target": "birthDate"})

    assert warnings == ([("/tables/0/fields/0/source", "time_zone_missing")] if warned else [])


async def warned_of(dynamics: str, campaign: str, zone: str, field: Mapping[str, str]) -> list[tuple[str, str]]:
    """Path and code of what control says of a mapping of contacts with this field."""
    environment = {
        "DYNAMICS_URL": dynamics,
        "DYNAMICS_TENANT_ID": "sandbox-tenant",
        "DYNAMICS_CLIENT_ID": "sandbox-client",
        "DYNAMICS_CLIENT_SECRET": "sandbox-secret",
        "DYNAMICS_TOKEN_URL": f"{dynamics}/sandbox-tenant/oauth2/v2.0/token",
        "DYNAMICS_TIME_ZONE": zone,
        "CAMPAIGN_URL": f"{campaign}/sandbox",
        "CAMPAIGN_CLIENT_ID": "sandbox-campaign",
        "CAMPAIGN_CLIENT_SECRET": "sandbox-secret",
        "CAMPAIGN_ORG_ID": "SANDBOX@AdobeOrg",
        "CAMPAIGN_TOKEN_URL": f"{campaign}/ims/token/v3",
    }
    systems = Systems(load(DynamicsSettings, environment), load(CampaignSettings, environment), FakeClock())
    saved: dict[Workflow, Config] = {"ingress": IngressConfig(), "egress": EgressConfig(), "optin": OptinConfig()}
    table = {"source": "contact", "target": "profile", "key": {"source": "contactid", "target": "externalId"}, "fields": [field]}
    try:
        findings = await validated("ingress", {"tables": [table]}, saved, systems, ConsentSettings())
    finally:
        await systems.close()
    assert findings.errors == []
    return [(each.path, each.code) for each in findings.warnings]


async def test_a_policy_of_campaign_is_read_from_its_metadata() -> None:
    async with serving_rig() as rig:
        rig.sandbox.settings.data_policies["profile.cusText"] = "email"
        rig.sandbox.add_field("profile", name="cusText", length=12)
        rig.sandbox.publish()

        field = (await read_resource(rig.client, "profile")).fields["cusText"]

    assert (field.policy, field.exact) == ("email", True)
