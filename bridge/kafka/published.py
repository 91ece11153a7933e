"""What our own topics already hold of a table: read back after a full load to find what changed meanwhile."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from itertools import islice

from confluent_kafka import Message

from bridge.kafka.avro import Decoder
from bridge.kafka.client import Names
from bridge.kafka.partitioner import partition_for
from bridge.kafka.reader import TopicReader
from bridge.kafka.settings import KafkaSettings
from bridge.model.errors import RejectError
from bridge.model.events import ChangeEvent
from bridge.model.state import Known

PART = 500  # records that are read in one go: to begin an event loop for each event cost four times as much as the event
Starts = Mapping[str, Sequence[int]]  # bare topic → offset of each partition
Seen = tuple[str, int, int | None, bool]  # key, source epoch, version in it, gone


class Published:
    """Raises RetryError or HaltError. Its iterators block; use them on a thread."""

    def __init__(self, settings: KafkaSettings, workflow: str, decoder: Decoder[ChangeEvent]) -> None:
        self._settings, self._decoder = settings, decoder
        self._names = Names(settings)
        self._group = self._names.group(workflow)
        self._state = self._names.topic(f"{workflow}.state")

    def committed(self, topics: Mapping[str, int]) -> dict[str, list[int]]:
        """What the writers' group has committed in every partition, 0 where nothing; `topics` with their numbers of partitions."""
        with closing(TopicReader(self._settings, self._group)) as reader:
            return {topic: reader.committed(self._names.topic(topic), partitions) for topic, partitions in topics.items()}

    def known(self, table: str, partitions: int) -> Iterator[Sequence[Seen]]:
        """Every record of `table` in the state topic, in small parts. Later entries of a key supersede earlier ones."""
        prefix = f"{table}/".encode()
        with closing(TopicReader(self._settings)) as reader:
            for number in range(partitions):
                for part in _parts(reader.read(self._state, number, *reader.range(self._state, number))):
                    yield list(_known(part, prefix))

    def states(self, keys: Mapping[str, str], partitions: int) -> dict[str, Known]:
        """What the state topic holds of these records (its key → the key of their events); reads their partitions from end to end."""
        wanted = {key.encode() for key in keys}
        numbers = {partition_for(key.encode(), partitions) for key in keys.values()}
        found: dict[str, Known] = {}
        with closing(TopicReader(self._settings)) as reader:
            for number in sorted(numbers):
                for message in reader.read(self._state, number, *reader.range(self._state, number)):
                    if message.key() in wanted:
                        self._take(found, message)
        return found

    @staticmethod
    def _take(found: dict[str, Known], message: Message) -> None:
        key, value = (message.key() or b"").decode(), message.value()
        if value is None:
            found.pop(key, None)
        else:
            found[key] = Known.from_json(value)

    def since(self, starts: Starts) -> Iterator[Sequence[Seen]]:
        """Every event published from `starts` on, in small parts; what is no event is passed over."""
        with closing(TopicReader(self._settings)) as reader:
            for topic, offsets in starts.items():
                name = self._names.topic(topic)
                for number, start in enumerate(offsets):
                    low, end = reader.range(name, number)
                    for part in _parts(reader.read(name, number, max(start, low), end)):
                        yield asyncio.run(self._seen(part))

    async def _seen(self, messages: Sequence[Message]) -> list[Seen]:
        found = []
        for message in messages:
            try:
                event = await self._decoder.decode(message.value())
            except RejectError:
                continue
            found.append((event.key, event.epoch, event.version, event.op == "delete"))
        return found


def _parts(messages: Iterator[Message]) -> Iterator[Sequence[Message]]:
    while part := list(islice(messages, PART)):
        yield part


def _known(messages: Sequence[Message], prefix: bytes) -> Iterator[Seen]:
    for message in messages:
        key, value = message.key() or b"", message.value()
        if key.startswith(prefix) and value is not None:
            known = Known.from_json(value)
            yield key.removeprefix(prefix).decode(), known.epoch, known.version, not known.exists
