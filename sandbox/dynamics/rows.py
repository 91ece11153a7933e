"""How rows look on the wire: `$select`, annotations, contexts and paging cookies [contract 3.2-3.4, 5]."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from fnmatch import fnmatchcase
from operator import itemgetter
from typing import Any
from urllib.parse import quote, unquote

from sandbox.dynamics import security
from sandbox.dynamics.store import Row, Store
from sandbox.dynamics.tables import CHOICE_TYPES, LOOKUPS, Column, Table
from sandbox.dynamics.wire import Call, ODataError, no_property

FORMATTED = "OData.Community.Display.V1.FormattedValue"
LOOKUP_TABLE = "Microsoft.Dynamics.CRM.lookuplogicalname"
NAVIGATION = "Microsoft.Dynamics.CRM.associatednavigationproperty"
Render = Callable[[Row], dict[str, Any]]


def selected(call: Call, table: Table) -> list[Column]:
    """The columns of `$select` (all without it) and the key; Money brings its currency. Raises 400 `0x80060888`."""
    columns = table.by_wire()
    if not call.query.get("$select"):
        return list(columns.values())
    chosen: dict[str, Column] = {}
    for name in call.query["$select"].split(","):
        column = columns.get(name.strip())
        if column is None:
            raise no_property(name.strip(), table.name)
        chosen[column.wire] = column
        if column.type == "Money":
            chosen["_transactioncurrencyid_value"] = columns["_transactioncurrencyid_value"]
    chosen[table.key] = columns[table.key]
    return list(chosen.values())


def context(call: Call, table: Table, suffix: str = "") -> str:
    select = call.query.get("$select", "")
    return f"{call.root}$metadata#{table.set_name}{f'({select})' if select else ''}{suffix}"


def renderer(store: Store, call: Call, table: Table, single: bool = False) -> Render:
    """A function from a stored row to its JSON object, secured columns as this caller may see them. `single`: one row was asked for."""
    columns = selected(call, table)
    render, changed = _renderer(store, call, table, columns), security.shown(store.secured, store.settings, call, table, columns, single)
    return (lambda row: render(security.hidden(row, changed))) if changed else render


def _renderer(store: Store, call: Call, table: Table, columns: list[Column]) -> Render:
    wanted = [one.strip() for one in call.prefer.get("odata.include-annotations", "").split(",") if one.strip()]
    asked = {name for name in (FORMATTED, LOOKUP_TABLE, NAVIGATION) if any(fnmatchcase(name, w) for w in wanted)}
    if asked:
        return lambda row: _annotated(store, columns, row, asked)
    wires = ["@odata.etag", *(column.wire for column in columns)]
    values = itemgetter(*(column.name for column in columns), table.key)  # twice the key: always a tuple
    return lambda row: dict(zip(wires, (f'W/"{row["versionnumber"]}"', *values(row)), strict=False))


def _annotated(store: Store, columns: Iterable[Column], row: Row, asked: set[str]) -> dict[str, Any]:
    answer: dict[str, Any] = {"@odata.etag": f'W/"{row["versionnumber"]}"'}
    for column in columns:
        value = row[column.name]
        if value is not None:
            notes = {FORMATTED: formatted(store, column, value)}
            target = store.target_of(column.targets, value) if column.type in LOOKUPS else None
            if target is not None:
                notes[LOOKUP_TABLE] = target
                notes[NAVIGATION] = next(nav for nav, to in column.navigation.items() if target in to)
            answer |= {f"{column.wire}@{name}": text for name, text in notes.items() if name in asked and text is not None}
        answer[column.wire] = value
    return answer


def formatted(store: Store, column: Column, value: Any) -> str | None:
    """The display value as en-US shows it, None for types that have none."""
    if column.type in LOOKUPS:
        target = store.target_of(column.targets, value)
        return None if target is None else store.data[target].rows[value][store.tables[target].primary_name]
    if column.type == "MultiSelectPicklist":
        return "; ".join(column.options[int(part)] or "" for part in value.split(","))
    if column.type == "Boolean" or column.type in CHOICE_TYPES:
        return column.options[int(value)]
    if column.type == "Money":
        return f"${value:,.2f}"
    if column.type == "DateTime":
        when = datetime.fromisoformat(value)
        day = f"{when.month}/{when.day}/{when.year}"
        return day if column.behavior == "DateOnly" else f"{day} {when.hour % 12 or 12}:{when:%M %p}"
    return None


@dataclass(frozen=True)
class Cookie:
    """A `$skiptoken`: `at` is where page `page` resumes; `since` and `upto` are versions of a tracked run."""

    page: int
    at: str
    tracking: bool = False
    since: int = 0
    upto: int = 0

    def encoded(self, key: str) -> str:
        run = f' since="{self.since}" upto="{self.upto}"' if self.tracking else ""
        inner = f'<cookie page="{self.page - 1}"{run}><{key} last="{{{self.at}}}" first="{{{self.at}}}" /></cookie>'
        twice = quote(quote(inner, safe=""), safe="")
        return quote(f'<cookie pagenumber="{self.page}" pagingcookie="{twice}" istracking="{self.tracking}" />', safe="")

    @classmethod
    def of(cls, call: Call) -> Cookie | None:
        """The call's cookie. Raises 400 `0x80040203` when it was tampered with."""
        token = call.query.get("$skiptoken")
        if token is None:
            return None
        outer = re.fullmatch(r'<cookie pagenumber="(\d+)" pagingcookie="(.*)" istracking="(True|False)" />', token)
        inner = outer and re.search(r'<cookie page="\d+"(?: since="(\d+)" upto="(\d+)")?><\w+ last="{(.*?)}"', unquote(unquote(outer[2])))
        if not outer or not inner:
            raise ODataError(400, "0x80040203", "Malformed XML in the Paging Cookie")
        return cls(int(outer[1]), inner[3], outer[3] == "True", int(inner[1] or 0), int(inner[2] or 0))


def link(call: Call, table: Table, options: Mapping[str, str]) -> str:
    """An absolute link on the table; the option values must be encoded already."""
    return f"{call.root}{table.set_name}?" + "&".join(f"{name}={value}" for name, value in options.items())


def page_size(store: Store, call: Call) -> int:
    """What `odata.maxpagesize` asks for; the limit without it or above it. Raises 400 for a number below 1."""
    asked = call.prefer.get("odata.maxpagesize", "")
    if asked and (not asked.isdigit() or int(asked) < 1):
        raise ODataError(400, "0x80060888", "The value of odata.maxpagesize must be a positive number.")
    return min(int(asked or store.settings.page_limit), store.settings.page_limit)
