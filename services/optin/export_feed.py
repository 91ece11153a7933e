"""Campaign's exports as a feed of observations (bridge.flow.reader.Source): file after file, each in portions.

A cursor is a JSON object: `phase` `live`, `started_at`, `last_file_at` (when the last file was finished, or null), `file` while one is
under way (`at`, `size`, `mtime`: which; `row`: rows of it that are in Kafka; what was wrong with them), `failed`, `vanished`, `untimed`:
what people are told (services/optin/export_notices.py), and `done`: files that lie there although they are finished, because this account
may not move them.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from itertools import islice
from pathlib import Path
from typing import Any

from bridge.campaign.export_folder import ExportFile, ExportFolder, shown
from bridge.campaign.settings import ExportSettings
from bridge.flow.reader import Cursor, Step
from bridge.model.clock import Clock
from bridge.model.errors import RetryError
from bridge.model.events import OptStatusObserved, Outgoing, event_headers
from bridge.observe.log import log
from services.optin.export import LABELS, Export, ExportRow
from services.optin.export_notices import overdue, remembered
from services.optin.export_rows import BadExport

CURSOR, TOPIC = "campaign:exports", "optin.observations"
PORTION = 1000
SURVEYED = 20_000  # rows that are looked through at once
LOGGED_ROWS = 20  # of one file
BAD_PERCENT = 1  # of the rows of a file: with more, or one that is more, it is not done


class ExportFeed:
    """`labels` asks Campaign for the display names of a profile's fields, `ahead_ms` by how much its clock is ahead of ours: no file tells.
    `skipped`: rows, of all files."""

    def __init__(
        self,
        folder: ExportFolder,
        settings: ExportSettings,
        flags: Sequence[str],
        labels: Callable[[], Awaitable[Mapping[str, str]]],
        local: Path,
        clock: Clock,
        produced_by: str,
        ahead_ms: Callable[[], Awaitable[int | None]] | None = None,
    ) -> None:
        self._measure = ahead_ms
        self._ahead_ms: int | None = None
        self._folder, self._settings, self._flags, self._labels = folder, settings, flags, labels
        self._local, self._clock, self._produced_by = local, clock, produced_by
        self._looked: dict[str, tuple[int, int, float]] = {}  # size, mtime and since when (monotonic) it is so
        self._had: ExportFile | None = None  # what the copy on this machine is of, whole or not
        self._rows: Iterator[ExportRow] | None = None  # of the file under way, None: to be opened
        self._untimed: dict[str, Sequence[str]] | None = None  # of the file under way
        self._broken: str | None = None  # why it ends where it ends
        self._told = 0  # skipped rows of the file under way
        self.skipped = 0

    async def step(self, cursor: Cursor | None) -> Step:
        if cursor is None:
            cursor = {"phase": "live", "started_at": self._clock.now().isoformat(), "last_file_at": None, "file": None, "done": []}
        step = await (self._look(cursor) if cursor["file"] is None else self._portion(cursor))
        return replace(step, notice=step.notice or remembered(step.cursor or {}))

    async def _look(self, cursor: Cursor) -> Step:
        """What is in the folder, and the oldest file of it that is ready."""
        late = overdue(cursor, self._clock.now(), self._settings.expected_s)
        try:
            files = await self._folder.waiting()
        except RetryError as exc:
            if late is None:
                raise
            log("feed_waits", "warning", feed=CURSOR, code=exc.code, reason=str(exc), seconds=self._settings.poll_interval_s)
            return Step([], cursor, self._settings.poll_interval_s, notice=late)
        here = {each.at: (each.size, each.mtime) for each in files}
        cursor = {**cursor, "done": [each for each in cursor["done"] if here.get(each[0]) == (each[1], each[2])]}
        unchanged = self._unchanged(files)
        ready = [each for each in files if each.at in unchanged and not _done(cursor, each)]
        if ready:
            return Step([], {**cursor, "file": {"at": ready[0].at, "size": ready[0].size, "mtime": ready[0].mtime, "row": 0}})
        waiting = not all(_done(cursor, each) for each in files)
        for each in ("failed", "vanished"):
            if cursor.get(each):
                cursor = {**cursor, each: {**_told(cursor, each), "told": True}}
        return Step([], cursor, self._settings.poll_interval_s, notice=None if waiting else late)

    def _unchanged(self, files: Sequence[ExportFile]) -> set[str]:
        """Those that are as they were a poll ago. A look at the folder in between, after a file was read, is no poll."""
        now, before = self._clock.monotonic(), self._looked
        self._looked = {}
        for each in files:
            size, mtime, since = before.get(each.at, (-1, -1, now))
            self._looked[each.at] = (each.size, each.mtime, since if (size, mtime) == (each.size, each.mtime) else now)
        return {at for at, (_, _, since) in self._looked.items() if now - since >= self._settings.poll_interval_s}

    async def _portion(self, cursor: Cursor) -> Step:
        """The next rows of the file under way; past the last one, the file is put away."""
        if self._rows is None:
            found = await self._begin(cursor)
            if isinstance(found, Step):
                return found
            cursor = {**cursor, "file": {**cursor["file"], "at": found.at}}
            try:
                await self._open(found, cursor["file"]["row"])
            except BadExport as exc:
                return await self._end(cursor, str(exc))
        assert self._rows is not None
        rows: list[ExportRow] = []
        if self._broken is None:
            rows, self._broken = await asyncio.to_thread(_taken, self._rows)
        if not rows:
            return await self._end(cursor, self._broken)
        name = shown(_file(cursor["file"]).name)
        self._skipped(name, [each for each in rows if each.bad is not None])
        events = [self._outgoing(name, each.event) for each in rows if each.event is not None]
        return Step(events, {**cursor, "file": _counting(cursor["file"], rows)})

    async def _begin(self, cursor: Cursor) -> ExportFile | Step:
        """The file under way, claimed and copied; or the step that ends it."""
        file = _file(cursor["file"])
        found = await self._folder.claim(file)
        if found is None:
            if (where := await self._folder.finished(file)) is not None:  # it was put away, and we ended before we could note it
                log("export_done", name=shown(file.name), rows=cursor["file"]["row"])
                return self._finished(cursor, "moved", came=where == "processed")
            return self._lost(cursor, replaced=False)
        if not found.same(file):
            return self._lost(cursor, replaced=True)
        if self._had != found:
            self._close()
        self._had = found
        self._local.mkdir(parents=True, exist_ok=True)
        came = await self._folder.fetch(found, self._copy())
        if came == "refused":
            return await self._end({**cursor, "file": {**cursor["file"], "at": found.at}}, "the server refuses to give it to this account")
        if came == "changed":
            return self._lost(cursor, replaced=await self._folder.claim(found) is not None)
        return found

    async def _open(self, file: ExportFile, row: int) -> None:
        """Raises BadExport, and RetryError while Campaign cannot be asked for its labels."""
        exported_at = datetime.fromtimestamp(file.mtime, UTC) if file.mtime else self._clock.now()

        def export(labels: Mapping[str, str]) -> Export:
            return Export(self._copy(), self._flags, self._settings, exported_at, labels, shown(file.name))

        opened = export(LABELS)
        if not await asyncio.to_thread(opened.understood):
            opened = export({**LABELS, **await self._labels()})
        missing, survey = opened.untimed(), opened.surveyed()
        while await asyncio.to_thread(lambda: sum(1 for _ in islice(survey, SURVEYED))):
            pass
        self._untimed = {"flags": list(missing), "columns": list(opened.undecided())}
        self._ahead_ms = None if self._measure is None else await self._measure()
        self._rows, self._broken, self._told = opened.rows(row, self._clock.now()), None, 0
        log("export_started", name=shown(file.name), size=file.size, row=row)

    def _copy(self) -> Path:
        """Where the file under way is on this machine."""
        return self._local / "export"

    def _lost(self, cursor: Cursor, *, replaced: bool) -> Step:
        """The file is not what it was any more. What lies there now is looked at like any other; what was read of it for half is told."""
        self._close()
        file, name = cursor["file"], shown(_file(cursor["file"]).name)
        log("export_changed" if replaced else "export_vanished", "warning", name=name, row=file["row"])
        cursor = {**cursor, "file": None}
        if file["row"] or not replaced:
            cursor["vanished"] = {"name": name, "row": file["row"], "replaced": replaced}
        return Step([], cursor, consumed=True)

    async def _end(self, cursor: Cursor, why: str | None) -> Step:
        """All rows are in Kafka. `why`: the file cannot be read, or not to its end."""
        file = cursor["file"]
        bad, rows, first = file.get("bad", 0), file["row"], file.get("first_bad")
        if why is None and bad * 100 > BAD_PERCENT * rows:
            why = f"{bad} of its {rows} rows are bad"
        if why is not None and first is not None:
            why += f" ({bad} bad rows, the first is row {first[0]}: {first[1]})"
        name = shown(_file(file).name)
        outcome = await self._folder.put_away(_file(file), "processed" if why is None else "failed")
        if outcome == "changed":
            return self._lost({**cursor, "file": {**file, "row": 0}}, replaced=True)  # nothing is missing: it is read as it is now, too
        if why is None:
            log("export_done", name=name, rows=rows, bad=bad, spoiled=file.get("spoiled", {}))
        else:
            log("export_failed", "warning", name=name, reason=why)
        return self._finished(cursor, outcome, came=why is None, why=why)

    def _finished(self, cursor: Cursor, outcome: str, *, came: bool, why: str | None = None) -> Step:
        file, name = cursor["file"], shown(_file(cursor["file"]).name)
        news: dict[str, Any] = {}
        if self._untimed is not None:
            news["untimed"] = _untimed(name, file, self._untimed)
        if came:
            news["last_file_at"] = self._clock.now().isoformat()
            news |= {each: None for each in ("failed", "vanished") if _heard(cursor, each, name)}
        else:
            before = _told(cursor, "failed")
            before_it = 0 if not before or before.get("told") else before.get("before", 0) + 1
            news["failed"] = {"name": name, "why": why, "before": before_it, "kept": outcome == "kept"}
        self._close()
        done = [*cursor["done"], [file["at"], file["size"], file["mtime"]]] if outcome == "kept" else cursor["done"]
        return Step([], {**cursor, "file": None, "done": done, **news}, consumed=True)

    def _close(self) -> None:
        self._rows = self._had = self._untimed = self._broken = None
        self._copy().unlink(missing_ok=True)

    def _outgoing(self, name: str, event: OptStatusObserved) -> Outgoing:
        event = replace(event, ahead_ms=self._ahead_ms)
        return Outgoing(TOPIC, event.contact_key, event, event_headers("live", name, self._produced_by))

    def _skipped(self, name: str, rows: Sequence[ExportRow]) -> None:
        self.skipped += len(rows)
        for row in rows[: max(0, LOGGED_ROWS - self._told)]:
            log("export_row_skipped", "warning", name=name, row=row.number, reason=row.bad)
        self._told += len(rows)


def _taken(rows: Iterator[ExportRow]) -> tuple[list[ExportRow], str | None]:
    """A portion, and why no more can be read after it."""
    taken: list[ExportRow] = []
    try:
        for row in islice(rows, PORTION):
            taken.append(row)
    except BadExport as exc:
        return taken, str(exc)
    return taken, None


def _counting(file: Mapping[str, Any], rows: Sequence[ExportRow]) -> dict[str, Any]:
    """What is known of the file after these rows."""
    bad = [each for each in rows if each.bad is not None]
    spoiled = Counter(file.get("spoiled", {})) + Counter(column for each in rows for column in each.spoiled)
    return {
        **file,
        "row": file["row"] + len(rows),
        "bad": file.get("bad", 0) + len(bad),
        "first_bad": file.get("first_bad") or ([bad[0].number, bad[0].bad] if bad else None),
        "spoiled": dict(spoiled),
        "unplaced": sorted({*file.get("unplaced", []), *(name for each in rows for name in each.unplaced)}),
    }


def _untimed(name: str, file: Mapping[str, Any], found: Mapping[str, Sequence[str]]) -> dict[str, Any] | None:
    """What people have to know of the times in a file, if anything."""
    often = [column for column, number in file.get("spoiled", {}).items() if number * 100 > BAD_PERCENT * file["row"]]
    columns, unplaced = sorted({*found["columns"], *often}), file.get("unplaced", [])
    if not (found["flags"] or columns or unplaced):
        return None
    return {"name": name, "flags": found["flags"], "columns": columns, "unplaced": unplaced}


def _told(cursor: Cursor, what: str) -> dict[str, Any]:
    """What is remembered; a text: of a cursor as it was once, when only a name was kept."""
    found = cursor.get(what) or {}
    return {"name": found, "told": True} if isinstance(found, str) else dict(found)


def _heard(cursor: Cursor, what: str, name: str) -> bool:
    """Whether people have been told, and another file has come since."""
    found = _told(cursor, what)
    return bool(found.get("told")) and (what == "failed" or found.get("name") != name)


def _file(kept: Mapping[str, Any]) -> ExportFile:
    """Of a cursor; one as it was once has a name only."""
    return ExportFile(kept.get("at") or kept["name"], kept["size"], kept["mtime"])


def _done(cursor: Cursor, file: ExportFile) -> bool:
    return [file.at, file.size, file.mtime] in [list(each) for each in cursor["done"]]
