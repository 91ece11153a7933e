"""The egress handler and its writer loop, against the Dynamics stand-in over HTTP: what the tests of the timeline are built on."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

from bridge.dynamics.client import DynamicsClient
from bridge.dynamics.settings import DynamicsSettings
from bridge.flow.batcher import Batcher, BatchSize
from bridge.flow.offsets import OffsetLedger
from bridge.flow.ports import Result
from bridge.flow.waits import LetterLimit
from bridge.flow.writer import Writer
from bridge.kafka.avro import Decoder, Encoder, load_schema
from bridge.memory import MemoryDeadLetters, MemoryRegistry, MemoryState
from bridge.model.clock import Clock
from bridge.model.events import EmailEvent, Headers, Kind, Record
from bridge.model.settings import load
from sandbox.dynamics import DynamicsSandbox
from sandbox.web import serving
from services.egress.handler import EgressHandler, in_batches
from services.egress.payload import KINDS, Payloads
from services.egress.settings import EventSettings, TimelineSettings
from services.egress.writer import described
from tests.clock import FakeClock

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)
NOBODY = "99999999-2222-4333-8444-555555555555"
TOPIC = "egress.email-events"


class Rig:
    def __init__(self, sandbox: DynamicsSandbox, url: str, clock: Clock, **settings: str) -> None:
        self.sandbox, self.clock = sandbox, clock
        environment = {
            "DYNAMICS_URL": url,
            "DYNAMICS_TENANT_ID": "sandbox-tenant",
            "DYNAMICS_CLIENT_ID": "sandbox-client",
            "DYNAMICS_CLIENT_SECRET": "sandbox-secret",
            "DYNAMICS_TOKEN_URL": f"{url}/sandbox-tenant/oauth2/v2.0/token",
        }
        self.client = DynamicsClient(load(DynamicsSettings, environment), self.clock, origin="target")
        self.timeline = load(TimelineSettings, settings)
        self.registry = MemoryRegistry()
        self.person = sandbox.upsert("contact", {"lastname": "Lovelace"})

    async def handler(self, *kinds: Kind) -> EgressHandler:
        """With these kinds selected, by default all."""
        activities = await described(self.client, self.timeline)
        batcher = Batcher(in_batches(self.client), 4, BatchSize(self.timeline.batch_max), self.clock)
        decoder = Decoder(self.registry, load_schema("EmailEvent"), EmailEvent)
        return EgressHandler(activities, batcher, decoder, Payloads(EventSettings()), kinds or KINDS, self.clock)

    def event(self, number: int = 1, **members: Any) -> EmailEvent:
        facts = {"kind": "send", "contact_key": self.person, "campaign_name": "CAMP2010", "delivery_name": "DM200"} | members
        more = {"tracking_url": None, "mirror_page_url": "https://mirror.example/1", "observed_at": NOON, "occurred_at": NOON}
        return EmailEvent(event_id=f"event-{number}", **{**more, **facts})

    async def write(self, handler: EgressHandler, *events: EmailEvent) -> list[Result | BaseException]:
        return list(await asyncio.gather(*(handler.write(event, None) for event in events), return_exceptions=True))

    @asynccontextmanager
    async def running(self) -> AsyncIterator[Loop]:
        """The writer loop."""
        loop = Loop(self, await self.handler())
        try:
            yield loop
        finally:
            await loop.close()


class Loop:
    """A writer with a worker for every event; its state, letters and offsets in memory."""

    def __init__(self, rig: Rig, handler: EgressHandler) -> None:
        self.letters, self._ledger, self._read = MemoryDeadLetters(), OffsetLedger(), 0
        self._ledger.own((TOPIC, 0), None)
        self._encoder = Encoder(schema := load_schema("EmailEvent"), rig.registry.register(f"{TOPIC}-value", schema))
        self.writer = Writer(
            handler,
            MemoryState(),
            self.letters,
            self._requeue,
            self._ledger,
            LetterLimit(100, 1.0),
            rig.clock,
            random.Random(7),
            concurrency=200,
            park_budget_s=86400,
        )
        self._run = asyncio.create_task(self.writer.run())

    async def close(self) -> None:
        self._run.cancel()
        with suppress(asyncio.CancelledError):
            await self._run

    async def _requeue(self, record: Record, headers: Headers) -> None:
        self._take(replace(record, offset=self._read, headers=tuple(headers)))

    def offer(self, *events: EmailEvent) -> None:
        for event in events:
            headers = (("event-id", event.event_id.encode()),)
            value = self._encoder.encode(event)
            self._take(Record(TOPIC, 0, self._read, int(NOON.timestamp() * 1000), event.contact_key.encode(), value, headers))

    def _take(self, record: Record) -> None:
        self._read += 1
        self._ledger.read(record.position, record.offset, record.timestamp_ms)
        self.writer.offer([record])

    async def settle(self, *events: EmailEvent, within_s: float = 30) -> None:
        """Offers them and returns when each has been written or dead-lettered. `within_s` of real time."""
        self.offer(*events)
        deadline = time.monotonic() + within_s
        while self._ledger.waiting():
            if self._run.done():
                self._run.result()
            assert time.monotonic() < deadline, "it never came to that"
            await asyncio.sleep(0.002)


@asynccontextmanager
async def a_rig(clock: Clock | None = None, **settings: str) -> AsyncIterator[Rig]:
    sandbox = DynamicsSandbox()
    async with serving(sandbox.app()) as url:
        rig = Rig(sandbox, url, clock or FakeClock(), **settings)
        try:
            yield rig
        finally:
            await rig.client.close()
