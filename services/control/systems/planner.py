"""What a configuration would do to a live sample: the writer's own code, with a target that only takes notes."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import zip_longest
from typing import TypeVar

from bridge.campaign.metadata import missing_fields
from bridge.consent.settings import ConsentSettings
from bridge.dynamics.changes import Row, TrackedTable
from bridge.dynamics.errors import QueryRefused, refused
from bridge.dynamics.metadata import Table, read_table
from bridge.dynamics.secured import checked
from bridge.kafka.avro import Decoder, load_schema
from bridge.kafka.published import Published
from bridge.kafka.registry import HttpRegistry
from bridge.kafka.settings import KafkaSettings
from bridge.mapping.rows import Mapper
from bridge.model.clock import Clock
from bridge.model.config import IngressConfig, TableMapping
from bridge.model.errors import ParkError, RejectError
from bridge.model.events import ChangeEvent, Lane
from bridge.model.flags import canonical_flag
from bridge.model.state import Digests, Known
from services.control.models.data_json import PlanOut
from services.control.rules.plan_sums import Tally, plan_of, table_plan
from services.control.systems.connections import Systems
from services.control.systems.dry_campaign import Notes
from services.control.topics.reader_cursors import Cursors
from services.ingress.dry import dry_handler
from services.ingress.target import Target

T = TypeVar("T")
AT_ONCE = 32  # tables that are read, then rows that are tried, of all tables together; the clients of both systems have their own limit
MODIFIED_BY = "modifiedby"  # is read beside opt-out flags, where the table has it
WITHIN_S = 40.0  # a request may take a minute, and the draft has been validated before
COUNTED = {"created": "create", "updated": "update", "deleted": "delete", "filtered": "filtered"}


@dataclass(slots=True)
class Draft:
    """One table. Without `tracked` and `target` its rows could not be read in time; `events`: the sample that was asked for."""

    table: TableMapping
    lane: Lane
    tracked: TrackedTable | None = None
    target: Target | None = None
    events: list[ChangeEvent] = field(default_factory=list)
    total: int | None = None
    tally: Tally = field(default_factory=Tally)


class Planner:
    """Raises HaltError (a table or field is not there), RetryError (a system is away) or NotAnswered (too slow, not configured)."""

    def __init__(
        self,
        kafka: KafkaSettings,
        systems: Systems,
        cursors: Cursors,
        clock: Clock,
        consent: ConsentSettings | None = None,
        within_s: float = WITHIN_S,
    ) -> None:
        self._consent = consent or ConsentSettings()
        self._systems, self._cursors, self._clock, self._within_s = systems, cursors, clock, within_s
        self._decoder = Decoder(HttpRegistry(kafka, patience_s=0), load_schema("ChangeEvent"), ChangeEvent)
        self._published = Published(kafka, "ingress", self._decoder)

    async def plan(self, config: IngressConfig, sample: int, partitions: int, within_s: float | None = None) -> PlanOut:
        """`sample`: rows of each table, fewer if there is no time for all. `partitions`: of `ingress.state`."""
        within_s = within_s or self._within_s
        self._systems.forget()
        began = self._clock.monotonic()
        drafts = [Draft(table, self._lane(table)) for table in config.tables]
        await within(within_s / 2, spread(drafts, lambda draft: self._read(draft, sample)))
        keys = [f"{event.table}/{event.key}" for draft in drafts for event in draft.events]
        known = await asyncio.to_thread(self._published.states, {key: key.rpartition("/")[2] for key in keys}, partitions)
        left = within_s - (self._clock.monotonic() - began)
        await within(left, spread(in_turn(drafts), lambda each: self._try(*each, known)))
        return plan_of([table_plan(each.table, each.lane, each.tally, each.total, self._consent) for each in drafts])

    async def _read(self, draft: Draft, sample: int) -> None:
        tracked, target = await self._both(draft.table, sample)
        rows, total = await self._rows(tracked, sample), await tracked.count()
        draft.tracked, draft.target, draft.total = tracked, target, total
        draft.events = [tracked.upsert(row, draft.lane, self._clock.now()) for row in rows]
        draft.tally.empty = not rows

    async def _both(self, table: TableMapping, sample: int) -> tuple[TrackedTable, Target]:
        described = await self._systems.asked("dynamics", self._described(table))
        resource = await self._systems.resource(table.target)
        wanted = [table.key.target, *(canonical_flag(each.target) for each in table.fields)]
        if (problem := missing_fields(resource, wanted)) is not None:
            raise problem
        fields = resource.only(wanted)
        tracked = TrackedTable(self._systems.dynamics, described, min(sample, self._systems.page_size()), self._systems.zone())
        return tracked, Target(table, resource, fields, Mapper(table, fields))

    async def _described(self, table: TableMapping) -> Table:
        """As the reader finds it: raises HaltError for a secured column, too."""
        return await checked(self._systems.dynamics, await read_table(self._systems.dynamics, table.source, table.columns()))

    async def _rows(self, tracked: TrackedTable, sample: int) -> list[Row]:
        rows: list[Row] = []
        link: str | None = None
        try:
            while len(rows) < sample:
                page, link = await self._systems.asked("dynamics", tracked.rows(link))
                rows += page
                if link is None:
                    break
        except QueryRefused as exc:
            raise refused(exc) from exc
        return rows[:sample]

    def _lane(self, table: TableMapping) -> Lane:
        """How the rows would come at the next start; when nothing would make them come, as a replay would bring them."""
        position = self._cursors.table(table.source)
        if position is None:
            return "initial"
        read, wanted = set(position.value.get("columns") or ()), set(table.columns()) | ({MODIFIED_BY} if table.flags() else set())
        return "replay" if read | {MODIFIED_BY} == wanted | {MODIFIED_BY} else "resync"

    async def _try(self, draft: Draft, event: ChangeEvent, known: Mapping[str, Known]) -> None:
        assert draft.target is not None and draft.tracked is not None
        tally, notes = draft.tally, Notes(self._systems.campaign)
        digests = Digests(self._systems.digest_secret)
        handler = dry_handler(draft.target, notes, self._decoder, digests, self._clock)
        try:
            result = await handler.write(handler.change(event), known.get(f"{event.table}/{event.key}"))
        except RejectError as exc:
            tally.reject(exc, event.key)
        except ParkError:
            tally.counts["unchanged"] += 1  # it would wait for its parent
        else:
            tally.counts["delete" if notes.calls["delete"] else COUNTED.get(result.outcome, "unchanged")] += 1
            tally.calls += sum(notes.calls.values())
            tally.lowers += notes.lowers
            tally.deletes += notes.deletes
        tally.doubt(draft.target.mapper, draft.tracked.table.columns, event)


async def within(seconds: float, work: Awaitable[None]) -> None:
    """Ends the work after so long; what it has done by then counts."""
    with suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            await work


async def spread(items: Iterable[T], call: Callable[[T], Awaitable[None]]) -> None:
    """Calls for every item, in their order, AT_ONCE at a time. The first error ends all of them."""
    waiting = iter(items)

    async def lane() -> None:
        for item in waiting:
            await call(item)

    lanes = [asyncio.create_task(lane()) for _ in range(AT_ONCE)]
    try:
        await asyncio.gather(*lanes)
    finally:
        for each in lanes:
            each.cancel()
        await asyncio.gather(*lanes, return_exceptions=True)


def in_turn(drafts: Sequence[Draft]) -> Iterator[tuple[Draft, ChangeEvent]]:
    """The first row of every table, then the second, …: when time runs out no table has had more than its share."""
    for row in zip_longest(*(draft.events for draft in drafts)):
        yield from ((draft, event) for draft, event in zip(drafts, row, strict=True) if event is not None)
