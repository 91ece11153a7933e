"""`<workflow>.state`, with a local sqlite copy of the partitions this process owns (decision D3).

The copy is a cache: it is caught up with the topic whenever a partition is gained, rebuilt if it is missing or odd, and may be deleted at
any time while the process is down.

A former owner's producer may still hold records when a partition has changed hands. Each record says in a header who owned the partition,
and an owner's number is higher than all before it: a record of a lower one that comes behind a higher one is late, and never wins. Since a
compacted topic keeps the last record of a key, an owner that finds a late one says what it knows once more.
"""

from __future__ import annotations

import asyncio
import ctypes
import sqlite3
import time
from collections.abc import Collection, Iterable, Iterator, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

from confluent_kafka import Message

from bridge.kafka.client import FencedError, Names
from bridge.kafka.local_part import LocalPart
from bridge.kafka.producer import KafkaProducer
from bridge.kafka.reader import TopicReader
from bridge.kafka.settings import KafkaSettings
from bridge.kafka.topics import topic_id
from bridge.model.clock import Clock, SystemClock
from bridge.model.errors import HaltError, RetryError
from bridge.model.state import Known
from bridge.observe.log import log

OWNER = "owner"  # header of a record: `<role> <number>`; roles share a topic, each with records of its own
LATE_S = 90.0  # a producer gives a record up after 30 s; a process that was stopped for a while may have some more
CLOCK = SystemClock()
AT_ONCE = 2  # partitions that are caught up with; more take memory, and hardly less time
BATCH = 10_000  # keys that are written to the local copy in one go: 8 MB, about


class KafkaState:
    """See StateStore. One sqlite file per partition in `folder`. `role`: of the workflow's services that keep state, which this is."""

    def __init__(
        self, settings: KafkaSettings, workflow: str, folder: Path, producer: KafkaProducer, role: str = "writer", clock: Clock = CLOCK
    ) -> None:
        self._settings, self._producer = settings, producer
        self._role, self._clock = role, clock
        self._later: dict[int, asyncio.Task[None]] = {}
        self._topic = Names(settings).topic(f"{workflow}.state")
        self._folder = folder
        self._open: dict[int, LocalPart] = {}
        self._id = ""

    def get(self, partition: int, key: str) -> Known | None:
        part = self._part(partition)
        try:
            value = part.get(key)
        except sqlite3.DatabaseError as exc:
            _remove(part.path)
            raise FencedError("the local copy of the state is damaged; it is built again", code="state_damaged") from exc
        try:
            return None if value is None else Known.from_json(value)
        except (ValueError, TypeError):  # somebody else has written it: as if it had never been seen, which takes nothing away
            log("state_unreadable", "warning", key=key)
            return None

    async def put(self, partition: int, key: str, known: Known) -> None:
        part, value = self._part(partition), known.to_json()
        try:
            part.put(key, value)
        except sqlite3.Error as exc:
            raise _unusable_folder(self._folder) from exc
        part.advance(await self._send(part, partition, key, value))

    async def gain(self, partitions: Sequence[int]) -> None:
        """Catches up with the topic for these partitions, some at once; others stay open. Raises RetryError."""
        slots = asyncio.Semaphore(AT_ONCE)

        async def one(partition: int) -> None:
            async with slots:
                part, late = await asyncio.to_thread(self._caught_up, partition)
                part.owner = max(part.owner + 1, int(self._clock.now().timestamp() * 1000))
                self._open[partition] = part
            await self._say_again(part, partition, late)
            self._later[partition] = asyncio.create_task(self._look_later(partition, part.next))

        waiting = [one(partition) for partition in set(partitions) - self._open.keys()]
        for outcome in await asyncio.gather(*waiting, return_exceptions=True):  # a thread cannot be given up: let all of them end
            if isinstance(outcome, BaseException):
                raise outcome

    async def look_for_late(self, partition: int, start: int) -> None:
        """What former owners' producers still held when the partition was gained has arrived, from offset `start` on: it is said once more
        what became of those records. Raises RetryError."""
        if (part := self._open.get(partition)) is None:
            return
        late, ours, highest = await asyncio.to_thread(self._late, partition, start, part.owner)
        if highest > part.owner:  # the former owner's clock was ahead of ours: to who reads the topic we would be the late one
            part.owner, late = highest + 1, late | ours
        await self._say_again(part, partition, late)

    async def _look_later(self, partition: int, start: int) -> None:
        await self._clock.sleep(LATE_S)
        while True:
            try:
                return await self.look_for_late(partition, start)
            except RetryError:
                await self._clock.sleep(1)
            except Exception as exc:  # whatever ails Kafka or the folder ends the run where it is needed
                return log("internal_fault", "error", where="state", reason=type(exc).__name__)

    async def _say_again(self, part: LocalPart, partition: int, keys: Collection[str]) -> None:
        for key in keys:
            if self._open.get(partition) is part and (known := self.get(partition, key)) is not None:
                part.advance(await self._send(part, partition, key, known.to_json()))
        if keys:
            log("state_late", "warning", partition=partition, records=len(keys))

    def _late(self, partition: int, start: int, owner: int) -> tuple[set[str], set[str], int]:
        """The keys of late records, those of our own, and the highest owner."""
        owners, late, ours = Owners(self._role, owner), set[str](), set[str]()
        with closing(TopicReader(self._settings)) as reader:
            _, end = reader.range(self._topic, partition)
            for message in reader.read(self._topic, partition, start, end):
                by, key = owners.number(message), (message.key() or b"").decode("utf-8", "replace")
                if by == owner:
                    ours.add(key)
                elif owners.is_late(message):
                    late.add(key)
        return late, ours, owners.highest

    async def _send(self, part: LocalPart, partition: int, key: str, value: bytes) -> int:
        headers = [(OWNER, f"{self._role} {part.owner}".encode())]
        return await self._producer.send(self._topic, key.encode(), value, headers, partition)

    def lose(self, partition: int) -> None:
        if later := self._later.pop(partition, None):
            later.cancel()
        if part := self._open.pop(partition, None):
            part.close()

    def owned(self) -> int:
        """How many partitions are ours."""
        return len(self._open)

    def contacts(self) -> int:
        """Contacts of Opt In/Out in all partitions that are ours: the writer's records of the same contact do not count."""
        return sum(part.count("key NOT LIKE '%/%'") for part in self._open.values())

    def records_of(self, table: str) -> int:
        """Records of an ingress table in all partitions that are ours."""
        return sum(part.count("key >= ? AND key < ?", f"{table}/", f"{table}0") for part in self._open.values())

    def close(self) -> None:
        for partition in list(self._open):
            self.lose(partition)

    def _part(self, partition: int) -> LocalPart:
        if partition not in self._open:
            raise RetryError("the partition is not ours any more", code="released")
        return self._open[partition]

    def _caught_up(self, partition: int) -> tuple[LocalPart, set[str]]:
        """And the keys whose last record in the topic is a late one."""
        path = self._folder / f"{self._topic}-{partition}.sqlite"
        try:
            part = self._local(path)
            try:
                late = self._catch_up(part, partition)
            except BaseException:
                part.close()
                raise
        except (OSError, sqlite3.Error) as exc:
            raise _unusable_folder(path.parent) from exc
        return part, late

    def _catch_up(self, part: LocalPart, partition: int) -> set[str]:
        started, count = time.monotonic(), 0
        with closing(TopicReader(self._settings)) as reader:
            first, end = reader.range(self._topic, partition)
            if part.topic_id != self._topic_id() or not first <= part.next <= end:
                part.forget(self._topic_id())
            owners = Owners(self._role, part.owner)
            for records, next_offset in _batches(reader.read(self._topic, partition, part.next, end), owners):
                part.owner = owners.highest
                part.apply(records, next_offset)
                count += len(records)
        part.next = end
        part.flush()
        if count >= BATCH:
            _give_back()
        log("state_loaded", partition=partition, records=count, seconds=round(time.monotonic() - started, 3))
        return owners.late

    def _local(self, path: Path) -> LocalPart:
        try:
            return LocalPart(path)
        except sqlite3.DatabaseError:
            _remove(path)
            return LocalPart(path)

    def _topic_id(self) -> str:
        self._id = self._id or topic_id(self._settings, self._topic)
        return self._id


class Owners:
    """Of the records of one partition that were written in a role, in the order of the topic. `late`: the keys whose last record is."""

    def __init__(self, role: str, highest: int) -> None:
        self._prefix, self.highest, self.late = f"{role} ".encode(), highest, set[str]()

    def is_late(self, message: Message) -> bool:
        """Whether it was written by an owner before one that has written already. What does not say who wrote it is not."""
        owner = self.number(message)
        if owner is None:
            return False
        self.highest = max(self.highest, owner)
        return owner < self.highest

    def number(self, message: Message) -> int | None:
        """Of the owner who wrote it; None where that is not said, or in another role."""
        headers: Any = message.headers()
        for name, value in headers or ():
            if name == OWNER and isinstance(value, bytes) and value.startswith(self._prefix):
                number = value.removeprefix(self._prefix)
                return int(number) if number.isdigit() and len(number) <= 18 else None
        return None


def _batches(messages: Iterable[Message], owners: Owners) -> Iterator[tuple[dict[str, bytes | None], int]]:
    """The last value of each key, some records at a time, and the offset after them. No message is kept: it is larger than its value."""
    records: dict[str, bytes | None] = {}
    next_offset = 0
    for message in messages:
        key, next_offset = (message.key() or b"").decode("utf-8", "replace"), (message.offset() or 0) + 1
        if owners.is_late(message):
            owners.late.add(key)
        else:
            records[key] = message.value()
            owners.late.discard(key)
        if len(records) >= BATCH:
            yield records, next_offset
            records = {}
    if next_offset:
        yield records, next_offset


def _give_back() -> None:
    """Memory that was freed stays with the process, in an arena of each thread, unless glibc is told; other C libraries need no telling."""
    if (trim := getattr(ctypes.CDLL(None), "malloc_trim", None)) is not None:
        trim(0)


def _remove(path: Path) -> None:
    for name in (path.name, f"{path.name}-wal", f"{path.name}-shm"):
        path.with_name(name).unlink(missing_ok=True)


def _unusable_folder(folder: Path) -> HaltError:
    return HaltError(
        f"the folder of STATE_DIR ({folder}) cannot be written",
        code="state_dir_unusable",
        hint="Give the service a writable STATE_DIR with free space, then start again.",
        origin="service",
    )
