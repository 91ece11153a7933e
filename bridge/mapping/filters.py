"""Does a row pass the filter of its mapping? Pure.

Comparisons follow the value in Dynamics: numbers (also money and decimals, which travel as text) as numbers, dates as dates, yes/no as
such, GUIDs without regard to braces and capitals, columns with several choices ("100000000,100000002") as sets, all else as text,
case-sensitive. An empty field is never less, greater or containing; it is unequal to any value.
"""

from __future__ import annotations

import operator
import re
from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any

from bridge.mapping.values import guid, moment, number, text, truth
from bridge.model.config import Condition, Filter, Operand
from bridge.model.events import Value
from bridge.model.operators import Operator

Test = Callable[[Value, Any], bool]  # of a field's value and a condition's
ISO_DATE = re.compile(r"^\d{4}-\d\d-\d\d([T ]\d\d:\d\d.*)?$")
SEVERAL = re.compile(r"^ *-?[0-9]+ *(, *-?[0-9]+ *)+$", re.ASCII)


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
    for convert in (number, day_or_time, guid):
        left, right = convert(value), convert(operand)
        if left is not None and right is not None:
            return left, right
    return text(value), text(operand)


def day_or_time(value: Any) -> datetime | None:
    """A moment that is written out, `2026-03-01` or more of it: 20260301 is a number."""
    return moment(value) if isinstance(value, str) and ISO_DATE.match(value) else None


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
