"""Who reads what: a reader owns the tables whose cursors lie in the partitions it was assigned (decision D1)."""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Coroutine
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from confluent_kafka import OFFSET_BEGINNING, Consumer, KafkaError, Message, TopicPartition

from bridge.kafka.client import SESSION_TIMEOUT_MS, FencedError, Names, client_config, error_for, trouble
from bridge.kafka.member import Member
from bridge.kafka.membership import Membership
from bridge.kafka.publisher import TransactionalPublisher
from bridge.kafka.settings import KafkaSettings
from bridge.model.errors import HaltError
from bridge.observe.log import log

Cursors = dict[str, dict[str, Any]]
GainedCall = Callable[[int, Cursors, TransactionalPublisher], None]
LostCall = Callable[[int], Coroutine[Any, Any, None]]


class Ownership(Member):
    """Takes part in the group `<workflow>-reader` on a thread of its own. For the partitions `wanted` it calls, in the event loop,

    - `gained(partition, cursors, publisher)`, once earlier owners are fenced and the partition's cursors are read to the end;
    - `await lost(partition)`, and gives the partition away when that has returned; at `close`, for each that is still owned.
    """

    def __init__(
        self,
        settings: KafkaSettings,
        workflow: str,
        instance: str,
        wanted: Collection[int],
        gained: GainedCall,
        lost: LostCall,
        largest: int | None = None,
    ) -> None:
        super().__init__("ownership", "owning tables")
        self._settings, self._largest = settings, largest
        self._workflow = workflow
        names = Names(settings)
        self._topic = names.topic(f"{workflow}.cursors")
        self._wanted, self._gained, self._lost = wanted, gained, lost
        self._loading: dict[int, Cursors] = {}
        self._owned: set[int] = set()
        self.rebalances = 0
        self.membership = Membership(names.group(f"{workflow}-reader"))
        self._consumer = Consumer(
            client_config(
                settings,
                group_id=names.group(f"{workflow}-reader"),
                group_instance_id=instance,
                session_timeout_ms=SESSION_TIMEOUT_MS,
                heartbeat_interval_ms=2000,
                partition_assignment_strategy="range",
                isolation_level="read_committed",
                enable_auto_commit=False,
                enable_partition_eof=True,
                auto_offset_reset="earliest",
            )
        )

    def _work(self) -> None:
        self._consumer.subscribe([self._topic], on_assign=self._assign, on_revoke=self._revoke, on_lost=self._revoke)
        while not self._closing.is_set():
            if (message := self._consumer.poll(0.2)) is not None:
                self._take(message)

    def _leave(self) -> None:
        try:
            self._consumer.close()
            self._release(sorted(self._owned))
        except Exception as exc:
            self._fail(exc)

    def _assign(self, consumer: Consumer, partitions: list[TopicPartition]) -> None:
        self.membership.assigned()
        self.rebalances += 1
        log("partitions_assigned", topic=self._topic, partitions=[each.partition for each in partitions])
        numbers = [each.partition for each in partitions if each.partition in self._wanted]
        with ThreadPoolExecutor(len(numbers) or 1) as threads:
            self._publishers = dict(zip(numbers, threads.map(self._publisher, numbers), strict=True))
        self._loading = {number: {} for number in numbers}
        consumer.assign([TopicPartition(self._topic, each.partition, OFFSET_BEGINNING) for each in partitions])
        consumer.resume(partitions)  # a partition that was ours before comes back paused

    def _publisher(self, partition: int) -> TransactionalPublisher:
        publisher = TransactionalPublisher(self._settings, self._workflow, partition, self._largest)
        publisher.start()
        return publisher

    def _revoke(self, _: Consumer, partitions: list[TopicPartition]) -> None:
        self.membership.left()
        log("partitions_revoked", topic=self._topic, partitions=[each.partition for each in partitions])
        self._loading.clear()
        self._release([each.partition for each in partitions])

    def _release(self, partitions: list[int]) -> None:
        for partition in partitions:
            if partition in self._owned:
                self._owned.discard(partition)
                self._ended(self._lost(partition))

    def _take(self, message: Message) -> None:
        error, partition = message.error(), message.partition()
        if error is not None and error.code() == KafkaError._PARTITION_EOF:
            self._loaded(partition)
        elif error is not None:
            failure = error_for(error, "reading cursors")
            if isinstance(failure, HaltError | FencedError):
                raise failure
            trouble("reading cursors", failure)
        elif partition in self._loading:
            key = (message.key() or b"").decode("utf-8", "replace")
            if (cursor := _cursor(key, message.value())) is None:
                self._loading[partition].pop(key, None)
            else:
                self._loading[partition][key] = cursor

    def _loaded(self, partition: int | None) -> None:
        if partition is None or partition not in self._loading:
            return
        cursors, publisher = self._loading.pop(partition), self._publishers[partition]
        self._consumer.pause([TopicPartition(self._topic, partition)])
        self._owned.add(partition)
        self._loop.call_soon_threadsafe(self._give, partition, cursors, publisher)

    def _give(self, partition: int, cursors: Cursors, publisher: TransactionalPublisher) -> None:
        try:
            self._gained(partition, cursors, publisher)
        except Exception as exc:
            self._fail(exc)


def _cursor(key: str, value: bytes | None) -> dict[str, Any] | None:
    """None for a deleted one. Raises HaltError for what is none: to begin again by ourselves would read everything, or lose a journal."""
    if value is None:
        return None
    try:
        found = json.loads(value)
    except ValueError:
        found = None
    if not isinstance(found, dict):
        raise HaltError(
            f"the cursor {key} cannot be read: somebody else has written it",
            code="cursor_unreadable",
            hint="Delete it (`bridge cursors delete`) and start: the table is read again from its beginning.",
            origin="kafka",
        )
    return found
