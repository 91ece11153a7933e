"""The feed of contacts' opt-out flags against the Dynamics stand-in, publishing to memory: what its tests are built on."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import httpx

from bridge.dynamics.changes import TrackedTable
from bridge.dynamics.client import DynamicsClient
from bridge.dynamics.epoch import SourceEpoch
from bridge.dynamics.identity import WhoAmI
from bridge.dynamics.metadata import read_table
from bridge.dynamics.settings import DynamicsSettings
from bridge.flow.reader import Step
from bridge.memory import MemoryLog, MemoryPublisher
from bridge.model.events import OptStatusObserved
from bridge.model.settings import load
from sandbox.dynamics import DynamicsSandbox
from sandbox.web import Fault, serving
from services.optin.contact_feed import ALSO, CURSOR, ContactFeed
from tests.clock import FakeClock

TABLE, PAGE = "contact", 2
FLAGS = ["donotemail", "donotphone"]
INTERVAL_S = 5


@dataclass
class Rig:
    """A feed and what it brought out. `asked`: all requests for contacts, `happens`: page of a tracked read → what happens after it."""

    sandbox: DynamicsSandbox
    settings: DynamicsSettings
    clock: FakeClock = field(default_factory=FakeClock)
    log: MemoryLog = field(default_factory=MemoryLog)
    cursor: Mapping[str, Any] | None = None
    asked: list[httpx.Request] = field(default_factory=list)
    happens: dict[int, Callable[[], object]] = field(default_factory=dict)
    generation: int = 1
    restored: int = 0

    def __post_init__(self) -> None:
        hooks = {"response": [self._answered]}
        self.client = DynamicsClient(self.settings, self.clock, httpx.AsyncClient(event_hooks=hooks))

    async def _answered(self, response: httpx.Response) -> None:
        if not response.request.url.path.endswith("/contacts"):
            return
        self.asked.append(response.request)
        pages = [each for each in self.asked if "track-changes" in each.headers["prefer"]]
        if response.request in pages and (change := self.happens.pop(len(pages), None)):
            change()

    async def start(self, columns: list[str] | None = None) -> None:
        """A new feed object, as after a restart: it goes on from the cursor that was published last."""
        tracked = TrackedTable(self.client, await read_table(self.client, TABLE, columns or FLAGS, also=ALSO), PAGE)
        source = SourceEpoch(TABLE, WhoAmI(self.client, self.clock), self.generation, lambda: self.restored)
        self.feed = ContactFeed(tracked, source, self.clock, poll_interval_s=INTERVAL_S, produced_by="optin-reader/test")
        self.publisher = MemoryPublisher(self.log)
        self.cursor = self.log.cursors.get(CURSOR)

    async def step(self) -> Step:
        """One step, published with its cursor."""
        step = await self.feed.step(self.cursor)
        await self.publisher.publish(step.events, CURSOR, step.cursor)
        self.cursor = step.cursor
        if step.halt is not None:
            raise step.halt
        return step

    async def until(self, phase: str) -> None:
        """Steps, one at least, until the cursor is in this phase."""
        for _ in range(50):
            await self.step()
            if self.cursor is not None and self.cursor["phase"] == phase:
                return
        raise AssertionError(f"never came to {phase}")

    async def loaded(self) -> None:
        """Through the load; its events are forgotten."""
        await self.start()
        await self.until("live")
        self.log.events.clear()

    async def poll(self) -> list[OptStatusObserved]:
        """A whole run of a delta; its events."""
        before = len(self.log.events)
        while not (await self.step()).wait_s:
            pass
        return [each.event for each in self.log.events[before:]]

    def people(self, n: int) -> list[str]:
        """That many new contacts, in the order in which Dynamics pages them."""
        return sorted(self.sandbox.upsert(TABLE, {"lastname": f"L{i:03}"}) for i in range(n))

    def tick(self, key: str, **flags: bool) -> None:
        """A salesperson ticks a box."""
        self.sandbox.upsert(TABLE, {"contactid": key, **(flags or {"donotemail": True})})

    def row(self, key: str) -> dict[str, Any]:
        return next(row for row in self.sandbox.rows(TABLE) if row["contactid"] == key)

    def keys(self) -> list[str]:
        return [each.key for each in self.log.events]

    def lanes(self) -> list[str]:
        return [dict(each.headers)["origin-lane"].decode() for each in self.log.events]

    def refuse(self, path: str, times: int | None = None, skip: int = 0) -> None:
        """Dynamics does not know these links any more."""
        body = '{"error": {"code": "0x80040203", "message": "Malformed XML in the Paging Cookie"}}'
        self.sandbox.ledger.faults.append(Fault("status", "GET", path, 400, body, "application/json", times=times, skip=skip))

    def image(self) -> dict[str, Any]:
        """What somebody knows who has heard all events, the latest version of each contact."""
        held: dict[str, tuple[int, Any]] = {}
        for each in self.log.events:
            version = int(dict(each.headers)["source-version"])
            if version >= held.get(each.key, (0, None))[0]:
                held[each.key] = version, each.event.flags["donotemail"]["value"]
        return {key: value for key, (_, value) in held.items()}

    def truth(self) -> dict[str, Any]:
        return {row["contactid"]: row["donotemail"] for row in self.sandbox.rows(TABLE)}


@asynccontextmanager
async def serving_contacts() -> AsyncIterator[Rig]:
    """A rig with its Dynamics up."""
    sandbox = DynamicsSandbox()
    async with serving(sandbox.app()) as url:
        environment = {
            "DYNAMICS_URL": url,
            "DYNAMICS_TENANT_ID": "sandbox-tenant",
            "DYNAMICS_CLIENT_ID": "sandbox-client",
            "DYNAMICS_CLIENT_SECRET": "sandbox-secret",
            "DYNAMICS_TOKEN_URL": f"{url}/sandbox-tenant/oauth2/v2.0/token",
        }
        made = Rig(sandbox, load(DynamicsSettings, environment))
        try:
            yield made
        finally:
            await made.client.close()
