"""`python -m services.ingress.reader`: reads the mapped tables of Dynamics and publishes their changes."""

from __future__ import annotations

import asyncio
import random
import sys
from collections.abc import Callable, Mapping, Sequence

from bridge.avro import Decoder, Encoder, load_schema
from bridge.clock import Clock, SystemClock
from bridge.config import IngressConfig, TableMapping
from bridge.desired import Desired
from bridge.dynamics.changes import TrackedTable
from bridge.dynamics.client import DynamicsClient
from bridge.dynamics.metadata import read_table
from bridge.entry import main
from bridge.events import ChangeEvent, Outgoing
from bridge.flow.reader import Cursor, Feed
from bridge.kafka.ownership import Cursors, Ownership
from bridge.kafka.partitioner import partition_for
from bridge.kafka.published import Published
from bridge.kafka.publisher import TransactionalPublisher
from bridge.kafka.registry import HttpRegistry
from bridge.kafka.topics import Topics, ingress_topics, workflow_topics
from bridge.rooms import DynamicsSettings
from bridge.service import Report
from bridge.settings import KafkaSettings, ServiceSettings
from services.ingress.feed import TableFeed
from services.ingress.reconcile import Reconciliation


def cursor_key(table: str) -> str:
    return f"dynamics:{table}"


class EventPublisher:
    """Encodes a feed's events and publishes them with its cursor."""

    def __init__(self, publisher: TransactionalPublisher, encoders: Mapping[str, Encoder]) -> None:
        self._publisher, self._encoders = publisher, encoders

    async def publish(self, events: Sequence[Outgoing], cursor_key: str, cursor: Cursor | None) -> None:
        messages = [(each.topic, each.key.encode(), self._encoders[each.topic].encode(each.event), each.headers) for each in events]
        await self._publisher.publish(messages, cursor_key, cursor)


class ReaderRun:
    """See bridge.service.Run. Owns tables by owning the partitions of their cursors."""

    def __init__(self, kafka: KafkaSettings, service: ServiceSettings, dynamics: DynamicsSettings, desired: Desired, clock: Clock) -> None:
        self._kafka, self._service, self._dynamics, self._clock = kafka, service, dynamics, clock
        self._tables = {table.source: table for table in IngressConfig.model_validate(desired.config).tables}
        self._replays = desired.replays
        self._rng = random.Random()
        self._feeds: dict[str, Feed] = {}
        self._tasks: dict[int, list[asyncio.Task[None]]] = {}
        self._read_before = 0
        self.ready = False

    async def run(self) -> None:
        self._loop_failed: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._client = DynamicsClient(self._dynamics, self._clock)
        try:
            await self._prepare()
            wanted = {self._partition(name) for name in self._tables}
            instance = self._service.instance_id
            ownership = Ownership(self._kafka, "ingress", instance, wanted, self._gained, self._lost)
            owning = asyncio.create_task(ownership.run())
            try:
                self.ready = True
                await asyncio.wait({owning, self._loop_failed}, return_when=asyncio.FIRST_COMPLETED)
                for ended in (owning, self._loop_failed):
                    if ended.done():
                        ended.result()
            finally:
                owning.cancel()
                await ownership.close()
        finally:
            await self._client.close()

    def told(self, desired: Desired) -> None:
        self._replays = desired.replays

    def report(self) -> Report:
        feeds = list(self._feeds.values())
        reads = [feed.last_read_at for feed in feeds if feed.last_read_at is not None]
        return Report(
            counters={"read": self._read_before + sum(feed.read for feed in feeds)},
            last_read_at=max(reads).isoformat() if reads else None,
            trouble=next((feed.trouble for feed in feeds if feed.trouble is not None), None),
            feeds={name: feed.progress() for name, feed in self._feeds.items()},
        )

    async def _prepare(self) -> None:
        """Topics, schemas and metadata: what is wrong with the configuration shows here, before anything is read."""
        topics = ingress_topics(list(self._tables))
        counts = await asyncio.to_thread(Topics(self._kafka).ensure, [*topics, *workflow_topics("ingress")])
        self._counts = counts
        registry, schema = HttpRegistry(self._kafka), load_schema("ChangeEvent")
        prefix = self._kafka.topic_prefix
        ids = await asyncio.gather(*(asyncio.to_thread(registry.register, f"{prefix}{topic.name}-value", schema) for topic in topics))
        self._encoders = {topic.name: Encoder(schema, number) for topic, number in zip(topics, ids, strict=True)}
        self._published = Published(self._kafka, "ingress", Decoder(registry, schema, ChangeEvent))
        described = await asyncio.gather(*(self._describe(table) for table in self._tables.values()))
        self._tracked = dict(zip(self._tables, described, strict=True))

    async def _describe(self, table: TableMapping) -> TrackedTable:
        described = await read_table(self._client, table.source, table.columns())
        return TrackedTable(self._client, described, self._dynamics.page_size)

    def _gained(self, partition: int, cursors: Cursors, publisher: TransactionalPublisher) -> None:
        publish = EventPublisher(publisher, self._encoders)
        tasks = []
        for name in self._tables:
            if self._partition(name) == partition:
                key = cursor_key(name)
                feed = Feed(key, self._table_feed(name), publish, cursors.get(key), self._clock, self._rng)
                self._feeds[name] = feed
                tasks.append(asyncio.create_task(self._run_feed(feed)))
        self._tasks[partition] = tasks

    def _partition(self, table: str) -> int:
        """Of the table's cursor."""
        return partition_for(cursor_key(table).encode(), self._counts["ingress.cursors"])

    def _table_feed(self, name: str) -> TableFeed:
        table, tracked = self._tables[name], self._tracked[name]
        topics = {topic.name: self._counts[topic.name] for topic in ingress_topics([name])}
        folder = self._service.state_dir
        return TableFeed(
            tracked,
            lambda: self._describe(table),
            Reconciliation(self._published, name, topics, self._counts["ingress.state"], folder),
            self._clock,
            poll_interval_s=self._dynamics.poll_interval_s,
            tables=len(self._tables),
            produced_by=f"ingress-reader/{self._service.instance_id}",
            replay_asked=lambda: self._replays.get(name),
        )

    async def _run_feed(self, feed: Feed) -> None:
        try:
            await feed.run()
        except Exception as exc:
            if not self._loop_failed.done():
                self._loop_failed.set_exception(exc)

    async def _lost(self, partition: int) -> None:
        tasks = self._tasks.pop(partition, [])
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        for name in [name for name in self._feeds if self._partition(name) == partition]:
            self._read_before += self._feeds.pop(name).read


def make(kafka: KafkaSettings, service: ServiceSettings, dynamics: DynamicsSettings) -> Callable[[Desired], ReaderRun]:
    clock = SystemClock()
    return lambda desired: ReaderRun(kafka, service, dynamics, desired, clock)


if __name__ == "__main__":
    sys.exit(main("ingress", "reader", [DynamicsSettings], make))
