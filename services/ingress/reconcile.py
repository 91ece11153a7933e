"""What a full read could not see: rows that changed, came or vanished while it was running, or before it without a tombstone.

    list all keys, page by page ─▶ read what we have published ─▶ compare ─▶ look at what differs

Each step is short, so that what changes meanwhile is read and published between them. What differs is looked at once more before it is
acted upon: in the pages of the whole table where these are fewer requests than the rows that differ, else row by row.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import chain
from pathlib import Path
from typing import TypeVar

from bridge.dynamics.changes import Row, TrackedTable
from bridge.dynamics.errors import QueryRefused, refused
from bridge.dynamics.lookups import Lookups
from bridge.kafka.published import Published, Seen
from bridge.model.errors import RetryError
from bridge.observe.log import log
from services.ingress.comparison import Comparison, Differing

Taken = Callable[[Sequence[Row]], Awaitable[None]]
CHUNK = 50  # rows that are asked for one by one
DELETES = 1000  # rows that are gone, in one step
BEGIN_AGAIN = 3
LOOKS, LOOK_AGAIN_S = 2, 3.0
SLICE_S = 0.5  # of reading what we have published, in one step
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Difference:
    """`row`: as it is now, None if it is gone. `seen`: the highest version that our topics and the state hold of it in the epoch that is
    read, 0 for none."""

    key: str
    row: Row | None
    seen: int


class Reconciliation:
    """For one table. `topics`: its event topics with their partitions; `state_partitions`: those of the state topic."""

    def __init__(self, published: Published, table: str, topics: Mapping[str, int], state_partitions: int, folder: Path) -> None:
        self._published, self._table, self._topics = published, table, dict(topics)
        self._state_partitions = state_partitions
        self._path = folder / f"reconcile-{table}.sqlite"
        self._lookups = Lookups()
        self._comparison: Comparison | None = None
        self._forget()

    def _forget(self) -> None:
        if self._comparison is not None:
            self._comparison.close()
        self._comparison = None
        self._link: str | None = None  # of the next page: while all is listed, then while pages are walked through
        self._begun_again = 0  # how often a link was refused
        self._pages = 0  # of the whole table; known when all is listed
        self._listed = self._compared = False
        self._walking = self._walked = False
        self._ours: Iterator[Sequence[Seen]] | None = None  # what is left to read of what we have published
        self._looks = 0  # at a row that was listed and does not show
        self.poll_first = False  # a tracked read is refused if we do not see all rows any more; pages would just lack them
        self.known_epoch = 0  # the highest one in our topics and the state, once they were compared

    async def starts(self) -> dict[str, list[int]]:
        """How far the writers are in the table's topics: to be kept with the load that begins. All before it is in the state; all
        after it, the load's own events included, is read back. What an earlier load left uncompared is forgotten."""
        self._forget()
        return await asyncio.to_thread(self._published.committed, self._topics)

    def came_live(self, keys: Sequence[str]) -> None:
        """A poll brought these while this goes on, in their newest state: they are no difference any more."""
        self.poll_first = False
        if self._comparison is not None:
            self._comparison.came_live(keys)

    async def next(self, tracked: TrackedTable, starts: Mapping[str, Sequence[int]], epoch: int, taken: Taken) -> list[Difference] | None:
        """One short step: some differences, maybe none, to what there is now, in this source epoch; None when there are no more, nothing
        while what is known is of a later epoch. `taken` is given the rows before they count as dealt with. Raises RetryError, the next call
        then goes on where this one was, or HaltError."""
        if self._comparison is None:
            self._comparison = Comparison(self._path)
        if not self._listed:
            await self._list(self._comparison, tracked)
            return []
        if not self._compared:
            await self._compare(self._comparison, starts, epoch)
            return []
        if self.known_epoch > epoch:
            return []
        if self._walking:
            return await self._walk(self._comparison, tracked, taken)
        if not (found := self._comparison.first(DELETES)):
            self._forget()
            return None
        return await self._look(self._comparison, found, tracked, taken)

    async def _list(self, comparison: Comparison, tracked: TrackedTable) -> None:
        page, self._link = await self._page(tracked.keys)
        comparison.list(page)
        self._pages += 1
        self._listed = self._link is None

    async def _page(self, ask: Callable[[str | None], Awaitable[T]]) -> T:
        """The next one, or the first one again where its link is of no use any more; a first one that is refused halts."""
        try:
            return await ask(self._link)
        except QueryRefused as exc:
            if self._link is None or self._begun_again >= BEGIN_AGAIN:
                raise refused(exc) from exc
            log("page_link_refused", "warning", table=self._table, status=exc.status, code=exc.code)
            self._link, self._begun_again = None, self._begun_again + 1
            return await self._page(ask)

    async def _compare(self, comparison: Comparison, starts: Mapping[str, Sequence[int]], epoch: int) -> None:
        """Some of what we have published; the comparison itself when all of it is noted."""
        if self._ours is None:
            self._ours = chain(self._published.known(self._table, self._state_partitions), self._published.since(starts))
        try:
            if not await _to_its_end(comparison, partial(_noted, comparison, self._ours)):
                return
        except BaseException:  # an iterator that was broken off has no rest: all of it again
            self._ours = None
            raise
        self._ours = None
        number, self.known_epoch = await _to_its_end(comparison, partial(comparison.compare, epoch))
        self._compared, self._walking = True, number > max(CHUNK, self._pages)
        log("reconciled", table=self._table, differences=number)

    async def _walk(self, comparison: Comparison, tracked: TrackedTable, taken: Taken) -> list[Difference]:
        rows, link = await self._page(tracked.rows)
        there = {tracked.key(row): row for row in rows}
        differing = comparison.among(list(there))
        await taken([there[each.key] for each in differing])
        self._link, self._walking = link, link is not None
        self._walked = self.poll_first = not self._walking
        return _settled(comparison, differing, there)

    async def _look(self, comparison: Comparison, found: Sequence[Differing], tracked: TrackedTable, taken: Taken) -> list[Difference]:
        """At some of those that were not met in the pages, if there were any: one that was not even listed is gone then."""
        if self._walked and (gone := [each for each in found if not each.listed]):
            return _settled(comparison, gone, {})
        found = found[:CHUNK]
        rows = dict(zip((each.key for each in found), await self._lookups.rows(tracked, [each.key for each in found]), strict=True))
        if any(each.listed and rows[each.key] is None for each in found) and self._looks < LOOKS:
            self._looks += 1  # another server may not have it yet (dataverse.md §8.3): it would be taken for deleted
            raise RetryError("a row that was listed does not show yet", code="source_busy", retry_after_s=LOOK_AGAIN_S)
        await taken([row for row in rows.values() if row is not None])
        self._looks = 0
        return _settled(comparison, found, rows)


def _settled(comparison: Comparison, found: Sequence[Differing], rows: Mapping[str, Row | None]) -> list[Difference]:
    comparison.settle([each.key for each in found])
    return [Difference(each.key, rows.get(each.key), each.seen) for each in found]


def _noted(comparison: Comparison, ours: Iterator[Sequence[Seen]]) -> bool:
    """Notes as much as can be read in a moment; True when that was the rest."""
    until = time.monotonic() + SLICE_S
    for part in ours:
        comparison.note(part)
        if time.monotonic() >= until:
            return False
    return True


async def _to_its_end(comparison: Comparison, work: Callable[[], T]) -> T:
    """On a thread, and leaves only when that thread has: it works with the file that may be closed next."""
    working = asyncio.ensure_future(asyncio.to_thread(work))
    try:
        return await asyncio.shield(working)
    except asyncio.CancelledError:
        comparison.interrupt()
        await asyncio.wait({working})
        raise
