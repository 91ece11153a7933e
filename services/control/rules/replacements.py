"""Whether replacements and mapped choices can ever work: what is replaced, by what, and which options reach Campaign. Pure."""

from __future__ import annotations

from collections.abc import Mapping

from bridge.campaign.metadata import Resource
from bridge.mapping.convert import TargetField, convert
from bridge.mapping.filters import day_or_time
from bridge.mapping.values import guid, number, truth
from bridge.model.config import FieldMapping, Replacement, TableMapping
from bridge.model.errors import RejectError
from bridge.model.flags import OPT_OUT_FLAGS, canonical_flag
from services.control.models.system_json import FieldOut, OptionOut
from services.control.rules.filter_values import (
    BOOLEAN,
    MULTI_SELECT,
    NUMERIC,
    OPTIONS_SHOWN,
    PICKLISTS,
    REFERENCES,
    no_such_value,
    too_long,
    wrong_word,
)
from services.control.rules.validation import Finding, Findings

CHOICES = {*PICKLISTS, MULTI_SELECT, BOOLEAN}
NOT_WRITTEN = ("link", "collection", "item")


def replaced(findings: Findings, table: TableMapping, path: str, columns: Mapping[str, FieldOut]) -> None:
    """Adds replacements that never apply, since their column never holds what they replace."""
    written: dict[tuple[str, str], str] = {}
    for place, replacement in enumerate(table.replacements):
        column, old = columns.get(replacement.source), replacement.from_value
        if column is None:
            continue
        where = f"{path}/replacements/{place}/from"
        if problem := _never(old, column, table.picklists == "display"):
            findings.error(where, "value_does_not_fit", problem)
        elif (option := _option(old, column)) and written.setdefault((column.name, option.value), old) != old:  # the same: validation.py
            findings.error(where, "replaced_twice", f"{option.label} ({option.value}) of {column.name} has a replacement already")


def _never(old: str, column: FieldOut, display: bool) -> str | None:
    """Why this is never a value of the column; None if it can be. An empty field may be replaced as well."""
    if old == "":
        return None
    if column.type in CHOICES:
        return _never_chosen(old, column, display)
    if column.type in NUMERIC and number(old) is None:
        return f"{column.name} is of type {column.type}: give a number, such as 12 or 12.5"
    if column.type == "DateTime" and day_or_time(old) is None:
        return f"{column.name} is a date: give it as 2026-01-31 or 2026-01-31T12:00:00Z"
    if column.type in REFERENCES and old != guid(old):
        return f"{column.name} holds the key of a row: give a GUID in small letters and without braces"
    return too_long(old, column)


def _never_chosen(old: str, column: FieldOut, display: bool) -> str | None:
    values = {option.value for option in column.options} or ({"true", "false"} if column.type == BOOLEAN else set())
    labels = {option.label for option in column.options} if display and column.type != BOOLEAN else set()
    parted = column.type == MULTI_SELECT and (set(old.split(",")) <= values or (display and set(old.split(", ")) <= labels))
    if old in values or old in labels or parted or (not values and number(old) is not None):
        return None
    if column.type == BOOLEAN and truth(old) is not None:
        return f"{column.name} is yes or no: give true or false"
    if shown := wrong_word(old, column):
        by_value = display or column.type == BOOLEAN  # there its label is never looked at, or it is written otherwise
        return shown if by_value else f"{shown}. This mapping sends technical values, so a label is never replaced"
    return no_such_value(column)


def _option(old: str, column: FieldOut) -> OptionOut | None:
    """The option that is meant, by its value or else its label."""
    by_value = next((option for option in column.options if option.value == old), None)
    return by_value or next((option for option in column.options if option.label == old), None)


def replacing(findings: Findings, table: TableMapping, path: str, resource: Resource) -> None:
    """Adds new values that their field does not take."""
    for place, replacement in enumerate(table.replacements):
        for mapped in table.fields:
            field = resource.field(canonical_flag(mapped.target))
            if mapped.source == replacement.source and field is not None and (problem := _unfit(replacement, field)):
                findings.error(f"{path}/replacements/{place}/to", "value_does_not_fit", problem)


def _unfit(replacement: Replacement, field: TargetField) -> str | None:
    if field.kind in NOT_WRITTEN:
        return None
    try:
        convert(replacement.to, field)
    except RejectError:
        named = f"; it takes {_names(field)}" if field.options else f" of type {field.kind}"
        return f"the new value does not fit {field.name}{named}"
    if field.length is not None and len(replacement.to) > field.length:
        return f"{field.name} holds {field.length} characters, the new value has {len(replacement.to)}"
    return None


def options_arrive(findings: Findings, table: TableMapping, path: str, columns: Mapping[str, FieldOut], resource: Resource) -> None:
    """Adds an error for a choice of which Campaign takes no option at all, a warning for one of which it refuses some.

    What a flag does not understand is refused nowhere (services/control/rules/column_trust.py tells of that).
    """
    for place, mapped in enumerate(table.fields):
        column, field = columns.get(mapped.source), resource.field(canonical_flag(mapped.target))
        flag = table.target == "profile" and canonical_flag(mapped.target) in OPT_OUT_FLAGS
        if column is None or field is None or flag or column.type not in CHOICES or field.kind in NOT_WRITTEN:
            continue
        refused = [option for option in column.options if not _arrives(option, column, table, field)]
        where = f"{path}/fields/{place}/target"
        if refused and len(refused) == len(column.options):
            findings.error(where, "no_option_fits", _none_fits(mapped, column, table, field))
        elif refused:
            named = ", ".join(f"{option.label} ({option.value})" for option in refused[:OPTIONS_SHOWN])
            text = f"{field.name} takes not all options of {mapped.source}: records with {named} will be refused; add replacements for them"
            findings.warnings.append(Finding(where, "options_do_not_fit", text))


def _none_fits(mapped: FieldMapping, column: FieldOut, table: TableMapping, field: TargetField) -> str:
    as_label = table.model_copy(update={"picklists": "display"})
    by_label = table.picklists == "technical" and any(_arrives(option, column, as_label, field) for option in column.options)
    takes = f", which takes {_names(field)}" if field.options else f" of type {field.kind}"
    way_out = "send display values, or replace each option" if by_label else "replace each option, or map another field"
    sent = "number" if table.picklists == "technical" and column.type != BOOLEAN else "value"
    return f"no option of {mapped.source} fits {field.name}{takes}: each would be refused by its {sent}; {way_out}"


def _arrives(option: OptionOut, column: FieldOut, table: TableMapping, field: TargetField) -> bool:
    """As bridge.mapping.rows.Mapper makes it: replaced by value, then by label, else the label or the value."""
    label = option.label if table.picklists == "display" and column.type != BOOLEAN else option.value
    to = {each.from_value: each.to for each in table.replacements if each.source == column.name}
    as_it_is = option.value == "true" if column.type == BOOLEAN else label  # a yes is a 1 for a number, too
    try:
        convert(to.get(option.value, to.get(label, as_it_is)), field)
    except RejectError:
        return False
    return True


def _names(field: TargetField) -> str:
    return ", ".join(name for name, _ in field.options[:OPTIONS_SHOWN])
