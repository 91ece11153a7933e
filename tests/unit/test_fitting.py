"""services.control.rules.metadata_fit: a configuration against what both systems say of themselves (control-api.md, errors)."""

from __future__ import annotations

from typing import Any

import pytest

from bridge.campaign.metadata import Resource
from bridge.dynamics.secured import ColumnAccess
from bridge.mapping.convert import TargetField
from bridge.model.config import IngressConfig, OptinConfig
from services.control.models.system_json import FieldOut, OptionOut
from services.control.rules.metadata_fit import SourceTable, fit_ingress, fit_optin
from services.control.rules.validation import Findings


def column(
    name: str, type: str = "String", length: int | None = None, key: bool = False, format: str = "", behavior: str = "", **options: str
) -> FieldOut:
    shown = [OptionOut(value=value.removeprefix("v"), label=label) for value, label in options.items()]
    return FieldOut(
        name=name, label=name, type=type, length=length, writable=True, key=key, options=shown, format=format, behavior=behavior
    )


COLUMNS = [
    column("contactid", "Uniqueidentifier", key=True),
    column("firstname", length=50),
    column("description", "Memo", length=2000),
    column("gendercode", "Picklist", v1="Male", v2="Female"),
    column("donotemail", "Boolean", true="Do Not Allow", false="Allow"),
    column("annualincome", "Money"),
    column("birthdate", "DateTime"),
    column("parentid", "Lookup"),
    column("telephone1", length=50, format="Phone"),
    column("memberday", "DateTime", format="DateOnly", behavior="UserLocal"),
    column("metat", "DateTime", format="DateAndTime", behavior="UserLocal"),
    column("opening", "DateTime", format="DateAndTime", behavior="TimeZoneIndependent"),
    column("born", "DateTime", format="DateOnly", behavior="DateOnly"),
]
FIELDS = [
    TargetField("externalId", "string", length=36),
    TargetField("firstName", "string", length=50),
    TargetField("cusShort", "string", length=10),
    TargetField("gender", "enumeration", options=(("male", "Male"), ("female", "Female"), ("unknown", "Unknown"))),
    TargetField("age", "integer", raw_type="long"),
    TargetField("email", "string", length=20),
    TargetField("seen", "datetime"),
    TargetField("birthDate", "date"),
    TargetField("blackListEmail", "boolean"),
    TargetField("isExternal", "boolean", read_only=True),
    TargetField("orgUnit", "link"),
]
CONTACT = SourceTable(True, {each.name: each for each in COLUMNS})
PROFILE = Resource("profile", "profileAndServicesExt/profile", {each.name: each for each in FIELDS})


def fit(source: SourceTable | None = CONTACT, resource: Resource | None = PROFILE, zoned: bool = False, **more: Any) -> Findings:
    table = {
        "source": "contact",
        "target": "profile",
        "key": {"source": "contactid", "target": "externalId"},
        "fields": [{"source": "firstname", "target": "firstName"}],
    }
    findings = Findings()
    fit_ingress(findings, IngressConfig.model_validate({"tables": [table | more]}), {"contact": source}, {"profile": resource}, zoned)
    return findings


def errors(findings: Findings) -> list[tuple[str, str]]:
    return [(each.path, each.code) for each in findings.errors]


def mapped(source: str, target: str) -> list[dict[str, str]]:
    return [{"source": source, "target": target}]


def test_what_fits_has_no_findings() -> None:
    findings = fit()

    assert (findings.errors, findings.warnings) == ([], [])


def test_a_table_that_is_not_there() -> None:
    assert errors(fit(source=None)) == [("/tables/0/source", "unknown_table")]
    assert errors(fit(resource=None)) == [("/tables/0/target", "unknown_table")]


def test_what_could_not_be_asked_for_is_not_judged() -> None:
    findings = Findings()
    config = IngressConfig.model_validate(
        {"tables": [{"source": "x", "target": "y", "key": {"source": "xid", "target": "z"}, "fields": mapped("a", "b")}]}
    )

    fit_ingress(findings, config, {}, {})

    assert findings.errors == []


def test_a_table_without_change_tracking() -> None:
    assert errors(fit(source=SourceTable(False, CONTACT.columns))) == [("/tables/0/source", "change_tracking_off")]


def test_the_key_is_the_primary_key_of_the_table() -> None:
    assert errors(fit(key={"source": "firstname", "target": "externalId"})) == [("/tables/0/key/source", "key_source")]


@pytest.mark.parametrize(
    ("fields", "path", "code"),
    [
        (mapped("nope", "firstName"), "/tables/0/fields/0/source", "unknown_field"),
        (mapped("firstname", "nope"), "/tables/0/fields/0/target", "unknown_field"),
        (mapped("firstname", "isExternal"), "/tables/0/fields/0/target", "read_only_target"),
        (mapped("firstname", "orgUnit"), "/tables/0/fields/0/target", "link_target"),
    ],
)
def test_a_field_that_cannot_be_mapped(fields: list[dict[str, str]], path: str, code: str) -> None:
    assert errors(fit(fields=fields)) == [(path, code)]


def test_a_flag_may_have_the_name_of_adobes_pages() -> None:
    assert errors(fit(fields=mapped("donotemail", "denyListEmail"))) == []


@pytest.mark.parametrize(
    ("condition", "fits"),
    [
        ({"field": "gendercode", "operator": "eq", "value": 1}, True),
        ({"field": "gendercode", "operator": "eq", "value": "2"}, True),
        ({"field": "gendercode", "operator": "in", "value": [1, 3]}, False),
        ({"field": "donotemail", "operator": "eq", "value": True}, True),
        ({"field": "donotemail", "operator": "eq", "value": "maybe"}, False),
        ({"field": "annualincome", "operator": "gt", "value": "12.50"}, True),
        ({"field": "annualincome", "operator": "gt", "value": "much"}, False),
        ({"field": "annualincome", "operator": "is_empty"}, True),
        ({"field": "birthdate", "operator": "gt", "value": "1980-01-31"}, True),
        ({"field": "birthdate", "operator": "gt", "value": "yesterday"}, False),
        ({"field": "firstname", "operator": "eq", "value": "Anna"}, True),
    ],
)
def test_a_filters_value_has_to_be_one_the_column_can_hold(condition: dict[str, Any], fits: bool) -> None:
    found = errors(fit(filter={"conditions": [condition]}))

    assert found == ([] if fits else [("/tables/0/filter/conditions/0/value", "value_does_not_fit")])


def test_a_filter_on_a_column_that_is_not_there() -> None:
    condition = {"field": "nope", "operator": "is_empty"}

    assert errors(fit(filter={"conditions": [condition]})) == [("/tables/0/filter/conditions/0/field", "unknown_field")]


@pytest.mark.parametrize(
    ("old", "new", "path"),
    [
        ("1", "male", None),
        ("Male", "male", "/tables/0/replacements/0/from"),
        ("9", "male", "/tables/0/replacements/0/from"),
        ("1", "robot", "/tables/0/replacements/0/to"),
    ],
)
def test_a_replacement_takes_a_value_of_the_column_and_gives_one_of_the_field(old: str, new: str, path: str | None) -> None:
    replacements = [{"source": "gendercode", "from": old, "to": new}, {"source": "gendercode", "from": "2", "to": "female"}]

    found = errors(fit(fields=mapped("gendercode", "gender"), replacements=replacements))

    assert found == ([] if path is None else [(path, "value_does_not_fit")])


def test_a_replacement_that_is_longer_than_the_field() -> None:
    replacement = {"source": "firstname", "from": "x", "to": "much too long"}

    found = fit(fields=mapped("firstname", "cusShort"), replacements=[replacement])

    assert errors(found) == [("/tables/0/replacements/0/to", "value_does_not_fit")]


@pytest.mark.parametrize(
    ("fields", "code"),
    [
        (mapped("description", "firstName"), "longer_than_target"),
        (mapped("annualincome", "firstName"), None),
        (mapped("birthdate", "birthDate"), None),
    ],
)
def test_what_works_for_some_values_only_is_a_warning(fields: list[dict[str, str]], code: str | None) -> None:
    findings = fit(fields=fields)

    assert findings.errors == []
    assert [each.code for each in findings.warnings] == ([] if code is None else [code])


@pytest.mark.parametrize(
    ("source", "target", "what"),
    [
        ("firstname", "cusShort", "cut"),
        ("firstname", "email", "refused"),
        ("telephone1", "cusShort", "refused"),
        ("parentid", "cusShort", "refused"),
    ],
)
def test_a_longer_value_is_cut_or_refused_as_its_column_and_field_say(source: str, target: str, what: str) -> None:
    (warning,) = fit(fields=mapped(source, target)).warnings

    assert warning.code == "longer_than_target"
    assert f"longer values will be {what}" in warning.message


@pytest.mark.parametrize(
    ("source", "target", "warned"),
    [
        ("memberday", "birthDate", True),
        ("metat", "birthDate", True),
        ("metat", "seen", False),
        ("opening", "birthDate", False),
        ("born", "birthDate", False),
    ],
)
def test_a_day_that_depends_on_a_zone_asks_for_one(source: str, target: str, warned: bool) -> None:
    found = fit(fields=mapped(source, target)).warnings
    zoned = fit(fields=mapped(source, target), zoned=True).warnings

    assert [(each.path, each.code) for each in found] == ([("/tables/0/fields/0/source", "time_zone_missing")] if warned else [])
    assert all(source in each.message and "DYNAMICS_TIME_ZONE" in each.message for each in found)
    assert zoned == []


@pytest.mark.parametrize(("source", "target"), [("parentid", "age"), ("birthdate", "age"), ("contactid", "birthDate")])
def test_a_mapping_that_works_for_no_value_is_an_error_unless_values_are_replaced(source: str, target: str) -> None:
    value = {"age": "1", "birthDate": "2000-01-01"}[target]
    known = "2000-01-01" if source == "birthdate" else "a1b2c3d4-0000-4000-8000-000000000001"
    replaced = [{"source": source, "from": known, "to": value}]

    assert errors(fit(fields=mapped(source, target))) == [("/tables/0/fields/0/target", "types_do_not_fit")]
    assert errors(fit(fields=mapped(source, target), replacements=replaced)) == []


@pytest.mark.parametrize(("source", "code"), [("donotemail", None), ("firstname", "not_boolean"), ("nope", "unknown_field")])
def test_opt_out_flags_come_from_yes_no_columns(source: str, code: str | None) -> None:
    findings = Findings()

    fit_optin(findings, OptinConfig.model_validate({"direction": "bidirectional", "mappings": mapped(source, "blackListEmail")}), CONTACT)

    assert errors(findings) == ([] if code is None else [("/mappings/0/source", code)])


NOT_READ = ColumnAccess(read=False, unmasked=True, update=False)
MASKED = ColumnAccess(read=True, unmasked=False, update=True, masked=True)
READ_ONLY = ColumnAccess(read=True, unmasked=True, update=False)
UNKNOWN = ColumnAccess(read=None, unmasked=None, update=None)
FREE = ColumnAccess(read=True, unmasked=True, update=True)


def warned(findings: Findings) -> list[tuple[str, str]]:
    return [(each.path, each.code) for each in findings.warnings]


@pytest.mark.parametrize(
    ("access", "wrong", "told"),
    [(NOT_READ, True, False), (MASKED, True, False), (UNKNOWN, False, True), (READ_ONLY, False, False), (FREE, False, False)],
)
def test_a_secured_column_has_to_be_readable_unmasked_wherever_it_is_read(access: ColumnAccess, wrong: bool, told: bool) -> None:
    source = SourceTable(True, CONTACT.columns, {"firstname": access})
    by_filter = {"conditions": [{"field": "firstname", "operator": "is_empty"}]}
    places = ["/tables/0/fields/0/source", "/tables/0/filter/conditions/0/field"]

    findings = fit(source=source, filter=by_filter)

    assert errors(findings) == [(place, "source_column_secured") for place in places] * wrong
    assert warned(findings) == [(place, "column_security_unknown") for place in places] * told
    assert all("Read = Allowed" in each.message and "remove the mapping" in each.message for each in [*findings.errors, *findings.warnings])


def test_a_secured_column_that_is_not_mapped_is_nobodys_business() -> None:
    findings = fit(source=SourceTable(True, CONTACT.columns, {"birthdate": NOT_READ}))

    assert (findings.errors, findings.warnings) == ([], [])


@pytest.mark.parametrize(("access", "wrong"), [(NOT_READ, True), (READ_ONLY, True), (FREE, False)])
def test_a_flag_of_opt_in_out_is_written_as_well(access: ColumnAccess, wrong: bool) -> None:
    findings = Findings()
    config = OptinConfig.model_validate({"direction": "bidirectional", "mappings": mapped("donotemail", "blackListEmail")})

    fit_optin(findings, config, SourceTable(True, CONTACT.columns, {"donotemail": access}))

    assert errors(findings) == [("/mappings/0/source", "source_column_secured")] * wrong


def with_column(added: FieldOut) -> SourceTable:
    return SourceTable(True, {**CONTACT.columns, added.name: added})


def test_followemail_is_no_opt_out_even_if_dynamics_is_away() -> None:
    findings = Findings()
    config = OptinConfig.model_validate({"direction": "bidirectional", "mappings": mapped("followemail", "blackListEmail")})

    fit_optin(findings, config, None)

    assert errors(findings) == [("/mappings/0/source", "flag_means_yes")]


def test_a_look_alike_is_told_by_its_labels_and_can_be_turned_round() -> None:
    source, fields = with_column(column("new_x", "Boolean", true="Subscribed", false="Off")), mapped("new_x", "blackListEmail")
    turned = [{"source": "new_x", "from": "true", "to": "0"}, {"source": "new_x", "from": "false", "to": "1"}]

    assert warned(fit(source=source, fields=fields)) == [("/tables/0/fields/0/source", "flag_means_yes")]
    assert fit(source=source, fields=fields).errors == []
    assert warned(fit(source=source, fields=fields, replacements=turned)) == []
    assert warned(fit(fields=mapped("donotemail", "blackListEmail"))) == []


def test_a_flag_from_a_column_that_is_neither_yes_nor_no_is_told() -> None:
    def told(source: str, *replaced: tuple[str, str], **more: Any) -> list[str]:
        changes = [{"source": source, "from": old, "to": new} for old, new in replaced]
        findings = fit(fields=mapped(source, "blackListEmail"), replacements=changes, **more)
        return [each.message for each in findings.warnings if each.code == "flag_not_boolean"]

    assert "Picklist" in told("gendercode")[0]
    assert len(told("gendercode", ("1", "true"))) == 1
    assert len(told("gendercode", ("1", "true"), ("2", "perhaps"))) == 1
    assert told("gendercode", ("1", "true"), ("2", "false")) == []
    assert told("gendercode", ("Male", "no"), ("2", "yes"), picklists="display") == []
    assert len(told("gendercode", ("Male", "no"), ("Female", "yes"))) == 1  # technical values: nothing is replaced
    assert len(told("firstname", ("x", "true"))) == 1
    assert fit(fields=mapped("gendercode", "firstName")).warnings == []
