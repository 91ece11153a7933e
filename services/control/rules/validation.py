"""What is wrong with a configuration, by itself and against the ones that are saved. Pure; the systems' metadata are not asked here."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from pydantic import ValidationError

from bridge.mapping.filters import holds
from bridge.mapping.values import text
from bridge.model.config import Config, Filter, IngressConfig, OptinConfig, TableMapping
from bridge.model.desired import Workflow
from bridge.model.flags import OPT_OUT_FLAGS, canonical_flag
from services.control.rules.lifecycle import SHAPES

MOST_TABLES, MOST_FIELDS = 20, 50


@dataclass(frozen=True, slots=True)
class Finding:
    """`path`: JSON pointer into the configuration."""

    path: str
    code: str
    message: str


@dataclass(slots=True)
class Findings:
    errors: list[Finding] = field(default_factory=list)
    warnings: list[Finding] = field(default_factory=list)
    config: Config | None = None

    def error(self, path: str, code: str, message: str) -> None:
        self.errors.append(Finding(path, code, message))


def check(workflow: Workflow, raw: Any, saved: Mapping[Workflow, Config]) -> Findings:
    """`saved`: the saved configuration of every workflow. `config` is set when the shape is right."""
    findings = Findings()
    try:
        findings.config = SHAPES[workflow].model_validate(raw)
    except ValidationError as exc:
        _shape(findings, exc, raw)
        return findings
    if isinstance(findings.config, IngressConfig):
        before = saved["ingress"]
        assert isinstance(before, IngressConfig)
        _ingress(findings, findings.config, before)
        _consents(findings, findings.config, saved["optin"], "ingress")
    elif isinstance(findings.config, OptinConfig):
        _optin(findings, findings.config)
        _consents(findings, saved["ingress"], findings.config, "optin")
        _one_way_by_ingress(findings, findings.config, saved["ingress"])
    return findings


def _shape(findings: Findings, exc: ValidationError, raw: Any) -> None:
    """One error per place; of a value that fits none of several types, one in all."""
    seen: set[str] = set()
    for each in exc.errors():
        path, place = "", raw
        for number, part in enumerate(each["loc"]):
            there = (isinstance(place, Mapping) and part in place) or (isinstance(place, list) and isinstance(part, int))
            if not there and not (each["type"] == "missing" and number == len(each["loc"]) - 1):
                break  # the name of a type that was tried, not of a member
            path += f"/{part}"
            place = place[part] if there else None
        if path not in seen:
            seen.add(path)
            findings.error(path, each["type"], each["msg"].removeprefix("Value error, "))


def _ingress(findings: Findings, config: IngressConfig, before: IngressConfig) -> None:
    sources: set[str] = set()
    targets: set[str] = set()
    keys = {table.source: table for table in before.tables}
    for number, table in enumerate(config.tables):
        path = f"/tables/{number}"
        if table.source in sources:
            findings.error(f"{path}/source", "table_mapped_twice", f"table {table.source} is mapped already; a table can be mapped once")
        if table.target in targets:
            findings.error(f"{path}/target", "table_mapped_twice", f"resource {table.target} is mapped already; it can be mapped once")
        sources.add(table.source)
        targets.add(table.target)
        _table(findings, table, path, keys.get(table.source))
    if len([source for source in sources if source != "contact"]) > MOST_TABLES:
        text = f"more than {MOST_TABLES} tables are mapped besides contact; that is Campaign's guardrail"
        findings.warnings.append(Finding("/tables", "too_many_tables", text))


def _table(findings: Findings, table: TableMapping, path: str, before: TableMapping | None) -> None:
    _key(findings, table, path, before)
    _filter(findings, table.filter, f"{path}/filter")
    taken = {table.key.target: "the key"}
    for number, mapped in enumerate(table.fields):
        place, target = f"{path}/fields/{number}/target", canonical_flag(mapped.target)
        if target in taken:
            findings.error(place, "target_mapped_twice", f"{target} is fed by {taken[target]} already; map each field once")
        taken.setdefault(target, mapped.source)
        if target == "PKey":
            findings.error(place, "read_only_target", "PKey is made by Campaign and cannot be written")
    if len(table.fields) > MOST_FIELDS:
        text = f"{len(table.fields)} fields are mapped; Campaign's guardrail is {MOST_FIELDS}"
        findings.warnings.append(Finding(f"{path}/fields", "too_many_fields", text))
    mapped_sources = {mapped.source for mapped in table.fields}
    seen: set[tuple[str, str]] = set()
    for number, replacement in enumerate(table.replacements):
        place = f"{path}/replacements/{number}"
        if replacement.source not in mapped_sources:
            text = f"{replacement.source} is not mapped: add a field mapping for it, or remove the replacement"
            findings.error(f"{place}/source", "replacement_of_unmapped_field", text)
        if (replacement.source, replacement.from_value) in seen:
            findings.error(f"{place}/from", "replaced_twice", "this value of the field has a replacement already")
        seen.add((replacement.source, replacement.from_value))


def _filter(findings: Findings, wanted: Filter, path: str) -> None:
    """What no record passes, whatever the columns are: with *delete filtered out* it would take all of them away."""
    for place, condition in enumerate(wanted.conditions):
        if condition.value == []:
            findings.error(f"{path}/conditions/{place}/value", "no_value", "give at least one value; for empty fields use is_empty")
    for place in _never_true(wanted):
        text = f"no value of {wanted.conditions[place].field} fulfils all conditions on it: correct them, use in for one of several, or Or"
        findings.error(f"{path}/conditions/{place}/value", "never_true", text)


def _never_true(wanted: Filter) -> Iterator[int]:
    """The places of conditions that no value fulfils together with the others on the same column. Without conditions on equality among
    them it is not looked for."""
    for place, condition in enumerate(wanted.conditions if wanted.match == "all" else ()):
        if condition.operator in ("eq", "in"):
            together = [each for each in wanted.conditions if each.field == condition.field]
            values = condition.value if condition.operator == "in" and isinstance(condition.value, list) else [_as_value(condition.value)]
            if values and not any(all(holds(value, each) for each in together) for value in values):
                yield place


def _as_value(operand: Any) -> Any:
    """What a column holds that equals this: several choices are one text."""
    return ",".join(text(each) for each in operand) if isinstance(operand, list) else operand


def _key(findings: Findings, table: TableMapping, path: str, before: TableMapping | None) -> None:
    if table.source == "contact" and (table.key.source, table.key.target) != ("contactid", "externalId"):
        findings.error(f"{path}/key", "contact_key", "the key of contact must be contactid to externalId")
    if table.source == "contact" and table.target != "profile":
        findings.error(f"{path}/target", "contact_target", "contact can only go to profile")
    if before is not None and before.target == table.target and before.key != table.key:
        text = "the key of a mapping cannot be changed: delete the mapping, save, and add it again"
        findings.error(f"{path}/key", "key_changed", text)


def _optin(findings: Findings, config: OptinConfig) -> None:
    if config.direction == "dynamics-to-campaign" and config.mappings:
        text = "in this direction the flags travel in the contact mapping of ingress: map them there and leave this empty"
        findings.error("/mappings", "mappings_not_allowed", text)
    sources: set[str] = set()
    targets: set[str] = set()
    for number, mapping in enumerate(config.mappings):
        target = canonical_flag(mapping.target)
        if target not in OPT_OUT_FLAGS:
            findings.error(f"/mappings/{number}/target", "unknown_flag", f"choose one of {', '.join(OPT_OUT_FLAGS)}")
        if target in targets:
            findings.error(f"/mappings/{number}/target", "target_mapped_twice", f"{target} is mapped already")
        if mapping.source in sources:
            findings.error(f"/mappings/{number}/source", "source_mapped_twice", f"{mapping.source} is mapped already")
        targets.add(target)
        sources.add(mapping.source)


def _one_way_by_ingress(findings: Findings, config: OptinConfig, ingress: Config) -> None:
    """From Dynamics to Campaign the flags travel with the contact; somebody has to map them there."""
    assert isinstance(ingress, IngressConfig)
    mapped = {canonical_flag(field.target) for table in ingress.tables if table.target == "profile" for field in table.fields}
    if config.direction == "dynamics-to-campaign" and not mapped & set(OPT_OUT_FLAGS):
        text = "no opt-out flag is mapped in the contact mapping of ingress, so none travels in this direction: map them there"
        findings.warnings.append(Finding("/direction", "no_flag_in_ingress", text))


def _consents(findings: Findings, ingress: Config, optin: Config, edited: Workflow) -> None:
    """A flag that both workflows write would be decided by whoever comes last."""
    assert isinstance(ingress, IngressConfig) and isinstance(optin, OptinConfig)
    decided = {canonical_flag(mapping.target) for mapping in optin.mappings}
    for number, table in enumerate(ingress.tables):
        for place, mapped in enumerate(table.fields):
            if table.target == "profile" and canonical_flag(mapped.target) in decided:
                path = f"/tables/{number}/fields/{place}/target" if edited == "ingress" else "/mappings"
                text = f"{mapped.target} is mapped in Opt In/Out and in the contact mapping of ingress; it can be in one only"
                findings.error(path, "flag_mapped_twice", text)
