"""Versions of Dynamics that start over: restored, copied, moved (contracts/consent.md, *Versions that go back*).

A source epoch stands before the version; a feed's cursor carries it. It rises when somebody says that Dynamics was restored, and by itself
when rows show that versions have gone back, or when another organisation answers: then the feed halts until somebody presses Start.

Members of a cursor, all of them missing in those of earlier versions:

    epoch          the source epoch of what is read, 0 if missing
    restored       how often somebody had said "restored" when this epoch began: more than that begins another one
    organisation   whose rows these are
    newest_seen    the highest version of all rows of tracked answers, and
    modified_seen  the latest `modifiedon` of these rows, in this epoch
    mark           `[version, modifiedon]`: both as they were when the running run of pages began. Pages of one run prove nothing against
                   each other, since they come in no promised order
    went_back      {"generation", "what"}: why it rose by itself, and which Start was the last one then
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

from bridge.dynamics.changes import Row, version
from bridge.dynamics.identity import Identity, WhoAmI
from bridge.mapping.values import moment
from bridge.model.errors import HaltError

SKEW = timedelta(minutes=10)  # of two that write at once the later version may have the earlier time; a transaction may take minutes
VERSIONS = "rows that were changed after the last one seen have versions below the highest one seen"
ORGANISATION = "another organisation answers than the one that has been read so far"
HINT = (
    "Dynamics was restored, copied or moved. Press Start: everything is read and compared again. "
    "If it is another organisation by mistake, correct DYNAMICS_URL first, then press Start."
)

Cursor = Mapping[str, Any]


class SourceEpoch:
    """For one feed. `generation`: of the Start that the feed runs for. `asked`: how often somebody has said "restored" by now."""

    def __init__(self, table: str, who: WhoAmI, generation: int = 0, asked: Callable[[], int] = lambda: 0) -> None:
        self._table, self._who, self._generation, self._asked = table, who, generation, asked

    async def identity(self) -> Identity:
        """Raises RetryError or HaltError."""
        return await self._who.ask()

    async def placed(self, cursor: Cursor) -> Cursor:
        """The cursor with the organisation whose rows it is about: one of an earlier version does not tell. Raises as `identity` does."""
        return cursor if "organisation" in cursor else {**cursor, "organisation": (await self._who.ask()).organisation}

    async def trouble(self, cursor: Cursor, again: bool = False) -> str | None:
        """Returns what is wrong with the organisation that answers, None if nothing is. Raises as `identity` does."""
        if self.is_due(cursor) or "organisation" not in cursor:
            return None
        found = await self._who.ask(again)
        return None if found.organisation == cursor["organisation"] else ORGANISATION

    def check(self, cursor: Cursor) -> None:
        """Raises HaltError while nobody has pressed Start since the epoch rose by itself."""
        found = cursor.get("went_back")
        if found is not None and found["generation"] == self._generation:
            raise self.error(found["what"])

    def is_due(self, cursor: Cursor) -> bool:
        """Whether a new epoch has to begin, with a full read."""
        return "went_back" in cursor or self._asked() > restored(cursor)

    def risen(self, cursor: Cursor, what: str) -> dict[str, Any]:
        """The cursor when the epoch rises by itself: it has to be committed before `error` is raised."""
        return {**cursor, "epoch": epoch(cursor) + 1, "went_back": {"generation": self._generation, "what": what}}

    def error(self, what: str) -> HaltError:
        return HaltError(f"table {self._table}: {what}", code="versions_went_back", hint=HINT, origin="source")

    async def begun(self, before: Cursor, at_least: int = 0) -> dict[str, Any]:
        """The members for the cursor of a full read that begins now after `before` (empty: there was none), in an epoch of `at_least` so
        much. Raises RetryError or HaltError."""
        asked, old = self._asked(), epoch(before)
        said_again = bool(before) and asked > restored(before)
        new = max(old + (said_again and "went_back" not in before), asked, at_least)
        members = {"epoch": new, "restored": asked, "organisation": (await self._who.ask(again=True)).organisation}
        if new == old and "went_back" not in before:
            members |= {name: before[name] for name in ("newest_seen", "modified_seen", "mark", "version_seen") if name in before}
        return {"version_seen": 0, **members}


def epoch(cursor: Cursor) -> int:
    return int(cursor.get("epoch", 0))


def restored(cursor: Cursor) -> int:
    return int(cursor.get("restored", 0))


def went_back(cursor: Cursor, rows: Sequence[Row]) -> bool:
    """Whether these rows of one tracked answer prove that versions have gone back since the run of pages before this one: the newest
    version is below the highest seen, while a row was changed later than all that were seen. Beside versions above the highest seen, the
    row must have been changed so much later that no two that wrote at once can look like this."""
    mark = cursor.get("mark")
    if mark is None or not rows:
        return False
    highest, latest = int(mark[0]), datetime.fromisoformat(mark[1])
    if max(version(row) or 0 for row in rows) >= highest:
        latest += SKEW
    return any((version(row) or highest) < highest and (moment(row.get("modifiedon")) or latest) > latest for row in rows)


def noted(cursor: Cursor, rows: Sequence[Row]) -> dict[str, Any]:
    """The members after these rows of a tracked answer."""
    times = [time for row in rows if (time := moment(row.get("modifiedon"))) is not None]
    if not times:
        return {}
    if "modified_seen" in cursor:
        times.append(datetime.fromisoformat(cursor["modified_seen"]))
    newest = max(cursor.get("newest_seen", 0), *(version(row) or 0 for row in rows))
    return {"newest_seen": newest, "modified_seen": max(times).astimezone(UTC).isoformat()}


def run_ended(cursor: Cursor) -> dict[str, Any]:
    """The members when a run of pages has ended: what it has shown is what the next one is compared with."""
    return {"mark": [cursor["newest_seen"], cursor["modified_seen"]]} if "modified_seen" in cursor else {}
