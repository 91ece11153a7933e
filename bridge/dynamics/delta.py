"""A run of a delta, page by page: whole rows, and the keys of rows that are gone (dataverse.md §4.5, §4.6)."""

from __future__ import annotations

from bridge.dynamics.changes import Page, Row, TrackedTable
from bridge.dynamics.lookups import Lookups

REMEMBERED_KEYS = 200_000


class DeltaRun:
    """For one feed, which goes through one run after the other."""

    def __init__(self) -> None:
        self._upserted: set[str] | None = None  # keys of this run's rows; None: not known, so every delete is looked up
        self._in_hand: tuple[str, Page] | None = None  # a page whose deletes are being looked up, and its link
        self._lookups = Lookups()

    async def page(self, tracked: TrackedTable, link: str, first: bool, whole: bool = True) -> Page:
        """The page behind `link`, the `first` of a run or not; it stays in hand until `looked_up` has come through. Raises as
        TrackedTable.page does."""
        if self._in_hand is not None and self._in_hand[0] == link:
            return self._in_hand[1]
        if first:
            self._upserted = set()
        page = await tracked.page(link, whole)
        if self._upserted is not None:
            self._upserted.update(tracked.key(row) for row in page.rows)
            if len(self._upserted) > REMEMBERED_KEYS:
                self._upserted = None
        self._in_hand = (link, page)
        return page

    async def looked_up(self, tracked: TrackedTable, page: Page) -> tuple[list[Row], list[str]]:
        """Rows that are there although the page deletes them, and keys that are gone. A delete whose row came in the same run may be
        from before its re-creation: only a look tells. Raises RetryError or HaltError."""
        doubtful = [key for key in page.deleted if self._upserted is None or key in self._upserted]
        rows = dict(zip(doubtful, await self._lookups.rows(tracked, doubtful), strict=True))
        self._in_hand = None
        there = [row for row in rows.values() if row is not None]
        return there, [key for key in page.deleted if rows.get(key) is None]
