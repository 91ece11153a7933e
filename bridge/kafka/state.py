"""`<workflow>.state`, with a local sqlite copy of the partitions this process owns (decision D3).

The copy is a cache: it is caught up with the topic whenever a partition is gained, rebuilt if it is missing or odd, and may be deleted at
any time while the process is down.
"""

from __future__ import annotations

import asyncio
import ctypes
import sqlite3
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import closing, suppress
from pathlib import Path

from confluent_kafka import Message

from bridge.errors import HaltError, RetryError
from bridge.kafka.client import FencedError, Names
from bridge.kafka.producer import KafkaProducer
from bridge.kafka.reader import TopicReader
from bridge.kafka.topics import topic_id
from bridge.log import log
from bridge.settings import KafkaSettings
from bridge.state import Known

FLUSH_EVERY = 1000
PAGE_BYTES = 8192  # several of the largest records, which the resolver has, fit into one
PUT = "INSERT INTO known VALUES (?, ?) ON CONFLICT (key) DO UPDATE SET value = excluded.value"
COUNT_EVERY_S = 300.0
AT_ONCE = 2  # partitions that are caught up with; more take memory, and hardly less time
BATCH = 10_000  # keys that are written to the local copy in one go: 8 MB, about
# Rows in the order they come, an index beside them: with the values in the index itself (WITHOUT ROWID) each new record rewrites a page at
# random, one above 1,000 bytes takes a page of its own, and counting reads all of the file.
SCHEMA = """
CREATE TABLE IF NOT EXISTS known (key TEXT PRIMARY KEY, value BLOB NOT NULL);
CREATE TABLE IF NOT EXISTS progress (one INTEGER PRIMARY KEY CHECK (one = 1), next INTEGER NOT NULL, topic_id TEXT NOT NULL);
"""


class KafkaState:
    """See StateStore. One sqlite file per partition in `folder`."""

    def __init__(self, settings: KafkaSettings, workflow: str, folder: Path, producer: KafkaProducer) -> None:
        self._settings, self._producer = settings, producer
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
        part.advance(await self._producer.send(self._topic, key.encode(), value, partition=partition))

    async def gain(self, partitions: Sequence[int]) -> None:
        """Catches up with the topic for these partitions, some at once; others stay open. Raises RetryError."""
        slots = asyncio.Semaphore(AT_ONCE)

        async def one(partition: int) -> None:
            async with slots:
                self._open[partition] = await asyncio.to_thread(self._caught_up, partition)

        waiting = [one(partition) for partition in set(partitions) - self._open.keys()]
        for outcome in await asyncio.gather(*waiting, return_exceptions=True):  # a thread cannot be given up: let all of them end
            if isinstance(outcome, BaseException):
                raise outcome

    def lose(self, partition: int) -> None:
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

    def _caught_up(self, partition: int) -> LocalPart:
        path = self._folder / f"{self._topic}-{partition}.sqlite"
        try:
            part = self._local(path)
            try:
                self._catch_up(part, partition)
            except BaseException:
                part.close()
                raise
        except (OSError, sqlite3.Error) as exc:
            raise _unusable_folder(path.parent) from exc
        return part

    def _catch_up(self, part: LocalPart, partition: int) -> None:
        started, count = time.monotonic(), 0
        with closing(TopicReader(self._settings)) as reader:
            first, end = reader.range(self._topic, partition)
            if part.topic_id != self._topic_id() or not first <= part.next <= end:
                part.forget(self._topic_id())
            for records, next_offset in _batches(reader.read(self._topic, partition, part.next, end)):
                part.apply(records, next_offset)
                count += len(records)
        part.next = end
        part.flush()
        if count >= BATCH:
            _give_back()
        log("state_loaded", partition=partition, records=count, seconds=round(time.monotonic() - started, 3))

    def _local(self, path: Path) -> LocalPart:
        try:
            return LocalPart(path)
        except sqlite3.DatabaseError:
            _remove(path)
            return LocalPart(path)

    def _topic_id(self) -> str:
        self._id = self._id or topic_id(self._settings, self._topic)
        return self._id


class LocalPart:
    """The sqlite copy of one partition. `next`: the first offset of the topic it does not hold.

    Only the event loop's thread and, before that, the loading thread use it, never both at once.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        path.parent.mkdir(parents=True, exist_ok=True)
        self._db = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
        self._db.execute(f"PRAGMA page_size={PAGE_BYTES}")  # of a new file
        self._db.execute("PRAGMA journal_mode=WAL")  # whole after kill -9; after a power cut it may be odd, and is rebuilt
        self._db.execute("PRAGMA synchronous=OFF")
        self._db.executescript(SCHEMA)
        row = self._db.execute("SELECT next, topic_id FROM progress").fetchone()
        self.next, self.topic_id = (int(row[0]), str(row[1])) if row else (0, "")
        self._db.execute("BEGIN")
        self._unflushed = 0
        self._counted: dict[tuple[str, ...], tuple[int, float]] = {}

    def get(self, key: str) -> bytes | None:
        row = self._db.execute("SELECT value FROM known WHERE key = ?", (key,)).fetchone()
        return None if row is None else row[0]

    def count(self, where: str, *values: str) -> int:
        """How many records there are of a kind, as of at most some minutes ago: sqlite counts them one by one."""
        now, asked = time.monotonic(), (where, *values)
        counted, at = self._counted.get(asked, (0, -COUNT_EVERY_S))
        if now - at >= COUNT_EVERY_S:
            counted = int(self._db.execute(f"SELECT count(*) FROM known WHERE {where}", values).fetchone()[0])
            self._counted[asked] = (counted, now)
        return counted

    def put(self, key: str, value: bytes) -> None:
        self._db.execute(PUT, (key, value))
        self._count()

    def apply(self, records: Mapping[str, bytes | None], next_offset: int) -> None:
        """Many records of the topic, the last value of each key. In the order of their keys: a page of the file takes several at once, else
        it is written for each of them."""
        rows = sorted((key, value) for key, value in records.items() if value is not None)
        self._db.executemany(PUT, rows)
        self._db.executemany("DELETE FROM known WHERE key = ?", [(key,) for key, value in records.items() if value is None])
        self.next = next_offset
        self.flush()

    def advance(self, offset: int) -> None:
        """The topic holds the record we just put, at this offset."""
        if offset == self.next:
            self.next = offset + 1

    def forget(self, topic_id: str) -> None:
        """Starts over, for the topic of this id (a topic that was deleted and made again has another)."""
        self._db.execute("DELETE FROM known")
        self.next, self.topic_id = 0, topic_id

    def flush(self) -> None:
        self._db.execute("INSERT OR REPLACE INTO progress VALUES (1, ?, ?)", (self.next, self.topic_id))
        self._db.execute("COMMIT")
        self._db.execute("BEGIN")
        self._unflushed = 0

    def close(self) -> None:
        """What cannot be written any more (a full disk) is read from the topic again next time."""
        with suppress(sqlite3.Error):
            self.flush()
        self._db.close()

    def _count(self) -> None:
        self._unflushed += 1
        if self._unflushed >= FLUSH_EVERY:
            self.flush()


def _batches(messages: Iterable[Message]) -> Iterator[tuple[dict[str, bytes | None], int]]:
    """The last value of each key, some records at a time, and the offset after them. No message is kept: it is larger than its value."""
    records: dict[str, bytes | None] = {}
    next_offset = 0
    for message in messages:
        records[(message.key() or b"").decode("utf-8", "replace")] = message.value()
        next_offset = (message.offset() or 0) + 1
        if len(records) >= BATCH:
            yield records, next_offset
            records = {}
    if records:
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
