"""Whether a filter can ever be true: its comparisons and values against what the columns can hold. Pure.

A filter that no record passes sends nothing, and with *delete filtered out* it takes every record away in Campaign.
"""

from __future__ import annotations

from typing import Any

from bridge.dynamics.metadata import TEXT_TYPES
from bridge.mapping.filters import choices, day_or_time
from bridge.mapping.values import guid, number, text, truth
from bridge.model.config import Condition
from bridge.model.operators import OPERATORS, OperatorKind
from services.control.models.system_json import FieldOut
from services.control.rules.validation import Findings

WHOLE = {"Integer", "BigInt"}
NUMERIC = WHOLE | {"Decimal", "Double", "Money"}
PICKLISTS = {"Picklist", "State", "Status"}
MULTI_SELECT, BOOLEAN = "MultiSelectPicklist", "Boolean"
REFERENCES = {"Lookup", "Customer", "Owner", "Uniqueidentifier"}
OPTIONS_SHOWN = 20


def compare(findings: Findings, path: str, condition: Condition, column: FieldOut) -> None:
    """Adds what makes one condition meaningless on its column. `path` is the condition's."""
    if problem := wrong_operator(condition, column):
        findings.error(f"{path}/operator", "operator_does_not_fit", problem)
    elif problem := _wrong_values(condition, column):
        findings.error(f"{path}/value", "value_does_not_fit", problem)


def wrong_operator(condition: Condition, column: FieldOut) -> str | None:
    """Why this comparison says nothing about a column of this type; None if it does."""
    name, kind = column.name, OPERATORS[condition.operator]
    if column.type == MULTI_SELECT and kind in ("part", "order", "choice"):
        return f"{name} holds several choices: use contains_any (at least one of these), contains_all (all of these) or eq (exactly these)"
    if column.type != MULTI_SELECT and kind == "options":
        return f"{name} does not hold several choices: use in, for one of these"
    if column.type in PICKLISTS and kind == "part":
        return f"{name} is compared by the numbers of its options, and 11 contains 1: use eq, ne or in"
    if column.type == BOOLEAN and kind in ("part", "order"):
        return f"{name} is yes or no: use eq or ne"
    return None


def _wrong_values(condition: Condition, column: FieldOut) -> str | None:
    kind = OPERATORS[condition.operator]
    if isinstance(condition.value, list) and kind == "equality" and column.type != MULTI_SELECT:
        return f"{column.name} holds one value: give a single value, or use in for several"
    values = condition.value if isinstance(condition.value, list) else [condition.value]
    wanted = [each for each in values if not (text(each) == "" and kind in ("equality", "choice"))]  # equal to an empty field
    if kind == "emptiness":
        return None
    return next((problem for each in wanted if (problem := _wrong_value(kind, each, column))), None)


def _wrong_value(kind: OperatorKind, value: Any, column: FieldOut) -> str | None:
    """Why this value can never be found in this column; None if it can."""
    if kind == "part":
        return _wrong_part(text(value), column)
    if column.type in NUMERIC:
        return _wrong_number(kind, value, column)
    if column.type == "DateTime" and day_or_time(value) is None:
        return f"{column.name} is a date: give it as 2026-01-31 or 2026-01-31T12:00:00Z"
    if column.type in PICKLISTS:
        return _wrong_option(value, column)
    if column.type == MULTI_SELECT:
        return _wrong_choices(value, column)
    if column.type == BOOLEAN and truth(value) is None:
        return wrong_word(text(value), column) or f"{column.name} is yes or no: give true or false"
    if column.type in REFERENCES and guid(value) is None:
        return f"{column.name} holds the key of a row: give a GUID, such as 00000000-0000-0000-0000-000000000001"
    return too_long(text(value), column)


def _wrong_number(kind: OperatorKind, value: Any, column: FieldOut) -> str | None:
    found = number(value)
    if found is None:
        return f"{column.name} is of type {column.type}: give a number, such as 12 or 12.5"
    if column.type in WHOLE and kind in ("equality", "choice") and found != found.to_integral_value():
        return f"{column.name} is of type {column.type}: give a whole number"
    return None


def _wrong_part(part: str, column: FieldOut) -> str | None:
    """Of a text that is to be contained: it has to be made of what such values are written with."""
    kinds = {
        **dict.fromkeys(NUMERIC, "-.0123456789"),
        **dict.fromkeys(REFERENCES, "-{}0123456789abcdefABCDEF"),
        "DateTime": "-:.TZ0123456789",
    }
    if column.type in kinds and not set(part) <= set(kinds[column.type]):
        return f"{column.name} is of type {column.type}, whose values have no such text in them"
    return too_long(part, column)


def _wrong_option(value: Any, column: FieldOut) -> str | None:
    found = number(value)
    if found is not None and (not column.options or any(found == number(option.value) for option in column.options)):
        return None
    return wrong_word(text(value), column) or no_such_value(column)


def _wrong_choices(value: Any, column: FieldOut) -> str | None:
    known = {option.value for option in column.options}
    unknown = [each for each in choices(value) if each not in known] if known else [each for each in choices(value) if number(each) is None]
    if unknown or not choices(value):
        return next((problem for each in (*unknown, text(value)) if (problem := wrong_word(each, column))), None) or no_such_value(column)
    return None


def wrong_word(word: str, column: FieldOut) -> str | None:
    """What to give instead of a label; None if it is none."""
    option = next((each for each in column.options if each.label.casefold() == word.strip().casefold()), None)
    if option is None:
        return None
    return f"{option.label} is how {column.name} shows {option.value}: give {option.value}; it has {listed(column)}"


def no_such_value(column: FieldOut) -> str:
    return (
        f"{column.name} has no such value; it has {listed(column)}" if column.options else f"{column.name} has numbers as values: give one"
    )


def listed(column: FieldOut) -> str:
    """The values of a column with their labels, for people."""
    return ", ".join(f"{option.value} ({option.label})" for option in column.options[:OPTIONS_SHOWN])


def too_long(shown: str, column: FieldOut) -> str | None:
    if column.type in TEXT_TYPES and column.length is not None and len(shown) > column.length:
        return f"{column.name} holds {column.length} characters, this value has {len(shown)}"
    return None
