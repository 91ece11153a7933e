"""`$filter` and `$orderby` expressions, compiled to plain functions [contract 5, 6]."""

from __future__ import annotations

import operator
import re
from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from typing import Any

from sandbox.dynamics.store import Row
from sandbox.dynamics.tables import LOOKUPS, Column, Table
from sandbox.dynamics.wire import ODataError, no_property, query_error

Test = Callable[[Any], bool]
Getter = Callable[[Any], Any]
Resolve = Callable[[str], tuple[Getter, Callable[[str, Any], Any]]]  # property -> (its value, its kind of literal)

_TOKEN = re.compile(
    r"""\s*(?:(?P<text>[\w.]*'(?:[^']|'')*')|(?P<guid>[0-9a-fA-F]{8}(?:-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12})
    |(?P<date>\d{4}-\d\d-\d\d(?:T[\d:.]+(?:Z|[+-]\d\d:\d\d)?)?)|(?P<number>-?\d+(?:\.\d+)?)
    |(?P<name>[A-Za-z_@][\w./]*)|(?P<mark>[(),]))""",
    re.X,
)
_COMPARE: dict[str, Callable[[Any, Any], bool]] = {
    "eq": operator.eq, "ne": operator.ne, "gt": operator.gt, "ge": operator.ge, "lt": operator.lt, "le": operator.le,
}  # fmt: skip
_FUNCTIONS: dict[str, Callable[[str, str], bool]] = {
    "contains": operator.contains, "startswith": str.startswith, "endswith": str.endswith,
}  # fmt: skip
_CONSTANTS = {"true": True, "false": False}


def compiled(text: str, resolve: Resolve, functions: bool = True) -> Test:
    """A test for one row. Raises ODataError 400 `0x80060888` for whatever it does not understand."""
    tokens: list[tuple[str, str]] = []
    at = 0
    while text[at:].strip():
        found = _TOKEN.match(text, at)
        if not found or found.lastgroup is None:
            raise query_error(f"Syntax error at position {at} in '{text}'.")
        tokens.append((found.lastgroup, found[found.lastgroup]))
        at = found.end()
    return _Parser(tokens, resolve, functions).whole()


class _Parser:
    def __init__(self, tokens: list[tuple[str, str]], resolve: Resolve, functions: bool) -> None:
        self.tokens, self.resolve, self.functions = [*tokens, ("end", "")], resolve, functions

    def whole(self) -> Test:
        test = self.any_of()
        if self.tokens[0][0] != "end":
            raise query_error(f"Syntax error: unexpected '{self.tokens[0][1]}' in $filter.")
        return test

    def any_of(self) -> Test:
        tests = [self.all_of()]
        while self.accept("or"):
            tests.append(self.all_of())
        return tests[0] if len(tests) == 1 else lambda row: any(test(row) for test in tests)

    def all_of(self) -> Test:
        tests = [self.one()]
        while self.accept("and"):
            tests.append(self.one())
        return tests[0] if len(tests) == 1 else lambda row: all(test(row) for test in tests)

    def one(self) -> Test:
        if self.accept("not"):
            negated = self.one()
            return lambda row: not negated(row)
        if self.accept("("):
            test = self.any_of()
            self.expect(")")
            return test
        kind, name = self.tokens.pop(0)
        if kind != "name":
            raise query_error(f"Syntax error: '{name}' is not a property.")
        return self.function(name) if self.accept("(") else self.comparison(name)

    def comparison(self, name: str) -> Test:
        getter, literal = self.resolve(name)
        sign = self.tokens.pop(0)[1]
        if sign not in _COMPARE:
            raise query_error(f"Syntax error: operator '{sign}' in $filter.")
        compare, value = _COMPARE[sign], self.literal(literal)
        if value is None or sign in ("eq", "ne"):
            return lambda row: compare(getter(row), value) if sign in ("eq", "ne") else False
        return lambda row: (own := getter(row)) is not None and compare(own, value)

    def function(self, name: str) -> Test:
        if name not in _FUNCTIONS or not self.functions:
            raise query_error(f"An unknown or unsupported function with name '{name}' was found.")
        getter, literal = self.resolve(self.tokens.pop(0)[1])
        self.expect(",")
        call, value = _FUNCTIONS[name], self.literal(literal)
        self.expect(")")
        if not isinstance(value, str):
            raise query_error(f"The function {name} needs a string.")
        return lambda row: isinstance(own := getter(row), str) and call(own, value)

    def literal(self, convert: Callable[[str, Any], Any]) -> Any:
        kind, text = self.tokens.pop(0)
        if kind == "text":
            return convert(kind, text[text.index("'") + 1 : -1].replace("''", "'"))
        if kind == "name" and text == "null":
            return None
        if kind == "name" and text in _CONSTANTS:
            return convert("bool", _CONSTANTS[text])
        if kind == "number":
            return convert(kind, float(text) if "." in text else int(text))
        if kind in ("guid", "date"):
            return convert(kind, text.lower() if kind == "guid" else text)
        raise query_error(f"Syntax error: '{text}' is not a value.")

    def accept(self, text: str) -> bool:
        hit = self.tokens[0][1] == text and self.tokens[0][0] in ("name", "mark")
        if hit:
            self.tokens.pop(0)
        return hit

    def expect(self, text: str) -> None:
        if not self.accept(text):
            raise query_error(f"Syntax error: expected '{text}' in $filter.")


def _kind(column: Column) -> str:
    if column.type in ("String", "Memo", "MultiSelectPicklist", "EntityName"):
        return "text"
    kinds = {"Uniqueidentifier": "guid", "Boolean": "bool", "DateTime": "date"}
    return "guid" if column.type in LOOKUPS else kinds.get(column.type, "number")


def _instant(text: str) -> str:
    """A comparable form of a time: UTC, without its Z, so that a fraction sorts after the whole second."""
    when = datetime.fromisoformat(text)
    utc = when.replace(tzinfo=UTC) if when.tzinfo is None else when.astimezone(UTC)
    return utc.replace(tzinfo=None).isoformat()


def on_table(table: Table) -> Resolve:
    """Properties of a table's rows; text compares without regard to case, as Dataverse's collation does."""
    columns = table.by_wire()

    def resolve(name: str) -> tuple[Getter, Callable[[str, Any], Any]]:
        column = columns.get(name)
        if column is None:
            raise no_property(name, table.name)
        field, wanted = column.name, _kind(column)
        instant = wanted == "date" and column.behavior != "DateOnly"

        def literal(kind: str, value: Any) -> Any:
            if kind != wanted:
                raise query_error(f"A binary operator with incompatible types was detected: '{name}' and {kind}.")
            try:
                return value.casefold() if kind == "text" else _instant(value) if instant else value
            except ValueError as exc:
                raise query_error(f"Not a time: '{value}'.") from exc

        if wanted == "text":
            return (lambda row: (own := row[field]) and own.casefold()), literal
        return ((lambda row: (own := row[field]) and own[:19]) if instant else operator.itemgetter(field)), literal

    return resolve


def ordered(rows: Iterable[Row], text: str, table: Table) -> list[Row]:
    """`rows` in the order of `$orderby`, nulls first, ties as they came. Raises 400 `0x80060888`."""
    answer, columns = list(rows), table.by_wire()
    for part in reversed(text.split(",")):
        name, _, direction = part.strip().partition(" ")
        if name not in columns:
            raise no_property(name, table.name)
        if direction.strip() not in ("", "asc", "desc"):
            raise ODataError(400, "0x80060888", f"Syntax error in $orderby: '{part}'.")
        getter = on_table(table)(name)[0]
        answer.sort(key=lambda row, get=getter: _sortable(get(row)), reverse=direction.strip() == "desc")  # type: ignore[misc]
    return answer


def _sortable(value: Any) -> tuple[bool, Any]:
    return (value is not None, value if value is not None else 0)
