"""The keys and versions of a table, as Dynamics lists them and as our topics and the state have them, and what differs.

In a temporary sqlite file, so that fifteen million keys are no matter of memory. Nothing here asks anybody.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from bridge.kafka.published import Seen

SCHEMA = """
CREATE TABLE there (key TEXT PRIMARY KEY, version INTEGER) WITHOUT ROWID;
CREATE TABLE seen (key TEXT PRIMARY KEY, epoch INTEGER NOT NULL, version INTEGER NOT NULL, gone INTEGER NOT NULL) WITHOUT ROWID;
CREATE TABLE live (key TEXT PRIMARY KEY) WITHOUT ROWID;
CREATE TABLE differing (key TEXT PRIMARY KEY, seen INTEGER NOT NULL, listed INTEGER NOT NULL) WITHOUT ROWID;
"""
NOTE_SEEN = """
INSERT INTO seen VALUES (?, ?, ?, ?) ON CONFLICT (key) DO UPDATE SET
    epoch = excluded.epoch, version = excluded.version, gone = excluded.gone
WHERE (excluded.epoch, excluded.version) >= (epoch, version)
"""
COMPARE = """
INSERT INTO differing
SELECT there.key, iif(seen.epoch = :epoch, seen.version, 0), 1 FROM there LEFT JOIN seen USING (key)
WHERE (seen.key IS NULL OR (:epoch, there.version) > (seen.epoch, seen.version)) AND there.key NOT IN live
UNION ALL
SELECT seen.key, iif(seen.epoch = :epoch, seen.version, 0), 0 FROM seen LEFT JOIN there USING (key)
WHERE there.key IS NULL AND NOT seen.gone AND seen.key NOT IN live
"""
NUMBER, HIGHEST = "SELECT count(*) FROM differing", "SELECT coalesce(max(epoch), 0) FROM seen"


@dataclass(frozen=True, slots=True)
class Differing:
    """`seen`: the highest version that our topics and the state hold of it in the epoch that is compared, 0 for none. `listed`: Dynamics
    had it when all was listed."""

    key: str
    seen: int
    listed: bool


class Comparison:
    """In a new file at `path`, for one thread at a time."""

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.unlink(missing_ok=True)
        self._path = path
        self._db = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
        self._db.executescript(f"PRAGMA journal_mode=OFF; PRAGMA synchronous=OFF; {SCHEMA} BEGIN;")

    def list(self, page: Sequence[tuple[str, int | None]]) -> None:
        """These rows are there, in these versions."""
        self._db.executemany("INSERT OR REPLACE INTO there VALUES (?, ?)", page)

    def note(self, seen: Iterable[Seen]) -> None:
        """Our topics or the state hold these; later ones supersede earlier ones of the same version."""
        self._db.executemany(NOTE_SEEN, ((key, epoch, version or 0, gone) for key, epoch, version, gone in seen))

    def compare(self, epoch: int) -> tuple[int, int]:
        """How many differ, in this source epoch, and the highest epoch that our topics and the state hold. Takes seconds for millions;
        `interrupt` ends it."""
        self._db.execute("DELETE FROM differing")
        self._db.execute(COMPARE, {"epoch": epoch})
        (number,), (highest,) = (self._db.execute(query).fetchone() for query in (NUMBER, HIGHEST))
        return int(number), int(highest)

    def interrupt(self) -> None:
        """From any thread: what is asked of the file fails."""
        self._db.interrupt()

    def first(self, number: int) -> Sequence[Differing]:
        """So many that are not settled, by key."""
        return self._found("SELECT key, seen, listed FROM differing ORDER BY key LIMIT ?", number)

    def among(self, keys: Sequence[str]) -> Sequence[Differing]:
        """Those of these keys that differ and are not settled, by key."""
        return self._found(
            "SELECT key, seen, listed FROM differing WHERE key IN (SELECT value FROM json_each(?)) ORDER BY key", json.dumps(keys)
        )

    def settle(self, keys: Sequence[str]) -> None:
        """These differ no more."""
        self._db.executemany("DELETE FROM differing WHERE key = ?", ((key,) for key in keys))

    def came_live(self, keys: Sequence[str]) -> None:
        """These were published while all was listed or compared, as they are now: what is found of them is older."""
        self._db.executemany("INSERT OR IGNORE INTO live VALUES (?)", ((key,) for key in keys))
        self.settle(keys)

    def size(self) -> int:
        """Bytes of the file."""
        ((pages,),), ((each,),) = self._db.execute("PRAGMA page_count"), self._db.execute("PRAGMA page_size")
        return int(pages * each)

    def close(self) -> None:
        """Leaves no file."""
        self._db.close()
        self._path.unlink(missing_ok=True)

    def _found(self, query: str, value: object) -> Sequence[Differing]:
        return [Differing(str(key), int(seen), bool(listed)) for key, seen, listed in self._db.execute(query, (value,))]
