"""Control's API on a real Kafka, and the records about decisions that the services write, for the tests of what is held."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx

from bridge.kafka.avro import Decoder, Encoder, load_schema
from bridge.kafka.client import Names, headers_of
from bridge.kafka.follower import Entry, Followed, Follower
from bridge.kafka.lag import LagReader
from bridge.kafka.producer import KafkaProducer
from bridge.kafka.registry import HttpRegistry
from bridge.kafka.settings import KafkaSettings
from bridge.kafka.topics import Topics, control_topics, ingress_decisions, ingress_topics, optin_topics, outcomes_topic, workflow_topics
from bridge.model.events import ChangeEvent, OptStatusDecided, event_headers
from services.control.api.access import Tokens
from services.control.topics.archive import Archive
from services.control.topics.decision_outcomes import Outcomes
from services.control.topics.decisions import Decisions
from services.control.topics.held_items import Settling
from services.control.topics.lag_samples import Backlog
from services.control.topics.letters import Letters
from services.control.topics.reader_cursors import Cursors
from services.control.topics.record_search import Traces
from services.control.topics.store import Store
from tests.clock import FakeClock
from tests.contract.broker import content, eventually, make
from tests.unit.control_app import AT, Refusals, bearer, build, client

SAID = datetime(2026, 3, 1, 10, tzinfo=UTC)
TOPICS = {"optin": "optin.decisions", "ingress": "ingress.decisions"}


def decided(contact: str, target: str = "campaign", flag: str = "blackListEmail", rule: str = "campaign-is-later") -> OptStatusDecided:
    inputs = {
        "campaign": True,
        "campaign_changed_at": SAID,
        "campaign_from": "d365_optout_1.csv row 12",
        "dynamics": False,
        "dynamics_changed_at": None,
        "dynamics_from": "version 915244",
    }
    return OptStatusDecided(contact, target, {flag: False}, rule, {flag: inputs}, SAID)  # type: ignore[arg-type]


@dataclass
class Bench:
    """`http`: as anna, an admin."""

    kafka: KafkaSettings
    http: httpx.AsyncClient
    tokens: Tokens
    decisions: Decisions
    store: Store
    producer: KafkaProducer
    heard: Counter[str]
    refusals: Refusals = field(default_factory=list)

    async def put(self, topic: str, key: str, value: bytes | None, **headers: str) -> str:
        """Publishes a record as it is; its id once control has seen it."""
        before = self.heard["records"]
        told = [*event_headers("live", "", "a-test"), *((name, text.encode()) for name, text in headers.items())]
        await self.producer.send(Names(self.kafka).topic(topic), key.encode(), value, told)
        await eventually(lambda: self.heard["records"] > before)
        message = max((each for each in content(self.kafka, topic) if each.key() == key.encode()), key=lambda each: each.offset() or 0)
        return f"{message.partition()}-{message.offset()}"

    async def decided(self, workflow: str, event: OptStatusDecided, **headers: str) -> str:
        subject = f"{Names(self.kafka).topic(TOPICS[workflow])}-value"
        schema = load_schema("OptStatusDecided")
        encoder = Encoder(schema, await asyncio.to_thread(HttpRegistry(self.kafka).register, subject, schema))
        about = {"target": event.target, "table": "contact", "flags": ",".join(event.flags)} | headers
        return await self.put(TOPICS[workflow], event.contact_key, encoder.encode(event), **about)

    async def held(self, workflow: str, contact: str, flag: str = "blackListEmail") -> str:
        """A release that the guard holds."""
        kind = {"kind": "release", "outcome": "held", "origin": "version 915244"} if workflow == "ingress" else {}
        target = "campaign" if workflow == "ingress" else "dynamics"
        return await self.decided(workflow, decided(contact, target, flag), guard="held", **kind)

    async def held_delete(self, key: str, table: str = "contact") -> str:
        """A delete that the guard holds."""
        event = OptStatusDecided(key, "campaign", {}, "filtered-out", {}, SAID)
        return await self.decided("ingress", event, guard="held", kind="delete", flags="delete", table=table, outcome="held")

    async def came_of(self, contact: str, id: str, outcome: str = "updated", status: int | None = 204) -> None:
        told = {"decision": id, "outcome": outcome, "status": status, "at": "2026-03-01T10:00:05+00:00"}
        await self.put("optin.outcomes", contact, json.dumps(told).encode())

    async def get(self, path: str) -> Any:
        answer = await self.http.get(f"/api/v1/workflows/{path}")
        assert answer.status_code == 200, answer.text
        return answer.json()

    async def items(self, workflow: str = "ingress") -> list[str]:
        return [each["id"] for each in (await self.get(f"{workflow}/held"))["items"]]

    async def settle(self, workflow: str, what: str, **body: Any) -> Any:
        answer = await self.http.post(f"/api/v1/workflows/{workflow}/held/{what}", json={"reason": "a test", **body})
        assert answer.status_code == 202, answer.text
        return answer.json()

    async def changes(self, table: str = "contact") -> list[tuple[int, str, ChangeEvent, Mapping[str, str]]]:
        """Partition, key, event and headers of what was published to the writer of ingress."""
        decoder = Decoder(HttpRegistry(self.kafka), load_schema("ChangeEvent"), ChangeEvent)
        found: list[tuple[int, str, ChangeEvent, Mapping[str, str]]] = []
        for each in content(self.kafka, f"ingress.changes.{table}"):
            headers = {name: value.decode() for name, value in headers_of(each)}
            found.append((each.partition() or 0, (each.key() or b"").decode(), await decoder.decode(each.value()), headers))
        return found


@asynccontextmanager
async def consenting(kafka: KafkaSettings, folder: Path, **settings: Any) -> AsyncIterator[Bench]:
    """Control has read all there is. `settings`: of control, by their variables."""
    consent = [*optin_topics(), outcomes_topic(), ingress_decisions()]
    flows = [topic for workflow in ("ingress", "egress", "optin") for topic in workflow_topics(workflow)]
    await asyncio.to_thread(make, kafka, *control_topics(), *flows, *consent, *ingress_topics(["contact", "new_vehicle"]))
    clock, refusals, tokens = FakeClock(), list[Any](), Tokens(folder / "tokens")
    token = tokens.add("anna", "admin", AT)
    archive, decisions = Archive(kafka.topic_prefix), Decisions(kafka)
    store = Store(kafka, clock, 120, archive.mark, decisions.mark)
    topics, backlog = Topics(kafka), Backlog(LagReader(kafka), store, clock, decisions.counts, archive.optouts)
    names, told = Names(kafka), decisions.followed() | archive.followed()
    counts = await asyncio.to_thread(topics.partitions)
    heard = Counter[str]()

    def counting(call: Callable[[Sequence[Entry]], None]) -> Callable[[Sequence[Entry]], None]:
        def counted(entries: Sequence[Entry]) -> None:
            call(entries)
            heard["records"] += len(entries)

        return counted

    follower = Follower(kafka, *(Followed(names.topic(name), counts[name], counting(call)) for name, call in told.items()))
    producer = KafkaProducer(kafka)
    parts = {
        "store": store,
        "backlog": backlog,
        "topics": topics,
        "cursors": Cursors(),
        "archive": archive,
        "decisions": decisions,
        "outcomes": Outcomes(Traces(kafka, archive), backlog),
        "letters": Letters(kafka, archive, store),
        "settling": Settling(kafka, decisions, store, topics, clock, "one"),
    }
    try:
        await asyncio.gather(store.start(), follower.start())
        archive.complete = decisions.complete = lambda: True
        async with client(build(folder / "tokens", refusals, clock, **parts, **settings), **bearer(token)) as http:
            yield Bench(kafka, http, tokens, decisions, store, producer, heard, refusals)
    finally:
        follower.close()
        await eventually(lambda: not follower._thread.is_alive())
        store.close()
        archive.close()
        decisions.close()
        await asyncio.to_thread(producer.close)
