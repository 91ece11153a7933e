"""An idempotent producer whose `send` returns when the broker has the record."""

from __future__ import annotations

import asyncio
import threading
from collections import deque
from typing import Any

from confluent_kafka import KafkaError, KafkaException, Message, Producer

from bridge.kafka.client import client_config, error_for, trouble
from bridge.kafka.settings import KafkaSettings
from bridge.model.errors import RetryError
from bridge.model.events import Headers
from bridge.observe.log import log

PARTITIONER = "murmur2_random"  # as Java clients do, so that other people's tools find a key where we put it


class KafkaProducer:
    """Sends from one event loop; a thread of its own serves the broker's acknowledgements."""

    def __init__(self, settings: KafkaSettings) -> None:
        self._producer = Producer(
            client_config(settings, enable_idempotence=True, partitioner=PARTITIONER, linger_ms=2, delivery_timeout_ms=30_000)
        )
        self._fatal: KafkaError | None = None  # why this client will never send again; what it had in hand fails with a bare _FATAL
        self._acknowledged: deque[tuple[asyncio.Future[int], KafkaError | None, Message]] = deque()
        self._awaited = False  # the event loop has been told that there is something, and has not looked yet
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._serve, name="producer", daemon=True)
        self._thread.start()

    async def send(self, topic: str, key: bytes | None, value: bytes | None, headers: Headers = (), partition: int | None = None) -> int:
        """The offset the record got. Raises RetryError if the broker did not take it in 30 s."""
        loop = asyncio.get_running_loop()
        done: asyncio.Future[int] = loop.create_future()

        def delivered(error: KafkaError | None, message: Message) -> None:
            self._acknowledged.append((done, self._cause(error), message))
            if not self._awaited:  # waking the loop costs a system call: once for all that come before it looks
                self._awaited = True
                loop.call_soon_threadsafe(self._resolve)

        place: dict[str, Any] = {} if partition is None else {"partition": partition}
        try:
            self._producer.produce(topic, value, key, headers=list(headers), on_delivery=delivered, **place)
        except BufferError as exc:
            raise RetryError("Kafka, producing: the local queue is full", code="kafka_unavailable") from exc
        except KafkaException as exc:
            raise error_for(self._cause(exc.args[0]) or exc, f"producing to {topic}") from exc
        return await done

    def close(self, timeout_s: float = 5) -> None:
        self._producer.flush(timeout_s)
        self._closing.set()
        self._thread.join(timeout_s)

    def _serve(self) -> None:
        while not self._closing.is_set():
            try:
                self._producer.poll(0.1)
            except KafkaException as exc:  # fatal; those who wait for an answer still have to get one
                self._fatal = exc.args[0]
                trouble("producing", exc)
            except Exception as exc:  # without this thread nobody would ever hear that a record has arrived
                log("internal_fault", "error", where="producing", reason=type(exc).__name__)

    def _resolve(self) -> None:
        self._awaited = False  # before looking: what is added from now on wakes the loop again
        while self._acknowledged:
            done, error, message = self._acknowledged.popleft()
            if done.done():
                continue
            if error is not None:
                done.set_exception(error_for(error, f"producing to {message.topic()}"))
            else:
                done.set_result(message.offset() or 0)

    def _cause(self, error: KafkaError | None) -> KafkaError | None:
        return self._fatal if error is not None and error.code() == KafkaError._FATAL and self._fatal is not None else error
