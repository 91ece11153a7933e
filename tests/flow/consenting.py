"""What the tests of the consent contract at ingress are built on: a contact mapping with two opt-out flags, and a Campaign whose clock is
the test's (`rig.sandbox.advance` makes it wrong)."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import UTC, datetime
from email.utils import format_datetime
from typing import Any

from aiohttp import web

from bridge.campaign.client import CampaignClient
from bridge.campaign.settings import CampaignSettings
from bridge.flow.ports import Result
from bridge.memory import MemoryGuard
from bridge.model.events import ChangeEvent, Lane, Op, OptStatusDecided
from bridge.model.settings import load
from sandbox.campaign import CampaignSandbox
from sandbox.campaign.store import Clock
from sandbox.web import serving
from services.ingress.decide import release
from tests.clock import FakeClock
from tests.flow.handling import PERSON, Rig

EMAIL, PHONE = "blackListEmail", "blackListPhone"
BARE_500 = "RST-360011 An error has occurred - please contact your administrator."
DAY_S = 86400
MAPPING: dict[str, Any] = {
    "source": "contact",
    "target": "profile",
    "key": {"source": "contactid", "target": "externalId"},
    "fields": [
        {"source": "firstname", "target": "firstName"},
        {"source": "gendercode", "target": "gender"},
        {"source": "emailaddress1", "target": "email"},
        {"source": "donotemail", "target": EMAIL},
        {"source": "donotphone", "target": PHONE},
    ],
    "replacements": [{"source": "gendercode", "from": "1", "to": "male"}, {"source": "gendercode", "from": "2", "to": "female"}],
    "apply_deletes": True,
}
IN_OSLO: dict[str, Any] = {"conditions": [{"field": "address1_city", "operator": "eq", "value": "Oslo"}]}
FILTERED = {**MAPPING, "filter": IN_OSLO}
DELETING = {**MAPPING, "filter": {**IN_OSLO, "delete_filtered_out": True}}
WITHOUT_FLAGS = {**MAPPING, "fields": MAPPING["fields"][:3]}
PEOPLE = [f"{number:08d}-aaaa-4333-8444-555555555555" for number in range(1, 41)]


class LinkedClock(Clock):
    """Campaign's clock: the test's, plus what it is wrong by."""

    def __init__(self, clock: FakeClock) -> None:
        super().__init__()
        self._clock = clock

    def now(self) -> float:
        return self._clock.now().timestamp() + self.offset_s


@asynccontextmanager
async def consent_rig(*mappings: Mapping[str, Any]) -> AsyncIterator[Rig]:
    """As `serving_rig`; answers are dated by Campaign's clock."""
    sandbox, clock = CampaignSandbox(), FakeClock()
    sandbox.database.clock = sandbox.gateway.clock = linked = LinkedClock(clock)

    async def dated(_: web.Request, response: web.StreamResponse) -> None:
        response.headers["Date"] = format_datetime(datetime.fromtimestamp(linked.now(), UTC), usegmt=True)

    app = sandbox.app()
    app.on_response_prepare.append(dated)
    async with serving(app) as url:
        there = {"CAMPAIGN_URL": f"{url}/sandbox", "CAMPAIGN_CLIENT_ID": "sandbox-campaign", "CAMPAIGN_ORG_ID": "sandbox@AdobeOrg"}
        there |= {"CAMPAIGN_CLIENT_SECRET": "sandbox-secret", "CAMPAIGN_TOKEN_URL": f"{url}/ims/token/v3"}
        client = CampaignClient(load(CampaignSettings, there), clock)
        rig = Rig(sandbox, client, clock)
        try:
            await rig.build(*(mappings or (MAPPING,)))
            yield rig
        finally:
            await client.close()


async def another(rig: Rig, *mappings: Mapping[str, Any]) -> Rig:
    """One more instance on the same Campaign, with the guard's ledger read again and no state."""
    made = Rig(rig.sandbox, rig.client, rig.clock)
    made.guard, made.limit = MemoryGuard(rig.clock, rig.guard.entries), rig.limit
    await made.build(*(mappings or (MAPPING,)))
    return made


def row(
    rig: Rig,
    key: str = PERSON,
    *,
    op: Op = "upsert",
    lane: Lane = "live",
    version: int | None = None,
    epoch: int = 0,
    at: datetime | None = None,
    **columns: Any,
) -> ChangeEvent:
    """A contact as Dynamics has it now, changed at this very second, unless said otherwise."""
    every = {"gendercode": 2, "emailaddress1": "ann@example.com", "donotemail": False, "donotphone": False} | columns
    changed_at = (at or rig.clock.now()).replace(microsecond=0)
    return replace(rig.contact(op=op, lane=lane, version=version, at=changed_at, **every), key=key, epoch=epoch)


async def let_go(rig: Rig, kind: str = "release", key: str = PERSON) -> Result:
    """A person releases what is held of this contact."""
    event = ChangeEvent("contact", key, "upsert", "live", None, None, rig.clock.now(), {})
    return await rig.write(release(event, kind))


def minute(rig: Rig, minutes: float = 1) -> None:
    rig.clock.advance(60 * minutes)


def flag(rig: Rig, name: str = EMAIL, key: str = PERSON) -> bool:
    """As Campaign has it."""
    return bool(stored(rig, key)[name])


def stored(rig: Rig, key: str = PERSON) -> dict[str, Any]:
    profile = rig.sandbox.get("profile", key)
    assert profile is not None
    return profile


def bodies(rig: Rig, since: int = 0) -> list[tuple[str, Any]]:
    """Method and body of every write that Campaign took, without the first ones."""
    return [(each["method"], each["fields"]) for each in rig.sandbox.writes()[since:] if each["status"] < 300]


def says_no(rig: Rig, at: datetime | None = None, key: str = PERSON, name: str = EMAIL) -> None:
    """The person opts out in Campaign, once more where he has."""
    when = None if at is None else at.isoformat()
    for value in (False, True):
        rig.sandbox.opt_out(key, name, value, when)


def proofs(rig: Rig, **wanted: str) -> list[tuple[OptStatusDecided, Mapping[str, str]]]:
    """The proofs with these headers."""
    return [(decision, headers) for decision, headers in rig.proofs if wanted.items() <= headers.items()]
