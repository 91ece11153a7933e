"""Looking into a real Kafka from a test, and taking it away for a moment."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import time
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import asynccontextmanager, closing, contextmanager
from typing import Any

from confluent_kafka import Consumer, KafkaException, Message, TopicPartition
from confluent_kafka.admin import AdminClient
from confluent_kafka.cimpl import NewTopic

from bridge.kafka.producer import KafkaProducer
from bridge.kafka.reader import TopicReader
from bridge.kafka.settings import KafkaSettings
from bridge.kafka.topics import Topic, Topics
from bridge.model.errors import RetryError
from sandbox.kafka import LocalKafka
from sandbox.kafka.local import free_port


def make(settings: KafkaSettings, *topics: Topic) -> None:
    """Creates the topics; returns when every partition has its leader, which takes a moment longer."""
    for name, partitions in Topics(settings).ensure(topics).items():
        settled(lambda name=name, partitions=partitions: _led(settings, name, partitions))  # type: ignore[misc]


def _led(settings: KafkaSettings, name: str, partitions: int) -> bool:
    with closing(TopicReader(settings)) as reader:
        return all(reader.range(settings.topic_prefix + name, number) for number in range(partitions))


def make_raw(settings: KafkaSettings, name: str, partitions: int, **config: str) -> None:
    """A topic as somebody else might have made it; underscores in the configuration stand for dots."""
    admin = AdminClient(settings.client())
    named = {option.replace("_", "."): value for option, value in config.items()}
    new = NewTopic(settings.topic_prefix + name, num_partitions=partitions, replication_factor=1, config=named)
    for future in admin.create_topics([new]).values():
        future.result(10)
    settled(lambda: Topics(settings).partitions().get(name) == partitions)


def drop(settings: KafkaSettings, name: str) -> None:
    admin = AdminClient(settings.client())
    for future in admin.delete_topics([settings.topic_prefix + name]).values():
        future.result(10)
    settled(lambda: name not in Topics(settings).partitions())


def content(settings: KafkaSettings, topic: str, partitions: int = 3) -> list[Message]:
    """Every committed record of a topic (bare name), partition by partition.

    Brokers write the markers of a commit a moment after they have confirmed it, those of the first one later still. So it is read when
    nothing is open any more, or when what is open has had five seconds (a transaction that nobody ends).
    """
    name, deadline = settings.topic_prefix + topic, time.monotonic() + 5
    uncommitted = Consumer(settings.client(group_id="reads-only", isolation_level="read_uncommitted"))
    with closing(TopicReader(settings)) as reader, closing(uncommitted):
        for number in range(partitions):
            end = uncommitted.get_watermark_offsets(TopicPartition(name, number), 10)[1]
            while reader.range(name, number)[1] < end and time.monotonic() < deadline:
                time.sleep(0.05)
        return [each for number in range(partitions) for each in reader.read(name, number, *reader.range(name, number))]


def latest(settings: KafkaSettings, topic: str) -> dict[str, Any]:
    """Key → JSON of a compacted topic, as it stands."""
    view: dict[str, Any] = {}
    for message in content(settings, topic):
        key, value = (message.key() or b"").decode(), message.value()
        view.pop(key, None)
        if value is not None:
            view[key] = json.loads(value)
    return view


@asynccontextmanager
async def producing(settings: KafkaSettings) -> AsyncIterator[KafkaProducer]:
    producer = KafkaProducer(settings)
    try:
        yield producer
    finally:
        await asyncio.to_thread(producer.close)


async def fill(settings: KafkaSettings, topic: str, keys: Sequence[str], partition: int | None = None) -> None:
    """Plain records, with their number as value."""
    async with producing(settings) as producer:
        name = settings.topic_prefix + topic
        await asyncio.gather(*(producer.send(name, key.encode(), str(n).encode(), (), partition) for n, key in enumerate(keys)))


@contextmanager
def frozen(kafka: LocalKafka) -> Iterator[None]:
    """The broker takes connections and answers nothing, until the end of the block."""
    pid = int((kafka.home / "kafka.pid").read_text())
    os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(pid, signal.SIGCONT)


def nowhere(settings: KafkaSettings) -> KafkaSettings:
    """Settings that lead to ports where nobody listens."""
    gone = {"bootstrap_servers": f"127.0.0.1:{free_port()}", "registry_url": f"http://127.0.0.1:{free_port()}"}
    return settings.model_copy(update=gone)


def settled(condition: Callable[[], bool], within_s: float = 15) -> None:
    """Blocks until `condition` holds; what Kafka refuses meanwhile does not count."""
    deadline = time.monotonic() + within_s
    while True:
        try:
            if condition():
                return
        except (KafkaException, RetryError):
            pass
        if time.monotonic() > deadline:
            raise AssertionError("it never came to that")
        time.sleep(0.05)


async def eventually(condition: Callable[[], object], within_s: float = 20) -> None:
    """As `settled`, while the event loop goes on; `condition` runs in the loop."""
    deadline = time.monotonic() + within_s
    while not condition():
        assert time.monotonic() < deadline, "it never came to that"
        await asyncio.sleep(0.03)
