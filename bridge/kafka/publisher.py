"""A page of events and the cursor after it, in one transaction (decision D1)."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping, Sequence
from typing import Any

from confluent_kafka import KafkaError, KafkaException, Message, Producer

from bridge.kafka.client import FencedError, Names, client_config, error_for, trouble
from bridge.kafka.producer import PARTITIONER
from bridge.kafka.settings import KafkaSettings
from bridge.model.errors import BridgeError, HaltError
from bridge.model.events import Headers

Message_ = tuple[str, bytes, bytes | None, Headers]  # topic, key, value, headers
TIMEOUT_S = 30


class TransactionalPublisher:
    """Publishes for the owner of one partition of `<workflow>.cursors`. `largest`: bytes of a batch that its topics take.

    The transactional id names that partition: whoever owned it before is fenced by `start` (FencedError at its next commit), and what
    it had left open is aborted.
    """

    def __init__(self, settings: KafkaSettings, workflow: str, partition: int, largest: int | None = None) -> None:
        names = Names(settings)
        self._names = names
        self._cursors = names.topic(f"{workflow}.cursors")
        self._partition = partition
        self._error: KafkaError | None = None
        self._lost: FencedError | None = None  # once fenced, always fenced, whatever librdkafka says the second time
        self._lock = asyncio.Lock()
        self._producer = Producer(
            client_config(
                settings,
                transactional_id=names.transactional_id(f"{workflow}-reader-{partition}"),
                partitioner=PARTITIONER,
                linger_ms=5,
                compression_type="lz4",
                transaction_timeout_ms=60_000,
                queue_buffering_max_messages=200_000,
                **({} if largest is None else {"message_max_bytes": largest}),
            )
        )

    def start(self) -> None:
        """Fences the owner before us. Raises RetryError or FencedError."""
        try:
            self._producer.init_transactions(TIMEOUT_S)
        except KafkaException as exc:
            raise error_for(exc, "starting transactions") from exc

    async def publish(self, messages: Sequence[Message_], cursor_key: str, cursor: Mapping[str, Any] | None) -> None:
        """All or nothing; None deletes the cursor. Raises RetryError (publish the same again), FencedError or HaltError."""
        async with self._lock:
            await asyncio.to_thread(self._publish, messages, cursor_key, cursor)

    def _publish(self, messages: Sequence[Message_], cursor_key: str, cursor: Mapping[str, Any] | None) -> None:
        if self._lost is not None:
            raise self._lost
        self._error = None
        try:
            self._producer.begin_transaction()
            for topic, key, value, headers in messages:
                self._produce(self._names.topic(topic), key, value, headers=list(headers))
            position = None if cursor is None else json.dumps(cursor, separators=(",", ":")).encode()
            self._produce(self._cursors, cursor_key.encode(), position, partition=self._partition)
            self._commit()
        except KafkaException as exc:
            raise self._aborted(exc) from exc
        if self._error is not None:
            raise error_for(self._error, "publishing")

    def _produce(self, topic: str, key: bytes, value: bytes | None, **more: Any) -> None:
        while True:
            try:
                self._producer.produce(topic, value, key, on_delivery=self._delivered, **more)
                self._producer.poll(0)
                return
            except BufferError:
                self._producer.poll(0.1)

    def _delivered(self, error: KafkaError | None, _: Message) -> None:
        self._error = self._error or error

    def _commit(self) -> None:
        """Until Kafka has said yes or no: a commit without an answer cannot be given up, only asked for again."""
        while True:
            try:
                self._producer.commit_transaction(TIMEOUT_S)
                return
            except KafkaException as exc:
                cause: KafkaError = exc.args[0]
                if cause.txn_requires_abort() or cause.fatal() or not cause.retriable():
                    raise
                trouble("committing a page", exc)

    def _aborted(self, exc: KafkaException) -> BridgeError:
        """The error to raise, after making the producer usable again where that is possible."""
        error = error_for(exc, "publishing a page")
        if isinstance(error, FencedError):
            self._lost = error
        else:
            try:
                self._producer.abort_transaction(TIMEOUT_S)
            except KafkaException as failed:
                if not isinstance(error, HaltError):  # the broker knows of no transaction when it has refused its first topic
                    return error_for(failed, "aborting a page")
        return error
