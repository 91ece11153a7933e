"""Campaign's exports as a feed of observations (bridge.flow.reader.Source): file after file, each in portions.

A cursor is a JSON object: `phase` `live`, `started_at`, `last_file_at` (when the last file was finished, or null), `file` (`name`, `size`,
`mtime`, `row`: rows of it that are in Kafka) while one is under way, `failed`: the last one that could not be read, and `done`: files that
lie there although they are finished, because this account may not move them.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from itertools import islice
from pathlib import Path
from typing import Any

from bridge.campaign.sftp import FAILED, PROCESSED, ExportFile, ExportFolder
from bridge.clock import Clock
from bridge.errors import HaltError, RetryError
from bridge.events import OptStatusObserved, Outgoing, event_headers
from bridge.flow.reader import Cursor, Step
from bridge.log import log
from bridge.rooms import ExportSettings
from services.optin.export import LABELS, BadExport, BadRow, Export

CURSOR, TOPIC = "campaign:exports", "optin.observations"
PORTION = 1000
LOGGED_ROWS = 20  # of one file


class ExportFeed:
    """`labels` asks Campaign for the display names of a profile's fields. `counted`: rows that were skipped."""

    def __init__(
        self,
        folder: ExportFolder,
        settings: ExportSettings,
        flags: Sequence[str],
        labels: Callable[[], Awaitable[Mapping[str, str]]],
        local: Path,
        clock: Clock,
        produced_by: str,
    ) -> None:
        self._folder, self._settings, self._flags, self._labels = folder, settings, flags, labels
        self._local, self._clock, self._produced_by = local, clock, produced_by
        self._looked: dict[str, tuple[int, int, float]] = {}  # size, mtime and since when (monotonic) it is so
        self._rows: Iterator[OptStatusObserved | BadRow] | None = None  # of the file under way, None: to be opened
        self._told = 0  # skipped rows of the file under way
        self.counted: Counter[str] = Counter()

    async def step(self, cursor: Cursor | None) -> Step:
        if cursor is None:
            cursor = {"phase": "live", "started_at": self._clock.now().isoformat(), "last_file_at": None, "file": None, "done": []}
        if cursor["file"] is not None:
            return await self._portion(cursor)
        try:
            files = await self._folder.files()
        except RetryError as exc:
            if (notice := self._overdue(cursor)) is None:
                raise
            log("feed_waits", "warning", feed=CURSOR, code=exc.code, reason=str(exc), seconds=self._settings.poll_interval_s)
            return Step([], cursor, self._settings.poll_interval_s, notice=notice)
        here = {each.name: (each.size, each.mtime) for each in files}
        cursor = {**cursor, "done": [each for each in cursor["done"] if here.get(each[0]) == (each[1], each[2])]}
        unchanged = self._unchanged(files)
        ready = [each for each in files if each.name in unchanged and not _done(cursor, each)]
        if not ready:
            waiting = not all(_done(cursor, each) for each in files)
            overdue = None if waiting else self._overdue(cursor)
            return Step([], cursor, self._settings.poll_interval_s, notice=overdue or _unreadable(cursor))
        first = ready[0]
        return Step([], {**cursor, "file": {"name": first.name, "size": first.size, "mtime": first.mtime, "row": 0}})

    def _unchanged(self, files: Sequence[ExportFile]) -> set[str]:
        """Names of those that are as they were a poll ago. A look at the folder in between, after a file was read, is no poll."""
        now, before = self._clock.monotonic(), self._looked
        self._looked = {}
        for each in files:
            size, mtime, since = before.get(each.name, (-1, -1, now))
            self._looked[each.name] = (each.size, each.mtime, since if (size, mtime) == (each.size, each.mtime) else now)
        return {name for name, (_, _, since) in self._looked.items() if now - since >= self._settings.poll_interval_s}

    def _overdue(self, cursor: Cursor) -> HaltError | None:
        """What to tell people when no file has come for longer than expected. Nothing is stopped by it."""
        waited = self._clock.now() - datetime.fromisoformat(cursor["last_file_at"] or cursor["started_at"])
        if waited.total_seconds() <= self._settings.expected_s:
            return None
        return HaltError(
            f"no export of opt-out flags has come from Campaign for {waited.total_seconds() / 3600:.0f} h",
            code="export_overdue",
            hint="See in Campaign whether the export workflow runs, and start it again; opt-outs given there do not arrive until it does.",
            origin="source",
        )

    async def _portion(self, cursor: Cursor) -> Step:
        """The next rows of the file under way; past the last one, the file is put away."""
        file = cursor["file"]
        try:
            if self._rows is None:
                if not await self._folder.fetch(file["name"], self._copy()):
                    log("export_done", name=file["name"], rows=file["row"])  # it was put away, and we ended before we could note it
                    return self._finished(cursor, moved=True)
                if self._copy().stat().st_size != file["size"]:  # still growing, or another file by now
                    self._close()
                    return Step([], {**cursor, "file": None})
                await self._open(file)
            assert self._rows is not None
            rows = await asyncio.to_thread(lambda each: list(islice(each, PORTION)), self._rows)
        except BadExport as exc:
            return await self._failed(cursor, str(exc))
        if not rows:
            moved = await self._folder.put_away(file["name"], PROCESSED)
            log("export_done", name=file["name"], rows=file["row"])
            return self._finished(cursor, moved)
        events = [self._outgoing(file["name"], each) for each in rows if isinstance(each, OptStatusObserved)]
        self._skipped(file["name"], [each for each in rows if isinstance(each, BadRow)])
        return Step(events, {**cursor, "file": {**file, "row": file["row"] + len(rows)}})

    async def _open(self, file: Mapping[str, Any]) -> None:
        exported_at = datetime.fromtimestamp(file["mtime"], UTC)

        def export(labels: Mapping[str, str]) -> Export:
            return Export(self._copy(), self._flags, self._settings.key_column, self._settings.encoding, exported_at, labels)

        labels: Mapping[str, str] = LABELS
        if not await asyncio.to_thread(export(labels).understood):
            labels = {**labels, **await self._labels()}
        self._rows, self._told = export(labels).rows(file["row"], self._clock.now()), 0
        log("export_started", name=file["name"], size=file["size"], row=file["row"])

    def _copy(self) -> Path:
        """Where the file under way is on this machine."""
        self._local.mkdir(parents=True, exist_ok=True)
        return self._local / "export"

    async def _failed(self, cursor: Cursor, why: str) -> Step:
        file = cursor["file"]
        log("export_failed", "warning", name=file["name"], reason=why)
        self._close()  # if it cannot be put away now, it is read and found bad once more
        moved = await self._folder.put_away(file["name"], FAILED)
        self.counted["files_failed"] += 1
        return self._finished({**cursor, "failed": file["name"]}, moved, came=False)

    def _finished(self, cursor: Cursor, moved: bool, came: bool = True) -> Step:
        self._close()
        file = cursor["file"]
        done = cursor["done"] if moved else [*cursor["done"], [file["name"], file["size"], file["mtime"]]]
        news = {"last_file_at": self._clock.now().isoformat(), "failed": None} if came else {}
        return Step([], {**cursor, "file": None, "done": done, **news}, consumed=True)

    def _close(self) -> None:
        self._rows = None
        self._copy().unlink(missing_ok=True)

    def _outgoing(self, name: str, event: OptStatusObserved) -> Outgoing:
        return Outgoing(TOPIC, event.contact_key, event, event_headers("live", name, self._produced_by))

    def _skipped(self, name: str, rows: Sequence[BadRow]) -> None:
        self.counted["rows_skipped"] += len(rows)
        for row in rows[: max(0, LOGGED_ROWS - self._told)]:
            log("export_row_skipped", "warning", name=name, row=row.number, reason=row.why)
        self._told += len(rows)


def _unreadable(cursor: Cursor) -> HaltError | None:
    """What to tell people of the last file that could not be read, until one comes that can."""
    if (name := cursor.get("failed")) is None:
        return None
    return HaltError(
        f"the export {name} could not be read to its end; it lies in {FAILED}/, and the opt-outs in it have not all arrived",
        code="export_unreadable",
        hint="See the reader's log for the reason, correct the file and put it back under another name; or ask for a full export.",
        origin="source",
    )


def _done(cursor: Cursor, file: ExportFile) -> bool:
    return [file.name, file.size, file.mtime] in [list(each) for each in cursor["done"]]
