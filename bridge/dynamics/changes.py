"""Change tracking: whole rows and tombstones, page by page, and the events made of them (dataverse.md §4)."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any
from zoneinfo import ZoneInfo

from bridge.dynamics.client import DynamicsClient
from bridge.dynamics.errors import QueryRefused, refused
from bridge.dynamics.metadata import OPTIONS, Table, with_options
from bridge.http.answers import readable
from bridge.mapping.values import moment
from bridge.model.errors import HaltError, RetryError
from bridge.model.events import ChangeEvent, Lane, Value

MOST = 2**63
WHOLE = re.compile(r"-?[0-9]+")
Row = Mapping[str, Any]
UnknownOption = tuple[str, int]  # the column's name, the value


@dataclass(frozen=True, slots=True)
class Page:
    """`next_link`: more to come. `delta_link`: the last page, ask there for what changes from now on. Never both."""

    rows: Sequence[Row]
    deleted: Sequence[str]
    next_link: str | None
    delta_link: str | None


class TrackedTable:
    """Reads one table of Dynamics. All methods raise RetryError or HaltError besides what they name. `zone`: where the days of times in
    each user's zone are told; None: in UTC."""

    def __init__(self, client: DynamicsClient, table: Table, page_size: int, zone: ZoneInfo | None = None) -> None:
        self._client, self._page_size, self._zone = client, page_size, zone
        self.table = table
        self._exact = [name for name, column in table.columns.items() if column.exact]
        self._local = [name for name, column in table.columns.items() if column.behavior == "UserLocal"]

    @property
    def ahead_s(self) -> float | None:
        """By how much our clock was ahead of Dynamics' at the last answer, None if that is not known."""
        return self._client.ahead_s

    async def page(self, link: str | None, whole: bool = True) -> Page:
        """The page behind `link`; None: the first page of a full read.

        Rows come in no promised order, deletes after them. The same row may come twice. `whole` False is for a link that was made for other
        columns, whose rows are of no use. Raises TrackingExpired and, for a link that the server does not know any more, QueryRefused.
        """
        path = link or f"{self.table.set_name}?$select={self.table.select()}"
        answer = await self._client.collection(self.table.asked(path), f"odata.track-changes,odata.maxpagesize={self._page_size}")
        items: list[Row] = answer["value"]
        tombstones = [item for item in items if self._is_deleted(item)]
        return Page(
            rows=self._whole([item for item in items if not self._is_deleted(item)], self._members if whole else ()),
            deleted=[str(item["id"]).lower() for item in self._with("id", tombstones)],
            next_link=_link(answer, "@odata.nextLink"),
            delta_link=_link(answer, "@odata.deltaLink"),
        )

    async def row(self, key: str) -> Row | None:
        """One row as it is now, None if it is gone."""
        try:
            found = await self._client.row(self.table.asked(f"{self.table.set_name}({key})?$select={self.table.select()}"))
        except QueryRefused as exc:
            raise refused(exc) from exc
        return None if found is None else self._whole([found], self._members)[0]

    async def keys(self, link: str | None) -> tuple[list[tuple[str, int | None]], str | None]:
        """Key and version of every row there is now, page by page; the link of the next page, None at the end. Raises QueryRefused."""
        page, next_link = await self._plain(link or f"{self.table.set_name}?{self.table.in_order(self.table.key)}", ())
        return [(self.key(row), version(row)) for row in page], next_link

    async def rows(self, link: str | None, changed_since: datetime | None = None) -> tuple[Sequence[Row], str | None]:
        """A page of the rows there are now, by key, outside of change tracking, and the link of the next page, None at the end.

        `changed_since` leaves out rows that were modified earlier. Raises QueryRefused.
        """
        path = link or f"{self.table.set_name}?{self.table.in_order(self.table.select())}"
        if link is None and changed_since is not None:
            path += f"&$filter=modifiedon ge {changed_since.astimezone(UTC):%Y-%m-%dT%H:%M:%SZ}"
        return await self._plain(path, self._members)

    async def count(self) -> int | None:
        """How many rows there are, roughly (a snapshot of up to a day ago); None if the server does not tell."""
        name = self.table.name
        try:
            answer = await self._client.get(f'RetrieveTotalRecordCount(EntityNames=@p1)?@p1=["{name}"]')
            return int(answer["EntityRecordCountCollection"]["Values"][0])
        except (QueryRefused, HaltError, LookupError, TypeError, ValueError):
            return None
        except RetryError as exc:
            if exc.code != "bad_answer":
                raise
            return None

    def unknown_options(self, rows: Iterable[Row]) -> frozenset[UnknownOption]:
        """Options in these rows that the metadata did not have when they were read."""
        columns = [column for column in self.table.columns.values() if column.type in OPTIONS.values()]
        held = ((column, each) for row in rows for column in columns for each in _numbers(row.get(column.url_name)))
        return frozenset((column.name, each) for column, each in held if each not in column.options)

    async def with_options(self) -> TrackedTable:
        """The same table, with the options its columns have now."""
        return TrackedTable(self._client, await with_options(self._client, self.table), self._page_size, self._zone)

    def key(self, row: Row) -> str:
        return str(row[self.table.key]).lower()

    def upsert(self, row: Row, lane: Lane, observed_at: datetime, epoch: int = 0) -> ChangeEvent:
        with readable(f"Dynamics: a row of {self.table.name}"):
            fields = {name: _value(row.get(column.url_name), column.type) for name, column in self.table.columns.items()}
        return ChangeEvent(
            table=self.table.name,
            key=self.key(row),
            op="upsert",
            lane=lane,
            version=version(row),
            changed_at=moment(row.get("modifiedon")),
            observed_at=observed_at,
            fields=fields,
            labels=self._labels(fields),
            epoch=epoch,
            exact=[name for name in self._exact if fields[name] and isinstance(fields[name], str)],
            days=self._days(fields),
        )

    def delete(self, key: str, lane: Lane, seen_version: int | None, observed_at: datetime, epoch: int = 0) -> ChangeEvent:
        return ChangeEvent(self.table.name, key, "delete", lane, seen_version, None, observed_at, epoch=epoch)

    async def _plain(self, path: str, members: Sequence[str]) -> tuple[Sequence[Row], str | None]:
        """A page outside of change tracking, whose rows have these members, and the link of the next one."""
        answer = await self._client.collection(self.table.asked(path), f"odata.maxpagesize={self._page_size}")
        return self._whole(answer["value"], members), _link(answer, "@odata.nextLink")

    @property
    def _members(self) -> Sequence[str]:
        """What every row has that was asked for with `select()`; an empty column is there as null."""
        return self.table.select().split(",")

    def _whole(self, items: Sequence[Row], members: Sequence[str]) -> Sequence[Row]:
        """These rows, if all say which they are and none lacks a column: to take that for an empty value would wipe out what it is.
        Raises RetryError."""
        rows = self._with(self.table.key, items)
        wanted = frozenset(members)
        for row in rows:
            if not wanted <= row.keys():
                lacking = ", ".join(sorted(wanted - row.keys()))
                raise RetryError(f"Dynamics: {self.table.name}: a row without its column {lacking}", code="bad_answer")
        return rows

    def _with(self, member: str, items: Sequence[Row]) -> Sequence[Row]:
        """These items, if all say which row they are of. Raises RetryError."""
        if all(isinstance(item.get(member), str) for item in items):
            return items
        raise RetryError(f"Dynamics: {self.table.set_name}: an item without {member}", code="bad_answer")

    def _is_deleted(self, item: Row) -> bool:
        if "$deletedEntity" in str(item.get("@odata.context", "")):
            return True
        return "reason" in item and "id" in item and self.table.key not in item

    def _days(self, fields: Mapping[str, Value]) -> dict[str, str]:
        """The days of times in each user's zone, where they are not those in UTC."""
        days = {name: day_in(fields[name], self._zone) for name in self._local} if self._zone is not None else {}
        return {name: day for name, day in days.items() if day is not None and not str(fields[name]).startswith(day)}

    def _labels(self, fields: Mapping[str, Value]) -> dict[str, str]:
        labels = {}
        for name, column in self.table.columns.items():
            value = fields[name]
            if column.options and value is not None:
                shown = _shown(value, column.options)
                if shown is not None and shown != str(value):
                    labels[name] = shown
        return labels


def _link(answer: Mapping[str, Any], name: str) -> str | None:
    link = answer.get(name)
    return None if link is None else str(link)


def version(row: Row) -> int | None:
    """The versionnumber, from the etag `W/"915244"`. Raises RetryError for one that is no such number."""
    digits = str(row.get("@odata.etag", "")).removeprefix("W/").strip('"')
    number = digits if digits.isdecimal() else row.get("versionnumber")
    with readable("Dynamics: the version of a row"):
        return None if number is None else _whole_number(int(number))


def _value(value: Any, type_name: str) -> Value:
    """As ChangeEvent carries it: money and decimals as text, doubles as float, all numbers else whole. Raises ValueError for what is no
    value."""
    if value is None or isinstance(value, str | bool):
        return value
    if isinstance(value, list | dict):
        raise ValueError("a structure")
    if type_name in ("Money", "Decimal"):
        return format(value, "f") if isinstance(value, Decimal) else str(value)
    if isinstance(value, Decimal) or type_name == "Double":
        return float(value)
    return _whole_number(int(value))


def _whole_number(number: int) -> int:
    """Raises ValueError for one that events cannot carry."""
    if not -MOST <= number < MOST:
        raise ValueError("a number beyond 64 bits")
    return number


def day_in(value: Value, zone: ZoneInfo) -> str | None:
    """The day of a time in this zone, YYYY-MM-DD; None for what is no time, or a day already."""
    at = moment(value) if isinstance(value, str) and "T" in value else None
    try:
        return None if at is None else at.astimezone(zone).date().isoformat()
    except OverflowError:  # 9999-12-31T23:00:00Z, which stands for "never"
        return None


def _numbers(value: Any) -> list[int]:
    """The options in a value: none, one, or several as one text."""
    return [int(part) for part in str(value).split(",") if WHOLE.fullmatch(part.strip())]


def _shown(value: Value, options: Mapping[int, str]) -> str | None:
    """The display value; of a multi-select picklist all of them. None if an option has none."""
    labels = [options.get(each) for each in _numbers(value)]
    return ", ".join(label for label in labels if label) if labels and all(labels) else None
