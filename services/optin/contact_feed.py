"""The contacts of Dynamics as a feed of observations (bridge.flow.reader.Source), in a tracking session of its own (dataverse.md §4).

    (no cursor) ─▶ load ─▶ again ─▶ live ─▶ live …        columns changed, tracking expired, another source epoch: any ─▶ load (resync)

The token of a load reflects its last page, so what changed while it was running is read once more, outside of the session: every row with
a version that the first page had not reached. A contact that is deleted is observed as gone: what it held is not known any more.

A cursor is a JSON object: `phase`, `lane` (of the last load), `columns`, `page_link`, `delta_link`, `rows` and `total` of the load, `above`
(the highest version of its first page), `version_seen`, times, and those of bridge/dynamics/epoch.py. Two times are by Dynamics' clock:
`asked_at`, when the first page of the running run of a delta was asked for, and `looked_at`, when that of the run before it was.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime, timedelta
from typing import Any

from bridge.consent.profiles import ahead_ms
from bridge.dynamics.changes import Page, Row, TrackedTable, version
from bridge.dynamics.delta import DeltaRun
from bridge.dynamics.epoch import VERSIONS, SourceEpoch, epoch, noted, run_ended, went_back
from bridge.dynamics.errors import QueryRefused, TrackingExpired, refused
from bridge.dynamics.pace import next_poll_s
from bridge.flow.reader import Cursor, Step
from bridge.mapping.values import moment
from bridge.model.clock import Clock
from bridge.model.errors import HaltError
from bridge.model.events import Lane, OptStatusObserved, Outgoing, event_headers
from bridge.observe.log import log

CURSOR, TABLE, TOPIC = "dynamics:contact", "contact", "optin.observations"
ALSO = ("modifiedby", "merged", "masterid")  # columns that are read beside the flags, where the table has them
RESTARTS = 3
SAME_TIME_S = 2.0  # clocks that differ by no more are taken for one


class ContactFeed:
    """`tracked`: contact with the mapped columns, and with those of ALSO."""

    def __init__(self, tracked: TrackedTable, source: SourceEpoch, clock: Clock, *, poll_interval_s: float, produced_by: str) -> None:
        self._tracked, self._source, self._clock = tracked, source, clock
        self._interval_s, self._produced_by = poll_interval_s, produced_by
        self._columns = sorted([*tracked.table.columns, *tracked.table.also])
        self._wait_s = poll_interval_s
        self._run = DeltaRun()
        self._us = ""  # our application user

    async def step(self, cursor: Cursor | None) -> Step:
        if cursor is None:
            return await self._begin("initial", {})
        self._source.check(cursor)
        if self._source.is_due(cursor):
            log("epoch_begins", table=TABLE)
            return await self._begin("resync", cursor)
        if what := await self._source.trouble(cursor):
            return self._halted(cursor, what)
        if cursor["columns"] != self._columns:
            log("columns_changed", table=TABLE, phase=cursor["phase"])
            return await self._begin("resync", cursor)
        self._us = (await self._source.identity()).user
        return await self._step(await self._source.placed(cursor))

    async def _step(self, cursor: Cursor) -> Step:
        try:
            match cursor["phase"]:
                case "load":
                    return await self._load(cursor)
                case "again":
                    return await self._again(cursor)
                case _:
                    return await self._live(cursor)
        except TrackingExpired:
            log("tracking_expired", "warning", table=TABLE)
            return await self._begin(_lane(cursor), cursor)
        except QueryRefused as exc:
            return await self._refused(cursor, exc)

    def _halted(self, cursor: Cursor, what: str) -> Step:
        """Nothing is published of what made versions go back: all of it comes again, in the epoch that has begun."""
        log("versions_went_back", "error", table=TABLE)
        return Step([], self._source.risen(cursor, what), halt=self._source.error(what))

    async def _begin(self, lane: Lane, before: Cursor, restarts: int = 0) -> Step:
        if what := await self._source.trouble(before, again=True):
            return self._halted(before, what)
        of_epoch, total = await self._source.begun(before), await self._tracked.count()
        log("load_started", table=TABLE, lane=lane, total=total, epoch=of_epoch["epoch"])
        begun = {"phase": "load", "lane": lane, "columns": self._columns, "page_link": None, "delta_link": None, **of_epoch}
        return Step([], {**begun, "rows": 0, "total": total, "above": None, "restarts": restarts, "started_at": self._now()})

    async def _load(self, cursor: Cursor) -> Step:
        asked_at = self._clock.now()
        page = await self._tracked.page(cursor["page_link"])
        if went_back(cursor, page.rows):
            return self._halted(cursor, VERSIONS)
        above = _highest(page.rows) if cursor["above"] is None else cursor["above"]
        after = {**cursor, "rows": cursor["rows"] + len(page.rows), "above": above, **self._noted(cursor, page.rows)}
        events = [self._observed(cursor, row, cursor["lane"]) for row in page.rows]
        if page.next_link:
            return Step(events, {**after, "page_link": page.next_link})
        if not page.delta_link:
            raise HaltError(
                f"table {TABLE}: the last page carries no delta link",
                code="change_tracking_off",
                hint=f"Switch on 'Track changes' for {TABLE} in Dynamics, then start again.",
                origin="source",
            )
        log("load_finished", table=TABLE, lane=cursor["lane"], rows=after["rows"])
        times = {"token_at": self._now(), "looked_at": self._by_their_clock(asked_at).isoformat()}
        return Step(events, {**after, **run_ended(after), "phase": "again", "page_link": None, "delta_link": page.delta_link, **times})

    async def _again(self, cursor: Cursor) -> Step:
        """As after a load of ingress: what changed during a resync carries its lane."""
        rows, link = await self._tracked.rows(cursor["page_link"])
        lane: Lane = "live" if cursor["lane"] == "initial" else "resync"
        changed = [row for row in rows if (version(row) or cursor["above"] + 1) > cursor["above"]]
        events = [self._observed(cursor, row, lane) for row in changed]
        after = {**cursor, "version_seen": max(_seen(cursor), _highest(changed))}
        if link:
            return Step(events, {**after, "page_link": link})
        return Step(events, {**after, "phase": "live", "page_link": None, "restarts": 0, "finished_at": self._now()})

    async def _live(self, cursor: Cursor) -> Step:
        asked_at, first = self._clock.now(), cursor["page_link"] is None
        page = await self._run.page(self._tracked, cursor["page_link"] or cursor["delta_link"], first)
        if went_back(cursor, page.rows):
            return self._halted(cursor, VERSIONS)
        there, gone = await self._run.looked_up(self._tracked, page)
        looked_at = moment(cursor.get("looked_at"))
        events = [self._observed(cursor, row, "live", looked_at) for row in [*page.rows, *there]]
        noted = self._noted(cursor, page.rows)
        seen = max(noted["version_seen"], _highest(there))
        events += [self._gone(cursor, key, seen) for key in gone]
        after = {**cursor, **noted, "version_seen": seen}
        if first:
            after["asked_at"] = self._by_their_clock(asked_at).isoformat()
        if page.next_link:
            return Step(events, {**after, "page_link": page.next_link})
        return self._ended(events, after, page)

    def _ended(self, events: list[Outgoing], cursor: Cursor, page: Page) -> Step:
        if page.delta_link is None:
            log("no_link_in_answer", "warning", table=TABLE)
        self._wait_s = next_poll_s(self._interval_s, self._wait_s, bool(events), 1)
        link = page.delta_link or cursor["delta_link"]
        moved = {"page_link": None, "delta_link": link, "restarts": 0, **run_ended(cursor), "token_at": self._now()}
        if page.delta_link is not None and "asked_at" in cursor:
            moved["looked_at"] = cursor["asked_at"]
        return Step(events, {**cursor, **moved}, self._wait_s)

    async def _refused(self, cursor: Cursor, exc: QueryRefused) -> Step:
        """The link is of no use any more: back to the last delta link, else to the beginning."""
        log("page_link_refused", "warning", table=TABLE, status=exc.status)
        restarts = cursor["restarts"] + 1
        if restarts > RESTARTS or (cursor["phase"] == "load" and not cursor["page_link"]):
            raise refused(exc)
        if cursor["page_link"] and cursor["phase"] in ("live", "again"):
            return Step([], {**cursor, "page_link": None, "restarts": restarts})
        return await self._begin(_lane(cursor), cursor, restarts)

    def _observed(self, cursor: Cursor, row: Row, lane: Lane, looked_at: datetime | None = None) -> Outgoing:
        """An empty flag is no answer; it is left out."""
        fields = {name: row.get(column.url_name) for name, column in self._tracked.table.columns.items()}
        flags = {name: {"value": value, "changed_at": None} for name, value in fields.items() if isinstance(value, bool)}
        key, number, master = self._tracked.key(row), version(row), row.get("_masterid_value")
        event = OptStatusObserved(
            key,
            "dynamics",
            flags,
            moment(row.get("modifiedon")),
            self._clock.now(),
            ours=str(row.get("_modifiedby_value")).lower() == self._us,
            looked_at=looked_at,
            merged_into=str(master).lower() if row.get("merged") is True and master else None,
            ahead_ms=ahead_ms(self._tracked.ahead_s),
            epoch=epoch(cursor),
            origin="" if number is None else f"version {number}",
        )
        return self._outgoing(event, lane, number)

    def _gone(self, cursor: Cursor, key: str, seen: int) -> Outgoing:
        """A tombstone has no version: what was seen before it is not newer."""
        event = OptStatusObserved(
            key,
            "dynamics",
            {},
            None,
            self._clock.now(),
            gone=True,
            ahead_ms=ahead_ms(self._tracked.ahead_s),
            epoch=epoch(cursor),
            origin=f"version {seen}" if seen else "",
        )
        return self._outgoing(event, "live", seen or None)

    def _outgoing(self, event: OptStatusObserved, lane: Lane, number: int | None) -> Outgoing:
        headers = event_headers(lane, "" if number is None else str(number), self._produced_by)
        return Outgoing(TOPIC, event.contact_key, event, headers)

    @property
    def _difference_s(self) -> float:
        """By how much our clock was ahead of Dynamics' at the last answer; 0 for what is no more than whole seconds and the way."""
        ahead_s = self._tracked.ahead_s or 0.0
        return ahead_s if abs(ahead_s) > SAME_TIME_S else 0.0

    def _by_their_clock(self, ours: datetime) -> datetime:
        return ours - timedelta(seconds=self._difference_s)

    def _noted(self, cursor: Cursor, rows: Iterable[Row]) -> dict[str, Any]:
        rows = list(rows)
        return {"version_seen": max(_seen(cursor), _highest(rows)), **noted(cursor, rows)}

    def _now(self) -> str:
        return self._clock.now().isoformat()


def _lane(cursor: Cursor) -> Lane:
    """Of a load that has to be begun again: it goes on, or comes after one that was finished."""
    lane: Lane = cursor["lane"] if cursor["phase"] == "load" else "resync"
    return lane


def _seen(cursor: Cursor) -> int:
    return int(cursor.get("version_seen", 0))


def _highest(rows: Iterable[Row]) -> int:
    return max((version(row) or 0 for row in rows), default=0)
