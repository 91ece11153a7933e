"""Topics: created when absent, checked when present, never changed (contracts/kafka.md)."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from confluent_kafka import KafkaError, KafkaException, TopicCollection
from confluent_kafka.admin import AdminClient
from confluent_kafka.admin._config import ConfigResource
from confluent_kafka.admin._resource import ResourceType
from confluent_kafka.cimpl import NewTopic

from bridge.kafka.client import client_config, error_for, trouble
from bridge.kafka.settings import KafkaSettings
from bridge.model.errors import HaltError, RetryError

DAY_MS = 86_400_000
TIMEOUT_S = 5
MESSAGE_MAX_BYTES = 1_000_000  # librdkafka's default


@dataclass(frozen=True, slots=True)
class Topic:
    """What a topic has to be. `set_name`: topics of one set need the same number of partitions. `partitions`: how many this one has,
    None for as many as PARTITIONS says."""

    name: str
    cleanup: str
    config: tuple[tuple[str, str], ...] = ()
    set_name: str = ""
    partitions: int | None = None


def changes(name: str, days: int, set_name: str = "") -> Topic:
    return Topic(name, "delete", (("retention.ms", str(days * DAY_MS)),), set_name)


def compacted(name: str, set_name: str = "") -> Topic:
    return Topic(name, "compact", (("segment.ms", "3600000"), ("min.cleanable.dirty.ratio", "0.2")), set_name)


def control_topics() -> list[Topic]:
    """The three topics control and the services meet in. Heartbeats are many and small: short segments let compaction keep up."""
    heartbeats = (("segment.ms", "600000"), ("segment.bytes", "16777216"), ("min.cleanable.dirty.ratio", "0.1"))
    stamped = ("message.timestamp.type", "LogAppendTime")
    return [
        compacted("control.workflows"),
        Topic("control.services", "compact", (*heartbeats, stamped)),
        changes("control.audit", 365),
    ]


def workflow_topics(workflow: str) -> list[Topic]:
    return [
        compacted(f"{workflow}.cursors"),
        compacted(f"{workflow}.state", set_name=workflow),
        changes(f"{workflow}.dead-letters", 30),
    ]


def ingress_topics(tables: Sequence[str]) -> list[Topic]:
    return [changes(f"ingress.{lane}.{table}", 7, "ingress") for table in tables for lane in ("changes", "replay")]


def egress_topics() -> list[Topic]:
    return [changes("egress.email-events", 7, "egress")]


DECISIONS_DAYS = 365


def optin_topics(days: int = DECISIONS_DAYS) -> list[Topic]:
    """Observations and decisions. Decisions are evidence and stay for `days`."""
    return [changes("optin.observations", 7, "optin"), changes("optin.decisions", days, "optin")]


def outcomes_topic(days: int = DECISIONS_DAYS) -> Topic:
    """What became of each decision of Opt In/Out, for as long as the decision itself stays."""
    return changes("optin.outcomes", days)


def ingress_decisions(days: int = DECISIONS_DAYS) -> Topic:
    """What ingress decided on opt-out flags, and what it holds."""
    return changes("ingress.decisions", days)


def guard_topic() -> Topic:
    """The ledger of lowers and deletes of all workflows and instances: one partition, since its order decides, and the broker's clock."""
    return Topic("consent.guard", "delete", (("retention.ms", str(DAY_MS)), ("message.timestamp.type", "LogAppendTime")), partitions=1)


class Topics:
    """Creates and checks topics. Raises RetryError (Kafka away) and HaltError (a topic is not as it has to be)."""

    def __init__(self, settings: KafkaSettings) -> None:
        self._settings = settings
        self._connect()

    def _connect(self) -> None:
        self._refused: KafkaError | None = None
        self._admin = AdminClient(client_config(self._settings) | {"error_cb": self._told})

    def _told(self, error: KafkaError) -> None:
        """Why there is no connection: the question itself only times out. It may be told in the next question's time."""
        trouble("connecting", error)
        if error.code() in (KafkaError._AUTHENTICATION, KafkaError._SSL):
            self._refused = error

    def ensure(self, wanted: Sequence[Topic]) -> dict[str, int]:
        """Makes sure of all `wanted` topics; gives the number of partitions of each, by bare name."""
        prefix = self._settings.topic_prefix
        by_name = {prefix + topic.name: topic for topic in wanted}
        partitions = self._partitions()
        self._check_sets(by_name, partitions)
        missing = [name for name in by_name if name not in partitions]
        if missing:
            self._create(missing, by_name, partitions)
            partitions |= self._shown(missing)
        self._check_cleanup([name for name in by_name if name not in missing], by_name)
        if absent := [name for name in by_name if name not in partitions]:
            raise RetryError(f"Kafka does not show the new topic {absent[0]} yet", code="kafka_unavailable")
        return {topic.name: partitions[name] for name, topic in by_name.items()}

    def largest_message(self, topics: Sequence[Topic]) -> int:
        """Bytes of a message that fits into all of these topics, and that a producer sends (KAFKA_MESSAGE_MAX_BYTES)."""
        names = [self._settings.topic_prefix + topic.name for topic in topics]
        limits = [int(entries["max.message.bytes"].value) for entries in self._configs(names).values()]
        return min([*limits, int(self._settings.client().get("message.max.bytes", MESSAGE_MAX_BYTES))])

    def partitions(self) -> dict[str, int]:
        """Partitions of every topic there is, by bare name."""
        prefix = self._settings.topic_prefix
        return {name.removeprefix(prefix): n for name, n in self._partitions().items() if name.startswith(prefix)}

    async def partitions_of(self, name: str) -> int:
        """Of one topic, by its bare name. Raises RetryError if it is not there yet."""
        count = (await asyncio.to_thread(self.partitions)).get(name)
        if count is None:
            raise RetryError(f"topic {name} is not there yet", code="kafka_unavailable")
        return count

    def _partitions(self) -> dict[str, int]:
        try:
            metadata = self._admin.list_topics(timeout=TIMEOUT_S)
        except KafkaException as exc:
            self._admin.poll(0)
            error = error_for(self._refused or exc, "listing topics")
            self._connect()  # with the password as it is now
            if isinstance(error, HaltError):  # a broker that goes down in the middle of signing in looks the same
                error = RetryError(f"{error}. {error.hint}", code=error.code)
            raise error from exc
        return {
            name: len(topic.partitions)
            for name, topic in metadata.topics.items()
            if topic.partitions and all(each.leader >= 0 for each in topic.partitions.values())
        }

    def _shown(self, names: list[str]) -> dict[str, int]:
        """The topics once the brokers show `names`, which takes a moment after they were created."""
        for _ in range(50):
            partitions = self._partitions()
            if all(name in partitions for name in names):
                break
            time.sleep(0.1)
        return partitions

    def _check_sets(self, by_name: dict[str, Topic], partitions: dict[str, int]) -> None:
        for name, topic in by_name.items():
            count = partitions.get(name)
            if count is None:
                continue
            if topic.partitions is not None and count != topic.partitions:
                raise _mismatch(name, f"has {count} partitions, it must have {topic.partitions}")
            if topic.partitions is None and count < self._settings.partitions:
                raise _mismatch(name, f"has {count} partitions, PARTITIONS asks for {self._settings.partitions}")
            for other, its in by_name.items():
                if topic.set_name and its.set_name == topic.set_name and partitions.get(other, count) != count:
                    raise _mismatch(name, f"has {count} partitions, {other} has {partitions[other]}; they must be equal")

    def _create(self, missing: list[str], by_name: dict[str, Topic], partitions: dict[str, int]) -> None:
        new = []
        for name in missing:
            topic = by_name[name]
            siblings = [partitions[n] for n, t in by_name.items() if t.set_name and t.set_name == topic.set_name and n in partitions]
            new.append(
                NewTopic(
                    name,
                    num_partitions=topic.partitions or max(siblings, default=self._settings.partitions),
                    replication_factor=self._settings.replication_factor,
                    config={"cleanup.policy": topic.cleanup, **dict(topic.config)},
                )
            )
        for name, future in self._admin.create_topics(new, operation_timeout=TIMEOUT_S).items():
            try:
                answered(future, f"creating topic {name}")
            except KafkaException as exc:
                error: KafkaError = exc.args[0]
                if error.code() == KafkaError.INVALID_REPLICATION_FACTOR:
                    raise _mismatch(name, f"cannot have {self._settings.replication_factor} replicas on this cluster") from exc
                if error.code() != KafkaError.TOPIC_ALREADY_EXISTS:
                    raise error_for(exc, f"creating topic {name}") from exc

    def _check_cleanup(self, names: list[str], by_name: dict[str, Topic]) -> None:
        for name, entries in self._configs(names).items():
            policy = entries["cleanup.policy"].value
            if policy != by_name[name].cleanup:
                raise _mismatch(name, f"has cleanup.policy {policy}, it must be {by_name[name].cleanup}")

    def _configs(self, names: Sequence[str]) -> dict[str, dict[str, Any]]:
        """The configuration of these topics, by full name."""
        if not names:
            return {}
        resources, found = [ConfigResource(ResourceType.TOPIC, name) for name in names], {}
        for resource, future in self._admin.describe_configs(resources, request_timeout=TIMEOUT_S).items():
            try:
                found[resource.name] = answered(future, f"reading the configuration of {resource.name}")
            except KafkaException as exc:
                raise error_for(exc, f"reading the configuration of {resource.name}") from exc
        return found


def answered(future: Any, doing: str) -> Any:
    """What Kafka answered. Raises KafkaException, or RetryError if nothing came: a TimeoutError is an OSError, which others take for the
    disk's."""
    try:
        return future.result(TIMEOUT_S * 2)
    except TimeoutError as exc:
        raise RetryError(f"Kafka, {doing}: no answer", code="kafka_unavailable") from exc


def topic_id(settings: KafkaSettings, name: str) -> str:
    """The id the cluster gave to this topic; another one after it was deleted and made again. Raises RetryError."""
    admin = AdminClient(client_config(settings))  # has to live until the answer is there
    try:
        described = admin.describe_topics(TopicCollection([name]), request_timeout=TIMEOUT_S)
        return str(answered(described[name], f"describing topic {name}").topic_id)
    except KafkaException as exc:
        raise error_for(exc, f"describing topic {name}") from exc


def _mismatch(name: str, what: str) -> HaltError:
    return HaltError(
        f"topic {name} {what}",
        code="topic_mismatch",
        hint="Change the topic with Kafka's tools, or PARTITIONS or TOPIC_PREFIX of the services, then start again.",
        origin="kafka",
    )
