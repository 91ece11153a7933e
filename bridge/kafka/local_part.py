"""The sqlite copy of one partition of a state topic: a cache, whole after kill -9, rebuilt where it is odd."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

FLUSH_EVERY = 1000
PAGE_BYTES = 8192  # several of the largest records, which the resolver has, fit into one
PUT = "INSERT INTO known VALUES (?, ?) ON CONFLICT (key) DO UPDATE SET value = excluded.value"
COUNT_EVERY_S = 300.0
# Rows in the order they come, an index beside them: with the values in the index itself (WITHOUT ROWID) each new record rewrites a page at
# random, one above 1,000 bytes takes a page of its own, and counting reads all of the file.
SCHEMA = """
CREATE TABLE IF NOT EXISTS known (key TEXT PRIMARY KEY, value BLOB NOT NULL);
CREATE TABLE IF NOT EXISTS progress (
    one INTEGER PRIMARY KEY CHECK (one = 1), next INTEGER NOT NULL, topic_id TEXT NOT NULL, owner INTEGER NOT NULL
);
"""


class LocalPart:
    """The sqlite copy of one partition. `next`: the first offset of the topic it does not hold. `owner`: the highest one that has written,
    or ours.

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
        row = self._db.execute("SELECT next, topic_id, owner FROM progress").fetchone()
        self.next, self.topic_id, self.owner = (int(row[0]), str(row[1]), int(row[2])) if row else (0, "", 0)
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
        self.next, self.topic_id, self.owner = 0, topic_id, 0

    def flush(self) -> None:
        self._db.execute("INSERT OR REPLACE INTO progress VALUES (1, ?, ?, ?)", (self.next, self.topic_id, self.owner))
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
