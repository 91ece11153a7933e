"""services.control.rules.replacements: mappings and replacements that can never work are refused (control-api.md, errors)."""

from __future__ import annotations

from typing import Any

import pytest

from bridge.campaign.metadata import Resource
from bridge.mapping.convert import TargetField
from bridge.mapping.rows import Mapper
from bridge.model.config import TableMapping
from bridge.model.errors import RejectError
from bridge.model.events import ChangeEvent, Value
from services.control.models.system_json import FieldOut, OptionOut
from services.control.rules.metadata_fit import SourceTable
from services.control.rules.validation import Findings
from tests.unit.fakes import NOON
from tests.unit.test_fitting import CONTACT, PROFILE, column, errors, fit, mapped, warned

TARGET, FROM, TO = "/tables/0/fields/0/target", "/tables/0/replacements/0/from", "/tables/0/replacements/0/to"
KEY = "a1b2c3d4-0000-4000-8000-00000000000f"
MORE = [column("interests", "MultiSelectPicklist", v1="Sport", v2="Music", v11="Travel"), column("rating", "Picklist", v1="One", v2="2")]
SOURCE = SourceTable(True, {**CONTACT.columns, **{each.name: each for each in MORE}})
FIELDS = [
    *PROFILE.fields.values(),
    TargetField("cusStars", "enumeration", options=(("1", "One star"), ("2", "Two stars"))),
    TargetField("cusText", "string", length=50),
    TargetField("cusYes", "boolean"),
]
RESOURCE = Resource("profile", "profileAndServicesExt/profile", {each.name: each for each in FIELDS})


def mapping(source: str, target: str, *replaced: tuple[str, str], **more: Any) -> Findings:
    changes = [{"source": source, "from": old, "to": new} for old, new in replaced]
    return fit(source=SOURCE, resource=RESOURCE, fields=mapped(source, target), replacements=changes, **more)


@pytest.mark.parametrize(
    ("source", "target", "picklists", "way_out"),
    [
        ("gendercode", "gender", "technical", "send display values"),
        ("gendercode", "cusStars", "display", "replace each option"),
        ("gendercode", "birthDate", "technical", "map another field"),
        ("gendercode", "age", "display", "replace each option"),
        ("donotemail", "gender", "technical", "replace each option"),
        ("donotemail", "gender", "display", "replace each option"),
        ("interests", "gender", "display", "replace each option"),
    ],
)
def test_a_choice_of_which_campaign_takes_no_option_is_refused(source: str, target: str, picklists: str, way_out: str) -> None:
    findings = mapping(source, target, picklists=picklists)

    assert errors(findings) == [(TARGET, "no_option_fits")]
    assert way_out in findings.errors[0].message


@pytest.mark.parametrize(
    ("source", "target", "picklists", "replaced"),
    [
        ("gendercode", "gender", "display", []),
        ("gendercode", "gender", "technical", [("1", "male"), ("2", "female")]),
        ("gendercode", "gender", "technical", [("1", "Male"), ("2", "")]),
        ("gendercode", "gender", "display", [("Male", "unknown"), ("2", "female")]),
        ("rating", "cusStars", "technical", []),
        ("gendercode", "age", "technical", []),
        ("gendercode", "cusText", "technical", []),
        ("donotemail", "age", "technical", []),
        ("donotemail", "cusText", "display", []),
        ("donotemail", "cusYes", "display", []),
        ("donotemail", "gender", "technical", [("true", "male"), ("false", "female")]),
        ("gendercode", "blackListEmail", "technical", []),  # services/control/rules/column_trust.py warns of those
    ],
)
def test_a_choice_whose_options_all_arrive_is_taken(source: str, target: str, picklists: str, replaced: list[tuple[str, str]]) -> None:
    findings = mapping(source, target, *replaced, picklists=picklists)

    assert findings.errors == []
    assert not any(code == "options_do_not_fit" for _, code in warned(findings))


KINDS: list[tuple[str, str, str, Value]] = [
    ("Picklist", "1", "Male", 1),
    ("Boolean", "true", "Male", True),
    ("MultiSelectPicklist", "1", "Male", "1"),
]


@pytest.mark.parametrize("replaced", [[], [("1", "male")], [("true", "1")], [("1", "")], [("Male", "2000-01-01")]], ids=str)
@pytest.mark.parametrize("picklists", ["technical", "display"])
@pytest.mark.parametrize("target", ["gender", "cusStars", "age", "cusText", "cusYes", "birthDate"])
@pytest.mark.parametrize(("kind", "value", "label", "held"), KINDS, ids=[each[0] for each in KINDS])
def test_an_option_is_refused_at_save_if_the_writer_would_refuse_it(
    kind: str, value: str, label: str, held: Value, target: str, picklists: str, replaced: list[tuple[str, str]]
) -> None:
    shown: dict[str, Any] = {"name": "choice", "label": "choice", "type": kind, "length": None, "writable": True, "key": False}
    option = OptionOut(value=value, label=label)
    only = SourceTable(True, {**CONTACT.columns, "choice": FieldOut(**shown, options=[option])})
    changes = [{"source": "choice", "from": old, "to": new} for old, new in replaced]
    findings = fit(source=only, resource=RESOURCE, fields=mapped("choice", target), replacements=changes, picklists=picklists)
    table: dict[str, Any] = {"source": "contact", "target": "profile", "key": {"source": "contactid", "target": "externalId"}}
    table |= {"fields": mapped("choice", target), "replacements": changes, "picklists": picklists}
    labels = {} if kind == "Boolean" else {"choice": label}
    event = ChangeEvent("contact", "k", "upsert", "live", 1, None, NOON, fields={"choice": held}, labels=labels)

    try:
        refused = Mapper(TableMapping.model_validate(table), RESOURCE.fields).to_campaign(event) is None
    except RejectError:
        refused = True

    assert ((TARGET, "no_option_fits") in errors(findings)) is refused


def test_options_that_would_be_refused_beside_others_are_a_warning_that_names_them() -> None:
    findings = mapping("gendercode", "gender", ("1", "male"))

    assert (errors(findings), warned(findings)) == ([], [(TARGET, "options_do_not_fit")])
    assert "records with Female (2) will be refused" in findings.warnings[0].message


def test_a_label_is_never_replaced_where_technical_values_are_sent() -> None:
    findings = mapping("gendercode", "cusText", ("Female", "F"))

    assert errors(findings) == [(FROM, "value_does_not_fit")]
    assert "Female is how gendercode shows 2: give 2" in findings.errors[0].message
    assert mapping("gendercode", "cusText", ("Female", "F"), picklists="display").errors == []


@pytest.mark.parametrize("picklists", ["technical", "display"])
@pytest.mark.parametrize(
    ("source", "old"),
    [
        ("gendercode", "3"),
        ("gendercode", "Other"),
        ("gendercode", "female"),
        ("donotemail", "Allow"),
        ("donotemail", "yes"),
        ("donotemail", "1"),
        ("annualincome", "much"),
        ("birthdate", "20260131"),
        ("parentid", "Contoso"),
        ("parentid", KEY.upper()),
        ("parentid", f"{{{KEY}}}"),
        ("interests", "3"),
        ("interests", "1, 2"),
        ("firstname", "x" * 51),
    ],
)
def test_a_replacement_of_what_a_column_never_holds_is_refused(source: str, old: str, picklists: str) -> None:
    assert errors(mapping(source, "cusText", (old, "x"), picklists=picklists)) == [(FROM, "value_does_not_fit")]


@pytest.mark.parametrize(
    ("source", "old", "picklists"),
    [
        ("gendercode", "2", "display"),
        ("gendercode", "", "technical"),
        ("donotemail", "true", "display"),
        ("interests", "1,2", "technical"),
        ("interests", "Sport, Music", "display"),
        ("annualincome", "12.5", "technical"),
        ("parentid", KEY, "technical"),
        ("firstname", "Jo", "technical"),
    ],
)
def test_a_replacement_of_what_a_column_can_hold_is_taken(source: str, old: str, picklists: str) -> None:
    assert mapping(source, "cusText", (old, "x"), picklists=picklists).errors == []


@pytest.mark.parametrize(("target", "new"), [("gender", "robot"), ("age", "many"), ("cusShort", "much too long"), ("birthDate", "soon")])
def test_a_new_value_that_its_field_does_not_take_is_refused(target: str, new: str) -> None:
    assert errors(mapping("firstname", target, ("x", new))) == [(TO, "value_does_not_fit")]


def test_an_option_is_replaced_once_by_its_value_or_its_label() -> None:
    findings = mapping("gendercode", "gender", ("2", "female"), ("Female", "unknown"), picklists="display")

    assert errors(findings) == [("/tables/0/replacements/1/from", "replaced_twice")]
    assert "Female (2) of gendercode" in findings.errors[0].message
