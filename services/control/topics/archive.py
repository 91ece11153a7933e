"""Dead letters and audit entries, read from Kafka into a temporary database: what lists and groups are made from."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from typing import Any

from bridge.kafka.follower import Entry
from bridge.model.desired import WORKFLOWS, Workflow
from bridge.model.errors import RetryError
from bridge.model.events import Headers
from services.control.rules.actions import AUDIT, Action

TABLES = """
CREATE TABLE letters (workflow TEXT, part INTEGER, at INTEGER, key TEXT, source TEXT, table_name TEXT, code TEXT, reason TEXT,
    stage TEXT, status INTEGER, failed_at TEXT, first_failed_at TEXT, attempts INTEGER, revision INTEGER, fingerprint TEXT,
    redriven INTEGER, optouts INTEGER, PRIMARY KEY (workflow, part, at)) WITHOUT ROWID;
CREATE INDEX letters_by_time ON letters (workflow, failed_at, part, at);
CREATE INDEX letters_by_cause ON letters (workflow, fingerprint, failed_at);
CREATE INDEX letters_by_key ON letters (workflow, key);
CREATE INDEX letters_with_optouts ON letters (workflow) WHERE optouts > 0;
CREATE TABLE marks (workflow TEXT, id TEXT, action TEXT, PRIMARY KEY (workflow, id)) WITHOUT ROWID;
CREATE TABLE audit (part INTEGER, at INTEGER, time TEXT, workflow TEXT, entry TEXT, PRIMARY KEY (part, at)) WITHOUT ROWID;
CREATE INDEX audit_by_time ON audit (time, part, at);
"""
LETTER = (
    "SELECT l.*, l.part || '-' || l.at AS id, coalesce(m.action, 'open') AS state"
    " FROM letters l LEFT JOIN marks m ON m.workflow = l.workflow AND m.id = l.part || '-' || l.at"
)
FOUND_BY_TIME = " ORDER BY l.failed_at DESC, l.part DESC, l.at DESC LIMIT ?"


@dataclass(frozen=True, slots=True)
class Group:
    """Letters with one cause; `sample` is the newest of them."""

    fingerprint: str
    count: int
    open: int
    first: str
    last: str
    sample: sqlite3.Row


class Archive:
    """What the dead-letter topics and `control.audit` hold. Use it in the event loop. `prefix`: of the topics.

    Questions raise RetryError until all has been read.
    """

    def __init__(self, prefix: str) -> None:
        self._prefix = prefix
        self._db = sqlite3.connect("", isolation_level=None)  # a file of sqlite's own, which is gone when we are
        self._db.row_factory = sqlite3.Row
        self._db.executescript(TABLES)
        self._optouts: dict[Workflow, int] = {}  # asked for every second, and seldom another
        self.complete: Callable[[], bool] = lambda: False  # whether everything that was there at the start has been read

    def followed(self) -> dict[str, Callable[[Sequence[Entry]], None]]:
        """Who is to be told of what comes in which topic."""
        letters = {f"{workflow}.dead-letters": partial(self._letters, workflow) for workflow in WORKFLOWS}
        return {**letters, AUDIT: self._audited}

    def close(self) -> None:
        self._db.close()

    def mark(self, workflow: Workflow, ids: Iterable[str], action: Action) -> None:
        self._optouts.clear()
        self._db.executemany("INSERT OR REPLACE INTO marks VALUES (?, ?, ?)", [(workflow, each, action) for each in ids])

    def _check(self) -> None:
        """Half a list would say that the other half is not there."""
        if not self.complete():
            raise RetryError("control is still reading what is in Kafka; try again in a moment", code="still_reading")

    # -- dead letters -----------------------------------------------------------------------------------------------------

    def letters(self, workflow: Workflow, after: str | None, limit: int, fingerprint: str | None = None) -> list[sqlite3.Row]:
        """Newest first, those that come after the letter `after`."""
        self._check()
        where = ["l.workflow = ?"]
        values: list[Any] = [workflow]
        if fingerprint is not None:
            where.append("l.fingerprint = ?")
            values.append(fingerprint)
        if after is not None and (last := self.letter(workflow, after)) is not None:
            where.append("(l.failed_at, l.part, l.at) < (?, ?, ?)")
            values += [last["failed_at"], last["part"], last["at"]]
        return self._db.execute(f"{LETTER} WHERE {' AND '.join(where)}{FOUND_BY_TIME}", [*values, limit]).fetchall()

    def letter(self, workflow: Workflow, id: str) -> sqlite3.Row | None:
        self._check()
        part, _, at = id.partition("-")
        found: sqlite3.Row | None = self._db.execute(
            f"{LETTER} WHERE l.workflow = ? AND l.part = ? AND l.at = ?", (workflow, int(part), int(at))
        ).fetchone()
        return found

    def count(self, workflow: Workflow, fingerprint: str | None = None) -> int:
        where, values = ("", []) if fingerprint is None else (" AND fingerprint = ?", [fingerprint])
        return int(self._db.execute(f"SELECT count(*) FROM letters WHERE workflow = ?{where}", [workflow, *values]).fetchone()[0])

    def optouts(self, workflow: Workflow) -> int:
        """How many opt-outs lie in letters that nobody has dealt with; 0 while not all has been read."""
        if not self.complete():
            return 0
        if workflow not in self._optouts:
            waiting = f"SELECT coalesce(sum(optouts), 0) FROM ({LETTER} WHERE l.workflow = ? AND l.optouts > 0) WHERE state = 'open'"
            self._optouts[workflow] = int(self._db.execute(waiting, (workflow,)).fetchone()[0])
        return self._optouts[workflow]

    def of_key(self, workflow: Workflow, key: str) -> list[sqlite3.Row]:
        self._check()
        return self._db.execute(f"{LETTER} WHERE l.workflow = ? AND l.key = ?{FOUND_BY_TIME}", (workflow, key, 100)).fetchall()

    def open(self, workflow: Workflow, fingerprint: str | None) -> list[str]:
        """Ids of the letters nobody has dealt with, oldest first; of one cause, or all."""
        self._check()
        chosen = "" if fingerprint is None else " AND l.fingerprint = ?"
        rows = self._db.execute(
            f"SELECT id FROM ({LETTER} WHERE l.workflow = ?{chosen}) WHERE state = 'open' ORDER BY failed_at, part, at",
            [workflow] if fingerprint is None else [workflow, fingerprint],
        )
        return [row["id"] for row in rows]

    def groups(self, workflow: Workflow) -> list[Group]:
        """Largest number of open letters first."""
        self._check()
        rows = self._db.execute(
            f"SELECT fingerprint, count(*) AS n, sum(state = 'open') AS open, min(failed_at) AS first, max(failed_at) AS last"
            f" FROM ({LETTER} WHERE l.workflow = ?) GROUP BY fingerprint ORDER BY open DESC, last DESC LIMIT 200",
            (workflow,),
        ).fetchall()
        return [
            Group(
                row["fingerprint"], row["n"], row["open"], row["first"], row["last"], self.letters(workflow, None, 1, row["fingerprint"])[0]
            )
            for row in rows
        ]

    # -- audit ------------------------------------------------------------------------------------------------------------

    def audit(self, after: str | None, limit: int) -> list[tuple[str, str | None, dict[str, Any]]]:
        """(id, workflow, entry), newest first."""
        self._check()
        where, values = "", []
        if after is not None:
            part, _, at = after.partition("-")
            where = " WHERE (time, part, at) < (SELECT time, part, at FROM audit WHERE part = ? AND at = ?)"
            values = [int(part), int(at)]
        rows = self._db.execute(f"SELECT * FROM audit{where} ORDER BY time DESC, part DESC, at DESC LIMIT ?", [*values, limit])
        return [(f"{row['part']}-{row['at']}", row["workflow"], json.loads(row["entry"])) for row in rows]

    # -- what Kafka tells -------------------------------------------------------------------------------------------------

    def _letters(self, workflow: Workflow, entries: Sequence[Entry]) -> None:
        self._optouts.clear()
        rows = [_letter(workflow, entry, self._prefix) for entry in entries]
        self._insert(f"INSERT OR REPLACE INTO letters VALUES ({', '.join('?' * 17)})", rows)

    def _audited(self, entries: Sequence[Entry]) -> None:
        rows = []
        for entry in entries:
            try:
                time = json.loads(entry.value or b"{}")["at"]
            except (ValueError, KeyError, TypeError):  # somebody else wrote to our topic
                continue
            rows.append((entry.partition, entry.offset, time, entry.key, (entry.value or b"").decode("utf-8", "replace")))
        self._insert("INSERT OR REPLACE INTO audit VALUES (?, ?, ?, ?, ?)", rows)

    def _insert(self, statement: str, rows: Sequence[Sequence[Any]]) -> None:
        try:
            self._db.execute("BEGIN")
            self._db.executemany(statement, rows)
            self._db.execute("COMMIT")
        except sqlite3.ProgrammingError:  # closed meanwhile
            pass


def _letter(workflow: Workflow, entry: Entry, prefix: str) -> list[Any]:
    facts = {name: value.decode("utf-8", "replace") for name, value in entry.headers if name.startswith("dlq.")}
    source = facts.get("dlq.topic", "").removeprefix(prefix)
    lane = next((each for each in ("ingress.changes.", "ingress.replay.") if source.startswith(each)), None)
    return [
        workflow,
        entry.partition,
        entry.offset,
        entry.key,
        source,
        source.removeprefix(lane) if lane else None,
        facts.get("dlq.code", ""),
        facts.get("dlq.reason", ""),
        facts.get("dlq.stage", ""),
        _number(facts, "dlq.target-status"),
        facts.get("dlq.failed-at") or _iso(entry.timestamp_ms),
        facts.get("dlq.first-failed-at") or _iso(entry.timestamp_ms),
        _number(facts, "dlq.attempts") or 0,
        _number(facts, "dlq.revision"),
        facts.get("dlq.fingerprint", ""),
        _number(facts, "dlq.redriven") or 0,
        _number(facts, "dlq.opt-outs") or 0,
    ]


def _number(facts: Mapping[str, str], name: str) -> int | None:
    text = facts.get(name, "")
    return int(text) if text.isdigit() else None


def _iso(timestamp_ms: int) -> str:
    return datetime.fromtimestamp(timestamp_ms / 1000, UTC).isoformat()


def redriven(headers: Headers) -> int:
    """How often a record has been re-driven."""
    text = next((value for name, value in headers if name == "dlq.redriven"), b"0")
    return int(text) if text.isdigit() else 0
