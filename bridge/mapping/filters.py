"""Does a row pass the filter of its mapping? Pure.

Comparisons follow the value in Dynamics: numbers (also money and decimals, which travel as text) as numbers, dates as dates, yes/no as
such, GUIDs without regard to braces and capitals, columns with several choices ("100000000,100000002") as sets, all else as text,
case-sensitive. An empty field is never less, greater or containing; it is unequal to any value.
"""

from __future__ import annotations

import operator
import re
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from decimal import Decimal
from math import isfinite
from typing import Any

from bridge.model.config import Condition, Filter, Operand
from bridge.model.events import Value
from bridge.model.operators import Operator

Test = Callable[[Value, Any], bool]  # of a field's value and a condition's
ISO_DATE = re.compile(r"^\d{4}-\d\d-\d\d([T ]\d\d:\d\d.*)?$")
NUMBER = re.compile(r"^-?(0|[1-9][0-9]*)([.][0-9]+)?$", re.ASCII)
GUID = re.compile(r"^[{(]?([0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12})[)}]?$", re.ASCII | re.IGNORECASE)
SEVERAL = re.compile(r"^ *-?[0-9]+ *(, *-?[0-9]+ *)+$", re.ASCII)
TRUE, FALSE = ("true", "1", "yes"), ("false", "0", "no")


def passes(fields: Mapping[str, Value], wanted: Filter) -> bool:
    """True when the row goes to Campaign. No conditions: every row does (F137)."""
    if not wanted.conditions:
        return True
    results = (holds(fields.get(condition.field), condition) for condition in wanted.conditions)
    return all(results) if wanted.match == "all" else any(results)


def holds(value: Value, condition: Condition) -> bool:
    """One condition on one value."""
    return TESTS[condition.operator](value, condition.value)


def equal(value: Value, operand: Operand) -> bool:
    """A list is the set of options that a column with several choices is to hold."""
    if isinstance(operand, list):
        return choices(value) == choices(operand)
    if value is None or operand is None:
        return (value is None or value == "") and (operand is None or operand == "")
    if isinstance(value, bool) or isinstance(operand, bool):
        return truth(value) is not None and truth(value) == truth(operand)
    if SEVERAL.match(text(value)) and SEVERAL.match(text(operand)):
        return choices(value) == choices(operand)
    left, right = _comparable(value, operand)
    return bool(left == right)


def choices(value: Value | Operand) -> frozenset[str]:
    """The options of a column with several choices, from its text, a list or a single one."""
    parts = value if isinstance(value, list) else [value]
    return frozenset(part.strip() for each in parts for part in text(each).split(",") if part.strip())


def text(value: Any) -> str:
    """A value as people write it in a filter, a replacement or a text: true, 1, 12.5, 0.00001, Oslo; nothing for empty."""
    if value is None:
        return ""
    if isinstance(value, float) and isfinite(value):
        written = format(Decimal(str(value or 0)), "f")
        return written.removesuffix(".0")
    return str(value).lower() if isinstance(value, bool) else str(value)


def truth(value: Any) -> bool | None:
    """Yes or no; None for any other word."""
    lowered = text(value).lower()
    return True if lowered in TRUE else False if lowered in FALSE else None


def guid(value: Any) -> str | None:
    """As Dynamics writes one: small letters, no braces; None for what is none."""
    found = GUID.match(value.strip()) if isinstance(value, str) else None
    return found[1].lower() if found else None


def _found(test: Callable[[str, str], bool]) -> Test:
    """Whether a text is part of another, as `test(whole, part)` says."""

    def found(value: Value, operand: Any) -> bool:
        whole, part = text(value), text(operand)
        if there := guid(whole):
            whole, part = there, part.strip("{} ").lower()
        return whole != "" and test(whole, part)

    return found


def _ordered(test: Callable[[Any, Any], bool]) -> Test:
    def ordered(value: Value, operand: Any) -> bool:
        return value is not None and value != "" and test(*_comparable(value, operand))

    return ordered


def _comparable(value: Any, operand: Any) -> tuple[Any, Any]:
    """Both sides as numbers, else as times, else as GUIDs, else as text."""
    for convert in (number, moment, guid):
        left, right = convert(value), convert(operand)
        if left is not None and right is not None:
            return left, right
    return text(value), text(operand)


def number(value: Any) -> Decimal | None:
    """A value as a number, None for what is none. Text counts as one only as Dynamics writes it: a postal code 01234 or a phone number
    +4712 is text."""
    if isinstance(value, str):
        return Decimal(value) if NUMBER.match(value) else None
    if value is None or isinstance(value, bool):
        return None
    found = Decimal(str(value))
    return found if found.is_finite() else None


def moment(value: Any) -> datetime | None:
    """A day or a time as Dynamics writes it, in UTC unless it says otherwise; None for what is none."""
    if not isinstance(value, str) or not ISO_DATE.match(value):
        return None
    try:
        parsed = datetime.fromisoformat(value)
    except ValueError:
        return None
    return parsed if parsed.tzinfo else parsed.replace(tzinfo=UTC)


TESTS: Mapping[Operator, Test] = {
    "eq": equal,
    "ne": lambda value, operand: not equal(value, operand),
    "lt": _ordered(operator.lt),
    "le": _ordered(operator.le),
    "gt": _ordered(operator.gt),
    "ge": _ordered(operator.ge),
    "contains": _found(operator.contains),
    "begins_with": _found(str.startswith),
    "ends_with": _found(str.endswith),
    "in": lambda value, operand: any(equal(value, each) for each in operand),
    "contains_any": lambda value, operand: bool(choices(value) & choices(operand)),
    "contains_all": lambda value, operand: bool(choices(value)) and choices(operand) <= choices(value),
    "is_empty": lambda value, _: value is None or value == "",
    "is_not_empty": lambda value, _: value is not None and value != "",
}
