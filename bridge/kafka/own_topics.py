"""The topics that a writer reads, as a place where records wait: published again behind all others, read once more when due."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Sequence

from confluent_kafka import Message

from bridge.flow.offsets import Position
from bridge.kafka.client import Names, headers_of
from bridge.kafka.producer import KafkaProducer
from bridge.kafka.reader import TopicReader
from bridge.kafka.settings import KafkaSettings
from bridge.model.events import Headers, Record


class KafkaOwnTopics:
    """See bridge.flow.ports.OwnTopics. It reads with a consumer of its own, outside of the group, so that the group's reading goes on."""

    def __init__(self, settings: KafkaSettings, producer: KafkaProducer) -> None:
        self._settings, self._names, self._producer = settings, Names(settings), producer
        self._reader: TopicReader | None = None
        self._reading = threading.Lock()
        self._closing = threading.Event()

    async def publish(self, record: Record, headers: Headers) -> int:
        return await self._producer.send(self._names.topic(record.topic), record.key, record.value, headers, record.partition)

    async def read(self, position: Position, offsets: Sequence[int]) -> Sequence[Record]:
        return await asyncio.to_thread(self._read, position, frozenset(offsets)) if offsets else []

    async def close(self) -> None:
        """Returns when nothing is read any more."""
        self._closing.set()
        if self._reader is not None:
            self._reader.give_up()
        await asyncio.to_thread(self._close)

    def _read(self, position: Position, offsets: frozenset[int]) -> Sequence[Record]:
        with self._reading:  # who asked may have been cancelled, and asked again
            if self._closing.is_set():
                return []
            if self._reader is None:
                self._reader = TopicReader(self._settings)
            found = []
            for message in self._reader.read(self._names.topic(position[0]), position[1], min(offsets), max(offsets) + 1):
                if self._closing.is_set():
                    break
                if message.offset() in offsets:
                    found.append(record_of(message, self._names))
            return found

    def _close(self) -> None:
        with self._reading:
            if self._reader is not None:
                self._reader.close()


def record_of(message: Message, names: Names) -> Record:
    return Record(
        topic=names.bare(message.topic() or ""),
        partition=message.partition() or 0,
        offset=message.offset() or 0,
        timestamp_ms=message.timestamp()[1],
        key=message.key(),
        value=message.value(),
        headers=headers_of(message),
    )
