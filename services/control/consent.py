"""Decisions on opt-out flags for people: what was decided of whom and why, and the releases that the consent guard holds.

All of `optin.decisions` is read into a temporary database. A held release is open until an operator releases it (the same decision is
published again, marked so) or discards it, or until the flag is decided anew.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from bridge.avro import Decoder, load_schema
from bridge.errors import RejectError, RetryError
from bridge.events import OptStatusDecided, Record
from bridge.kafka.follower import Entry
from bridge.kafka.registry import HttpRegistry
from bridge.settings import KafkaSettings
from services.control import commands
from services.control.commands import By, HeldAction
from services.control.store import Store

TOPIC, GUARD = "optin.decisions", "guard"
HELD, RELEASED = "held", "released"
AT_ONCE = 500  # decisions in one transaction
TABLES = """
CREATE TABLE decisions (part INTEGER, at INTEGER, contact TEXT, target TEXT, time INTEGER, guard TEXT, headers TEXT, value BLOB,
    PRIMARY KEY (part, at)) WITHOUT ROWID;
CREATE INDEX decisions_by_time ON decisions (time, part, at);
CREATE INDEX decisions_of_contact ON decisions (contact, time, part, at);
CREATE TABLE held (part INTEGER, at INTEGER, contact TEXT, target TEXT, flag TEXT, PRIMARY KEY (part, at, flag)) WITHOUT ROWID;
CREATE INDEX held_of_contact ON held (contact, target, flag);
CREATE TABLE marks (id TEXT PRIMARY KEY, action TEXT) WITHOUT ROWID;
"""
OPEN = (
    "SELECT DISTINCT d.* FROM held h JOIN decisions d USING (part, at) LEFT JOIN marks m ON m.id = h.part || '-' || h.at WHERE m.id IS NULL"
)


@dataclass(frozen=True, slots=True)
class Decision:
    """One record of the topic. `guard`: empty, `held` or `released`; `action`: what an operator did with a held one; `event` None: it
    cannot be read."""

    part: int
    at: int
    contact: str
    guard: str
    action: str | None
    time: datetime
    event: OptStatusDecided | None

    @property
    def id(self) -> str:
        return f"{self.part}-{self.at}"


class Decisions:
    """Use it in the event loop. Questions raise RetryError until all has been read."""

    def __init__(self, settings: KafkaSettings) -> None:
        self._db = sqlite3.connect("", isolation_level=None)  # a file of sqlite's own, which is gone when we are
        self._db.row_factory = sqlite3.Row
        self._db.executescript(TABLES)
        self._decoder = Decoder(HttpRegistry(settings), load_schema("OptStatusDecided"), OptStatusDecided)
        self._any_held = False
        self.complete: Callable[[], bool] = lambda: False

    def followed(self) -> dict[str, Callable[[Sequence[Entry]], None]]:
        """Who is to be told of what comes in which topic."""
        return {TOPIC: self._told}

    def close(self) -> None:
        self._db.close()

    def mark(self, ids: Sequence[str], action: HeldAction) -> None:
        self._db.executemany("INSERT OR REPLACE INTO marks VALUES (?, ?)", [(each, action) for each in ids])

    def held_count(self) -> int:
        """How many contacts' releases wait for a person; 0 while not all has been read."""
        if not self._any_held or not self.complete():
            return 0
        return int(self._db.execute(f"SELECT count(*) FROM ({OPEN})").fetchone()[0])

    async def held(self, after: str | None, limit: int) -> list[Decision]:
        """Oldest first."""
        self._check()
        more, values = _beyond(after, ">")
        rows = self._db.execute(f"{OPEN}{more} ORDER BY d.time, d.part, d.at LIMIT ?", [*values, limit]).fetchall()
        return [await self._decision(row) for row in rows]

    async def page(self, contact: str | None, after: str | None, limit: int) -> list[Decision]:
        """Newest first, of one contact or of all."""
        self._check()
        more, values = _beyond(after, "<")
        if contact is not None:
            more, values = f"{more} AND d.contact = ?", [*values, contact]
        rows = self._db.execute(
            f"SELECT d.* FROM decisions d WHERE true{more} ORDER BY d.time DESC, d.part DESC, d.at DESC LIMIT ?", [*values, limit]
        ).fetchall()
        return [await self._decision(row) for row in rows]

    def open_ids(self, contacts: Sequence[str] | None) -> list[str]:
        """Ids of what is held, of these contacts or of all; oldest first."""
        self._check()
        rows = self._db.execute(f"{OPEN} ORDER BY d.time, d.part, d.at").fetchall()
        chosen = None if contacts is None else set(contacts)
        return [f"{row['part']}-{row['at']}" for row in rows if chosen is None or row["contact"] in chosen]

    def record(self, id: str) -> Record | None:
        """The decision as it lies in Kafka, to be published again as released."""
        part, _, at = id.partition("-")
        row = self._db.execute("SELECT * FROM decisions WHERE part = ? AND at = ?", (int(part), int(at))).fetchone()
        if row is None:
            return None
        kept = [(name, bytes.fromhex(value)) for name, value in _headers(row["headers"]) if name != GUARD]
        return Record(TOPIC, row["part"], 0, 0, row["contact"].encode(), row["value"], [*kept, (GUARD, RELEASED.encode())])

    async def _decision(self, row: sqlite3.Row) -> Decision:
        mark = self._db.execute("SELECT action FROM marks WHERE id = ?", (f"{row['part']}-{row['at']}",)).fetchone()
        try:
            event = await self._decoder.decode(row["value"])
        except RejectError:
            event = None
        time = datetime.fromtimestamp(row["time"] / 1000, UTC)
        return Decision(row["part"], row["at"], row["contact"], row["guard"], mark["action"] if mark else None, time, event)

    def _check(self) -> None:
        if not self.complete():
            raise RetryError("control is still reading what is in Kafka; try again in a moment", code="still_reading")

    def _told(self, entries: Sequence[Entry]) -> None:
        try:
            self._db.execute("BEGIN")
            for entry in entries:
                self._take(entry)
            self._db.execute("COMMIT")
        except sqlite3.ProgrammingError:  # closed meanwhile
            pass

    def _take(self, entry: Entry) -> None:
        facts = {name: value.decode("utf-8", "replace") for name, value in entry.headers}
        guard, target = facts.get(GUARD, ""), facts.get("target", "")
        flags = [each for each in facts.get("flags", "").split(",") if each]
        headers = "\n".join(f"{name}={value.hex()}" for name, value in entry.headers)
        row = (entry.partition, entry.offset, entry.key, target, entry.timestamp_ms, guard, headers, entry.value or b"")
        self._db.execute("INSERT OR REPLACE INTO decisions VALUES (?, ?, ?, ?, ?, ?, ?, ?)", row)
        if self._any_held:  # the flag has been decided anew, or released
            gone = [(entry.key, target, flag) for flag in flags]
            self._db.executemany("DELETE FROM held WHERE contact = ? AND target = ? AND flag = ?", gone)
        if guard == HELD:
            self._any_held = True
            place = (entry.partition, entry.offset, entry.key, target)
            self._db.executemany("INSERT OR REPLACE INTO held VALUES (?, ?, ?, ?, ?)", [(*place, flag) for flag in flags])


async def settle(
    decisions: Decisions, store: Store, action: HeldAction, contacts: Sequence[str] | None, by: By, reason: str
) -> tuple[int, int]:
    """Releases or discards what is held of these contacts, or all of it; how many decisions, and how many had been dealt with before."""
    ids, done = decisions.open_ids(contacts), 0
    for start in range(0, len(ids), AT_ONCE):
        chosen: Mapping[str, Record | None] = {each: decisions.record(each) for each in ids[start : start + AT_ONCE]}
        again = {each: [record] if action == "released" else [] for each, record in chosen.items() if record is not None}
        done += await store.run(commands.settle_held(action, again, by, reason))
    return done, len(ids) - done


def _headers(text: str) -> list[tuple[str, str]]:
    return [(name, value) for name, _, value in (line.partition("=") for line in text.split("\n") if line)]


def _beyond(after: str | None, direction: str) -> tuple[str, list[Any]]:
    """What comes after the decision of this id."""
    if after is None:
        return "", []
    part, _, at = after.partition("-")
    return f" AND (d.time, d.part, d.at) {direction} (SELECT time, part, at FROM decisions WHERE part = ? AND at = ?)", [int(part), int(at)]
