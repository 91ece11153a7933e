"""One run of a reader, whichever workflow: feeds are owned with the partition of their cursor, events go out with it (decision D1)."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

from bridge.flow.reader import Cursor, Feed, Source
from bridge.http.gate import Pause
from bridge.kafka.avro import Encoder, load_schema
from bridge.kafka.client import Names
from bridge.kafka.encoding import Encoding
from bridge.kafka.ownership import Cursors, Ownership
from bridge.kafka.partitioner import partition_for
from bridge.kafka.producer import KafkaProducer
from bridge.kafka.publisher import TransactionalPublisher
from bridge.kafka.registry import HttpRegistry
from bridge.kafka.settings import KafkaSettings
from bridge.kafka.topics import Topic, Topics, workflow_topics
from bridge.model.clock import Clock
from bridge.model.desired import Desired, Workflow
from bridge.model.events import Outgoing
from bridge.model.report import Report
from bridge.observe.settings import ServiceSettings
from bridge.observe.tracing import OFF, Tracer
from bridge.process.troubles import first_trouble

LOADS_AT_ONCE = 3  # pages of 5,000 rows, 50 columns each, with their events: 85 MB


class Reading(Protocol):
    """What is particular to a workflow's reader. `topics` take events of `schema`. `transactional`: events and cursor go out as one, which
    is for consumers that read committed records only; else the events first, and the cursor when Kafka has them. `pauses`: of the systems
    it calls."""

    workflow: Workflow
    schema: str
    topics: Sequence[Topic]
    transactional: bool
    pauses: Sequence[Pause]

    async def sources(self, partitions: Mapping[str, int]) -> Mapping[str, Callable[[], Source]]:
        """How to make the source of each feed, by cursor key (`<system>:<feed>`); `partitions` of every topic. Raises HaltError for what
        is wrong with the configuration: nothing has been read then."""

    def counters(self) -> Mapping[str, int]:
        """What is to be told besides `read`."""

    def smaller(self, event: Any) -> Any | None:
        """What of an event has to arrive though the whole of it cannot (see bridge.kafka.encoding); None if nothing."""

    def told(self, desired: Desired) -> None: ...

    async def close(self) -> None: ...


class EventPublisher:
    """Encodes a feed's events and publishes them with its cursor, which gets the `revision` of the configuration that was read with."""

    def __init__(self, publisher: TransactionalPublisher, encoding: Encoding, revision: int | None) -> None:
        self._publisher, self._encoding, self._revision = publisher, encoding, revision

    async def publish(self, events: Sequence[Outgoing], cursor_key: str, cursor: Cursor | None) -> None:
        messages = [message for each in events for message in self._encoding.messages(each)]
        await self._publisher.publish(messages, cursor_key, None if cursor is None else {**cursor, "revision": self._revision})


class PlainEventPublisher(EventPublisher):
    """Events first, the cursor after them: after a crash in between they go out again. The owner before us is fenced from the cursor."""

    def __init__(
        self,
        publisher: TransactionalPublisher,
        encoding: Encoding,
        revision: int | None,
        producer: KafkaProducer,
        topic: Callable[[str], str],
    ) -> None:
        super().__init__(publisher, encoding, revision)
        self._producer, self._topic = producer, topic

    async def publish(self, events: Sequence[Outgoing], cursor_key: str, cursor: Cursor | None) -> None:
        messages = [message for each in events for message in self._encoding.messages(each)]
        sends = (self._producer.send(self._topic(topic), key, value, headers) for topic, key, value, headers in messages)
        await asyncio.gather(*sends)
        await super().publish([], cursor_key, cursor)


class ReaderRun:
    """See bridge.process.service.Run. `revision`: of the running configuration, for the cursors."""

    def __init__(
        self, kafka: KafkaSettings, service: ServiceSettings, reading: Reading, revision: int | None, clock: Clock, tracer: Tracer = OFF
    ) -> None:
        self._kafka, self._instance, self._reading, self._clock = kafka, service.instance_id, reading, clock
        self._revision, self._tracer = revision, tracer
        self._ownership: Ownership | None = None
        self._rng, self._loads = random.Random(), asyncio.Semaphore(LOADS_AT_ONCE)
        self._feeds: dict[str, Feed] = {}
        self._tasks: dict[int, list[asyncio.Task[None]]] = {}
        self._read_before = 0
        self._encoding: Encoding | None = None
        self._producer = None if reading.transactional else KafkaProducer(kafka)

    async def run(self) -> None:
        self._loop_failed: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        try:
            await self._prepare()
            wanted = {self._partition(key) for key in self._sources}
            ownership = self._ownership = Ownership(
                self._kafka, self._reading.workflow, self._instance, wanted, self._gained, self._lost, self._largest
            )
            owning = asyncio.create_task(ownership.run())
            try:
                await asyncio.wait({owning, self._loop_failed}, return_when=asyncio.FIRST_COMPLETED)
                for ended in (owning, self._loop_failed):
                    if ended.done():
                        ended.result()
            finally:
                owning.cancel()
                await ownership.close()
        finally:
            await self._reading.close()
            if self._producer is not None:
                await asyncio.to_thread(self._producer.close)

    @property
    def ready(self) -> bool:
        """From the first assignment of the group on."""
        return self._ownership is not None and self._ownership.membership.joined

    def told(self, desired: Desired) -> None:
        self._reading.told(desired)

    def report(self) -> Report:
        feeds = list(self._feeds.values())
        reads = [feed.last_read_at for feed in feeds if feed.last_read_at is not None]
        met = next((each for feed in feeds for each in (feed.trouble, feed.notice) if each is not None), None)
        membership = self._ownership.membership if self._ownership is not None else None
        trouble, lasted_s = first_trouble(met, membership, self._reading.pauses, self._clock)
        return Report(
            counters={"read": self._read_before + sum(feed.read for feed in feeds), **self._counters()},
            last_read_at=max(reads).isoformat() if reads else None,
            trouble=trouble,
            trouble_for_s=lasted_s,
            source_away=any(feed.source_away() for feed in feeds),
            feeds={key.partition(":")[2]: feed.progress() for key, feed in self._feeds.items()},
            rebalances=self._ownership.rebalances if self._ownership is not None else 0,
            polls={key.partition(":")[2]: feed.poll() for key, feed in self._feeds.items()},
        )

    def _counters(self) -> Mapping[str, int]:
        of_feeds = self._reading.counters()
        return {**of_feeds, "dead_lettered": of_feeds.get("dead_lettered", 0) + (self._encoding.dead_lettered if self._encoding else 0)}

    async def _prepare(self) -> None:
        """Topics, schemas and sources: what is wrong with the configuration shows here, before anything is read."""
        reading, topics = self._reading, self._reading.topics
        counts = await asyncio.to_thread(Topics(self._kafka).ensure, [*topics, *workflow_topics(reading.workflow)])
        self._cursor_partitions = counts[f"{reading.workflow}.cursors"]
        registry, schema = HttpRegistry(self._kafka), load_schema(reading.schema)
        prefix = self._kafka.topic_prefix
        ids = await asyncio.gather(*(asyncio.to_thread(registry.register, f"{prefix}{topic.name}-value", schema) for topic in topics))
        self._largest = await asyncio.to_thread(Topics(self._kafka).largest_message, topics)
        self._encoding = Encoding(
            {topic.name: Encoder(schema, number) for topic, number in zip(topics, ids, strict=True)},
            self._largest,
            self._clock,
            workflow=reading.workflow,
            prefix=prefix,
            revision=self._revision,
            smaller=reading.smaller,
        )
        self._sources = await reading.sources(counts)

    def _partition(self, cursor_key: str) -> int:
        return partition_for(cursor_key.encode(), self._cursor_partitions)

    def _gained(self, partition: int, cursors: Cursors, publisher: TransactionalPublisher) -> None:
        assert self._encoding is not None
        if self._producer is None:
            publish = EventPublisher(publisher, self._encoding, self._revision)
        else:
            publish = PlainEventPublisher(publisher, self._encoding, self._revision, self._producer, Names(self._kafka).topic)
        tasks = []
        for key, make in self._sources.items():
            if self._partition(key) == partition:
                cursor = cursors.get(key)
                feed = self._feeds[key] = Feed(key, make(), publish, cursor, self._clock, self._rng, self._tracer, self._loads)
                tasks.append(asyncio.create_task(self._run_feed(feed)))
        self._tasks[partition] = tasks

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
        for key in [key for key in self._feeds if self._partition(key) == partition]:
            self._read_before += self._feeds.pop(key).read
