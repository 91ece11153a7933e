"""Parked jobs for which there is no room in memory: in a file that is gone with this process.

Nothing is kept safe here: the records are uncommitted in Kafka, and a restart reads them there.
"""

from __future__ import annotations

import json
import os
import sqlite3
import tempfile
from base64 import b64decode, b64encode
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Generic, TypeVar

from bridge.flow.failures import Failures
from bridge.flow.job import Job, Place
from bridge.model.errors import HaltError
from bridge.model.events import Record

E = TypeVar("E")
SCHEMA = """
CREATE TABLE jobs (partition INTEGER, key TEXT, due_s REAL, opt_outs INTEGER, job TEXT, PRIMARY KEY (partition, key));
CREATE INDEX due ON jobs (due_s);
CREATE TABLE waits (wanted TEXT, partition INTEGER, key TEXT, PRIMARY KEY (wanted, partition, key)) WITHOUT ROWID;
CREATE INDEX waiting ON waits (partition, key);
"""


class Shelf(Generic[E]):
    """`folder`: None for the system's own place. Times are seconds of a monotonic clock. Raises HaltError when the disk is full."""

    def __init__(self, folder: Path | None = None) -> None:
        self._folder = folder
        self._file: sqlite3.Connection | None = None
        self._size = 0
        self.opt_outs = 0

    def __len__(self) -> int:
        return self._size

    def put(self, job: Job[E], due_s: float) -> None:
        """The job sleeps here until `due_s`, or until one of the keys it waits for is there. It is not on the shelf yet."""
        try:
            file = self._file = self._file or self._opened()
            file.execute("INSERT INTO jobs VALUES (?, ?, ?, ?, ?)", (*job.place, due_s, job.opt_outs, _to_json(job)))
            file.executemany("INSERT INTO waits VALUES (?, ?, ?)", [(wanted, *job.place) for wanted in job.waits_for])
        except (OSError, sqlite3.OperationalError) as exc:
            raise HaltError(
                f"the folder of STATE_DIR ({self._folder}) cannot be written",
                code="state_dir_unusable",
                hint="Give the service a writable STATE_DIR with free space, then start again.",
                origin="service",
            ) from exc
        self._size += 1
        self.opt_outs += job.opt_outs

    def take(self, place: Place) -> tuple[Job[E], float] | None:
        """The job of this key, and when it is due."""
        found = self._taken("partition = ? AND key = ?", *place)
        return found[0] if found else None

    def due(self, now_s: float, most: int) -> list[Job[E]]:
        """Takes those whose time has come, the longest due first."""
        return [job for job, _ in self._taken("due_s <= ? ORDER BY due_s, rowid LIMIT ?", now_s, max(0, most))]

    def wake(self, key: str) -> None:
        """What these wait for is there: they are due."""
        if self._file is not None and self._size:
            self._file.execute(
                "UPDATE jobs SET due_s = 0 WHERE (partition, key) IN (SELECT partition, key FROM waits WHERE wanted = ?)", (key,)
            )

    def drop(self, partitions: Iterable[int]) -> None:
        """Forgets the jobs of these partitions."""
        if self._file is None or not self._size:
            return
        for partition in partitions:
            self._file.execute("DELETE FROM jobs WHERE partition = ?", (partition,))
            self._file.execute("DELETE FROM waits WHERE partition = ?", (partition,))
        self._size, self.opt_outs = self._file.execute("SELECT count(*), coalesce(sum(opt_outs), 0) FROM jobs").fetchone()

    def partitions(self) -> set[int]:
        if self._file is None or not self._size:
            return set()
        return {partition for (partition,) in self._file.execute("SELECT DISTINCT partition FROM jobs")}

    def close(self) -> None:
        """Forgets all. Closing twice is harmless."""
        self._size = self.opt_outs = 0
        if self._file is not None:
            self._file.close()
            self._file = None

    def _taken(self, which: str, *values: object) -> list[tuple[Job[E], float]]:
        if self._file is None or not self._size:
            return []
        rows = self._file.execute(f"SELECT job, due_s, partition, key FROM jobs WHERE {which}", values).fetchall()
        for _kept, _, partition, key in rows:
            self._file.execute("DELETE FROM jobs WHERE partition = ? AND key = ?", (partition, key))
            self._file.execute("DELETE FROM waits WHERE partition = ? AND key = ?", (partition, key))
        jobs: list[tuple[Job[E], float]] = [(_from_json(kept), due_s) for kept, due_s, _, _ in rows]
        self._size -= len(jobs)
        self.opt_outs -= sum(job.opt_outs for job, _ in jobs)
        return jobs

    def _opened(self) -> sqlite3.Connection:
        """Without a name, so that nobody finds people's data in it, and nothing is left after kill -9."""
        if self._folder is not None:
            self._folder.mkdir(parents=True, exist_ok=True)
        handle, path = tempfile.mkstemp(prefix="shelf-", dir=self._folder)
        os.close(handle)
        try:
            file = sqlite3.connect(path, isolation_level=None)
            file.execute("PRAGMA journal_mode=OFF")
            file.execute("PRAGMA synchronous=OFF")
            file.execute("PRAGMA secure_delete=OFF")
            file.executescript(SCHEMA)
            return file
        finally:
            os.unlink(path)


def _to_json(job: Job[Any]) -> str:
    """All but its event, which the writer makes of its records again."""
    return json.dumps(
        {
            "job": [job.partition, job.key, job.state_key, job.live],
            "records": [_of_record(record) for record in job.records],
            "arrived": [_of_record(record) for record in job.arrived],
            "failures": job.failures.to_json(),
            "waits_for": sorted(job.waits_for),
            "opt_outs": job.opt_outs,
        }
    )


def _from_json(text: str) -> Job[Any]:
    kept = json.loads(text)
    partition, key, state_key, live = kept["job"]
    return Job(
        partition,
        key,
        state_key,
        live,
        arrived=[_record(each) for each in kept["arrived"]],
        records=[_record(each) for each in kept["records"]],
        failures=Failures.from_json(kept["failures"]),
        parked=True,
        asleep=True,
        waits_for=frozenset(kept["waits_for"]),
        queued=True,
        opt_outs=kept["opt_outs"],
    )


def _of_record(record: Record) -> list[Any]:
    headers = [(name, b64encode(value).decode()) for name, value in record.headers]
    return [record.topic, record.partition, record.offset, record.timestamp_ms, _text(record.key), _text(record.value), headers]


def _record(kept: list[Any]) -> Record:
    topic, partition, offset, timestamp_ms, key, value, headers = kept
    more = tuple((name, b64decode(each)) for name, each in headers)
    return Record(topic, partition, offset, timestamp_ms, _bytes(key), _bytes(value), more)


def _text(raw: bytes | None) -> str | None:
    return None if raw is None else b64encode(raw).decode()


def _bytes(text: str | None) -> bytes | None:
    return None if text is None else b64decode(text)
