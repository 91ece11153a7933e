"""What a plan adds up to: what was found in the sample of each table, what that makes of all its rows, all tables together. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from bridge.consent.guard import delete_limit, release_limit
from bridge.consent.settings import ConsentSettings
from bridge.dynamics.metadata import Column
from bridge.mapping.rows import Doubt, Mapper
from bridge.model.config import TableMapping
from bridge.model.errors import RejectError
from bridge.model.events import ChangeEvent, Lane
from services.control.models.data_json import CallsOut, CountsOut, FieldCountOut, PicklistValueOut, PlanOut, RejectedOut, TablePlanOut
from services.control.rules.losses import limited, together, whole

KEYS_SHOWN = 10


@dataclass(slots=True)
class Tally:
    """What was found for one table. `empty`: it was read, and had no row for the sample."""

    empty: bool = False
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

    def doubt(self, mapper: Mapper, columns: Mapping[str, Column], event: ChangeEvent) -> None:
        """Counts the fields of one row that arrive changed or not at all, and the options that no replacement names."""
        for mapped, to, doubt in mapper.doubts(event):
            self.doubts[mapped.source, to.name, to.length, doubt] += 1
        for mapped in mapper.table.fields:
            column, value = columns.get(mapped.source), event.fields.get(mapped.source)
            if column is not None and column.options and value is not None and not mapper.replaces(event, mapped.source):
                self.unreplaced[mapped.source, str(value), event.labels.get(mapped.source)] += 1


def plan_of(tables: Sequence[TablePlanOut]) -> PlanOut:
    """All tables together."""
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
        lowers=together([table.lowers for table in tables]),
        deletes=together([table.deletes for table in tables]),
        above_limits=any(table.lowers.above or table.deletes.above for table in tables),
        tables=tables,
    )


def table_plan(table: TableMapping, lane: Lane, tally: Tally, total: int | None, consent: ConsentSettings) -> TablePlanOut:
    """`total`: how many rows the table has; None if nobody knows."""
    sample, rows = tally.counts.total(), total or 0

    def all_rows(found: int) -> int | None:
        return 0 if tally.empty else whole(found, sample, total)

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
        calls=CallsOut(sample=tally.calls, total=all_rows(tally.calls)),
        lowers=limited(tally.lowers, all_rows(tally.lowers), release_limit(consent.release_limit, rows)),
        deletes=limited(tally.deletes, all_rows(tally.deletes), delete_limit(consent.delete_limit, rows)),
    )


def _fields(table: TableMapping, tally: Tally, wanted: Doubt) -> list[FieldCountOut]:
    return [
        FieldCountOut(table=table.source, source=source, target=target, count=count, length=length if wanted == "truncated" else None)
        for (source, target, length, doubt), count in tally.doubts.most_common()
        if doubt == wanted
    ]
