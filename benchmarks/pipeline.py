"""What the product's guarantees cost: its own two loops ÷ a loop of twenty lines that does the least with the same records.

All run in this process, one after the other, on the same Kafka and the same change events; what the two systems take is left out.

- *by hand*: consume, decode, encode, produce, commit every second. It keeps no order across failures, knows nothing of a record, retries
  nothing and loses what a crash catches between produce and commit.
- *by hand, the writer's work*: the same loop with what the writer has to find out of each record: mapping, digests, decision, what is known
  of it read from and written to sqlite, and its state produced. What lies between this one and the writer is what the guarantees cost.
- *reader*: rows of Dynamics as parsed, through TableFeed, Feed and the transaction with the cursor: no HTTP.
- *writer*: the whole run, bridge.process.writing.WriterRun, with consumer, jobs by key, mapping, decision, sqlite, `ingress.state`
  acknowledged record by record, offsets; only the call itself is answered on the spot.

Reader and writer are processes of their own: the pipeline is as fast as the slower one.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from io import BytesIO
from pathlib import Path
from typing import Any

from confluent_kafka import Consumer, Producer
from fastavro import parse_schema, schemaless_reader, schemaless_writer

from benchmarks.feeding import Feeder, fed, keys
from benchmarks.measure import Figure, on_own_kafka
from bridge.campaign.settings import CampaignSettings
from bridge.consent.settings import ConsentSettings
from bridge.dynamics.changes import Page, TrackedTable
from bridge.dynamics.client import DynamicsClient
from bridge.dynamics.epoch import SourceEpoch
from bridge.dynamics.identity import WhoAmI
from bridge.dynamics.metadata import read_table
from bridge.dynamics.settings import DynamicsSettings
from bridge.flow.ports import Route
from bridge.flow.reader import Feed
from bridge.flow.settings import WriterSettings
from bridge.http.gate import Pause
from bridge.kafka.avro import HEAD, Encoder, load_schema
from bridge.kafka.encoding import Encoding
from bridge.kafka.local_part import LocalPart
from bridge.kafka.producer import KafkaProducer
from bridge.kafka.publisher import TransactionalPublisher
from bridge.kafka.registry import HttpRegistry
from bridge.kafka.settings import KafkaSettings
from bridge.kafka.topics import MESSAGE_MAX_BYTES, Topic, Topics
from bridge.model.clock import SystemClock
from bridge.model.config import default_ingress
from bridge.model.desired import Desired
from bridge.model.events import Record
from bridge.model.settings import Secret
from bridge.model.state import Known
from bridge.observe.settings import ServiceSettings
from bridge.process.reading import EventPublisher
from bridge.process.writing import Shared, WriterRun
from sandbox.campaign import CampaignSandbox
from sandbox.dynamics import DynamicsSandbox
from sandbox.web import serving
from services.ingress.consent import Consent
from services.ingress.dry import NoConsent
from services.ingress.feed import TableFeed
from services.ingress.handler import IngressHandler
from services.ingress.optin import Flags, OptIn
from services.ingress.writer import IngressWriting

RECORDS, PAGE = 40_000, 5_000
COPY = "copy"


def run() -> list[Figure]:
    return on_own_kafka(_measured)


async def _measured(settings: KafkaSettings, home: Path) -> list[Figure]:
    feeder = await asyncio.to_thread(Feeder, settings)
    await fed(feeder, keys(RECORDS), 1)
    await asyncio.to_thread(Topics(settings).ensure, [Topic(COPY, "delete")])
    by_hand = RECORDS / await asyncio.to_thread(_by_hand, settings)
    work = RECORDS / await _work_by_hand(settings, home)
    writer = RECORDS / await _writer(settings, home)
    reader = RECORDS / await _reader(settings)
    return [
        Figure("by hand", by_hand, "records/s"),
        Figure("reader without HTTP", reader, "records/s"),
        Figure("reader without HTTP ÷ by hand", reader / by_hand, "×"),
        Figure("writer without HTTP", writer, "records/s"),
        Figure("by hand, the writer's work", work, "records/s"),
        Figure("writer without HTTP ÷ by hand, the writer's work", writer / work, "×"),
        Figure("pipeline (the slower of the two) ÷ by hand", min(reader, writer) / by_hand, "×", (">=", 0.6)),
    ]


def _by_hand(settings: KafkaSettings) -> float:
    """Seconds for all records."""
    schema = parse_schema(load_schema("ChangeEvent"))
    consumer = Consumer(settings.client(group_id="hand", auto_offset_reset="earliest", isolation_level="read_committed"))
    producer = Producer(settings.client(enable_idempotence=True, linger_ms=5, compression_type="lz4", queue_buffering_max_messages=200_000))
    consumer.subscribe(["ingress.changes.contact"])
    done, began, next_commit = 0, 0.0, 0.0
    while done < RECORDS:
        for message in consumer.consume(500, 0.05):
            began = began or time.monotonic()
            value: bytes = message.value()  # type: ignore[assignment]
            content = schemaless_reader(BytesIO(value[HEAD.size :]), schema, None)
            buffer = BytesIO()
            buffer.write(value[: HEAD.size])
            schemaless_writer(buffer, schema, content)
            producer.produce(COPY, buffer.getvalue(), message.key(), headers=message.headers())
            done += 1
        producer.poll(0)
        if time.monotonic() >= next_commit:
            consumer.commit(asynchronous=True) if done else None
            next_commit = time.monotonic() + 1
    producer.flush()
    took = time.monotonic() - began
    consumer.close()
    return took


class _Answered:
    """See services.ingress.target.Calls: everything is done at once."""

    ahead_s: float | None = None

    async def create(self, path: str, body: dict[str, Any]) -> int:
        return 201

    async def update(self, path: str, key: str, body: dict[str, Any]) -> int:
        return 200

    async def delete(self, path: str, key: str) -> int:
        return 204

    async def read(self, path: str, key: str) -> dict[str, Any]:
        raise AssertionError("nothing is there already")

    async def first(self, path: str) -> dict[str, Any] | None:
        return None


class _WithoutCalls(IngressWriting):
    """Campaign is asked for its metadata only. `began`: when the first record came."""

    began = 0.0

    async def handler(self, shared: Shared) -> IngressHandler:
        made, writing = await super().handler(shared), self

        class Noting(IngressHandler):
            def route(self, record: Record) -> Route:
                writing.began = writing.began or time.monotonic()
                return super().route(record)

        nothing, clock = NoConsent(), SystemClock()
        consent = Consent(_Answered(), nothing, nothing.prove, nothing, clock)
        optin = OptIn(nothing.observe, clock)
        return Noting(made._targets, _Answered(), made._decoder, made._digests, consent, optin, clock, nothing.keep, made._children)


async def _work_by_hand(settings: KafkaSettings, home: Path) -> float:
    """Seconds for all records."""
    async with _writing(settings) as writing:
        kept = KafkaProducer(settings)
        handler, part = await writing.handler(Shared(kept, lambda _: RECORDS, NoConsent().keep)), LocalPart(home / "hand.sqlite")
        consumer = Consumer(settings.client(group_id="work", auto_offset_reset="earliest", isolation_level="read_committed"))
        producer = Producer(settings.client(enable_idempotence=True, linger_ms=5, queue_buffering_max_messages=200_000))
        consumer.subscribe(["ingress.changes.contact"])
        done, began = 0, 0.0
        while done < RECORDS:
            for message in consumer.consume(500, 0.05):
                began = began or time.monotonic()
                key: bytes = message.key()  # type: ignore[assignment]
                record = Record("ingress.changes.contact", message.partition() or 0, message.offset() or 0, 0, key, message.value())
                event, place = await handler.decode(record), handler.route(record).key
                before = part.get(place)
                result = await handler.write(event, None if before is None else Known.from_json(before))
                assert result.known is not None
                state = result.known.to_json()
                part.put(place, state)
                producer.produce(COPY, state, place)
                done += 1
            producer.poll(0)
        producer.flush()
        took = time.monotonic() - began
        consumer.close()
        kept.close()
        part.close()
        return took


@asynccontextmanager
async def _writing(settings: KafkaSettings) -> AsyncIterator[_WithoutCalls]:
    sandbox, clock = CampaignSandbox(), SystemClock()
    async with serving(sandbox.app()) as url:
        campaign = CampaignSettings.model_validate(_campaign(url))
        desired = Desired("RUNNING", 1, 1, default_ingress().model_dump(mode="json"))
        yield _WithoutCalls(settings, campaign, ConsentSettings(), desired, clock, Pause(), Flags(), "ingress-writer/bench")


async def _writer(settings: KafkaSettings, home: Path) -> float:
    """Seconds from the first record to the last one that is settled."""
    async with _writing(settings) as writing:
        service = ServiceSettings.model_validate({"INSTANCE_ID": "bench", "STATE_DIR": home / "state"})
        run = WriterRun(settings, service, WriterSettings(), writing, 1, SystemClock())
        task = asyncio.create_task(run.run())
        while run.report().counters.get("written", 0) < RECORDS:
            assert not task.done(), task.exception()
            await asyncio.sleep(0.02)
        took = time.monotonic() - writing.began
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
    return took


class _Prefetched(TrackedTable):
    """Pages that are here already; after the last one it waits for ever."""

    pages: list[Page]

    async def page(self, link: str | None, whole: bool = True) -> Page:
        if not self.pages:
            await asyncio.Event().wait()
        return self.pages.pop(0)


async def _reader(settings: KafkaSettings) -> float:
    """Seconds for all rows, from the first page in hand to the transaction of the last."""
    sandbox, clock, schema = DynamicsSandbox(), SystemClock(), load_schema("ChangeEvent")
    sandbox.load(contacts=RECORDS, seed=1)
    async with serving(sandbox.app()) as url:
        client = DynamicsClient(DynamicsSettings.model_validate(_dynamics(url)), clock)
        described = await read_table(client, "contact", default_ingress().tables[0].columns())
        tracked = _Prefetched(client, described, PAGE)
        tracked.pages, link = [], None
        while not tracked.pages or link:
            page = await TrackedTable.page(tracked, link)
            link = page.next_link
            tracked.pages.append(page)
        who = WhoAmI(client, clock)
        organisation = (await who.ask()).organisation
        await client.close()
    source = SourceEpoch("contact", who)
    feed = TableFeed(tracked, None, None, source, clock, poll_interval_s=0.001, tables=1, produced_by="bench/1")  # type: ignore[arg-type]
    publisher = TransactionalPublisher(settings, "ingress", 0)
    await asyncio.to_thread(publisher.start)
    number = HttpRegistry(settings).register("ingress.changes.contact-value", schema)
    encoders = {"ingress.changes.contact": Encoder(schema, number)}
    encoding = Encoding(encoders, MESSAGE_MAX_BYTES, clock, workflow="ingress", prefix=settings.topic_prefix, revision=1)
    published = EventPublisher(publisher, encoding, 1)
    at = {"page_link": None, "delta_link": "x", "version_seen": 0, "organisation": organisation}
    cursor = {"phase": "live", "columns": sorted(described.columns), **at}
    loop = Feed("dynamics:contact", feed, published, cursor, clock, random.Random())
    began, task = time.monotonic(), asyncio.create_task(loop.run())
    while loop.read < RECORDS:
        assert not task.done(), task.exception()
        await asyncio.sleep(0.02)
    took = time.monotonic() - began
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    return took


def _campaign(url: str) -> Mapping[str, Any]:
    names = {"CAMPAIGN_URL": f"{url}/sandbox", "CAMPAIGN_TOKEN_URL": f"{url}/ims/token/v3", "CAMPAIGN_ORG_ID": "sandbox@AdobeOrg"}
    return {
        **names,
        "CAMPAIGN_CLIENT_ID": "sandbox-campaign",
        "CAMPAIGN_CLIENT_SECRET": Secret("sandbox-secret"),
        "CAMPAIGN_CONCURRENCY": 52,
    }


def _dynamics(url: str) -> Mapping[str, Any]:
    names = {"DYNAMICS_URL": url, "DYNAMICS_TOKEN_URL": f"{url}/sandbox-tenant/oauth2/v2.0/token", "DYNAMICS_TENANT_ID": "sandbox-tenant"}
    return {**names, "DYNAMICS_CLIENT_ID": "sandbox-client", "DYNAMICS_CLIENT_SECRET": Secret("sandbox-secret")}
