"""The contacts of Dynamics as a feed of observations (bridge.flow.reader.Source), in a tracking session of its own (dataverse.md §4).

    (no cursor) ─▶ load ─▶ again ─▶ live ─▶ live …        columns changed, tracking expired: live ─▶ load (resync)

The token of a load reflects its last page, so what changed while it was running is read once more, outside of the session: every row with
a version that the first page had not reached. Deletes concern nobody here: a contact that is gone has nothing to be told.

A cursor is a JSON object: `phase`, `lane` (of the last load), `columns`, `page_link`, `delta_link`, `rows` and `total` of the load, `above`
(the highest version of its first page), times.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Any

from bridge.clock import Clock
from bridge.dynamics.changes import Page, Row, TrackedTable, version
from bridge.dynamics.errors import QueryRefused, TrackingExpired, refused
from bridge.dynamics.pace import next_poll_s
from bridge.errors import HaltError
from bridge.events import Lane, OptStatusObserved, Outgoing, event_headers
from bridge.flow.reader import Cursor, Step
from bridge.log import log

CURSOR, TABLE, TOPIC = "dynamics:contact", "contact", "optin.observations"
RESTARTS = 3


class ContactFeed:
    """`tracked`: contact with the mapped columns."""

    def __init__(self, tracked: TrackedTable, clock: Clock, *, poll_interval_s: float, produced_by: str) -> None:
        self._tracked, self._clock, self._interval_s, self._produced_by = tracked, clock, poll_interval_s, produced_by
        self._columns = sorted(tracked.table.columns)
        self._wait_s = poll_interval_s

    async def step(self, cursor: Cursor | None) -> Step:
        if cursor is None:
            return await self._begin("initial")
        if cursor["columns"] != self._columns:
            log("columns_changed", table=TABLE, phase=cursor["phase"])
            return await self._begin("resync")
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
            return await self._begin(_lane(cursor))
        except QueryRefused as exc:
            return await self._refused(cursor, exc)

    async def _begin(self, lane: Lane, restarts: int = 0) -> Step:
        total = await self._tracked.count()
        log("load_started", table=TABLE, lane=lane, total=total)
        begun = {"phase": "load", "lane": lane, "columns": self._columns, "page_link": None, "delta_link": None}
        return Step(
            [], {**begun, "rows": 0, "total": total, "above": None, "restarts": restarts, "started_at": self._clock.now().isoformat()}
        )

    async def _load(self, cursor: Cursor) -> Step:
        page = await self._tracked.page(cursor["page_link"])
        above = _highest(page.rows) if cursor["above"] is None else cursor["above"]
        after = {**cursor, "rows": cursor["rows"] + len(page.rows), "above": above}
        events = [self._observed(row, cursor["lane"]) for row in page.rows]
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
        return Step(events, {**after, "phase": "again", "page_link": None, "delta_link": page.delta_link, "token_at": self._now()})

    async def _again(self, cursor: Cursor) -> Step:
        rows, link = await self._tracked.rows(cursor["page_link"])
        events = [self._observed(row, "live") for row in rows if (version(row) or cursor["above"] + 1) > cursor["above"]]
        if link:
            return Step(events, {**cursor, "page_link": link})
        return Step(events, {**cursor, "phase": "live", "page_link": None, "restarts": 0, "finished_at": self._now()})

    async def _live(self, cursor: Cursor) -> Step:
        page = await self._tracked.page(cursor["page_link"] or cursor["delta_link"])
        events = [self._observed(row, "live") for row in page.rows]
        if page.next_link:
            return Step(events, {**cursor, "page_link": page.next_link})
        return self._ended(events, cursor, page)

    def _ended(self, events: list[Outgoing], cursor: Cursor, page: Page) -> Step:
        if page.delta_link is None:
            log("no_link_in_answer", "warning", table=TABLE)
        self._wait_s = next_poll_s(self._interval_s, self._wait_s, bool(events), 1)
        link = page.delta_link or cursor["delta_link"]
        return Step(events, {**cursor, "page_link": None, "delta_link": link, "restarts": 0, "token_at": self._now()}, self._wait_s)

    async def _refused(self, cursor: Cursor, exc: QueryRefused) -> Step:
        """The link is of no use any more: back to the last delta link, else to the beginning."""
        log("page_link_refused", "warning", table=TABLE, status=exc.status)
        restarts = cursor["restarts"] + 1
        if restarts > RESTARTS or (cursor["phase"] == "load" and not cursor["page_link"]):
            raise refused(exc)
        if cursor["page_link"] and cursor["phase"] in ("live", "again"):
            return Step([], {**cursor, "page_link": None, "restarts": restarts})
        return await self._begin(_lane(cursor), restarts)

    def _observed(self, row: Row, lane: Lane) -> Outgoing:
        """An empty flag is no answer; it is left out."""
        fields = {name: row.get(column.url_name) for name, column in self._tracked.table.columns.items()}
        flags = {name: {"value": value, "changed_at": None} for name, value in fields.items() if isinstance(value, bool)}
        key, number = self._tracked.key(row), version(row)
        event = OptStatusObserved(key, "dynamics", flags, _moment(row.get("modifiedon")), self._clock.now())
        return Outgoing(TOPIC, key, event, event_headers(lane, "" if number is None else str(number), self._produced_by))

    def _now(self) -> str:
        return self._clock.now().isoformat()


def _lane(cursor: Cursor) -> Lane:
    """Of a load that has to be begun again: it goes on, or comes after one that was finished."""
    lane: Lane = cursor["lane"] if cursor["phase"] == "load" else "resync"
    return lane


def _highest(rows: Iterable[Row]) -> int:
    return max((version(row) or 0 for row in rows), default=0)


def _moment(text: Any) -> datetime | None:
    try:
        parsed = datetime.fromisoformat(str(text))
    except ValueError:
        return None
    return parsed if parsed.tzinfo else parsed.replace(tzinfo=UTC)
