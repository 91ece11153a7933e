"""A table's feed against the Dynamics stand-in, publishing to memory: what the tests of the feed are built on."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bridge.dynamics.changes import TrackedTable
from bridge.dynamics.client import DynamicsClient
from bridge.dynamics.epoch import SourceEpoch
from bridge.dynamics.identity import WhoAmI
from bridge.dynamics.metadata import read_table
from bridge.dynamics.settings import DynamicsSettings
from bridge.flow.reader import Step
from bridge.kafka.published import Published, Seen, Starts
from bridge.memory import MemoryLog, MemoryPublisher
from bridge.model.desired import Replay
from bridge.model.errors import RetryError
from bridge.model.events import ChangeEvent, Outgoing
from bridge.model.settings import load
from sandbox.dynamics import DynamicsSandbox
from sandbox.web import Fault, serving
from services.ingress.feed import TableFeed
from services.ingress.reconcile import Reconciliation
from tests.clock import FakeClock

TABLE, KEY = "contact", "dynamics:contact"
CHANGES, REPLAY = "ingress.changes.contact", "ingress.replay.contact"


class MemoryPublished(Published):
    """Reads back from a MemoryLog, where each topic has one partition. `state`: what the writer has settled, by key: source epoch,
    version, gone."""

    def __init__(self, log: MemoryLog) -> None:
        self.log = log
        self.state: dict[str, tuple[int, int | None, bool]] = {}
        self.done: dict[str, int] = {}
        self.breaks_off = 0  # so often before the end of the state

    def committed(self, topics: Mapping[str, int]) -> dict[str, list[int]]:
        return {topic: [self.done.get(topic, 0)] for topic in topics}

    def commit(self) -> None:
        """The writers have committed everything there is."""
        self.done = {topic: len(self.log.of(topic)) for topic in {each.topic for each in self.log.events}}

    def known(self, table: str, partitions: int) -> Iterator[Sequence[Seen]]:
        for number, (key, (epoch, version, gone)) in enumerate(self.state.items()):
            if self.breaks_off and number:
                self.breaks_off -= 1
                raise RetryError("Kafka, reading: no answer", code="kafka_unavailable")
            yield [(key, epoch, version, gone)]

    def since(self, starts: Starts) -> Iterator[Sequence[Seen]]:
        for topic, (start, *_) in starts.items():
            yield [(each.event.key, each.event.epoch, each.event.version, each.event.op == "delete") for each in self.log.of(topic)[start:]]

    def write_all(self) -> None:
        """The writer catches up with everything published."""
        self.commit()
        for each in sorted(self.log.events, key=lambda each: (each.event.epoch, each.event.version or 0, each.event.op == "upsert")):
            self.state[each.event.key] = (each.event.epoch, each.event.version, each.event.op == "delete")


@dataclass
class Rig:
    """One table, its feed and what it brought out. `cursor` is the one the next step begins with."""

    sandbox: DynamicsSandbox
    client: DynamicsClient
    folder: Path
    page_size: int = 2
    columns: list[str] = field(default_factory=lambda: ["lastname"])
    tables: int = 1
    clock: FakeClock = field(default_factory=FakeClock)
    log: MemoryLog = field(default_factory=MemoryLog)
    cursor: Mapping[str, Any] | None = None
    waits: list[float] = field(default_factory=list)
    asked: Replay | None = None
    generation: int = 1
    restored: int = 0
    also: tuple[str, ...] = ()  # columns that are read beside

    def __post_init__(self) -> None:
        self.published = MemoryPublished(self.log)

    async def start(self, columns: list[str] | None = None) -> None:
        """A new feed object, as after a restart: it goes on from the cursor that was published last."""
        self.columns = columns or self.columns
        topics = {CHANGES: 1, REPLAY: 1}
        source = SourceEpoch(TABLE, WhoAmI(self.client, self.clock), self.generation, lambda: self.restored)
        self.feed = TableFeed(
            await self._describe(),
            self._describe,
            Reconciliation(self.published, TABLE, topics, 1, self.folder),
            source,
            self.clock,
            poll_interval_s=5,
            tables=self.tables,
            produced_by="ingress-reader/test",
            replay_asked=lambda: self.asked,
        )
        self.publisher = MemoryPublisher(self.log)
        self.cursor = self.log.cursors.get(KEY)

    async def _describe(self) -> TrackedTable:
        return TrackedTable(self.client, await read_table(self.client, TABLE, self.columns, also=self.also), self.page_size)

    async def step(self) -> Step:
        """One step, published with its cursor."""
        step = await self.feed.step(self.cursor)
        await self.publisher.publish(step.events, KEY, step.cursor)
        self.cursor = step.cursor
        self.waits.append(step.wait_s)
        if step.halt is not None:
            raise step.halt
        return step

    async def until(self, phase: str) -> None:
        """Steps, one at least, until the cursor is in this phase."""
        for _ in range(300):
            await self.step()
            if self.cursor is not None and self.cursor["phase"] == phase:
                return
        raise AssertionError(f"never came to {phase}")

    async def loaded(self) -> None:
        """Through the load and the reconciliation after it; the writer has caught up."""
        await self.start()
        await self.until("live")
        self.settled()

    def settled(self) -> None:
        """The writer has caught up; what was published so far is forgotten, offsets begin again."""
        self.published.write_all()
        self.log.events.clear()
        self.published.done = {}

    async def poll(self) -> list[ChangeEvent]:
        """Steps until a whole run of a delta is read; its events."""
        before = len(self.log.events)
        await self.step()
        while self.cursor is not None and self.cursor["page_link"]:
            await self.step()
        return [each.event for each in self.log.events[before:]]

    def ask(self, id: str = "r1", keys: list[str] | None = None, changed_since: str | None = None) -> None:
        """Somebody asks for a replay."""
        at = self.clock.now().isoformat()
        self.asked = Replay(id=id, when="now", changed_since=changed_since, keys=keys, requested_at=at, requested_by="test")

    async def replayed(self) -> list[ChangeEvent]:
        """Steps until the replay that is asked for is over; its events."""
        before = len(self.log.events)
        for _ in range(100):
            await self.step()
            side = (self.cursor or {}).get("replay") or {}
            if self.asked is not None and side.get("id") == self.asked["id"] and side["state"] != "running":
                return [each.event for each in self.log.events[before:] if each.event.lane == "replay"]
        raise AssertionError("the replay never ended")

    def people(self, n: int) -> list[str]:
        """That many new contacts, in the order in which Dynamics pages them."""
        return sorted(self.sandbox.upsert(TABLE, {"lastname": f"L{i:03}"}) for i in range(n))

    def rename(self, key: str, name: str) -> None:
        self.sandbox.upsert(TABLE, {"contactid": key, "lastname": name})

    def refuse(self, path: str, times: int | None = None, skip: int = 0) -> None:
        """Dynamics does not take these requests, as it does with a link it does not know any more."""
        body = '{"error": {"code": "0x80040203", "message": "Malformed XML in the Paging Cookie"}}'
        fault = Fault("status", "GET", path, 400, body, "application/json", times=times, skip=skip)
        self.sandbox.ledger.faults.append(fault)

    def image(self) -> dict[str, Any]:
        """What a writer that has caught up holds: key → last name, by epoch and version; a delete is the newer one at equal versions."""
        held: dict[str, tuple[int, int, bool, Any]] = {}
        for each in self.log.events:
            event = each.event
            mark = (event.epoch, event.version or 0, event.op == "delete", event.fields.get("lastname"))
            if event.key not in held or mark[:3] >= held[event.key][:3]:
                held[event.key] = mark
        return {key: name for key, (_, _, gone, name) in held.items() if not gone}

    def truth(self) -> dict[str, Any]:
        return {row["contactid"]: row["lastname"] for row in self.sandbox.rows(TABLE)}


@asynccontextmanager
async def serving_rig(folder: Path) -> AsyncIterator[Rig]:
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
        settings = load(DynamicsSettings, environment)
        clock = FakeClock()
        client = DynamicsClient(settings, clock)
        try:
            yield Rig(sandbox, client, folder, clock=clock)
        finally:
            await client.close()


async def under_a_limit(rig: Rig) -> None:
    """Steps until live, with no more than 40 requests in five minutes."""
    rig.sandbox.settings.change({"throttle": True, "limit_requests": 40})
    for _ in range(15):
        try:
            await rig.until("live")
            return
        except RetryError as exc:
            rig.clock.advance(exc.retry_after_s or 0)
            rig.sandbox.advance(exc.retry_after_s or 0)
    raise AssertionError("no progress")


def keys(events: Sequence[Outgoing], op: str = "upsert") -> list[str]:
    return [each.key for each in events if each.event.op == op]


def during(rig: Rig, page: int, change: Callable[[], object]) -> None:
    """Has `change` happen in Dynamics after `page` pages of the running read."""
    inner, count = rig.client.collection, 0

    async def collection(path: str, prefer: str) -> Any:
        nonlocal count
        answer = await inner(path, prefer)
        if "track-changes" in prefer:
            count += 1
            if count == page:
                change()
        return answer

    rig.client.collection = collection  # type: ignore[method-assign]
