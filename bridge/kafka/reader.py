"""Reads a stretch of a topic, outside of any group: state, control topics, what a load has published."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import datetime

from confluent_kafka import Consumer, KafkaError, KafkaException, Message, TopicPartition

from bridge.kafka.client import REFUSED, client_config, error_for
from bridge.kafka.settings import KafkaSettings

TIMEOUT_S = 15
BATCH = 2000
QUEUED_KB = 4096  # fetched ahead; by default 64 MB, of each of several at once, and what was freed stays with the process


class TopicReader:
    """Raises RetryError (Kafka away) or HaltError (refused). Close it after use."""

    def __init__(self, settings: KafkaSettings, group: str | None = None) -> None:
        self._consumer = Consumer(
            client_config(
                settings,
                group_id=group or f"{settings.topic_prefix}reads-only",  # librdkafka wants one; nothing is ever committed
                enable_auto_commit=False,
                enable_partition_eof=True,
                isolation_level="read_committed",
                auto_offset_reset="earliest",
                fetch_wait_max_ms=50,
                queued_max_messages_kbytes=QUEUED_KB,
                fetch_queue_backoff_ms=10,  # else a second passes before a queue that was full is filled again
            )
        )

    def close(self) -> None:
        self._consumer.close()

    def range(self, topic: str, partition: int) -> tuple[int, int]:
        """The first offset there is and the one after the last."""
        try:
            low, high = self._consumer.get_watermark_offsets(TopicPartition(topic, partition), TIMEOUT_S)
        except KafkaException as exc:
            raise error_for(exc, f"asking for the end of {topic}") from exc
        return low, high

    def committed(self, topic: str, partitions: int) -> list[int]:
        """The offsets that the group given at the beginning has committed, 0 where it never has."""
        asked = [TopicPartition(topic, number) for number in range(partitions)]
        try:
            answered = self._consumer.committed(asked, TIMEOUT_S)
        except KafkaException as exc:
            raise error_for(self._refusal() or exc, f"asking for committed offsets of {topic}") from exc
        for each in answered:
            if each.error is not None:
                raise error_for(each.error, f"asking for committed offsets of {topic}")
        return [max(0, each.offset) for each in sorted(answered, key=lambda each: each.partition)]

    def commit(self, topic: str, offsets: Mapping[int, int]) -> None:
        """For the group given at the beginning, which must have no members."""
        places = [TopicPartition(topic, number, at) for number, at in offsets.items()]
        try:
            self._consumer.commit(offsets=places, asynchronous=False)
        except KafkaException as exc:
            raise error_for(exc, f"committing offsets of {topic}") from exc

    def _refusal(self) -> KafkaError | None:
        """Why the group's coordinator was not told to us; the question itself only times out."""
        message = self._consumer.poll(0)
        error = None if message is None else message.error()
        return error if error is not None and error.code() in REFUSED else None

    def since(self, topic: str, partition: int, moment: datetime) -> int:
        """The offset of the first record of `moment` or later; the end if there is none."""
        asked = TopicPartition(topic, partition, int(moment.timestamp() * 1000))
        try:
            (found,) = self._consumer.offsets_for_times([asked], TIMEOUT_S)
        except KafkaException as exc:
            raise error_for(exc, f"looking for a time in {topic}") from exc
        return int(found.offset) if found.offset >= 0 else self.range(topic, partition)[1]

    def read(self, topic: str, partition: int, start: int, end: int) -> Iterator[Message]:
        """Committed records from `start` up to `end`, not included; stops at the partition's end at the latest."""
        if start >= end:
            return
        self._consumer.assign([TopicPartition(topic, partition, start)])
        quiet = 0
        while quiet < TIMEOUT_S:
            messages = self._consumer.consume(BATCH, 1.0) if quiet else self._first()
            quiet = 0 if messages else quiet + 1
            for message in messages:
                error = message.error()
                if error is None and (message.offset() or 0) < end:
                    yield message
                elif error is None or error.code() == KafkaError._PARTITION_EOF:
                    return
                else:
                    raise error_for(error, f"reading {topic}")
        raise error_for(KafkaError(KafkaError._TIMED_OUT), f"reading {topic}")

    def _first(self) -> list[Message]:
        first = self._consumer.poll(1.0)
        return [] if first is None else [first, *self._consumer.consume(BATCH, 0)]
