"""The ingress handler against the Campaign stand-in: what its tests are built on."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

from bridge.campaign.client import CampaignClient
from bridge.campaign.metadata import read_resource
from bridge.campaign.settings import CampaignSettings
from bridge.flow.ports import Result
from bridge.kafka.avro import Decoder, load_schema
from bridge.mapping.rows import Mapper
from bridge.memory import MemoryGuard, MemoryRegistry
from bridge.model.config import TableMapping
from bridge.model.events import ChangeEvent, Lane, Op, OptStatusDecided, OptStatusObserved
from bridge.model.settings import load
from bridge.model.state import Digests, Known
from sandbox.campaign import CampaignSandbox
from sandbox.web import serving
from services.ingress.children import Children, children_of
from services.ingress.consent import Consent
from services.ingress.decide import Change
from services.ingress.handler import IngressHandler
from services.ingress.optin import Flags, OptIn
from services.ingress.target import Target
from services.ingress.writer import has_capitals
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
        self.kept: dict[str, Known] = {}  # put before a call was over
        self.registry = MemoryRegistry()
        self.guard = MemoryGuard(clock)
        self.limit = 100  # of lowers, and of deletes
        self.proofs: list[tuple[OptStatusDecided, Mapping[str, str]]] = []
        self.optin = Flags()
        self.told_optin: list[OptStatusObserved] = []
        self.settled = datetime.max.replace(tzinfo=UTC)  # until when what was published of other tables is dealt with
        self.waited_for: list[list[str]] = []
        self._version = 100

    async def build(self, *mappings: Mapping[str, Any]) -> None:
        """(Again) a handler for these tables: a restart."""
        targets = {}
        for each in mappings:
            table = TableMapping.model_validate(each)
            resource = await read_resource(self.client, table.target)
            capitals = table.target == "profile" and await has_capitals(self.client, resource, table.key.target)
            targets[table.source] = Target(table, resource, resource.fields, Mapper(table, resource.fields), capitals)
        decoder = Decoder(self.registry, load_schema("ChangeEvent"), ChangeEvent)
        consent = Consent(self.client, self.guard, self._prove, self, self.clock)
        children = Children(children_of(targets.values()), self, self.clock)
        optin = OptIn(self._observe, self.clock, self.optin)
        self.handler = IngressHandler(targets, self.client, decoder, Digests("secret"), consent, optin, self.clock, self._keep, children)

    async def until(self, tables: Sequence[str]) -> datetime:
        self.waited_for.append(sorted(tables))
        return self.settled

    def lowers(self) -> int:
        return self.limit

    def deletes(self, table: str) -> int:
        return self.limit

    async def _prove(self, decision: OptStatusDecided, headers: Mapping[str, str]) -> None:
        self.proofs.append((decision, headers))

    async def _keep(self, partition: int, key: str, known: Known) -> None:
        self.known[key.rpartition("/")[2]] = self.kept[key.rpartition("/")[2]] = known

    async def _observe(self, event: OptStatusObserved) -> None:
        self.told_optin.append(event)

    async def apply(self, event: ChangeEvent) -> Result:
        """One event, with the state kept as the loop does."""
        return await self.write(self.handler.change(event))

    async def write(self, wanted: Change) -> Result:
        """What is left of several events."""
        key = wanted.event.key
        result = await self.handler.write(wanted, self.known.get(key))
        if result.known is not None:
            self.known[key] = replace(result.known, outcome=result.outcome)
        return result

    def contact(
        self, *, op: Op = "upsert", lane: Lane = "live", version: int | None = None, at: datetime | None = None, **fields: Any
    ) -> ChangeEvent:
        every = {"firstname": "Ann", "lastname": "Smith", "address1_city": "Oslo"} | fields
        return replace(self._event("contact", PERSON, op, lane, version, every), changed_at=at)

    def vehicle(self, *, op: Op = "upsert", **fields: Any) -> ChangeEvent:
        return self._event("new_vehicle", CAR, op, "live", None, {"new_name": "Astra", "new_contactid": PERSON} | fields)

    def _event(self, table: str, key: str, op: Op, lane: Lane, version: int | None, fields: dict[str, Any]) -> ChangeEvent:
        self._version += 1
        version = self._version if version is None else version
        seen = self.clock.now() - timedelta(seconds=20)  # all tables were polled since
        return ChangeEvent(table, key, op, lane, version, None, seen, fields if op == "upsert" else {})

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
