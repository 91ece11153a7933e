"""Until when a group has dealt with all that was published in some topics."""

from __future__ import annotations

import asyncio
from datetime import datetime, timedelta

from confluent_kafka import Consumer, TopicPartition

from bridge.kafka.client import client_config
from bridge.kafka.settings import KafkaSettings
from bridge.kafka.settled import NEVER, KafkaSettled, Marks
from bridge.kafka.topics import ingress_topics, workflow_topics
from tests.clock import FakeClock
from tests.contract.broker import make, producing

TABLES = ["new_vehicle", "new_visit"]
NOON = datetime(2026, 3, 1, 12).astimezone()


async def published(settings: KafkaSettings, table: str, partition: int) -> None:
    async with producing(settings) as producer:
        await producer.send(f"{settings.topic_prefix}ingress.changes.{table}", b"k", b"event", (), partition)


def commit(settings: KafkaSettings, table: str, *offsets: int) -> None:
    """As the writers' group."""
    consumer = Consumer(client_config(settings, group_id=f"{settings.topic_prefix}ingress"))
    topic = f"{settings.topic_prefix}ingress.changes.{table}"
    consumer.commit(offsets=[TopicPartition(topic, number, at) for number, at in enumerate(offsets)], asynchronous=False)
    consumer.close()


async def test_what_any_member_of_the_group_has_committed_is_settled(kafka_settings: KafkaSettings) -> None:
    make(kafka_settings, *ingress_topics(TABLES), *workflow_topics("ingress"))
    clock = FakeClock()
    settled = KafkaSettled(kafka_settings, "ingress", "ingress.changes", clock)
    nothing_yet = clock.now()
    assert await settled.until(TABLES) == nothing_yet
    await published(kafka_settings, "new_visit", 2)
    clock.advance(2)
    assert await settled.until(TABLES) == nothing_yet
    one_waits = clock.now()
    await published(kafka_settings, "new_visit", 1)
    clock.advance(2)

    await asyncio.to_thread(commit, kafka_settings, "new_visit", 0, 0, 1)
    assert await settled.until(TABLES) == one_waits
    await asyncio.to_thread(commit, kafka_settings, "new_visit", 0, 1, 1)
    clock.advance(2)
    assert await settled.until(TABLES) == clock.now()
    assert await settled.until(["new_vehicle"]) == clock.now()


def test_a_moment_is_settled_when_all_that_was_there_then_has_been_committed() -> None:
    marks = Marks()
    ends = [{("t", 0): at, ("t", 1): 5} for at in (10, 20, 30)]
    for number, each in enumerate(ends):
        marks.note(NOON + timedelta(seconds=number), each, {("t", 0): 9, ("t", 1): 5})
    assert marks.until == NEVER

    marks.note(NOON + timedelta(seconds=3), ends[2], {("t", 0): 20, ("t", 1): 5})

    assert marks.until == NOON + timedelta(seconds=1)


def looked(marks: Marks, first: int, last: int, at: int) -> datetime:
    """Looks every second, with ten records there and so many done; until when all is settled."""
    for second in range(first, last):
        marks.note(NOON + timedelta(seconds=second), {("t", 0): 10}, {("t", 0): at})
    return marks.until


def test_a_record_that_is_parked_does_not_hold_up_everybody_for_hours() -> None:
    marks = Marks()
    assert looked(marks, 0, 90, 9) == NEVER
    assert looked(marks, 90, 91, 9) == NOON
    assert looked(marks, 91, 100, 9) == NOON + timedelta(seconds=9)


def test_a_partition_that_moves_is_waited_for() -> None:
    marks = Marks()
    for tens in range(9):
        assert looked(marks, tens * 60, tens * 60 + 60, tens) == NEVER


def test_looks_may_be_far_apart_as_those_of_a_delete_that_waits_longer_each_time() -> None:
    marks = Marks()
    for second in (0, 1, 3, 7, 15, 31, 62):
        assert looked(marks, second, second + 1, 9) == NEVER

    assert looked(marks, 122, 123, 9) > NEVER


def test_what_was_published_just_now_is_not_taken_for_read_where_a_partition_has_stood_still() -> None:
    marks = Marks()
    looked(marks, 0, 1000, 9)
    for second in (1000, 1080):
        marks.note(NOON + timedelta(seconds=second), {("t", 0): 11}, {("t", 0): 9})

        assert marks.until < NOON + timedelta(seconds=1000)

    marks.note(NOON + timedelta(seconds=1091), {("t", 0): 11}, {("t", 0): 9})
    assert marks.until >= NOON + timedelta(seconds=1000)


def test_what_has_come_since_it_stood_still_is_waited_for() -> None:
    marks = Marks()
    looked(marks, 0, 91, 9)
    looked(marks, 91, 92, 10)

    for second in range(4000, 4080):
        marks.note(NOON + timedelta(seconds=second), {("t", 0): 11}, {("t", 0): 10})

    assert marks.until < NOON + timedelta(seconds=100)


def test_a_backlog_that_takes_long_does_not_fill_the_memory_and_ends() -> None:
    marks = Marks()
    for second in range(10_000):
        marks.note(NOON + timedelta(seconds=second), {("t", 0): 10_000}, {("t", 0): second})
    assert marks.waiting == 100

    marks.note(NOON + timedelta(seconds=10_000), {("t", 0): 10_000}, {("t", 0): 10_000})

    assert (marks.waiting, marks.until) == (0, NOON + timedelta(seconds=99))
