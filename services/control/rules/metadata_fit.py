"""Whether a configuration fits what both systems say of themselves. Pure: the metadata are handed in."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from bridge.campaign.metadata import Resource
from bridge.consent.meaning import doubts_of_optin, doubts_of_table
from bridge.dynamics.metadata import is_exact
from bridge.dynamics.secured import ColumnAccess
from bridge.model.config import IngressConfig, OptinConfig, TableMapping
from bridge.model.flags import canonical_flag
from services.control.models.system_json import FieldOut
from services.control.rules.column_trust import doubted, readable, shown, unclear_flags
from services.control.rules.filter_values import REFERENCES, compare
from services.control.rules.replacements import options_arrive, replaced, replacing
from services.control.rules.validation import Finding, Findings

GUID_LENGTH = 36
NEVER = {("DateTime", "boolean"), ("DateTime", "integer"), ("DateTime", "number")}
NEVER |= {(kind, target) for kind in REFERENCES for target in ("integer", "number", "boolean", "date", "datetime")}


@dataclass(frozen=True, slots=True)
class SourceTable:
    """A Dynamics table: whether its changes are tracked, its columns, and what may be done with those that are secured."""

    tracked: bool
    columns: Mapping[str, FieldOut]
    secured: Mapping[str, ColumnAccess] = field(default_factory=dict)

    @property
    def key(self) -> str | None:
        return next((name for name, column in self.columns.items() if column.key), None)


def fit_ingress(
    findings: Findings,
    config: IngressConfig,
    sources: Mapping[str, SourceTable | None],
    resources: Mapping[str, Resource | None],
    zoned: bool = False,
) -> None:
    """Adds what does not fit. A name with None: there is no such table. A name that is missing: it could not be asked for. `zoned`:
    DYNAMICS_TIME_ZONE is set."""
    for number, table in enumerate(config.tables):
        path = f"/tables/{number}"
        source = sources.get(table.source)
        if table.source in sources:
            _source(findings, table, path, source)
        resource = resources.get(table.target)
        if table.target in resources:
            _target(findings, table, path, resource)
        if source is not None:
            _conditions(findings, table, path, source)
            replaced(findings, table, path, source.columns)
            unclear_flags(findings, table, path, source.columns)
        if resource is not None:
            replacing(findings, table, path, resource)
        for doubt in doubts_of_table(table, shown(source.columns if source else {})):
            doubted(findings, doubt, f"{path}/fields/{doubt.place}/source")
        if source is not None and resource is not None:
            _pairs(findings, table, path, source, resource, zoned)
            options_arrive(findings, table, path, source.columns, resource)


def fit_optin(findings: Findings, config: OptinConfig, contact: SourceTable | None) -> None:
    """`contact` None: it could not be asked for."""
    for number, mapping in enumerate(config.mappings if contact else ()):
        assert contact is not None
        column = contact.columns.get(mapping.source)
        if column is None:
            findings.error(f"/mappings/{number}/source", "unknown_field", f"contact has no column {mapping.source}")
        elif column.type != "Boolean":
            text = f"{mapping.source} is of type {column.type}; choose a yes/no column"
            findings.error(f"/mappings/{number}/source", "not_boolean", text)
        else:
            readable(findings, contact.secured, mapping.source, f"/mappings/{number}/source", write=True)
    pairs = [(each.source, each.target) for each in config.mappings]
    for doubt in doubts_of_optin(pairs, shown(contact.columns if contact else {})):
        doubted(findings, doubt, f"/mappings/{doubt.place}/source")


def _source(findings: Findings, table: TableMapping, path: str, source: SourceTable | None) -> None:
    if source is None:
        findings.error(f"{path}/source", "unknown_table", f"Dynamics has no table {table.source}; choose one that is there")
        return
    if not source.tracked:
        text = f"table {table.source} does not track changes: switch on 'Track changes' for it in Dynamics"
        findings.error(f"{path}/source", "change_tracking_off", text)
    if table.key.source != source.key:
        findings.error(f"{path}/key/source", "key_source", f"the key of {table.source} is its primary key {source.key}")
    for place, name in _columns(table):
        if name not in source.columns:
            findings.error(f"{path}/{place}", "unknown_field", f"table {table.source} has no readable column {name}")
        readable(findings, source.secured, name, f"{path}/{place}")


def _columns(table: TableMapping) -> list[tuple[str, str]]:
    """Where the mapping names a column that is read, and which."""
    fields = [(f"fields/{number}/source", each.source) for number, each in enumerate(table.fields)]
    return fields + [(f"filter/conditions/{number}/field", each.field) for number, each in enumerate(table.filter.conditions)]


def _target(findings: Findings, table: TableMapping, path: str, resource: Resource | None) -> None:
    if resource is None:
        text = f"Campaign has no published resource {table.target}; publish it with the Profiles & Services Ext API, or choose another"
        findings.error(f"{path}/target", "unknown_table", text)
        return
    places = [("key/target", table.key.target), *((f"fields/{n}/target", canonical_flag(f.target)) for n, f in enumerate(table.fields))]
    for place, name in places:
        field = resource.field(name)
        if field is None:
            findings.error(f"{path}/{place}", "unknown_field", f"resource {table.target} has no published field {name}")
        elif field.kind in ("link", "collection", "item"):
            text = f"{name} is a link; map the field that holds the key of the linked record"
            findings.error(f"{path}/{place}", "link_target", text)
        elif field.read_only and name != "PKey":
            findings.error(f"{path}/{place}", "read_only_target", f"{name} cannot be written in Campaign")


def _conditions(findings: Findings, table: TableMapping, path: str, source: SourceTable) -> None:
    for number, condition in enumerate(table.filter.conditions):
        column = source.columns.get(condition.field)
        if column is not None:
            compare(findings, f"{path}/filter/conditions/{number}", condition, column)


def _pairs(findings: Findings, table: TableMapping, path: str, source: SourceTable, resource: Resource, zoned: bool) -> None:
    """What works for no value is an error, what works for some only a warning."""
    changed = {each.source for each in table.replacements}
    for number, mapped in enumerate(table.fields):
        column, field = source.columns.get(mapped.source), resource.field(canonical_flag(mapped.target))
        if column is None or field is None:
            continue
        length = GUID_LENGTH if column.type in REFERENCES else column.length
        if length and field.length and field.kind == "string" and length > field.length:
            exact = field.exact or is_exact(column.type, column.format or "")
            what = "refused, since addresses, numbers and ids are not cut" if exact else "cut"
            text = f"{mapped.source} holds {length} characters, {field.name} {field.length}: longer values will be {what}"
            findings.warnings.append(Finding(f"{path}/fields/{number}/target", "longer_than_target", text))
        if column.behavior == "UserLocal" and field.kind == "date" and not zoned:
            text = (
                f"{mapped.source} holds times of each user's zone (User local), {field.name} a day: set DYNAMICS_TIME_ZONE, for the ingress"
                " reader and for control, else it is the day in UTC"
            )
            findings.warnings.append(Finding(f"{path}/fields/{number}/source", "time_zone_missing", text))
        if (column.type, field.kind) in NEVER and mapped.source not in changed:
            text = f"{mapped.source} is of type {column.type}, {field.name} of type {field.kind}: its values would be refused"
            findings.error(f"{path}/fields/{number}/target", "types_do_not_fit", f"{text}; map another field")
