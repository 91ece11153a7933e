"""One Dynamics table as a feed of change events: full reads, reconciliation after them, then polling (dataverse.md §4).

    (no cursor) ─▶ load ─▶ reconcile ─▶ live ─▶ live …        columns changed: live ─▶ drain ─▶ load (resync)
                    ▲                     │                    tracking expired: live ─▶ load (resync)
                    └─────────────────────┘                    another source epoch: any ─▶ load (resync)

A cursor is a JSON object: `phase`, `lane` (of the running or last load), `columns`, `page_link` (resume inside a chain of pages),
`delta_link`, `rows` and `total` of the load, `starts` (how far the writers were when it began), `version_seen` (highest so far), times,
`refused` (the link was, once), `replay` (services/ingress/replay.py), which goes on between the polls of the live phase, and those of
bridge/dynamics/epoch.py: `version_seen` begins again with each epoch.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import replace
from typing import Any

from bridge.consent.profiles import ahead_ms
from bridge.dynamics.changes import Page, Row, TrackedTable, version
from bridge.dynamics.delta import DeltaRun
from bridge.dynamics.epoch import VERSIONS, SourceEpoch, epoch, noted, run_ended, went_back
from bridge.dynamics.errors import QueryRefused, TrackingExpired, refused
from bridge.dynamics.lookups import Lookups
from bridge.dynamics.pace import next_poll_s
from bridge.flow.reader import Cursor, Step
from bridge.model.clock import Clock
from bridge.model.desired import Replay
from bridge.model.errors import HaltError
from bridge.model.events import OURS, POLLED_EVERY, SOURCE_AHEAD, ChangeEvent, Lane, Outgoing, event_headers
from bridge.observe.log import log
from services.ingress import replay
from services.ingress.children import POLLED_EVERY_S
from services.ingress.options import NewOptions
from services.ingress.reconcile import Reconciliation

RESTARTS = 3
LAG_S = 3.0
CHANGES, REPLAY = "ingress.changes", "ingress.replay"


def read_columns(tracked: TrackedTable) -> list[str]:
    """What a cursor's session was opened with."""
    return sorted([*tracked.table.columns, *tracked.table.also])


class TableFeed:
    """See bridge.flow.reader.Source. `describe` reads the table's metadata again and raises HaltError for what is missing there."""

    def __init__(
        self,
        tracked: TrackedTable,
        describe: Callable[[], Awaitable[TrackedTable]],
        reconciliation: Reconciliation,
        source: SourceEpoch,
        clock: Clock,
        *,
        poll_interval_s: float,
        tables: int,
        produced_by: str,
        replay_asked: Callable[[], Replay | None] = lambda: None,
    ) -> None:
        self._tracked, self._describe, self._reconciliation, self._source = tracked, describe, reconciliation, source
        self._clock, self._interval_s, self._tables, self._produced_by = clock, poll_interval_s, tables, produced_by
        self._table = tracked.table.name
        self._columns = read_columns(tracked)
        self._us = ""  # our application user, where the rows tell who changed them
        self._replay_asked = replay_asked
        self._wait_s, self._next_poll = poll_interval_s, 0.0  # monotonic; until then a replay or a comparison may go on
        self._run, self._replay_lookups = DeltaRun(), Lookups()
        self._new_options = NewOptions(clock)

    async def step(self, cursor: Cursor | None) -> Step:
        if self._tracked.table.also and not self._us:
            self._us = (await self._source.identity()).user
        if cursor is None:
            return await self._begin("initial", {})
        self._source.check(cursor)
        if self._source.is_due(cursor):
            log("epoch_begins", table=self._table)
            return await self._begin("resync", cursor)
        if what := await self._source.trouble(cursor):
            return self._halted(cursor, what)
        return await self._step(await self._source.placed(cursor))

    async def _step(self, cursor: Cursor) -> Step:
        if cursor["columns"] != self._columns and cursor["phase"] != "drain":
            return await self._columns_changed(cursor)
        match cursor["phase"]:
            case "load":
                return await self._load(cursor)
            case "reconcile":
                return await self._reconcile(cursor)
            case "drain":
                return await self._drain(cursor)
            case _:
                return await self._live(cursor)

    def _halted(self, cursor: Cursor, what: str) -> Step:
        """Nothing is published of what made versions go back: all of it comes again, in the epoch that has begun."""
        log("versions_went_back", "error", table=self._table)
        return Step([], self._source.risen(cursor, what), halt=self._source.error(what))

    async def _begin(self, lane: Lane, before: Cursor, at_least: int = 0) -> Step:
        """Starts a full read, in an epoch of `at_least` so much; what the metadata says now holds for it."""
        if what := await self._source.trouble(before, again=True):
            return self._halted(before, what)
        begun = await self._source.begun(before, at_least)
        self._tracked = await self._describe()
        self._columns = read_columns(self._tracked)
        starts, total = await self._reconciliation.starts(), await self._tracked.count()
        side = before.get("replay")
        if lane == "initial" and (request := self._replay_asked()) is not None:
            side = replay.done(request)
        log("load_started", table=self._table, lane=lane, total=total, epoch=begun["epoch"])
        return Step(
            [],
            {
                "phase": "load",
                "lane": lane,
                "columns": self._columns,
                "page_link": None,
                "delta_link": None,
                "rows": 0,
                "total": total,
                "starts": starts,
                **begun,
                "restarts": before.get("restarts", 0),
                "started_at": self._clock.now().isoformat(),
                **({"replay": side} if side else {}),
            },
        )

    async def _columns_changed(self, cursor: Cursor) -> Step:
        log("columns_changed", table=self._table, phase=cursor["phase"])
        if cursor["phase"] == "live":
            return Step([], {**cursor, "phase": "drain", "page_link": None})
        return await self._begin(cursor["lane"], cursor)  # that load was not finished: begin it again, with the new columns

    async def _load(self, cursor: Cursor) -> Step:
        link = cursor["page_link"]
        try:
            page = await self._tracked.page(link)
        except (QueryRefused, TrackingExpired) as exc:
            return await self._again(cursor, exc, cursor["lane"])
        if went_back(cursor, page.rows):
            return self._halted(cursor, VERSIONS)
        await self._learn_options(page.rows)
        events = [self._upsert(cursor, row, cursor["lane"]) for row in page.rows]
        seen = {"version_seen": self._highest(cursor, page.rows), **noted(cursor, page.rows)}
        after = {**cursor, "refused": False, "rows": cursor["rows"] + len(events), **seen}
        if page.next_link:
            return Step(events, {**after, "page_link": page.next_link})
        if not page.delta_link:
            raise HaltError(
                f"table {self._table}: the last page carries no delta link",
                code="change_tracking_off",
                hint=f"Switch on 'Track changes' for {self._table} in Dynamics, then start again.",
                origin="source",
            )
        log("load_finished", table=self._table, lane=cursor["lane"], rows=after["rows"])
        done = {"phase": "reconcile", "page_link": None, "delta_link": page.delta_link, "restarts": 0}
        return Step(events, {**after, **done, **run_ended(after), "token_at": self._clock.now().isoformat()})

    async def _reconcile(self, cursor: Cursor) -> Step:
        """Rows that changed, came or went while the load was running (its token reflects its last page only). After a resync they carry
        its lane, by which no opt-out is ever taken back; they go to the live topic either way. Polls go on in between."""
        if cursor["page_link"] is not None or self._reconciliation.poll_first or self._clock.monotonic() >= self._next_poll:
            step = await self._poll(cursor)
            if step.cursor is not None and not step.cursor.get("refused"):
                self._reconciliation.came_live([each.key for each in step.events])
            return step
        lane: Lane = "live" if cursor["lane"] == "initial" else "resync"
        made: dict[str, Outgoing] = {}

        async def taken(rows: Sequence[Row]) -> None:
            await self._learn_options(rows)
            made.update((self._tracked.key(row), self._upsert(cursor, row, lane, CHANGES)) for row in rows)

        differences = await self._reconciliation.next(self._tracked, cursor["starts"], epoch(cursor), taken)
        if (known := self._reconciliation.known_epoch) > epoch(cursor):
            log("epoch_known", "warning", table=self._table, epoch=known)  # a cursor was lost: what was just read looks old to the writers
            return await self._begin("resync", cursor, known + 1)
        if differences is None:
            return Step([], {**cursor, "phase": "live", "starts": {}, "finished_at": self._clock.now().isoformat()})
        rows = [each.row for each in differences if each.row is not None]
        seen, events = max([self._highest(cursor, rows), *(each.seen for each in differences)]), list(made.values())
        events += [self._delete(cursor, each.key, lane, seen) for each in differences if each.row is None]
        return Step(events, {**cursor, "version_seen": seen})

    async def _live(self, cursor: Cursor) -> Step:
        """The poll when it is due, and a page of a replay in between."""
        request, side = self._replay_asked(), cursor.get("replay")
        if cursor["page_link"] is None:
            if request is not None and replay.asked_for(request, side):
                log("replay_started", table=self._table, when=request["when"])
                self._replay_lookups = Lookups()
                return Step([], {**cursor, "replay": await replay.begun(self._tracked, request, self._clock.now())})
            if side is not None and replay.running(side) and request is None:
                log("replay_cancelled", table=self._table)
                return Step([], {**cursor, "replay": {**side, "state": "cancelled"}})
            if side is not None and replay.running(side) and request is not None and self._clock.monotonic() < self._next_poll:
                return await self._replay(cursor, request, side)
        return await self._poll(cursor)

    async def _replay(self, cursor: Cursor, request: Replay, side: replay.State) -> Step:
        rows, after = await replay.page(self._tracked, request, side, self._replay_lookups)
        await self._learn_options(rows)
        if not replay.running(after):
            log("replay_finished", table=self._table, rows=after["rows"])
        events = [self._upsert(cursor, row, "replay") for row in rows]
        return Step(events, {**cursor, "replay": after, "version_seen": self._highest(cursor, rows)})

    async def _poll(self, cursor: Cursor) -> Step:
        try:
            page = await self._page_of_run(cursor)
        except (QueryRefused, TrackingExpired) as exc:
            return await self._again(cursor, exc, "resync")
        if went_back(cursor, page.rows):
            return self._halted(cursor, VERSIONS)
        await self._learn_options(page.rows)
        there, gone = await self._run.looked_up(self._tracked, page)
        await self._learn_options(there)
        seen = self._highest(cursor, [*page.rows, *there])
        events = [self._upsert(cursor, row, "live") for row in [*page.rows, *there]]
        events += [self._delete(cursor, key, "live", seen) for key in gone]
        return self._after_page(events, {**cursor, "version_seen": seen, **noted(cursor, page.rows)}, page)

    async def _drain(self, cursor: Cursor) -> Step:
        """The rest of the old session, for its deletes: rows come again, with all columns, in the resync that follows."""
        try:
            page = await self._page_of_run(cursor, whole=False)
        except (QueryRefused, TrackingExpired):
            return await self._begin("resync", cursor)
        if went_back(cursor, page.rows):
            return self._halted(cursor, VERSIONS)
        there, gone = await self._run.looked_up(self._tracked, page)
        cursor = {**cursor, "version_seen": self._highest(cursor, [*page.rows, *there]), **noted(cursor, page.rows)}
        events = [self._delete(cursor, key, "live", cursor["version_seen"]) for key in gone]
        if page.next_link:
            return Step(events, {**cursor, "page_link": page.next_link})
        begun = await self._begin("resync", {**cursor, **run_ended(cursor)})
        return replace(begun, events=events)

    async def _page_of_run(self, cursor: Cursor, whole: bool = True) -> Page:
        return await self._run.page(self._tracked, cursor["page_link"] or cursor["delta_link"], cursor["page_link"] is None, whole)

    def _after_page(self, events: list[Outgoing], cursor: dict[str, Any], page: Page) -> Step:
        cursor["refused"] = False
        if page.next_link:
            return Step(events, {**cursor, "page_link": page.next_link})
        if page.delta_link is None:
            log("no_link_in_answer", "warning", table=self._table)
        self._wait_s = next_poll_s(self._interval_s, self._wait_s, bool(events), self._tables)
        link = page.delta_link or cursor["delta_link"]
        moved = {"page_link": None, "delta_link": link, "restarts": 0, **run_ended(cursor), "token_at": self._clock.now().isoformat()}
        self._next_poll = self._clock.monotonic() + self._wait_s
        side = cursor.get("replay")
        busy = cursor["phase"] == "reconcile" or replay.running(side) or replay.asked_for(self._replay_asked(), side)
        return Step(events, {**cursor, **moved}, 0.0 if busy else self._wait_s)

    async def _again(self, cursor: Cursor, exc: QueryRefused | TrackingExpired, lane: Lane) -> Step:
        """The link is of no use any more, a refused one when it is refused twice: back to the last delta link, else to the beginning."""
        if isinstance(exc, TrackingExpired):
            log("tracking_expired", "warning", table=self._table)
            return await self._begin(lane, cursor)
        log("page_link_refused", "warning", table=self._table, status=exc.status, code=exc.code)
        if not cursor.get("refused"):  # it may not have heard of a publication yet (§6.3)
            return Step([], {**cursor, "refused": True}, max(self._interval_s, LAG_S))
        if cursor["phase"] == "load" and not cursor["page_link"]:
            raise refused(exc)
        restarts = cursor.get("restarts", 0) + 1
        if restarts > RESTARTS:
            raise refused(exc)
        if cursor["phase"] != "load" and cursor["page_link"]:
            return Step([], {**cursor, "page_link": None, "refused": False, "restarts": restarts})
        return await self._begin(lane, {**cursor, "restarts": restarts})

    async def _learn_options(self, rows: Sequence[Row]) -> None:
        """Before events are made of these rows, which carry labels beside the values."""
        self._tracked = await self._new_options.learned(self._tracked, rows)

    def _upsert(self, cursor: Cursor, row: Row, lane: Lane, topic: str = "") -> Outgoing:
        event = self._tracked.upsert(row, lane, self._clock.now(), epoch(cursor))
        ours = bool(self._us) and str(row.get("_modifiedby_value")).lower() == self._us
        return self._outgoing(event, topic or (CHANGES if lane == "live" else REPLAY), ours)

    def _delete(self, cursor: Cursor, key: str, lane: Lane, seen: int) -> Outgoing:
        return self._outgoing(self._tracked.delete(key, lane, seen or None, self._clock.now(), epoch(cursor)), CHANGES)

    def _outgoing(self, event: ChangeEvent, topic: str, ours: bool = False) -> Outgoing:
        headers = event_headers(event.lane, str(event.version or ""), self._produced_by)
        if ahead := ahead_ms(self._tracked.ahead_s):  # its times are Dynamics', and the writer compares them with Campaign's
            headers.append((SOURCE_AHEAD, str(ahead).encode()))
        headers += [(POLLED_EVERY, str(int(self._interval_s * 1000)).encode())] if self._interval_s > POLLED_EVERY_S else []
        headers += [(OURS, b"1")] if ours else []  # what we wrote ourselves is nobody's word
        return Outgoing(f"{topic}.{self._table}", event.key, event, headers)

    def _highest(self, cursor: Cursor, rows: Iterable[Row]) -> int:
        return max([int(cursor["version_seen"]), *(version(row) or 0 for row in rows)])
