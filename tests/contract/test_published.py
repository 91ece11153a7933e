"""What our own topics hold of a table, read back after a load: the twin of the feed's tests and the one in Kafka."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import chain

import pytest
from confluent_kafka import Consumer, TopicPartition

from bridge.kafka.avro import Decoder, Encoder, load_schema
from bridge.kafka.client import client_config
from bridge.kafka.partitioner import partition_for
from bridge.kafka.published import Published, Seen, Starts
from bridge.kafka.settings import KafkaSettings
from bridge.kafka.topics import ingress_topics, workflow_topics
from bridge.memory import MemoryLog, MemoryPublisher, MemoryRegistry
from bridge.model.events import ChangeEvent, Op, Outgoing
from bridge.model.state import Known
from tests.contract.broker import make, producing
from tests.flow.feeding import CHANGES, REPLAY, MemoryPublished


def event(key: str, version: int, op: Op = "upsert", epoch: int = 0) -> Outgoing:
    return Outgoing(CHANGES, key, ChangeEvent("contact", key, op, "live", version, None, datetime(2026, 3, 1, tzinfo=UTC), epoch=epoch))


@dataclass(frozen=True)
class Place:
    """`publish` puts an event into its topic, `settle` what the writer knows of a key into the state, `commit` all it has read."""

    published: Published
    topics: dict[str, int]
    publish: Callable[[Outgoing], Awaitable[object]]
    settle: Callable[[str, int, bool, int], Awaitable[object]]
    commit: Callable[[], Awaitable[object]]


def commit_all(settings: KafkaSettings) -> None:
    """As the writers' group: everything that is there now."""
    consumer = Consumer(client_config(settings, group_id=f"{settings.topic_prefix}ingress"))
    topic = settings.topic_prefix + CHANGES
    ends = [consumer.get_watermark_offsets(TopicPartition(topic, number), 5)[1] for number in range(3)]
    consumer.commit(offsets=[TopicPartition(topic, number, end) for number, end in enumerate(ends)], asynchronous=False)
    consumer.close()


together = chain.from_iterable


class PublishedContract:
    async def test_what_the_writers_have_not_committed_is_seen(self, place: Place) -> None:
        await place.publish(event("before", 1))
        await place.commit()
        await place.publish(event("waiting", 4))
        starts = place.published.committed(place.topics)
        await place.publish(event("after", 2))
        await place.publish(event("gone", 3, "delete"))

        assert sorted(together(place.published.since(starts))) == [("after", 0, 2, False), ("gone", 0, 3, True), ("waiting", 0, 4, False)]

    async def test_a_group_that_has_never_committed_has_everything_before_it(self, place: Place) -> None:
        await place.publish(event("a", 1))

        assert list(together(place.published.since(place.published.committed(place.topics)))) == [("a", 0, 1, False)]

    async def test_what_the_writer_settled_is_known(self, place: Place) -> None:
        await place.settle("a", 5, False, 0)
        await place.settle("b", 6, True, 2)

        assert sorted(together(place.published.known("contact", 3))) == [("a", 0, 5, False), ("b", 2, 6, True)]

    async def test_an_event_is_seen_with_its_source_epoch(self, place: Place) -> None:
        starts = place.published.committed(place.topics)
        await place.publish(event("a", 1, epoch=3))

        assert list(together(place.published.since(starts))) == [("a", 3, 1, False)]


class Threaded(Published):
    """Reads on a thread of its own, as its users do, and gives lists."""

    def __init__(self, inner: Published) -> None:
        self._inner = inner
        self._threads = ThreadPoolExecutor(1)

    def committed(self, topics: Mapping[str, int]) -> dict[str, list[int]]:
        return self._threads.submit(self._inner.committed, topics).result()

    def known(self, table: str, partitions: int) -> Iterator[Sequence[Seen]]:
        return iter(self._threads.submit(lambda: list(self._inner.known(table, partitions))).result())

    def since(self, starts: Starts) -> Iterator[Sequence[Seen]]:
        return iter(self._threads.submit(lambda: list(self._inner.since(starts))).result())


class TestMemoryPublished(PublishedContract):
    @pytest.fixture
    def place(self) -> Place:
        log = MemoryLog()
        published, publisher = MemoryPublished(log), MemoryPublisher(log)

        async def settle(key: str, version: int, gone: bool, epoch: int) -> None:
            published.state[key] = (epoch, version, gone)

        async def commit() -> None:
            published.commit()

        return Place(published, {CHANGES: 1, REPLAY: 1}, lambda each: publisher.publish([each], "c", {}), settle, commit)


class TestKafkaPublished(PublishedContract):
    @pytest.fixture
    async def place(self, kafka_settings: KafkaSettings) -> AsyncIterator[Place]:
        make(kafka_settings, *ingress_topics(["contact"]), *workflow_topics("ingress"))
        registry, schema, prefix = MemoryRegistry(), load_schema("ChangeEvent"), kafka_settings.topic_prefix
        encoder = Encoder(schema, registry.register("x", schema))
        async with producing(kafka_settings) as producer:

            async def publish(each: Outgoing) -> None:
                await producer.send(prefix + each.topic, each.key.encode(), encoder.encode(each.event))

            async def settle(key: str, version: int, gone: bool, epoch: int) -> None:
                known = Known(version=version, epoch=epoch, exists=not gone, gone=gone)
                partition = partition_for(key.encode(), 3)
                await producer.send(f"{prefix}ingress.state", f"contact/{key}".encode(), known.to_json(), (), partition)
                await producer.send(f"{prefix}ingress.state", f"new_vehicle/{key}".encode(), known.to_json(), (), partition)

            published = Published(kafka_settings, "ingress", Decoder(registry, schema, ChangeEvent))
            yield Place(
                Threaded(published), {CHANGES: 3, REPLAY: 3}, publish, settle, lambda: asyncio.to_thread(commit_all, kafka_settings)
            )

    async def test_what_is_no_event_is_passed_over(self, place: Place, kafka_settings: KafkaSettings) -> None:
        starts = place.published.committed(place.topics)
        async with producing(kafka_settings) as producer:
            await producer.send(kafka_settings.topic_prefix + CHANGES, b"poison", b"no event")
            await producer.send(kafka_settings.topic_prefix + CHANGES, b"poison", None)
        await place.publish(event("a", 1))

        assert list(together(place.published.since(starts))) == [("a", 0, 1, False)]
