"""Topics as a place where records wait: published again, read once more; and a writer whose waiting keys rest there, on Kafka."""

from __future__ import annotations

import asyncio
import random
import time
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta

import pytest

from bridge.flow.offsets import OffsetLedger, Position
from bridge.flow.waits import LetterLimit
from bridge.flow.writer import Writer
from bridge.kafka.lease import Lease
from bridge.kafka.own_topics import KafkaOwnTopics
from bridge.kafka.producer import KafkaProducer
from bridge.kafka.records import KafkaRecords
from bridge.kafka.settings import KafkaSettings
from bridge.kafka.topics import ingress_topics, workflow_topics
from bridge.memory import MemoryDeadLetters, MemoryState
from bridge.model.errors import RetryError
from bridge.model.events import Record
from sandbox.kafka import LocalKafka
from tests.contract.broker import content, delete_before, eventually, frozen, make, producing
from tests.contract.consuming import publish
from tests.flow.writing import ScriptedHandler, no_parent

TOPIC = "ingress.changes.contact"
FASTER = 40
STRANGERS, MOST, WORKERS = 300, 20, 8
BUDGET_S = 300.0


@pytest.fixture
async def producer(kafka_settings: KafkaSettings) -> AsyncIterator[KafkaProducer]:
    make(kafka_settings, *ingress_topics(["contact"]), *workflow_topics("ingress"))
    async with producing(kafka_settings) as made:
        yield made


@asynccontextmanager
async def own_topics(settings: KafkaSettings, producer: KafkaProducer) -> AsyncIterator[KafkaOwnTopics]:
    made = KafkaOwnTopics(settings, producer)
    try:
        yield made
    finally:
        await made.close()


async def test_what_is_published_again_lies_in_its_own_partition_and_is_read_once_more(
    kafka_settings: KafkaSettings, producer: KafkaProducer
) -> None:
    name = kafka_settings.topic_prefix + TOPIC
    for number in range(5):
        await producer.send(name, b"k", f"v{number}".encode(), [("h", b"1")], 2)
    async with own_topics(kafka_settings, producer) as topics:
        (first,) = await topics.read((TOPIC, 2), [1])
        at = await topics.publish(first, [("h", b"2")])
        found = await topics.read((TOPIC, 2), [0, 3, at])
        assert await topics.read((TOPIC, 2), []) == []
        assert [each.value for each in await topics.read((TOPIC, 2), [4])] == [b"v4"]

    assert (first.topic, first.partition, first.offset, first.key, first.value, list(first.headers)) == (
        TOPIC, 2, 1, b"k", b"v1", [("h", b"1")],
    )  # fmt: skip
    assert at == 5
    assert [(each.offset, each.value, list(each.headers)) for each in found] == [
        (0, b"v0", [("h", b"1")]),
        (3, b"v3", [("h", b"1")]),
        (5, b"v1", [("h", b"2")]),
    ]


async def test_what_has_expired_is_not_among_them(kafka_settings: KafkaSettings, producer: KafkaProducer) -> None:
    for number in range(5):
        await producer.send(kafka_settings.topic_prefix + TOPIC, b"k", str(number).encode(), (), 0)
    delete_before(kafka_settings, TOPIC, 0, 3)
    async with own_topics(kafka_settings, producer) as topics:
        assert [each.offset for each in await topics.read((TOPIC, 0), [1, 4])] == [4]


async def test_closing_ends_what_is_read_though_kafka_does_not_answer(
    kafka: LocalKafka, kafka_settings: KafkaSettings, producer: KafkaProducer
) -> None:
    await producer.send(kafka_settings.topic_prefix + TOPIC, b"k", b"v", (), 0)
    topics = KafkaOwnTopics(kafka_settings, producer)
    await topics.read((TOPIC, 0), [0])
    with frozen(kafka):
        reading = asyncio.create_task(topics.read((TOPIC, 0), [0]))
        await eventually(topics._reading.locked)
        await asyncio.wait_for(topics.close(), 8)  # by itself reading gives up after fifteen
        with pytest.raises(RetryError):
            await reading
        assert await topics.read((TOPIC, 0), [0]) == []


class FastClock:
    """Time passes forty times as fast."""

    def __init__(self) -> None:
        self._start, self._began = time.monotonic(), datetime(2026, 3, 1, 12, tzinfo=UTC)

    def monotonic(self) -> float:
        return 1000.0 + (time.monotonic() - self._start) * FASTER

    def now(self) -> datetime:
        return self._began + timedelta(seconds=self.monotonic() - 1000.0)

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds / FASTER)


class Crowded:
    """One writer of the group; see bridge.kafka.records.Taker."""

    def __init__(self, settings: KafkaSettings, producer: KafkaProducer, clock: FastClock, shared: Crowded | None = None) -> None:
        self.handler = ScriptedHandler()
        self.state: MemoryState = shared.state if shared else MemoryState()
        self.letters: MemoryDeadLetters = shared.letters if shared else MemoryDeadLetters()
        ledger, lease = OffsetLedger(), Lease()
        self.most = 0
        self.topics = KafkaOwnTopics(settings, producer)
        self.writer = Writer(
            self.handler, self.state, self.letters, self.topics, ledger, LetterLimit(10_000, 1.0), clock, random.Random(7),
            concurrency=WORKERS, park_budget_s=BUDGET_S, lease_check=lease.check, most_parked=MOST,
        )  # fmt: skip
        self.records = KafkaRecords(settings, "ingress", "w1", [TOPIC], self, ledger, lease)
        self.ledger = ledger

    def offer(self, records: Sequence[Record]) -> None:
        self.writer.offer(records)

    def full(self, topic: str) -> bool:
        self.most = max(self.most, self.writer._queue.parked())
        return self.writer.full(True)

    async def gain(self, partitions: Sequence[int]) -> None:
        await self.state.gain(partitions)

    async def release(self, positions: Sequence[Position]) -> None:
        await self.writer.release(positions)

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        tasks = [asyncio.create_task(self.records.run()), asyncio.create_task(self.writer.run())]
        try:
            yield
            assert not any(task.done() for task in tasks), tasks
        finally:
            self.writer.halt()
            await self.records.close()
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            await self.topics.close()


async def test_in_a_crowd_new_records_pass_and_each_that_waits_in_vain_is_one_letter_after_a_restart(
    kafka_settings: KafkaSettings, producer: KafkaProducer
) -> None:
    clock = FastClock()
    await publish(kafka_settings, TOPIC, *(f"s{number}" for number in range(STRANGERS)))
    first = Crowded(kafka_settings, producer, clock)
    first.handler.always = {f"s{number}": no_parent for number in range(STRANGERS)}
    async with first.running():
        await eventually(lambda: first.writer.parked() == STRANGERS == first.ledger.waiting())
        await publish(kafka_settings, TOPIC, "new")
        await eventually(lambda: "new" in first.handler.ended)
    assert first.most <= 2 * MOST + WORKERS

    second = Crowded(kafka_settings, producer, clock, first)
    second.handler.always = {f"s{number}": no_parent for number in range(1, STRANGERS)}
    async with second.running():
        await eventually(lambda: "s0" in second.handler.ended)  # it has come meanwhile
        assert not first.letters.letters
        await eventually(lambda: second.ledger.waiting() == 0, 60)

    lettered = Counter((letter.record.key or b"").decode() for letter in first.letters.letters)
    assert lettered == {f"s{number}": 1 for number in range(1, STRANGERS)}
    assert len(content(kafka_settings, TOPIC)) <= 4 * STRANGERS
