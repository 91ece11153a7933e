"""Whether what a column says can be believed: secured columns, and opt-out flags from columns that say yes or neither. Pure."""

from __future__ import annotations

from collections.abc import Mapping

from bridge.consent.meaning import CODE, PROFILE, Doubt, ShownColumn
from bridge.dynamics.secured import ColumnAccess
from bridge.mapping.values import FALSE, TRUE
from bridge.model.config import TableMapping
from bridge.model.flags import OPT_OUT_FLAGS, canonical_flag
from services.control.models.system_json import FieldOut
from services.control.rules.validation import Finding, Findings

WAY_OUT = (
    "give the application user a column security profile in Dynamics (Read = Allowed, Read unmasked = All records where it has a masking"
    " rule{update}), or remove the mapping"
)


def readable(findings: Findings, secured: Mapping[str, ColumnAccess], column: str, path: str, write: bool = False) -> None:
    """Adds an error for a secured column that the application user may not read unmasked (or, with `write`, not change), a warning for
    one of which that cannot be found out."""
    access = secured.get(column)
    if access is None:
        return
    way_out = WAY_OUT.format(update=", Update = Allowed" if write else "")
    if what := access.lacks(write):
        findings.error(path, "source_column_secured", f"{column} is a secured column that the application user may not {what}: {way_out}")
    elif access.unknown(write):
        text = f"{column} is a secured column, and whether the application user may {'read and change' if write else 'read'} it unmasked"
        findings.warnings.append(Finding(path, "column_security_unknown", f"{text} cannot be found out: {way_out}"))


def shown(columns: Mapping[str, FieldOut]) -> dict[str, ShownColumn]:
    """How Dynamics shows its yes/no columns."""
    return {
        name: ShownColumn(column.label, next((option.label for option in column.options if option.value == "true"), ""))
        for name, column in columns.items()
        if column.type == "Boolean"
    }


def doubted(findings: Findings, doubt: Doubt, path: str) -> None:
    """Adds an error for a flag whose column means yes for certain, a warning for one that looks so."""
    if doubt.certainty == "documented":
        findings.error(path, CODE, f"{doubt.text}; map a column whose TRUE means no, such as donotemail")
    else:
        findings.warnings.append(Finding(path, CODE, f"{doubt.text}; see what its two values mean in Dynamics"))


def unclear_flags(findings: Findings, table: TableMapping, path: str, columns: Mapping[str, FieldOut]) -> None:
    """Adds a warning for each opt-out flag from a column that is not yes or no, unless replacements make yes or no of all its values."""
    for number, mapped in enumerate(table.fields):
        column, flag = columns.get(mapped.source), canonical_flag(mapped.target)
        if table.target != PROFILE or flag not in OPT_OUT_FLAGS or column is None or column.type == "Boolean":
            continue
        if not _replaced_by_yes_or_no(table, column):
            text = (
                f"{mapped.source} is of type {column.type}, {flag} is yes or no: only true, 1, yes and false, 0, no are understood, where 1"
                " is an opt-out, and any other value says nothing; replace each of its values by true (said no) or false"
            )
            findings.warnings.append(Finding(f"{path}/fields/{number}/source", "flag_not_boolean", text))


def _replaced_by_yes_or_no(table: TableMapping, column: FieldOut) -> bool:
    """Whether every value there can be has a replacement that says yes or no; a column without a list of values never has."""
    to = {each.from_value: each.to.strip().lower() for each in table.replacements if each.source == column.name}
    shown = [(option.value, option.label) if table.picklists == "display" else (option.value,) for option in column.options]
    return bool(shown) and all(any(to.get(each) in (*TRUE, *FALSE) for each in option) for option in shown)
