"""bridge.kafka.stream: a topic through Faust (decision D8), on a real broker."""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Sequence
from contextlib import closing
from pathlib import Path

import pytest
from confluent_kafka import Consumer, Producer, TopicPartition
from confluent_kafka.admin import AdminClient

from bridge.kafka.lease import Lease
from bridge.kafka.reader import TopicReader
from bridge.kafka.settings import KafkaSettings
from bridge.kafka.stream import FaustStream
from bridge.kafka.topics import Topic, Topics
from bridge.model.errors import HaltError
from bridge.model.events import Record
from tests.contract.broker import fill

TOPIC, GROUP, PARTITIONS = "observations", "noting", 3


class Noting:
    def __init__(self) -> None:
        self.values: list[bytes | None] = []

    async def gain(self, partitions: Collection[int]) -> None: ...

    async def take(self, records: Sequence[Record]) -> None:
        self.values += [record.value for record in records]

    async def lose(self, partitions: Collection[int]) -> None: ...


def transaction(settings: KafkaSettings, value: bytes, *, commit: bool) -> None:
    """One record in partition 0, and the marker behind it."""
    producer = Producer(settings.client(transactional_id=f"{settings.topic_prefix}test"))
    producer.init_transactions(30)
    producer.begin_transaction()
    producer.produce(settings.topic_prefix + TOPIC, value, b"key", partition=0)
    producer.flush(30)
    if commit:
        producer.commit_transaction(30)
    else:
        producer.abort_transaction(30)


def lags(settings: KafkaSettings) -> list[int | None]:
    """Of each partition; None where nothing was ever committed."""
    group = Consumer(settings.client(group_id=settings.topic_prefix + GROUP))
    with closing(TopicReader(settings)) as reader, closing(group):
        asked = [TopicPartition(settings.topic_prefix + TOPIC, number) for number in range(PARTITIONS)]
        committed = group.committed(asked, 10)
        ends = [reader.range(settings.topic_prefix + TOPIC, number)[1] for number in range(PARTITIONS)]
        return [None if each.offset < 0 else end - each.offset for each, end in zip(committed, ends, strict=True)]


async def test_lag_is_0_on_every_partition_behind_markers_and_where_nothing_ever_came(
    kafka_settings: KafkaSettings, tmp_path: Path
) -> None:
    """And what was aborted is never seen (kafka.md: read_committed)."""
    await asyncio.to_thread(Topics(kafka_settings).ensure, [Topic(TOPIC, "delete")])
    await fill(kafka_settings, TOPIC, ["a", "b"], partition=0)
    listener = Noting()
    stream = FaustStream(kafka_settings, GROUP, TOPIC, PARTITIONS, tmp_path, listener, Lease())
    run = asyncio.create_task(stream.run())
    try:
        await asyncio.to_thread(transaction, kafka_settings, b"aborted", commit=False)
        await asyncio.to_thread(transaction, kafka_settings, b"committed", commit=True)
        async with asyncio.timeout(40):
            while await asyncio.to_thread(lags, kafka_settings) != [0, 0, 0]:
                assert not run.done(), run
                await asyncio.sleep(0.3)
        await asyncio.to_thread(transaction, kafka_settings, b"later", commit=True)
        async with asyncio.timeout(20):
            while await asyncio.to_thread(lags, kafka_settings) != [0, 0, 0]:
                await asyncio.sleep(0.3)
    finally:
        run.cancel()
        await asyncio.gather(run, return_exceptions=True)

    assert listener.values == [b"0", b"1", b"committed", b"later"]


async def test_observations_that_expired_before_they_were_heard_are_told_once(kafka_settings: KafkaSettings, tmp_path: Path) -> None:
    await asyncio.to_thread(Topics(kafka_settings).ensure, [Topic(TOPIC, "delete")])
    await fill(kafka_settings, TOPIC, ["a", "b", "c"], partition=0)
    admin = AdminClient(kafka_settings.client())
    for future in admin.delete_records([TopicPartition(kafka_settings.topic_prefix + TOPIC, 0, 2)]).values():
        future.result(10)

    with pytest.raises(HaltError) as caught:
        await FaustStream(kafka_settings, GROUP, TOPIC, PARTITIONS, tmp_path, Noting(), Lease()).run()
    assert caught.value.code == "backlog_expired"

    listener = Noting()
    run = asyncio.create_task(FaustStream(kafka_settings, GROUP, TOPIC, PARTITIONS, tmp_path, listener, Lease()).run())
    try:
        async with asyncio.timeout(40):
            while listener.values != [b"2"]:
                assert not run.done(), run
                await asyncio.sleep(0.3)
    finally:
        run.cancel()
        await asyncio.gather(run, return_exceptions=True)
