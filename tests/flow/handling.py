"""The ingress handler against the Campaign stand-in: what its tests are built on."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

from bridge.avro import Decoder, load_schema
from bridge.campaign.client import CampaignClient
from bridge.campaign.metadata import read_resource
from bridge.config import TableMapping
from bridge.events import ChangeEvent, Lane, Op
from bridge.flow.ports import Result
from bridge.mapping import Mapper
from bridge.memory import MemoryRegistry
from bridge.rooms import CampaignSettings
from bridge.settings import load
from bridge.state import Digests, Known
from sandbox.campaign import CampaignSandbox
from sandbox.web import serving
from services.ingress.decide import change
from services.ingress.handler import IngressHandler, Target
from tests.clock import FakeClock

PERSON, CAR = "11111111-2222-4333-8444-555555555555", "99999999-2222-4333-8444-555555555555"
CONTACTS: dict[str, Any] = {
    "source": "contact",
    "target": "profile",
    "key": {"source": "contactid", "target": "externalId"},
    "fields": [
        {"source": "firstname", "target": "firstName"},
        {"source": "lastname", "target": "lastName"},
        {"source": "address1_city", "target": "location.city"},
    ],
    "apply_deletes": True,
}
VEHICLES: dict[str, Any] = {
    "source": "new_vehicle",
    "target": "cusVehicle",
    "key": {"source": "new_vehicleid", "target": "cusVehicleId"},
    "fields": [{"source": "new_name", "target": "cusName"}, {"source": "new_contactid", "target": "cusContactId"}],
    "apply_deletes": True,
}


class Rig:
    """Handler and stand-in, and what the loop would keep between two calls: the Known of each record."""

    def __init__(self, sandbox: CampaignSandbox, client: CampaignClient, clock: FakeClock) -> None:
        self.sandbox, self.client, self.clock = sandbox, client, clock
        self.known: dict[str, Known] = {}
        self.registry = MemoryRegistry()
        self._version = 100

    async def build(self, *mappings: Mapping[str, Any]) -> None:
        """(Again) a handler for these tables: a restart."""
        targets = {}
        for each in mappings:
            table = TableMapping.model_validate(each)
            resource = await read_resource(self.client, table.target)
            targets[table.source] = Target(table, resource, resource.fields, Mapper(table, resource.fields))
        decoder = Decoder(self.registry, load_schema("ChangeEvent"), ChangeEvent)
        self.handler = IngressHandler(targets, self.client, decoder, Digests("secret"))

    async def apply(self, event: ChangeEvent) -> Result:
        """One event, with the state kept as the loop does."""
        result = await self.handler.write(change(event), self.known.get(event.key))
        if result.known is not None:
            self.known[event.key] = replace(result.known, outcome=result.outcome)
        return result

    def contact(self, *, op: Op = "upsert", lane: Lane = "live", version: int | None = None, **fields: Any) -> ChangeEvent:
        every = {"firstname": "Ann", "lastname": "Smith", "address1_city": "Oslo"} | fields
        return self._event("contact", PERSON, op, lane, version, every)

    def vehicle(self, *, op: Op = "upsert", **fields: Any) -> ChangeEvent:
        return self._event("new_vehicle", CAR, op, "live", None, {"new_name": "Astra", "new_contactid": PERSON} | fields)

    def _event(self, table: str, key: str, op: Op, lane: Lane, version: int | None, fields: dict[str, Any]) -> ChangeEvent:
        self._version += 1
        version = self._version if version is None else version
        return ChangeEvent(table, key, op, lane, version, None, self.clock.now(), fields if op == "upsert" else {})

    def calls(self) -> list[tuple[str, int]]:
        """Method and status of every write so far."""
        return [(each["method"], each["status"]) for each in self.sandbox.writes()]


@asynccontextmanager
async def serving_rig(*mappings: Mapping[str, Any]) -> AsyncIterator[Rig]:
    sandbox, clock = CampaignSandbox(), FakeClock()
    async with serving(sandbox.app()) as url:
        environment = {
            "CAMPAIGN_URL": f"{url}/sandbox",
            "CAMPAIGN_CLIENT_ID": "sandbox-campaign",
            "CAMPAIGN_CLIENT_SECRET": "sandbox-secret",
            "CAMPAIGN_ORG_ID": "sandbox@AdobeOrg",
            "CAMPAIGN_TOKEN_URL": f"{url}/ims/token/v3",
        }
        client = CampaignClient(load(CampaignSettings, environment), clock)
        rig = Rig(sandbox, client, clock)
        try:
            await rig.build(*mappings)
            yield rig
        finally:
            await client.close()


def in_oslo() -> dict[str, Any]:
    return {"conditions": [{"field": "address1_city", "operator": "eq", "value": "Oslo"}]}
