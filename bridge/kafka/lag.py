"""Lag of consumer groups as Kafka's own tools compute it: end offset minus committed offset, per partition (decision D10)."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from typing import Any

from confluent_kafka import Consumer, KafkaException, TopicPartition
from confluent_kafka.admin import AdminClient
from confluent_kafka.admin._listoffsets import OffsetSpec

from bridge.flow.offsets import Position
from bridge.kafka.client import Names, client_config, error_for
from bridge.kafka.settings import KafkaSettings
from bridge.model.errors import RetryError

LATEST: Any = OffsetSpec._latest
EARLIEST: Any = OffsetSpec._earliest
TIMEOUT_S = 5
DESCRIBE_EVERY_S = 3.0
LIST_EVERY_S = 60.0
BATCH_BYTES, QUEUED_KB = 16_384, 1024  # of each partition one batch is enough, the broker gives it whole


@dataclass(frozen=True, slots=True)
class PartitionLag:
    """`committed` None: the group has never committed here; then everything that is there waits."""

    partition: int
    committed: int | None
    end: int
    lag: int


@dataclass(frozen=True, slots=True)
class GroupLag:
    """`state` as Kafka names it (Stable, Empty, …); topics by bare name."""

    group: str
    state: str
    members: int
    topics: Mapping[str, Sequence[PartitionLag]]

    @property
    def records(self) -> int:
        return sum(each.lag for partitions in self.topics.values() for each in partitions)


class LagReader:
    """Asks the brokers; blocks, so use it on a thread. Raises RetryError when they do not answer: lag is then unknown, not zero.

    Committed offsets are asked for with a consumer that never joins its group: librdkafka's admin client takes the whole process down
    (SIGSEGV) when the group's coordinator moves or is still loading (librdkafka, rd_kafka_handle_OffsetFetch without a group).
    """

    def __init__(self, settings: KafkaSettings) -> None:
        self._settings, self._names = settings, Names(settings)
        self._admin = AdminClient(client_config(settings))
        self._askers: dict[str, Consumer] = {}
        self._described: dict[str, tuple[float, str, int]] = {}
        self._counts: dict[str, int] = {}
        self._listed_at = float("-inf")

    def group(self, group: str, topics: Sequence[str]) -> GroupLag:
        """Lag of one group on those of `topics` (bare names) that exist: one request for offsets, one per leader for ends."""
        try:
            return self._group(group, topics)
        except RetryError:  # after a broker's restart an old client can time out for ever
            self._admin = AdminClient(client_config(self._settings))
            self._listed_at = float("-inf")
            if (asker := self._askers.pop(group, None)) is not None:
                asker.close()
            raise

    def _group(self, group: str, topics: Sequence[str]) -> GroupLag:
        try:
            name = self._names.group(group)
            partitions = self._partitions(topics)
            committed = self._committed(group, partitions)
            state, members = self._members(name)
            ends = self._offsets(partitions, LATEST)
            fresh = [each for each in partitions if each not in committed]
            starts = self._offsets(fresh, EARLIEST) if fresh else {}
        except KafkaException as exc:
            raise error_for(exc, "asking for lag") from exc
        except TimeoutError as exc:
            raise RetryError("Kafka, asking for lag: no answer", code="kafka_unavailable") from exc
        by_topic: dict[str, list[PartitionLag]] = {topic: [] for topic in topics}
        for topic, number in sorted(partitions):
            position = (topic, number)
            at = committed.get(position)
            lag = max(0, ends[position] - (starts[position] if at is None else at))
            by_topic[self._names.bare(topic)].append(PartitionLag(number, at, ends[position], lag))
        return GroupLag(group, state, members, {topic: lags for topic, lags in by_topic.items() if lags})

    def oldest_ms(self, waiting: Mapping[Position, int]) -> int | None:
        """Broker's time of the oldest of the records at these positions (bare topic, partition → committed offset); None if they
        cannot be had within half a second."""
        if not waiting:
            return None
        config = client_config(
            self._settings,
            group_id=f"{self._settings.topic_prefix}reads-only",
            auto_offset_reset="earliest",
            fetch_wait_max_ms=50,
            fetch_message_max_bytes=BATCH_BYTES,
            queued_max_messages_kbytes=QUEUED_KB,
        )
        with closing(Consumer(config)) as consumer:
            consumer.assign([TopicPartition(self._names.topic(topic), number, at) for (topic, number), at in waiting.items()])
            found: dict[tuple[str | None, int | None], int] = {}
            for _ in range(10):
                for message in consumer.consume(500, 0.05):
                    if message.error() is None:
                        found.setdefault((message.topic(), message.partition()), message.timestamp()[1])
                if len(found) == len(waiting):
                    break
        return min(found.values(), default=None)

    def _partitions(self, topics: Sequence[str]) -> list[Position]:
        """Topics seldom get more partitions, and a cluster may hold thousands of other topics: known ones are looked up once a minute."""
        names = [self._names.topic(topic) for topic in topics]
        if time.monotonic() - self._listed_at > LIST_EVERY_S or any(name not in self._counts for name in names):
            listed = self._admin.list_topics(timeout=TIMEOUT_S).topics
            self._counts, self._listed_at = {name: len(topic.partitions) for name, topic in listed.items()}, time.monotonic()
        return [(name, number) for name in names for number in range(self._counts.get(name, 0))]

    def _committed(self, group: str, positions: Sequence[Position]) -> dict[Position, int]:
        if not positions:
            return {}
        if group not in self._askers:
            config = client_config(self._settings, group_id=self._names.group(group), enable_auto_commit=False)
            self._askers[group] = Consumer(config)
        answered = self._askers[group].committed([TopicPartition(topic, number) for topic, number in positions], TIMEOUT_S)
        if (failed := next((each.error for each in answered if each.error is not None), None)) is not None:
            raise KafkaException(failed)
        return {(each.topic, each.partition): each.offset for each in answered if each.offset >= 0}

    def _members(self, group: str) -> tuple[str, int]:
        """State and number of members, which change seldom: asked for every three seconds only (it takes librdkafka two requests)."""
        kept = self._described.get(group)
        if kept is None or time.monotonic() - kept[0] > DESCRIBE_EVERY_S:
            kept = self._described[group] = (time.monotonic(), *self._describe(group))
        return kept[1], kept[2]

    def _describe(self, group: str) -> tuple[str, int]:
        described = self._admin.describe_consumer_groups([group], request_timeout=TIMEOUT_S)[group].result(TIMEOUT_S * 2)
        return "".join(word.capitalize() for word in described.state.name.split("_")), len(described.members)

    def _offsets(self, positions: Sequence[Position], spec: Any) -> dict[Position, int]:
        if not positions:
            return {}
        asked = {TopicPartition(topic, number): spec for topic, number in positions}
        answered = self._admin.list_offsets(asked, request_timeout=TIMEOUT_S)
        return {(each.topic, each.partition): future.result(TIMEOUT_S * 2).offset for each, future in answered.items()}
