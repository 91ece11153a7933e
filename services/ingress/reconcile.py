"""What a full read could not see: rows that changed, came or vanished while it was running, or before it without a tombstone.

Compares the keys and versions that Dynamics lists now with what our topics and the state hold, in a temporary sqlite file, so that
fifteen million keys are no matter of memory. Each difference is read once more by itself before it is acted upon.
"""

from __future__ import annotations

import asyncio
import sqlite3
import threading
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from bridge.dynamics.changes import Row, TrackedTable
from bridge.dynamics.lookups import Lookups
from bridge.errors import RetryError
from bridge.kafka.published import Published, Seen
from bridge.log import log

Learn = Callable[[Sequence[Row]], Awaitable[None]]
CHUNK = 50
LOOKS, LOOK_AGAIN_S = 2, 3.0
SCHEMA = """
CREATE TABLE there (key TEXT PRIMARY KEY, version INTEGER) WITHOUT ROWID;
CREATE TABLE seen (key TEXT PRIMARY KEY, epoch INTEGER NOT NULL, version INTEGER NOT NULL, gone INTEGER NOT NULL) WITHOUT ROWID;
"""
NOTE_SEEN = """
INSERT INTO seen VALUES (?, ?, ?, ?) ON CONFLICT (key) DO UPDATE SET
    epoch = excluded.epoch, version = excluded.version, gone = excluded.gone
WHERE (excluded.epoch, excluded.version) >= (epoch, version)
"""
DIFFERENCES = """
SELECT there.key, iif(seen.epoch = :epoch, seen.version, 0), 1 FROM there LEFT JOIN seen USING (key)
WHERE seen.key IS NULL OR (:epoch, there.version) > (seen.epoch, seen.version)
UNION ALL
SELECT seen.key, iif(seen.epoch = :epoch, seen.version, 0), 0 FROM seen LEFT JOIN there USING (key)
WHERE there.key IS NULL AND NOT seen.gone
"""


@dataclass(frozen=True, slots=True)
class Difference:
    """`row`: as it is now, None if it is gone. `seen`: the highest version that our topics and the state hold of it in the epoch that is
    read, 0 for none."""

    key: str
    row: Row | None
    seen: int


class Listing:
    """All keys there are now, with their versions, in a new file at `path`. A listing that was interrupted goes on at its page."""

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.unlink(missing_ok=True)
        self.db = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
        self.db.executescript(f"PRAGMA journal_mode=OFF; PRAGMA synchronous=OFF; {SCHEMA} BEGIN;")
        self._link: str | None = None
        self._begun = False

    async def finish(self, tracked: TrackedTable) -> None:
        """Raises RetryError or HaltError."""
        while self._link is not None or not self._begun:
            page, link = await tracked.keys(self._link)
            self.db.executemany("INSERT OR REPLACE INTO there VALUES (?, ?)", page)
            self._link, self._begun = link, True


class Reconciliation:
    """For one table. `topics`: its event topics with their partitions; `state_partitions`: those of the state topic."""

    def __init__(self, published: Published, table: str, topics: Mapping[str, int], state_partitions: int, folder: Path) -> None:
        self._published, self._table, self._topics = published, table, dict(topics)
        self._state_partitions = state_partitions
        self._path = folder / f"reconcile-{table}.sqlite"
        self._listing: Listing | None = None
        self._found: list[tuple[str, int, bool]] | None = None  # that differ, the next ones last: key, version seen, whether it was listed
        self._looks = 0  # at a row that was listed and does not show
        self._lookups = Lookups()
        self.known_epoch = 0  # the highest one in our topics and the state, once they were compared

    async def starts(self) -> dict[str, list[int]]:
        """How far the writers are in the table's topics: to be kept with the load that begins. All before it is in the state; all
        after it, the load's own events included, is read back. What an earlier load left uncompared is forgotten."""
        self._listing, self._found, self._looks, self.known_epoch = None, None, 0, 0
        return await asyncio.to_thread(self._published.committed, self._topics)

    async def next(self, tracked: TrackedTable, starts: Mapping[str, Sequence[int]], epoch: int, learn: Learn) -> list[Difference] | None:
        """Some differences to what there is now, in this source epoch; None when there are no more. `learn` is told the rows before they
        count as dealt with. Raises RetryError, the next call then goes on where this one was, or HaltError."""
        if self._found is None:
            self._found = await self._compare(tracked, starts, epoch)
        if not self._found:
            self._found = None
            self._path.unlink(missing_ok=True)
            return None
        chunk = self._found[: -CHUNK - 1 : -1]
        rows = await self._lookups.rows(tracked, [key for key, _, _ in chunk])
        hidden = any(row is None and listed for (_, _, listed), row in zip(chunk, rows, strict=True))
        if hidden and self._looks < LOOKS:  # another server may not have it yet (dataverse.md §8.3): it would be taken for deleted
            self._looks += 1
            raise RetryError("a row that was listed does not show yet", code="source_busy", retry_after_s=LOOK_AGAIN_S)
        await learn([row for row in rows if row is not None])
        self._looks = 0
        del self._found[-len(chunk) :]
        return [Difference(key, row, seen) for (key, seen, _), row in zip(chunk, rows, strict=True)]

    async def _compare(self, tracked: TrackedTable, starts: Mapping[str, Sequence[int]], epoch: int) -> list[tuple[str, int, bool]]:
        if self._listing is None:
            self._listing = Listing(self._path)
        await self._listing.finish(tracked)
        listing, self._listing = self._listing, None
        with closing(listing.db) as db:
            await self._uninterrupted(db, starts)
            self.known_epoch = db.execute("SELECT coalesce(max(epoch), 0) FROM seen").fetchone()[0]
            found = [(str(key), int(seen), bool(listed)) for key, seen, listed in db.execute(DIFFERENCES, {"epoch": epoch})]
        log("reconciled", table=self._table, differences=len(found))
        return found[::-1]

    async def _uninterrupted(self, db: sqlite3.Connection, starts: Mapping[str, Sequence[int]]) -> None:
        """Notes what is known on a thread, and leaves only when that thread has: it works with the file that is closed next."""
        enough = threading.Event()
        noting = asyncio.ensure_future(asyncio.to_thread(self._note, db, starts, enough))
        try:
            await asyncio.shield(noting)
        finally:
            enough.set()
            await asyncio.wait({noting})

    def _note(self, db: sqlite3.Connection, starts: Mapping[str, Sequence[int]], enough: threading.Event) -> None:
        for source in (self._published.known(self._table, self._state_partitions), self._published.since(starts)):
            db.executemany(NOTE_SEEN, _rows(source, enough))


def _rows(source: Iterable[Seen], enough: threading.Event) -> Iterator[tuple[str, int, int, bool]]:
    for key, epoch, version, gone in source:
        if enough.is_set():
            return
        yield key, epoch, version or 0, gone
