"""Topics: created when absent, checked by name when present, never changed."""

from __future__ import annotations

import pytest
from confluent_kafka.admin import AdminClient
from confluent_kafka.admin._config import ConfigResource
from confluent_kafka.admin._resource import ResourceType

from bridge.kafka.settings import KafkaSettings
from bridge.kafka.topics import Topics, changes, compacted, control_topics, ingress_topics, topic_id, workflow_topics
from bridge.model.errors import HaltError, RetryError
from tests.contract.broker import drop, make, make_raw, nowhere

INGRESS = [*ingress_topics(["contact"]), *workflow_topics("ingress")]


def config(settings: KafkaSettings, name: str) -> dict[str, str]:
    resource = ConfigResource(ResourceType.TOPIC, settings.topic_prefix + name)
    admin = AdminClient(settings.client())  # has to live until the answer is there
    (future,) = admin.describe_configs([resource]).values()
    return {option: entry.value for option, entry in future.result(10).items()}


def mismatch(settings: KafkaSettings) -> HaltError:
    with pytest.raises(HaltError) as caught:
        Topics(settings).ensure(INGRESS)
    assert caught.value.code == "topic_mismatch"
    assert caught.value.hint
    return caught.value


def test_missing_topics_are_created_with_partitions_and_cleanup(kafka_settings: KafkaSettings) -> None:
    counts = Topics(kafka_settings).ensure([*INGRESS, *control_topics()])

    assert counts == dict.fromkeys(counts, 3)
    assert set(counts) == {topic.name for topic in (*INGRESS, *control_topics())}
    assert Topics(kafka_settings).partitions() == counts
    policies = {name: config(kafka_settings, name)["cleanup.policy"] for name in counts}
    deleted = ("ingress.changes.contact", "ingress.replay.contact", "ingress.dead-letters", "control.audit")
    assert policies == {name: "delete" if name in deleted else "compact" for name in counts}


def test_retention_is_as_in_the_contract(kafka_settings: KafkaSettings) -> None:
    Topics(kafka_settings).ensure([*INGRESS, *control_topics()])

    days = {"ingress.changes.contact": 7, "ingress.replay.contact": 7, "ingress.dead-letters": 30, "control.audit": 365}
    for name, wanted in days.items():
        assert config(kafka_settings, name)["retention.ms"] == str(wanted * 86_400_000)


def test_asking_twice_changes_nothing(kafka_settings: KafkaSettings) -> None:
    first = Topics(kafka_settings).ensure(INGRESS)

    assert Topics(kafka_settings).ensure(INGRESS) == first


def test_a_topic_with_fewer_partitions_is_named(kafka_settings: KafkaSettings) -> None:
    make_raw(kafka_settings, "ingress.state", 2, cleanup_policy="compact")

    error = mismatch(kafka_settings)

    assert f"{kafka_settings.topic_prefix}ingress.state" in str(error)
    assert "2" in str(error)
    assert set(Topics(kafka_settings).partitions()) == {"ingress.state"}  # nothing was created


def test_a_topic_with_another_cleanup_policy_is_named(kafka_settings: KafkaSettings) -> None:
    make_raw(kafka_settings, "ingress.cursors", 3, cleanup_policy="delete")

    error = mismatch(kafka_settings)

    assert f"{kafka_settings.topic_prefix}ingress.cursors" in str(error)
    assert "delete" in str(error)


def test_unequal_counts_within_a_set_are_named(kafka_settings: KafkaSettings) -> None:
    make_raw(kafka_settings, "ingress.changes.contact", 3, cleanup_policy="delete")
    make_raw(kafka_settings, "ingress.state", 4, cleanup_policy="compact")

    error = mismatch(kafka_settings)

    assert "ingress.changes.contact" in str(error)
    assert "ingress.state" in str(error)


def test_larger_equal_counts_are_accepted_and_followed(kafka_settings: KafkaSettings) -> None:
    make_raw(kafka_settings, "ingress.changes.contact", 5, cleanup_policy="delete")

    counts = Topics(kafka_settings).ensure(INGRESS)

    assert (counts["ingress.changes.contact"], counts["ingress.replay.contact"], counts["ingress.state"]) == (5, 5, 5)
    assert (counts["ingress.cursors"], counts["ingress.dead-letters"]) == (3, 3)
    assert Topics(kafka_settings).ensure(INGRESS) == counts


def test_topics_of_no_set_may_have_different_counts(kafka_settings: KafkaSettings) -> None:
    make_raw(kafka_settings, "a", 4, cleanup_policy="delete")

    assert Topics(kafka_settings).ensure([changes("a", 7), compacted("b")]) == {"a": 4, "b": 3}


def test_more_replicas_than_brokers_are_named(kafka_settings: KafkaSettings) -> None:
    wanted = kafka_settings.model_copy(update={"replication_factor": 3})

    assert "replica" in str(mismatch(wanted))


def test_two_services_may_create_at_the_same_time(kafka_settings: KafkaSettings) -> None:
    first, second = Topics(kafka_settings), Topics(kafka_settings)
    before = second._partitions
    second._partitions = dict  # type: ignore[method-assign]  # what it saw before the first one created them
    counts = first.ensure(INGRESS)

    second._create([kafka_settings.topic_prefix + "ingress.state"], {kafka_settings.topic_prefix + INGRESS[3].name: INGRESS[3]}, {})
    second._partitions = before  # type: ignore[method-assign]

    assert second.ensure(INGRESS) == counts


def test_kafka_that_is_away_is_a_retry(kafka_settings: KafkaSettings) -> None:
    with pytest.raises(RetryError):
        Topics(nowhere(kafka_settings)).ensure(INGRESS)


def test_a_topic_made_again_has_another_id(kafka_settings: KafkaSettings) -> None:
    name = kafka_settings.topic_prefix + "a"
    make(kafka_settings, compacted("a"))
    first = topic_id(kafka_settings, name)
    assert topic_id(kafka_settings, name) == first

    drop(kafka_settings, "a")
    make(kafka_settings, compacted("a"))

    assert topic_id(kafka_settings, name) != first
