"""Values that clients send: checked against the column and brought into their stored form [contract 3.3, 3.5, 9.2]."""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from sandbox.dynamics.store import Row, Store
from sandbox.dynamics.tables import CHOICE_TYPES, LOOKUPS, Column, Table
from sandbox.dynamics.wire import ODataError, no_row, payload_error

GUID = r"[0-9a-fA-F]{8}(?:-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}"
_BIND = re.compile(rf"(?:https?://[^/]+)?/?(?:api/data/v9\.\d/)?(\w+)\(({GUID})\)")
_CONTROL = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f]")
_RANGES: dict[str, tuple[str, float, float]] = {
    "Integer": ("0x8004432F", -2_147_483_648, 2_147_483_647),
    "Decimal": ("0x80044330", -100_000_000_000, 100_000_000_000),
    "Double": ("0x80044330", -100_000_000_000, 100_000_000_000),
    "Money": ("0x80044330", -922_337_203_685_477, 922_337_203_685_477),
}


def from_payload(store: Store, table: Table, body: Mapping[str, Any], row: Row | None) -> dict[str, Any]:
    """A Web API body as stored values by logical name; read-only columns and annotations are dropped.

    `row` is what it will change, None for a create, where `statecode` is ignored [7.5].

    Raises ODataError: 400 as `checked` does and for unknown properties (`0x80048d19`), 404 for a missing bound row.
    """
    changes: dict[str, Any] = {}
    navigation = table.navigation()
    if table.activity and store.settings.base_regarding:
        column = table.columns["regardingobjectid"]
        navigation |= {f"{column.name}_{target}": (column, (target,)) for target in column.targets}
    for name, value in body.items():
        nav = name.removesuffix("@odata.bind")
        if nav in navigation and (nav != name or value is None):
            changes[navigation[nav][0].name] = None if value is None else _bound(store, table, navigation[nav][1], value)
        elif name.startswith("@"):
            continue
        elif "@" in name or name not in table.columns or table.columns[name].type in LOOKUPS:
            raise payload_error(
                table.set_name,
                f"An undeclared property '{nav}' which only has property annotations in the payload but no property "
                "value was found in the payload. In OData, only declared navigation properties and declared named "
                "streams can be represented as properties without values.",
            )
        elif not table.columns[name].readonly:
            changes[name] = checked(table, table.columns[name], value)
    if row is None:
        changes.pop("statecode", None)
    return _with_state(table, changes, row["statecode"] if row else 0)


def raw(store: Store, table: Table, body: Mapping[str, Any]) -> dict[str, Any]:
    """Values by logical name, lookups as plain ids, as the admin interface takes them. Raises ODataError 400."""
    changes: dict[str, Any] = {}
    for name, value in body.items():
        if name not in table.columns:
            raise payload_error(table.set_name, f"no column '{name}'")
        if not table.columns[name].readonly:
            changes[name] = checked(table, table.columns[name], value)
    return _with_state(table, changes, None)


def checked(table: Table, column: Column, value: Any) -> Any:
    """The stored form of one value. Raises ODataError 400 with the code of its kind of mistake."""
    if value is None:
        if column.type in (*CHOICE_TYPES[1:], "Boolean") or column.name == table.key:
            raise ODataError(400, "0x80040203", f"'{column.name}' of '{table.name}' cannot be null.")
        return None
    match column.type:
        case "String" | "Memo":
            return _text(table, column, value)
        case "Boolean":
            return _of_type(table, column, value, bool, "Edm.Boolean")
        case "Picklist" | "State" | "Status":
            return _option(table, column, _of_type(table, column, value, int, "Edm.Int32"))
        case "MultiSelectPicklist":
            parts = _of_type(table, column, value, str, "Edm.String").split(",")
            numbers = sorted({int(part) if part.strip().isdigit() else -1 for part in parts})
            return ",".join(str(_option(table, column, number)) for number in numbers)
        case "Integer" | "Decimal" | "Double" | "Money":
            return _number(table, column, value)
        case "DateTime":
            return _time(table, column, _of_type(table, column, value, str, "Edm.DateTimeOffset"))
        case _:
            text = _of_type(table, column, value, str, "Edm.Guid")
            if not re.fullmatch(GUID, text):
                raise payload_error(table.set_name, f"Cannot convert the literal '{text}' to the expected type 'Edm.Guid'.")
            return text.lower()


def _of_type(table: Table, column: Column, value: Any, wanted: type, name: str) -> Any:
    if type(value) is not wanted:
        detail = f"Cannot convert the literal '{value}' to the expected type '{name}' of '{column.name}'."
        raise payload_error(table.set_name, detail)
    return value


def _text(table: Table, column: Column, value: Any) -> str | None:
    text: str = _of_type(table, column, value, str, "Edm.String")
    if column.length is not None and len(text) > column.length:
        raise ODataError(
            400,
            "0x80044331",
            f"A validation error occurred.  The length of the '{column.name}' attribute of the '{table.name}' entity "
            f"exceeded the maximum allowed length of '{column.length}'.",
        )
    if _CONTROL.search(text):
        raise ODataError(400, "0x80040278", f"The field '{column.name}' contains one or more invalid characters.")
    return text or None


def _option(table: Table, column: Column, value: int) -> int:
    if value not in column.options:
        raise ODataError(
            400,
            "0x8004431A",
            f"A validation error occurred. The value {value} of '{column.name}' on record of type '{table.name}' is "
            f"outside the valid range. Accepted Values: {','.join(map(str, column.options))}",
        )
    return value


def _number(table: Table, column: Column, value: Any) -> Any:
    if isinstance(value, bool) or not isinstance(value, int if column.type == "Integer" else (int, float)):
        _of_type(table, column, value, type(None), "Edm.Int32" if column.type == "Integer" else "Edm.Decimal")
    code, low, high = _RANGES[column.type]
    low, high = column.low if column.low is not None else low, column.high if column.high is not None else high
    if not low <= value <= high:
        text = f"A validation error occurred. The value of '{column.name}' on record of type '{table.name}' is outside"
        raise ODataError(400, code, f"{text} the valid range.")
    return round(value, column.precision) if column.precision is not None else value


def _time(table: Table, column: Column, text: str) -> str:
    expected = "Edm.Date" if column.behavior == "DateOnly" else "Edm.DateTimeOffset"
    shape = r"\d{4}-\d\d-\d\d" + ("" if expected == "Edm.Date" else r"T\d\d:\d\d(:\d\d(\.\d+)?)?(Z|[+-]\d\d:\d\d)")
    try:
        when = datetime.fromisoformat(text) if re.fullmatch(shape, text) else None
    except ValueError:
        when = None
    if when is None:
        raise payload_error(table.set_name, f"Cannot convert the literal '{text}' to the expected type '{expected}'.")
    if when.year < 1753:
        raise ODataError(400, "0x80040203", f"'{column.name}' is before 1753-01-01T00:00:00Z.")
    return text if expected == "Edm.Date" else when.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _bound(store: Store, table: Table, targets: tuple[str, ...], value: Any) -> str:
    """The id of `/contacts(<guid>)`. Raises 400 for another form or table, 404 when the row is missing."""
    found = _BIND.fullmatch(value) if isinstance(value, str) else None
    target = store.sets.get(found[1]) if found else None
    if found is None or target is None or target.name not in targets:
        raise payload_error(table.set_name, f"The value '{value}' does not lead to one of {', '.join(targets)}.")
    key = found[2].lower()
    if key not in store.data[target.name].rows:
        raise no_row(target.name, key)
    return key


def _with_state(table: Table, changes: dict[str, Any], current: int | None) -> dict[str, Any]:
    """State and status kept together [7.5]: `statecode` alone brings its default status, a status needs its state.

    `current` is the row's state; with None a status alone brings its state, as when a user edits.
    """
    states = table.columns["statuscode"].states
    if "statuscode" in changes:
        wanted = states[changes["statuscode"]]
        state = changes.get("statecode", wanted if current is None else current)
        if state != wanted:
            where = f"{table.label}State.{table.columns['statecode'].options[state]} on {table.name}"
            text = f"{changes['statuscode']} is not a valid status code for state code {where}."
            raise ODataError(400, "0x80048408", text)
        changes["statecode"] = state
    elif "statecode" in changes:
        changes["statuscode"] = next(status for status, state in states.items() if state == changes["statecode"])
    return changes
