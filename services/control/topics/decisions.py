"""Decisions on opt-out flags for people: what was decided of whom and why, what came of it, and what the consent guard holds.

`optin.decisions`, `ingress.decisions` and `optin.outcomes` are read as a whole into a temporary database. A held item is open until an
operator releases or discards it, or until the same is decided again.
"""

from __future__ import annotations

import sqlite3
from collections import Counter
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from bridge.flow.failures import PARKED_SINCE, first_place
from bridge.kafka.avro import Decoder, load_schema
from bridge.kafka.follower import Entry
from bridge.kafka.registry import HttpRegistry
from bridge.kafka.settings import KafkaSettings
from bridge.model.desired import Workflow
from bridge.model.errors import RejectError, RetryError
from bridge.model.events import OptStatusDecided, Record
from bridge.observe.log import log
from services.control.rules.actions import HeldAction
from services.control.rules.decision_records import DELETE, Counts, Decision, Odd, Outcome, Row, decision, headers, outcome, row

TOPICS: dict[Workflow, str] = {"optin": "optin.decisions", "ingress": "ingress.decisions"}
OUTCOMES, GUARD, HELD, RELEASED = "optin.outcomes", "guard", "held", "released"
REDRIVEN = "dlq.redriven"
MOST_TOLD = 20  # odd records of one topic that are named in the log; all are counted
TABLES = """
CREATE TABLE decisions (workflow TEXT, part INTEGER, at INTEGER, key TEXT, tbl TEXT, target TEXT, time INTEGER, guard TEXT, kind TEXT,
    headers TEXT, value BLOB, PRIMARY KEY (workflow, part, at)) WITHOUT ROWID;
CREATE INDEX decisions_by_time ON decisions (workflow, time, part, at);
CREATE INDEX decisions_of_key ON decisions (workflow, key, time, part, at);
CREATE TABLE held (workflow TEXT, part INTEGER, at INTEGER, key TEXT, tbl TEXT, target TEXT, flag TEXT,
    PRIMARY KEY (workflow, part, at, flag)) WITHOUT ROWID;
CREATE INDEX held_of_key ON held (workflow, key, tbl, target, flag);
CREATE TABLE marks (workflow TEXT, part INTEGER, at INTEGER, action TEXT, PRIMARY KEY (workflow, part, at)) WITHOUT ROWID;
CREATE TABLE copies (part INTEGER, at INTEGER, copy INTEGER, PRIMARY KEY (part, at)) WITHOUT ROWID;
CREATE TABLE outcomes (part INTEGER, at INTEGER, outcome TEXT, status INTEGER, time TEXT, PRIMARY KEY (part, at)) WITHOUT ROWID;
"""
OPEN = (
    "SELECT d.* FROM (SELECT DISTINCT workflow, part, at FROM held WHERE workflow = ?) JOIN decisions d USING (workflow, part, at)"
    " LEFT JOIN marks m USING (workflow, part, at) WHERE m.action IS NULL"
)
ADD_HELD = "INSERT OR REPLACE INTO held VALUES (?, ?, ?, ?, ?, ?, ?)"
NOT_HELD = "DELETE FROM held WHERE workflow = ? AND key = ? AND tbl = ? AND target = ?"


class Decisions:
    """Use it in the event loop. Questions raise RetryError until all has been read."""

    def __init__(self, settings: KafkaSettings) -> None:
        self._db = sqlite3.connect("", isolation_level=None)  # a file of sqlite's own, which is gone when we are
        self._db.row_factory = sqlite3.Row
        self._db.executescript(TABLES)
        self._decoder = Decoder(HttpRegistry(settings, patience_s=0), load_schema("OptStatusDecided"), OptStatusDecided)
        self._counts: dict[Workflow, Counts] = {}
        self._any_held = False
        self.odd: Counter[str] = Counter()  # by topic: records that are not what the topic holds
        self.complete: Callable[[], bool] = lambda: False

    def followed(self) -> dict[str, Callable[[Sequence[Entry]], None]]:
        """Who is to be told of what comes in which topic."""
        told = {topic: partial(self._told, topic, partial(self._take, workflow)) for workflow, topic in TOPICS.items()}
        return {**told, OUTCOMES: partial(self._told, OUTCOMES, self._came_of)}

    def close(self) -> None:
        self._db.close()

    def mark(self, workflow: Workflow, ids: Sequence[str], action: HeldAction) -> None:
        self._counts.clear()
        self._db.executemany("INSERT OR REPLACE INTO marks VALUES (?, ?, ?, ?)", [(workflow, *place(each), action) for each in ids])

    def counts(self, workflow: Workflow) -> Counts:
        """How many releases and deletes wait for a person; none while not all has been read."""
        if not self.complete():
            return Counts()
        if workflow not in self._counts:
            found = dict(self._db.execute(f"SELECT kind, count(*) FROM ({OPEN}) GROUP BY kind", (workflow,)).fetchall())
            self._counts[workflow] = Counts(found.get("release", 0), found.get(DELETE, 0))
        return self._counts[workflow]

    async def held(self, workflow: Workflow, after: str | None, limit: int) -> list[Decision]:
        """What is held and open, oldest first."""
        self._check()
        more, values = _beyond(workflow, after, ">")
        order = "ORDER BY d.time, d.part, d.at LIMIT ?"
        rows = self._db.execute(f"{OPEN}{more} {order}", [workflow, *values, limit]).fetchall()
        return [await self._decision(each) for each in rows]

    async def page(self, workflow: Workflow, key: str | None, after: str | None, limit: int) -> list[Decision]:
        """Newest first, of one contact (or record) or of all."""
        self._check()
        more, values = _beyond(workflow, after, "<")
        if key is not None:
            more, values = f"{more} AND d.key = ?", [*values, key]
        order = "ORDER BY d.time DESC, d.part DESC, d.at DESC LIMIT ?"
        rows = self._db.execute(f"SELECT d.* FROM decisions d WHERE d.workflow = ?{more} {order}", [workflow, *values, limit]).fetchall()
        return [await self._decision(each) for each in rows]

    def open_ids(self, workflow: Workflow, ids: Sequence[str] | None = None, contacts: Sequence[str] | None = None) -> list[str]:
        """Ids of what is held and open: those of `ids`, those of `contacts`, or all; oldest first."""
        self._check()
        found = OPEN.replace("d.*", "d.part, d.at, d.key, d.tbl")  # without the records: there may be very many
        rows = self._db.execute(f"{found} ORDER BY d.time, d.part, d.at", (workflow,)).fetchall()
        if ids is not None:
            wanted = {place(each) for each in ids}
            rows = [each for each in rows if (each["part"], each["at"]) in wanted]
        if contacts is not None:
            people = set(contacts)
            rows = [each for each in rows if each["tbl"] == "contact" and each["key"] in people]
        return [f"{each['part']}-{each['at']}" for each in rows]

    async def item(self, workflow: Workflow, id: str) -> tuple[Decision, Record] | None:
        """A held item, and the record it is in Kafka."""
        found = self._db.execute("SELECT * FROM decisions WHERE workflow = ? AND part = ? AND at = ?", (workflow, *place(id))).fetchone()
        if found is None:
            return None
        record = Record(TOPICS[workflow], found["part"], 0, 0, found["key"].encode(), found["value"], headers(found["headers"]))
        return await self._decision(found), record

    async def _decision(self, found: sqlite3.Row) -> Decision:
        where = (found["workflow"], found["part"], found["at"])
        mark = self._db.execute("SELECT action FROM marks WHERE workflow = ? AND part = ? AND at = ?", where).fetchone()
        waits = self._db.execute("SELECT flag FROM held WHERE workflow = ? AND part = ? AND at = ?", where).fetchall()
        came_of = self._db.execute("SELECT outcome, status, time FROM outcomes WHERE part = ? AND at = ?", where[1:]).fetchone()
        try:
            event = await self._decoder.decode(found["value"])
        except RejectError:
            event = None
        copy = self._db.execute("SELECT copy FROM copies WHERE part = ? AND at = ?", where[1:]).fetchone()
        last_at = copy["copy"] if copy is not None and found["workflow"] == "optin" else found["at"]
        told = Outcome(*came_of) if came_of is not None and found["workflow"] == "optin" else None
        return decision(found, event, mark["action"] if mark else None, [each["flag"] for each in waits], told, last_at)

    def _check(self) -> None:
        if not self.complete():
            raise RetryError("control is still reading what is in Kafka; try again in a moment", code="still_reading")

    def _told(self, topic: str, take: Callable[[Entry], None], entries: Sequence[Entry]) -> None:
        """What is not as it should be is passed over: whoever else writes to the topic must not blind us for the rest."""
        self._counts.clear()
        try:
            self._db.execute("BEGIN")
            for entry in entries:
                try:
                    take(entry)
                except Odd as exc:
                    self._pass_over(topic, entry, exc)
            self._db.execute("COMMIT")
        except sqlite3.ProgrammingError:  # closed meanwhile
            pass

    def _pass_over(self, topic: str, entry: Entry, exc: Odd) -> None:
        self.odd[topic] += 1
        if self.odd[topic] <= MOST_TOLD:
            log("record_passed_over", "warning", topic=topic, partition=entry.partition, offset=entry.offset, reason=str(exc))

    def _take(self, workflow: Workflow, entry: Entry) -> None:
        found, told = row(workflow, entry), {name for name, _ in entry.headers}
        if PARKED_SINCE in told:  # published again while it waited: it was taken where it was first
            self._db.execute("INSERT OR REPLACE INTO copies VALUES (?, ?, ?)", (*place(first_place(_record(entry))), entry.offset))
            return
        facts = (workflow, found.part, found.at, found.key, found.table, found.target, found.time, found.guard, found.kind)
        self._db.execute(f"INSERT OR REPLACE INTO decisions VALUES ({', '.join('?' * 11)})", (*facts, found.headers, found.value))
        if self._any_held and REDRIVEN not in told:  # that is an older one, and makes nothing void
            self._drop(workflow, found)
        if found.guard == HELD:
            self._any_held = True
            where = (workflow, found.part, found.at, found.key, found.table, found.target)
            self._db.executemany(ADD_HELD, [(*where, flag) for flag in found.decides])

    def _drop(self, workflow: Workflow, found: Row) -> None:
        """What was held before and has been decided again, has been released or made void."""
        about = (workflow, found.key, found.table, found.target)
        gone = {*found.decides, *([DELETE] if found.voids == DELETE else [])}
        self._db.executemany(f"{NOT_HELD} AND flag = ?", [(*about, flag) for flag in gone])
        if found.voids == "release" and gone <= {DELETE}:
            self._db.execute(f"{NOT_HELD} AND flag != ?", (*about, DELETE))

    def _came_of(self, entry: Entry) -> None:
        """What was written stays written: a decision that comes again after a crash is only found to be so already."""
        told = outcome(entry)
        part, at = place(told.decision)
        known = self._db.execute("SELECT outcome FROM outcomes WHERE part = ? AND at = ?", (part, at)).fetchone()
        if known is None or known["outcome"] != "updated":
            values = (part, at, told.outcome, told.status, told.at)
            self._db.execute("INSERT OR REPLACE INTO outcomes VALUES (?, ?, ?, ?, ?)", values)


def _record(entry: Entry) -> Record:
    return Record("", entry.partition, entry.offset, entry.timestamp_ms, entry.key.encode(), entry.value, entry.headers)


def place(id: str) -> tuple[int, int]:
    """Partition and offset."""
    part, _, at = id.partition("-")
    return int(part), int(at)


def _beyond(workflow: Workflow, after: str | None, direction: str) -> tuple[str, list[Any]]:
    """What comes after the decision of this id."""
    if after is None:
        return "", []
    last = "(SELECT time, part, at FROM decisions WHERE workflow = ? AND part = ? AND at = ?)"
    return f" AND (d.time, d.part, d.at) {direction} {last}", [workflow, *place(after)]
