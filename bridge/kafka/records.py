"""The writer's consumer: one thread that polls, hands over, commits and gives way; it never sleeps and never blocks on the target."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from typing import Protocol

from confluent_kafka import OFFSET_BEGINNING, Consumer, KafkaError, KafkaException, Message, TopicPartition

from bridge.flow.offsets import OffsetLedger, Position
from bridge.kafka.client import OUT_OF_RANGE, SESSION_TIMEOUT_MS, FencedError, Names, client_config, error_for, headers_of, trouble
from bridge.kafka.lease import Lease
from bridge.kafka.member import Member
from bridge.kafka.membership import Membership
from bridge.kafka.settings import KafkaSettings
from bridge.model.errors import HaltError
from bridge.model.events import Record
from bridge.observe.log import log

BATCH = 500
POLL_S = 0.05
COMMIT_EVERY_S = 1.0
# The thread that polls waits while the state of new partitions is rebuilt (`_assign`), minutes with millions of records. That we are alive
# is told by the session, that we may act by the lease: the time between two polls tells neither.
LONGEST_REBUILD_MS = 3_600_000


class RecordListener(Protocol):
    """Who gets the records; called in the event loop, except `full`, which is asked from the consumer's thread."""

    def offer(self, records: Sequence[Record]) -> None: ...

    def full(self, topic: str) -> bool:
        """True while no more records of this topic should come."""

    async def gain(self, partitions: Sequence[int]) -> None:
        """These partitions (of all topics) are ours: get ready for them."""

    async def release(self, positions: Sequence[Position]) -> None:
        """Returns when nothing of these positions is in flight any more; what was not begun is dropped."""


class KafkaRecords(Member):
    """Consumes `topics` as a member of `group`, from the committed offsets or, where there is none, from the beginning."""

    def __init__(
        self,
        settings: KafkaSettings,
        group: str,
        instance: str,
        topics: Sequence[str],
        listener: RecordListener,
        ledger: OffsetLedger,
        lease: Lease,
    ) -> None:
        super().__init__("records", "consuming")
        names = Names(settings)
        self._names, self._listener, self._ledger, self._lease = names, listener, ledger, lease
        self._topics = [names.topic(topic) for topic in topics]
        self._paused: set[Position] = set()
        self.rebalances = 0
        self.membership = Membership(names.group(group))
        self._consumer = Consumer(
            client_config(
                settings,
                group_id=names.group(group),
                group_instance_id=instance,
                session_timeout_ms=SESSION_TIMEOUT_MS,
                max_poll_interval_ms=LONGEST_REBUILD_MS,
                heartbeat_interval_ms=2000,
                partition_assignment_strategy="range",
                isolation_level="read_committed",
                enable_auto_commit=False,
                enable_auto_offset_store=False,
                enable_partition_eof=True,
                auto_offset_reset="error",
                fetch_wait_max_ms=100,
                queued_max_messages_kbytes=16384,
                topic_metadata_refresh_interval_ms=30_000,
            )
            | {"on_commit": self._committed}
        )

    def _leave(self) -> None:
        steps: list[Callable[[], object]] = [lambda: self._release(self._owned()), self._commit_now, self._consumer.close]
        for step in steps:  # closing calls `_revoke` again
            try:
                step()
            except Exception as exc:
                self._fail(exc)

    def _work(self) -> None:
        self._consumer.subscribe(self._topics, on_assign=self._assign, on_revoke=self._revoke, on_lost=self._lose)
        next_commit = 0.0
        while not self._closing.is_set():
            first = self._consumer.poll(POLL_S)
            self._confirm()
            if first is not None:
                self._hand_over([first, *self._consumer.consume(BATCH, 0)])
            self._apply_backpressure()
            if time.monotonic() >= next_commit:
                self._commit_soon()
                next_commit = time.monotonic() + COMMIT_EVERY_S

    def _confirm(self) -> None:
        """Keeps the lease fresh; after a gap (this process was stopped) only once the group has confirmed us."""
        if not self._lease.stale() or self._still_ours():
            self._lease.renew()

    def _still_ours(self) -> bool:
        """Asks the group, with a commit: only that, no other question, is refused to one who is not a member any more. With nothing
        committed and nothing to commit nobody has been given a record yet, and the lease has to wait."""
        moved, offsets = self._offsets()
        try:
            due = {(each.topic, each.partition) for each in offsets}
            offsets += [each for each in self._committed_positions() if (each.topic, each.partition) not in due]
            answer = self._consumer.commit(offsets=offsets, asynchronous=False) if offsets else None
        except KafkaException as exc:
            trouble("confirming the assignment", exc)
            return False
        if not answer or any(each.error is not None for each in answer):
            return False
        self._ledger.committed(moved)
        return True

    def _committed_positions(self) -> list[TopicPartition]:
        assigned = self._consumer.assignment()
        return [each for each in self._consumer.committed(assigned, 5) if each.offset >= 0] if assigned else []

    def _hand_over(self, messages: Sequence[Message]) -> None:
        records = []
        for message in messages:
            error = message.error()
            topic, partition, offset = message.topic() or "", message.partition() or 0, message.offset() or 0
            if error is None:
                record = self._record(message)
                self._ledger.read(record.position, offset, record.timestamp_ms)
                records.append(record)
            elif error.code() == KafkaError._PARTITION_EOF:
                self._ledger.reached_end((self._names.bare(topic), partition), offset)
            else:
                self._error(error, TopicPartition(topic, partition))
        if records:
            self._loop.call_soon_threadsafe(self._offer, records)

    def _offer(self, records: Sequence[Record]) -> None:
        try:
            self._listener.offer(records)
        except Exception as exc:
            self._fail(exc)

    def _error(self, error: KafkaError, place: TopicPartition) -> None:
        if error.code() in OUT_OF_RANGE:
            self._tell_expired([place])
        failure = error_for(error, "consuming")
        if isinstance(failure, HaltError | FencedError):
            raise failure
        trouble("consuming", failure)

    def _record(self, message: Message) -> Record:
        return Record(
            topic=self._names.bare(message.topic() or ""),
            partition=message.partition() or 0,
            offset=message.offset() or 0,
            timestamp_ms=message.timestamp()[1],
            key=message.key(),
            value=message.value(),
            headers=headers_of(message),
        )

    def _apply_backpressure(self) -> None:
        for topic in self._topics:
            bare = self._names.bare(topic)
            full = self._listener.full(bare)
            for each in self._consumer.assignment() if full or self._paused else ():
                position = (bare, each.partition)
                if each.topic == topic and full != (position in self._paused):
                    (self._consumer.pause if full else self._consumer.resume)([TopicPartition(topic, each.partition)])
                    (self._paused.add if full else self._paused.discard)(position)

    def _assign(self, consumer: Consumer, partitions: list[TopicPartition]) -> None:
        self.membership.assigned()
        self.rebalances += 1
        log("partitions_assigned", partitions=sorted({each.partition for each in partitions}))
        numbers = sorted({each.partition for each in partitions})
        asyncio.run_coroutine_threadsafe(self._listener.gain(numbers), self._loop).result()
        self._paused.clear()
        found = consumer.committed(partitions, 30) if partitions else []
        for each in found:
            if each.error is not None:  # not "never": its beginning would be read again
                raise error_for(each.error, f"asking for committed offsets of {each.topic}")
        if expired := [each for each in found if each.offset < 0 and self._first(each) > 0]:
            self._tell_expired(expired)
        for each in found:
            committed = each.offset if each.offset >= 0 else None
            self._ledger.own((self._names.bare(each.topic), each.partition), committed)
            each.offset = OFFSET_BEGINNING if committed is None else committed
            partitions[partitions.index(TopicPartition(each.topic, each.partition))].offset = each.offset
        consumer.assign(partitions)
        consumer.resume(partitions)  # a partition that was ours before comes back paused
        self._lease.renew()

    def _first(self, place: TopicPartition) -> int:
        """The first offset there is in a partition."""
        return int(self._consumer.get_watermark_offsets(TopicPartition(place.topic, place.partition), 10)[0])

    def _tell_expired(self, places: Sequence[TopicPartition]) -> None:
        """What waited there is gone, or the group's offsets are, and with them how much of it was dealt with. It is told once: the next
        start goes on with what is left. Raises HaltError."""
        left = [TopicPartition(each.topic, each.partition, self._first(each)) for each in places]
        try:
            self._consumer.commit(offsets=left, asynchronous=False)
        except KafkaException as exc:
            raise error_for(exc, "committing") from exc
        raise error_for(KafkaError(KafkaError.OFFSET_OUT_OF_RANGE), "consuming")

    def _revoke(self, _: Consumer, partitions: list[TopicPartition]) -> None:
        log("partitions_revoked", partitions=sorted({each.partition for each in partitions}))
        self._release([(self._names.bare(each.topic), each.partition) for each in partitions])
        self._commit_now()
        self._disown(partitions)

    def _lose(self, _: Consumer, partitions: list[TopicPartition]) -> None:
        log("partitions_lost", "warning", partitions=sorted({each.partition for each in partitions}))
        self._disown(partitions)
        self._release([(self._names.bare(each.topic), each.partition) for each in partitions])

    def _disown(self, partitions: Sequence[TopicPartition]) -> None:
        self.membership.left()
        for each in partitions:
            self._ledger.disown((self._names.bare(each.topic), each.partition))

    def _owned(self) -> list[Position]:
        try:
            return [(self._names.bare(each.topic), each.partition) for each in self._consumer.assignment()]
        except (KafkaException, RuntimeError):
            return []

    def _release(self, positions: Sequence[Position]) -> None:
        if positions:
            self._ended(self._listener.release(positions))

    def _offsets(self) -> tuple[dict[Position, int], list[TopicPartition]]:
        moved = self._ledger.commitable()
        return moved, [TopicPartition(self._names.topic(topic), number, at) for (topic, number), at in moved.items()]

    def _commit_soon(self) -> None:
        _, offsets = self._offsets()
        if offsets:
            self._consumer.commit(offsets=offsets, asynchronous=True)

    def _committed(self, error: KafkaError | None, partitions: list[TopicPartition]) -> None:
        """The broker's answer to a commit; what failed is sent again with the next one."""
        if error is not None:
            trouble("committing", error)
            return
        self._ledger.committed({(self._names.bare(each.topic), each.partition): each.offset for each in partitions if each.error is None})

    def _commit_now(self) -> None:
        moved, offsets = self._offsets()
        if not offsets:
            return
        try:
            self._consumer.commit(offsets=offsets, asynchronous=False)
            self._ledger.committed(moved)
        except KafkaException as exc:
            trouble("committing", exc)
