"""What a configuration would do to a live sample: the writer's own code, with a target that only takes notes."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import zip_longest
from typing import TypeVar

from bridge.campaign.metadata import missing_fields
from bridge.consent.guard import delete_limit, release_limit
from bridge.consent.settings import ConsentSettings
from bridge.dynamics.changes import Row, TrackedTable
from bridge.dynamics.errors import QueryRefused, refused
from bridge.dynamics.metadata import Table, read_table
from bridge.dynamics.secured import checked
from bridge.kafka.avro import Decoder, load_schema
from bridge.kafka.published import Published
from bridge.kafka.registry import HttpRegistry
from bridge.kafka.settings import KafkaSettings
from bridge.mapping.rows import Doubt, Mapper
from bridge.model.clock import Clock
from bridge.model.config import IngressConfig, TableMapping
from bridge.model.errors import ParkError, RejectError
from bridge.model.events import ChangeEvent, Lane
from bridge.model.flags import canonical_flag
from bridge.model.state import Digests, Known
from services.control import estimate
from services.control.cursors import Cursors
from services.control.models_data import CallsOut, CountsOut, FieldCountOut, PicklistValueOut, PlanOut, RejectedOut, TablePlanOut
from services.control.notes import Notes
from services.control.systems import Systems
from services.ingress.dry import dry_handler
from services.ingress.target import Target

T = TypeVar("T")
AT_ONCE = 32  # tables that are read, then rows that are tried, of all tables together; the clients of both systems have their own limit
MODIFIED_BY = "modifiedby"  # is read beside opt-out flags, where the table has it
WITHIN_S = 40.0  # a request may take a minute, and the draft has been validated before
KEYS_SHOWN = 10
COUNTED = {"created": "create", "updated": "update", "deleted": "delete", "filtered": "filtered"}


@dataclass(slots=True)
class Tally:
    """What was found for one table."""

    calls: int = 0
    lowers: int = 0
    deletes: int = 0
    counts: Counter[str] = field(default_factory=Counter)
    rejected: dict[tuple[str, str], list[str]] = field(default_factory=dict)
    doubts: Counter[tuple[str, str, int | None, Doubt]] = field(default_factory=Counter)
    unreplaced: Counter[tuple[str, str, str | None]] = field(default_factory=Counter)

    def reject(self, exc: RejectError, key: str) -> None:
        self.counts["rejected"] += 1
        self.rejected.setdefault((exc.code, str(exc)), []).append(key)


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
    """Raises HaltError (a table or field is not there), RetryError (a system is away) or Refused (not configured)."""

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
        tables = [_table_plan(draft, self._consent) for draft in drafts]
        totals = [table.calls.total for table in tables]
        return PlanOut(
            sample=sum(table.sample for table in tables),
            counts=CountsOut(**{name: sum(getattr(table.counts, name) for table in tables) for name in CountsOut.model_fields}),
            rejected=[each for table in tables for each in table.rejected],
            truncated=[each for table in tables for each in table.truncated],
            not_convertible=[each for table in tables for each in table.not_convertible],
            unreplaced=[each for table in tables for each in table.unreplaced],
            calls=CallsOut(
                sample=sum(table.calls.sample for table in tables),
                total=None if None in totals else sum(each for each in totals if each is not None),
            ),
            lowers=estimate.together([table.lowers for table in tables]),
            deletes=estimate.together([table.deletes for table in tables]),
            above_limits=any(table.lowers.above or table.deletes.above for table in tables),
            tables=tables,
        )

    async def _read(self, draft: Draft, sample: int) -> None:
        tracked, target = await self._both(draft.table, sample)
        rows, total = await self._rows(tracked, sample), await tracked.count()
        draft.tracked, draft.target, draft.total = tracked, target, total
        draft.events = [tracked.upsert(row, draft.lane, self._clock.now()) for row in rows]

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
        _doubts(tally, draft.target.mapper, draft.tracked, event)


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


def _doubts(tally: Tally, mapper: Mapper, tracked: TrackedTable, event: ChangeEvent) -> None:
    for mapped, to, doubt in mapper.doubts(event):
        tally.doubts[mapped.source, to.name, to.length, doubt] += 1
    for mapped in mapper.table.fields:
        column = tracked.table.columns.get(mapped.source)
        value = event.fields.get(mapped.source)
        if column is not None and column.options and value is not None and not mapper.replaces(event, mapped.source):
            tally.unreplaced[mapped.source, str(value), event.labels.get(mapped.source)] += 1


def _table_plan(draft: Draft, consent: ConsentSettings) -> TablePlanOut:
    table, tally = draft.table, draft.tally
    rejected = [
        RejectedOut(code=code, reason=reason, count=len(keys), keys=keys[:KEYS_SHOWN]) for (code, reason), keys in tally.rejected.items()
    ]
    return TablePlanOut(
        source=table.source,
        target=table.target,
        lane=draft.lane,
        sample=tally.counts.total(),
        total=draft.total,
        counts=CountsOut(**tally.counts),
        rejected=rejected,
        truncated=_fields(table, tally, "truncated"),
        not_convertible=_fields(table, tally, "not_convertible"),
        unreplaced=[
            PicklistValueOut(table=table.source, source=source, value=value, label=label, count=count)
            for (source, value, label), count in tally.unreplaced.most_common(100)
        ],
        calls=CallsOut(sample=tally.calls, total=_all(draft, tally.calls)),
        lowers=estimate.limited(tally.lowers, _all(draft, tally.lowers), release_limit(consent.release_limit, draft.total or 0)),
        deletes=estimate.limited(tally.deletes, _all(draft, tally.deletes), delete_limit(consent.delete_limit, draft.total or 0)),
    )


def _fields(table: TableMapping, tally: Tally, wanted: Doubt) -> list[FieldCountOut]:
    return [
        FieldCountOut(table=table.source, source=source, target=target, count=count, length=length if wanted == "truncated" else None)
        for (source, target, length, doubt), count in tally.doubts.most_common()
        if doubt == wanted
    ]


def _all(draft: Draft, found: int) -> int | None:
    """As much of all rows; None if nobody knows how many there are, or none was tried."""
    if draft.tracked is not None and not draft.events:
        return 0
    return estimate.whole(found, draft.tally.counts.total(), draft.total)
