"""Who reads what: a reader owns the tables whose cursors lie in the partitions it was assigned (decision D1)."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Awaitable, Callable, Collection
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from confluent_kafka import OFFSET_BEGINNING, Consumer, KafkaError, KafkaException, Message, TopicPartition

from bridge.kafka.client import SESSION_TIMEOUT_MS, FencedError, Names, client_config, error_for, trouble
from bridge.kafka.membership import Membership
from bridge.kafka.publisher import TransactionalPublisher
from bridge.kafka.settings import KafkaSettings
from bridge.model.errors import BridgeError, HaltError, RetryError
from bridge.observe.log import log

Cursors = dict[str, dict[str, Any]]
GainedCall = Callable[[int, Cursors, TransactionalPublisher], None]
LostCall = Callable[[int], Awaitable[None]]
RELEASE_TIMEOUT_S = 20


class Ownership:
    """Takes part in the group `<workflow>-reader` on a thread of its own. For the partitions `wanted` it calls, in the event loop,

    - `gained(partition, cursors, publisher)`, once earlier owners are fenced and the partition's cursors are read to the end;
    - `await lost(partition)`, and gives the partition away when that has returned.
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
        self._settings, self._largest = settings, largest
        self._workflow = workflow
        names = Names(settings)
        self._topic = names.topic(f"{workflow}.cursors")
        self._wanted, self._gained, self._lost = wanted, gained, lost
        self._loop = asyncio.get_running_loop()
        self._failed: asyncio.Future[None] = self._loop.create_future()
        self._closing = threading.Event()
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
        self._thread = threading.Thread(target=self._run, name="ownership", daemon=True)

    async def run(self) -> None:
        """Until cancelled or closed. Raises HaltError."""
        self._thread.start()
        await self._failed

    async def close(self) -> None:
        """Gives everything back and leaves. `lost` is called for each partition still owned."""
        self._closing.set()
        await asyncio.to_thread(self._thread.join, RELEASE_TIMEOUT_S + 10)

    def _run(self) -> None:
        try:
            self._consumer.subscribe([self._topic], on_assign=self._assign, on_revoke=self._revoke, on_lost=self._revoke)
            while not self._closing.is_set():
                if (message := self._consumer.poll(0.2)) is not None:
                    self._take(message)
        except BridgeError as exc:
            self._fail(exc)
        except KafkaException as exc:
            self._fail(error_for(exc, "owning tables"))
        except Exception as exc:  # a thread that only ended would leave a run that says RUNNING and reads nothing
            self._fail(exc)
        finally:
            self._leave()

    def _leave(self) -> None:
        try:
            self._consumer.close()
            self._release(sorted(self._owned))
        except Exception as exc:
            self._fail(exc)

    def _fail(self, exc: Exception) -> None:
        self._loop.call_soon_threadsafe(lambda: None if self._failed.done() else self._failed.set_exception(exc))

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
                future = asyncio.run_coroutine_threadsafe(_awaited(self._lost, partition), self._loop)
                try:
                    future.result(RELEASE_TIMEOUT_S)
                except TimeoutError as exc:
                    text = f"what is under way did not end in {RELEASE_TIMEOUT_S} s; the run begins again"
                    raise RetryError(text, code="release_slow") from exc

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


async def _awaited(call: LostCall, partition: int) -> None:
    await call(partition)
