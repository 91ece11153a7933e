"""`<workflow>.state`, with a local sqlite copy of the partitions this process owns (decision D3).

The copy is a cache: it is caught up with the topic whenever a partition is gained, rebuilt if it is missing or odd, and may be deleted at
any time while the process is down.
"""

from __future__ import annotations

import asyncio
import sqlite3
import time
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path

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
COUNT_EVERY_S = 60.0
AT_ONCE = 4  # partitions that are caught up with
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
            raise FencedError("the local copy of the state is damaged; it is built anew", code="state_damaged") from exc
        return None if value is None else Known.from_json(value)

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

    def count(self) -> int:
        """Records of all partitions that are ours."""
        return sum(part.count() for part in self._open.values())

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
        except (OSError, sqlite3.Error) as exc:
            raise _unusable_folder(path.parent) from exc
        started, count = time.monotonic(), 0
        with closing(TopicReader(self._settings)) as reader:
            first, end = reader.range(self._topic, partition)
            if part.topic_id != self._topic_id() or not first <= part.next <= end:
                part.forget(self._topic_id())
            for message in reader.read(self._topic, partition, part.next, end):
                part.apply((message.key() or b"").decode(), message.value(), message.offset() or 0)
                count += 1
        part.next = end
        part.flush()
        log("state_loaded", partition=partition, records=count, seconds=round(time.monotonic() - started, 3))
        return part

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
        self._records, self._counted_at = 0, -COUNT_EVERY_S

    def get(self, key: str) -> bytes | None:
        row = self._db.execute("SELECT value FROM known WHERE key = ?", (key,)).fetchone()
        return None if row is None else row[0]

    def count(self) -> int:
        """How many records there are, as of at most a minute ago: sqlite counts them one by one."""
        now = time.monotonic()
        if now - self._counted_at > COUNT_EVERY_S:
            self._records = int(self._db.execute("SELECT count(*) FROM known").fetchone()[0])
            self._counted_at = now
        return self._records

    def put(self, key: str, value: bytes) -> None:
        self._db.execute(PUT, (key, value))
        self._count()

    def apply(self, key: str, value: bytes | None, offset: int) -> None:
        """One record of the topic."""
        if value is None:
            self._db.execute("DELETE FROM known WHERE key = ?", (key,))
        else:
            self._db.execute(PUT, (key, value))
        self.next = offset + 1
        self._count()

    def advance(self, offset: int) -> None:
        """The topic holds the record we just put, at this offset."""
        if offset == self.next:
            self.next = offset + 1

    def forget(self, topic_id: str) -> None:
        """Starts over, for the topic of this id (a topic that was deleted and made anew has another)."""
        self._db.execute("DELETE FROM known")
        self.next, self.topic_id = 0, topic_id

    def flush(self) -> None:
        self._db.execute("INSERT OR REPLACE INTO progress VALUES (1, ?, ?)", (self.next, self.topic_id))
        self._db.execute("COMMIT")
        self._db.execute("BEGIN")
        self._unflushed = 0

    def close(self) -> None:
        self.flush()
        self._db.close()

    def _count(self) -> None:
        self._unflushed += 1
        if self._unflushed >= FLUSH_EVERY:
            self.flush()


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
