"""Lag of a group, as Kafka's own tools compute it; unknown is never zero."""

from __future__ import annotations

import pytest
from confluent_kafka import Consumer, TopicPartition
from confluent_kafka.admin import AdminClient

from bridge.kafka.lag import LagReader
from bridge.kafka.settings import KafkaSettings
from bridge.kafka.topics import changes
from bridge.model.errors import RetryError
from sandbox.kafka import LocalKafka
from tests.contract.broker import fill, frozen, make, nowhere

A, B = "ingress.changes.a", "ingress.changes.b"


@pytest.fixture
def settings(kafka_settings: KafkaSettings) -> KafkaSettings:
    make(kafka_settings, changes(A, 7), changes(B, 7))
    return kafka_settings


def commit(settings: KafkaSettings, topic: str, **offsets: int) -> None:
    """`p0=3` commits offset 3 of partition 0 for the group `ingress`."""
    consumer = Consumer(settings.client(group_id=f"{settings.topic_prefix}ingress"))
    places = [TopicPartition(settings.topic_prefix + topic, int(name[1:]), at) for name, at in offsets.items()]
    consumer.commit(offsets=places, asynchronous=False)
    consumer.close()


async def test_lag_is_the_end_less_what_is_committed(settings: KafkaSettings) -> None:
    await fill(settings, A, ["k"] * 5, partition=0)
    await fill(settings, A, ["k"] * 4, partition=1)
    commit(settings, A, p0=2, p1=4, p2=0)

    lag = LagReader(settings).group("ingress", [A])

    assert [(each.partition, each.committed, each.end, each.lag) for each in lag.topics[A]] == [(0, 2, 5, 3), (1, 4, 4, 0), (2, 0, 0, 0)]
    assert lag.records == 3
    assert (lag.group, lag.state, lag.members) == ("ingress", "Empty", 0)


async def test_a_partition_without_a_commit_counts_everything_that_is_there(settings: KafkaSettings) -> None:
    await fill(settings, A, ["k"] * 5, partition=0)
    await fill(settings, A, ["k"] * 7, partition=1)
    commit(settings, A, p0=5)
    name = settings.topic_prefix + A
    admin = AdminClient(settings.client())
    for future in admin.delete_records([TopicPartition(name, 1, 3)]).values():
        future.result(10)

    lag = LagReader(settings).group("ingress", [A])

    assert [(each.committed, each.lag) for each in lag.topics[A]] == [(5, 0), (None, 4), (None, 0)]


async def test_a_group_that_never_was_waits_for_everything(settings: KafkaSettings) -> None:
    await fill(settings, A, [f"k{n}" for n in range(10)])
    await fill(settings, B, [f"k{n}" for n in range(3)])

    lag = LagReader(settings).group("ingress", [A, B])

    assert lag.records == 13
    assert {topic: sum(each.lag for each in lags) for topic, lags in lag.topics.items()} == {A: 10, B: 3}
    assert lag.members == 0


def test_topics_that_are_not_there_are_left_out(settings: KafkaSettings) -> None:
    lag = LagReader(settings).group("ingress", [A, "ingress.changes.missing"])

    assert list(lag.topics) == [A]


async def test_it_agrees_with_kafkas_own_tool(settings: KafkaSettings, kafka: LocalKafka) -> None:
    await fill(settings, A, [f"k{n}" for n in range(50)])
    commit(settings, A, p0=3, p1=0, p2=5)

    told = kafka.tool(
        "org.apache.kafka.tools.consumer.group.ConsumerGroupCommand",
        *("--bootstrap-server", kafka.bootstrap, "--describe", "--group", f"{settings.topic_prefix}ingress"),
    )

    rows = [line.split() for line in told.splitlines() if f" {settings.topic_prefix}{A} " in line]
    theirs = {int(row[2]): (int(row[3]), int(row[4]), int(row[5])) for row in rows}
    ours = {each.partition: (each.committed, each.end, each.lag) for each in LagReader(settings).group("ingress", [A]).topics[A]}
    assert ours == theirs


async def test_the_oldest_waiting_record_tells_since_when(settings: KafkaSettings) -> None:
    await fill(settings, A, ["k", "k"], partition=0)
    await fill(settings, A, ["k"], partition=1)
    reader = LagReader(settings)

    oldest, newer = reader.oldest_ms({(A, 0): 0, (A, 1): 0}), reader.oldest_ms({(A, 1): 0})

    assert oldest is not None
    assert newer is not None
    assert oldest <= newer
    assert reader.oldest_ms({}) is None


def test_kafka_that_is_not_there_is_a_retry(kafka_settings: KafkaSettings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bridge.kafka.lag.TIMEOUT_S", 1)

    with pytest.raises(RetryError):
        LagReader(nowhere(kafka_settings)).group("ingress", [A])


def test_kafka_that_does_not_answer_is_a_retry(settings: KafkaSettings, kafka: LocalKafka, monkeypatch: pytest.MonkeyPatch) -> None:
    reader = LagReader(settings)
    reader.group("ingress", [A])
    monkeypatch.setattr("bridge.kafka.lag.TIMEOUT_S", 1)

    with frozen(kafka), pytest.raises(RetryError):
        reader.group("ingress", [A])

    assert reader.group("ingress", [A]).records == 0
