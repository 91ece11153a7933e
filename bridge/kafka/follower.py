"""Follows topics from their beginning, outside of any group: the desired state, the heartbeats, what lists are made from."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from confluent_kafka import OFFSET_BEGINNING, Consumer, KafkaError, KafkaException, Message, TopicPartition

from bridge.kafka.client import client_config, headers_of, trouble
from bridge.kafka.settings import KafkaSettings
from bridge.model.errors import RetryError
from bridge.model.events import Headers
from bridge.observe.log import log

CATCH_UP_S = 30


@dataclass(frozen=True, slots=True)
class Entry:
    """One record: key, value (None: deleted), the broker's time, whether it was there before we began, and where it is."""

    key: str
    value: bytes | None
    timestamp_ms: int
    old: bool
    partition: int = 0
    offset: int = 0
    headers: Headers = ()


@dataclass(frozen=True, slots=True)
class Followed:
    """One topic (with its prefix): `changed` is called in the event loop, in order per partition."""

    topic: str
    partitions: int
    changed: Callable[[Sequence[Entry]], None]


class Follower:
    """Hands over what comes in its topics; `start` returns when all that was there has been handed over. One client for all of them: each
    takes threads and memory."""

    def __init__(self, settings: KafkaSettings, *topics: Followed) -> None:
        self._topics = {each.topic: each for each in topics}
        self._places = [(each.topic, number) for each in topics for number in range(each.partitions)]
        self._behind = set(self._places)
        self._loop = asyncio.get_running_loop()
        self._caught_up = asyncio.Event()
        self._closing = threading.Event()
        self._consumer = Consumer(
            client_config(
                settings,
                group_id=f"{settings.topic_prefix}reads-only",
                enable_auto_commit=False,
                enable_partition_eof=True,
                isolation_level="read_committed",
                auto_offset_reset="earliest",
                fetch_wait_max_ms=200,
                queued_max_messages_kbytes=4096,
            )
        )
        self._named = ", ".join(self._topics)
        self._thread = threading.Thread(target=self._run, name=f"follows {self._named}", daemon=True)

    def begin(self) -> None:
        """As `start`, but without waiting."""
        self._consumer.assign([TopicPartition(topic, number, OFFSET_BEGINNING) for topic, number in self._places])
        self._thread.start()

    @property
    def caught_up(self) -> bool:
        """Whether all that was there has been handed over."""
        return self._caught_up.is_set()

    async def start(self) -> None:
        """Raises RetryError if Kafka does not give the topic's end in 30 s."""
        self.begin()
        try:
            await asyncio.wait_for(self._caught_up.wait(), CATCH_UP_S)
        except TimeoutError as exc:
            self.close()
            raise RetryError(f"Kafka, following {self._named}: no answer", code="kafka_unavailable") from exc

    def close(self) -> None:
        self._closing.set()

    def _run(self) -> None:
        while not self._closing.is_set():
            try:
                self._take()
            except KafkaException as exc:  # a service that no longer follows would ignore every command
                trouble(f"following {self._named}", exc)
                self._closing.wait(1)
            except Exception as exc:
                log("internal_fault", "error", where=f"following {self._named}", reason=type(exc).__name__)
                self._closing.wait(1)
        self._consumer.close()

    def _take(self) -> None:
        first = self._consumer.poll(0.5)
        entries: dict[str, list[Entry]] = {}
        for message in [] if first is None else [first, *self._consumer.consume(1000, 0)]:
            error, place = message.error(), (message.topic() or "", message.partition() or 0)
            if error is None:
                entries.setdefault(place[0], []).append(_entry(message, place in self._behind))
            elif error.code() == KafkaError._PARTITION_EOF:
                self._behind.discard(place)
            else:
                trouble(f"following {self._named}", error)
        for topic, arrived in entries.items():
            self._loop.call_soon_threadsafe(self._hand_over, self._topics[topic], arrived)
        if not self._behind and not self._caught_up.is_set():
            self._loop.call_soon_threadsafe(self._caught_up.set)

    def _hand_over(self, followed: Followed, arrived: Sequence[Entry]) -> None:
        """What cannot be dealt with is told, and what comes after it is not lost with it."""
        try:
            followed.changed(arrived)
        except Exception as exc:
            log("internal_fault", "error", where=f"following {followed.topic}", reason=type(exc).__name__)


def _entry(message: Message, old: bool) -> Entry:
    return Entry(
        key=(message.key() or b"").decode("utf-8", "replace"),
        value=message.value(),
        timestamp_ms=message.timestamp()[1],
        old=old,
        partition=message.partition() or 0,
        offset=message.offset() or 0,
        headers=headers_of(message),
    )
