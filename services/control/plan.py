"""What a configuration would do to a live sample: the writer's own code, with a target that only takes notes."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from bridge.avro import Decoder, load_schema
from bridge.campaign.client import CampaignClient
from bridge.campaign.errors import Duplicate, NotFound
from bridge.campaign.metadata import missing_fields
from bridge.clock import Clock
from bridge.config import IngressConfig, TableMapping, canonical_flag
from bridge.dynamics.changes import Row, TrackedTable
from bridge.dynamics.errors import QueryRefused, refused
from bridge.dynamics.metadata import read_table
from bridge.errors import ParkError, RejectError
from bridge.events import ChangeEvent, Lane
from bridge.kafka.published import Published
from bridge.kafka.registry import HttpRegistry
from bridge.mapping import Doubt, Mapper
from bridge.settings import KafkaSettings
from bridge.state import Digests, Known
from services.control.cursors import Cursors
from services.control.models_data import CallsOut, CountsOut, FieldCountOut, PicklistValueOut, PlanOut, RejectedOut, TablePlanOut
from services.control.systems import Systems
from services.ingress.decide import change
from services.ingress.handler import IngressHandler, Target

AT_ONCE = 8
KEYS_SHOWN = 10
COUNTED = {"created": "create", "updated": "update", "deleted": "delete", "filtered": "filtered"}


class Notes:
    """Stands for Campaign: reads are real, so that a record that is there already is found; writes are only counted."""

    def __init__(self, client: CampaignClient) -> None:
        self._client = client
        self.calls: Counter[str] = Counter()

    async def create(self, path: str, body: dict[str, Any]) -> int:
        key = str(next(iter(body.values())))  # the handler puts the key first
        if await self._there(path, key):
            raise Duplicate("the key is taken", code="duplicate_key", status=409)
        self.calls["create"] += 1
        return 201

    async def update(self, path: str, key: str, body: dict[str, Any]) -> int:
        if not await self._there(path, key):
            raise NotFound("the key was not found", code="not_found", status=404)
        self.calls["update"] += 1
        return 200

    async def delete(self, path: str, key: str) -> int:
        self.calls["delete"] += 1
        return 200

    async def read(self, path: str, key: str) -> dict[str, Any]:
        return await self._client.read(path, key)

    async def first(self, path: str) -> dict[str, Any] | None:
        return await self._client.first(path)

    async def _there(self, path: str, key: str) -> bool:
        try:
            await self._client.read(path, key)
        except NotFound:
            return False
        return True


@dataclass(slots=True)
class Tally:
    """What was found for one table."""

    calls: int = 0
    counts: Counter[str] = field(default_factory=Counter)
    rejected: dict[tuple[str, str], list[str]] = field(default_factory=dict)
    doubts: Counter[tuple[str, str, int | None, Doubt]] = field(default_factory=Counter)
    unreplaced: Counter[tuple[str, str, str | None]] = field(default_factory=Counter)

    def reject(self, exc: RejectError, key: str) -> None:
        self.counts["rejected"] += 1
        self.rejected.setdefault((exc.code, str(exc)), []).append(key)


class Planner:
    """Raises HaltError (a table or field is not there), RetryError (a system is away) or Refused (not configured)."""

    def __init__(self, kafka: KafkaSettings, systems: Systems, cursors: Cursors, clock: Clock) -> None:
        self._systems, self._cursors, self._clock = systems, cursors, clock
        self._decoder = Decoder(HttpRegistry(kafka), load_schema("ChangeEvent"), ChangeEvent)
        self._published = Published(kafka, "ingress", self._decoder)

    async def plan(self, config: IngressConfig, sample: int, partitions: int) -> PlanOut:
        """`sample`: rows of each table. `partitions`: of `ingress.state`."""
        self._systems.forget()
        tables = [await self._table(table, sample, partitions) for table in config.tables]
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
            tables=tables,
        )

    async def _table(self, table: TableMapping, sample: int, partitions: int) -> TablePlanOut:
        tracked, target = await self._both(table, sample)
        rows = await self._rows(tracked, sample)
        lane = self._lane(table)
        keys = [f"{table.source}/{tracked.key(row)}" for row in rows]
        known = await asyncio.to_thread(self._published.states, keys, partitions)
        tally = Tally()
        events = [tracked.upsert(row, lane, self._clock.now()) for row in rows]
        await self._write_all(target, events, known, tally)
        for event in events:
            _doubts(tally, target.mapper, tracked, event)
        total = await tracked.count()
        return _table_plan(table, lane, len(rows), total, tally)

    async def _both(self, table: TableMapping, sample: int) -> tuple[TrackedTable, Target]:
        described = await self._systems.asked("dynamics", read_table(self._systems.dynamics, table.source, table.columns()))
        resource = await self._systems.resource(table.target)
        wanted = [table.key.target, *(canonical_flag(each.target) for each in table.fields)]
        if (problem := missing_fields(resource, wanted)) is not None:
            raise problem
        fields = resource.only(wanted)
        tracked = TrackedTable(self._systems.dynamics, described, min(sample, self._systems.page_size()))
        return tracked, Target(table, resource, fields, Mapper(table, fields))

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
        return "replay" if position.value.get("columns") == sorted(table.columns()) else "resync"

    async def _write_all(self, target: Target, events: Sequence[ChangeEvent], known: Mapping[str, Known], tally: Tally) -> None:
        slots, digests = asyncio.Semaphore(AT_ONCE), Digests(self._systems.digest_secret)

        async def one(event: ChangeEvent) -> None:
            notes = Notes(self._systems.campaign)
            handler = IngressHandler({event.table: target}, notes, self._decoder, digests)
            try:
                async with slots:
                    result = await handler.write(change(event), known.get(f"{event.table}/{event.key}"))
            except RejectError as exc:
                tally.reject(exc, event.key)
            except ParkError:
                tally.counts["unchanged"] += 1  # it would wait for its parent
            else:
                tally.counts["delete" if notes.calls["delete"] else COUNTED.get(result.outcome, "unchanged")] += 1
                tally.calls += sum(notes.calls.values())

        await asyncio.gather(*(one(event) for event in events))


def _doubts(tally: Tally, mapper: Mapper, tracked: TrackedTable, event: ChangeEvent) -> None:
    for mapped, to, doubt in mapper.doubts(event):
        tally.doubts[mapped.source, to.name, to.length, doubt] += 1
    for mapped in mapper.table.fields:
        column = tracked.table.columns.get(mapped.source)
        value = event.fields.get(mapped.source)
        label = event.labels.get(mapped.source)
        if column is not None and column.options and value is not None and not mapper.replaces(mapped.source, value, label):
            tally.unreplaced[mapped.source, str(value), label] += 1


def _table_plan(table: TableMapping, lane: Any, sample: int, total: int | None, tally: Tally) -> TablePlanOut:
    rejected = [
        RejectedOut(code=code, reason=reason, count=len(keys), keys=keys[:KEYS_SHOWN]) for (code, reason), keys in tally.rejected.items()
    ]
    return TablePlanOut(
        source=table.source,
        target=table.target,
        lane=lane,
        sample=sample,
        total=total,
        counts=CountsOut(**tally.counts),
        rejected=rejected,
        truncated=_fields(table, tally, "truncated"),
        not_convertible=_fields(table, tally, "not_convertible"),
        unreplaced=[
            PicklistValueOut(table=table.source, source=source, value=value, label=label, count=count)
            for (source, value, label), count in tally.unreplaced.most_common(100)
        ],
        calls=CallsOut(sample=tally.calls, total=_all(tally.calls, sample, total)),
    )


def _fields(table: TableMapping, tally: Tally, wanted: Doubt) -> list[FieldCountOut]:
    return [
        FieldCountOut(table=table.source, source=source, target=target, count=count, length=length if wanted == "truncated" else None)
        for (source, target, length, doubt), count in tally.doubts.most_common()
        if doubt == wanted
    ]


def _all(calls: int, sample: int, total: int | None) -> int | None:
    if sample == 0:
        return 0
    return None if total is None else round(calls * max(total, sample) / sample)
