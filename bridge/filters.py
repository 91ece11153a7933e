"""Does a row pass the filter of its mapping? Pure.

Comparisons follow the value in Dynamics: numbers (also money and decimals, which travel as text) as numbers, dates as dates, yes/no as
such, all else as text, case-sensitive. An empty field is never less, greater or containing; it is unequal to any value.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import UTC, datetime
from decimal import Decimal
from math import isfinite
from typing import Any

from bridge.config import Condition, Filter, Scalar
from bridge.events import Value

ISO_DATE = re.compile(r"^\d{4}-\d\d-\d\d([T ]\d\d:\d\d.*)?$")
NUMBER = re.compile(r"^-?(0|[1-9][0-9]*)([.][0-9]+)?$", re.ASCII)
TRUE, FALSE = ("true", "1", "yes"), ("false", "0", "no")


def passes(fields: Mapping[str, Value], wanted: Filter) -> bool:
    """True when the row goes to Campaign. No conditions: every row does (F137)."""
    if not wanted.conditions:
        return True
    results = (holds(fields.get(condition.field), condition) for condition in wanted.conditions)
    return all(results) if wanted.match == "all" else any(results)


def holds(value: Value, condition: Condition) -> bool:
    """One condition on one value."""
    operand = condition.value
    match condition.operator:
        case "is_empty":
            return value is None or value == ""
        case "is_not_empty":
            return value is not None and value != ""
        case "eq":
            return equal(value, operand)  # type: ignore[arg-type]
        case "ne":
            return not equal(value, operand)  # type: ignore[arg-type]
        case "in":
            return any(equal(value, each) for each in operand)  # type: ignore[union-attr]
        case "contains":
            return text(value) != "" and text(operand) in text(value)
        case "begins_with":
            return text(value) != "" and text(value).startswith(text(operand))
        case "ends_with":
            return text(value) != "" and text(value).endswith(text(operand))
        case _:
            return _ordered(value, operand, condition.operator)


def equal(value: Value, operand: Scalar) -> bool:
    if value is None or operand is None:
        return (value is None or value == "") and (operand is None or operand == "")
    if isinstance(value, bool) or isinstance(operand, bool):
        return _truth(value) is not None and _truth(value) == _truth(operand)
    left, right = _comparable(value, operand)
    return bool(left == right)


def text(value: Any) -> str:
    """A value as people write it in a filter, a replacement or a text: true, 1, 12.5, 0.00001, Oslo; nothing for empty."""
    if value is None:
        return ""
    if isinstance(value, float) and isfinite(value):
        written = format(Decimal(str(value or 0)), "f")
        return written.removesuffix(".0")
    return str(value).lower() if isinstance(value, bool) else str(value)


def _truth(value: Any) -> bool | None:
    lowered = text(value).lower()
    return True if lowered in TRUE else False if lowered in FALSE else None


def _ordered(value: Value, operand: Any, operator: str) -> bool:
    if value is None or value == "":
        return False
    left, right = _comparable(value, operand)
    return bool({"lt": left < right, "le": left <= right, "gt": left > right, "ge": left >= right}[operator])


def _comparable(value: Any, operand: Any) -> tuple[Any, Any]:
    """Both sides as numbers, else as times, else as text."""
    for convert in (number, _time):
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


def _time(value: Any) -> datetime | None:
    if not isinstance(value, str) or not ISO_DATE.match(value):
        return None
    try:
        parsed = datetime.fromisoformat(value)
    except ValueError:
        return None
    return parsed if parsed.tzinfo else parsed.replace(tzinfo=UTC)
