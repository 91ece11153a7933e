"""services.control.rules.filter_values: a filter that can never be true is refused, with the way out (control-api.md, errors)."""

from __future__ import annotations

from typing import Any

import pytest

from services.control.rules.metadata_fit import SourceTable
from tests.unit.test_fitting import CONTACT, column, errors, fit

OPERATOR, VALUE = "/tables/0/filter/conditions/0/operator", "/tables/0/filter/conditions/0/value"
KEY = "a1b2c3d4-0000-4000-8000-00000000000f"
MORE = [
    column("interests", "MultiSelectPicklist", v1="Sport", v2="Music", v11="Travel"),
    column("children", "Integer"),
    column("statecode", "State", v0="Active", v1="Inactive"),
    column("empty", "Picklist"),
]
SOURCE = SourceTable(True, {**CONTACT.columns, **{each.name: each for each in MORE}})


def found(field: str, operator: str, value: Any = None, picklists: str = "technical") -> list[tuple[str, str]]:
    condition = {"field": field, "operator": operator, "value": value}
    return errors(fit(source=SOURCE, picklists=picklists, filter={"conditions": [condition]}))


def message(field: str, operator: str, value: Any) -> str:
    (error,) = fit(source=SOURCE, filter={"conditions": [{"field": field, "operator": operator, "value": value}]}).errors
    return error.message


@pytest.mark.parametrize("picklists", ["technical", "display"])
@pytest.mark.parametrize("value", ["Female", "female", " Female "])
def test_a_label_is_refused_with_the_value_it_stands_for(picklists: str, value: str) -> None:
    assert found("gendercode", "eq", value, picklists) == [(VALUE, "value_does_not_fit")]
    assert found("gendercode", "in", [1, value], picklists) == [(VALUE, "value_does_not_fit")]
    assert message("gendercode", "ne", value) == "Female is how gendercode shows 2: give 2; it has 1 (Male), 2 (Female)"


def test_the_label_of_a_yes_or_no_is_refused_with_the_value_it_stands_for() -> None:
    assert "Do Not Allow is how donotemail shows true: give true" in message("donotemail", "eq", "Do Not Allow")


@pytest.mark.parametrize(
    ("field", "operator", "value"),
    [
        ("gendercode", "eq", 1),
        ("gendercode", "eq", "2"),
        ("gendercode", "in", [1, None]),
        ("gendercode", "gt", 1),
        ("gendercode", "eq", ""),
        ("statecode", "eq", 0),
        ("donotemail", "eq", "no"),
        ("donotemail", "ne", 1),
        ("children", "eq", "3"),
        ("children", "gt", 2.5),
        ("children", "contains", "1"),
        ("annualincome", "eq", 12.5),
        ("birthdate", "begins_with", "1980-"),
        ("parentid", "eq", KEY),
        ("parentid", "eq", f"{{{KEY.upper()}}}"),
        ("contactid", "begins_with", "{A1B2"),
        ("parentid", "is_empty", None),
        ("interests", "eq", 1),
        ("interests", "eq", "1,2"),
        ("interests", "ne", [1, "2"]),
        ("interests", "contains_any", [1, 11]),
        ("interests", "contains_all", "1, 11"),
        ("interests", "is_not_empty", None),
        ("firstname", "contains", "a,b"),
        ("empty", "eq", 3),
    ],
)
def test_a_comparison_that_can_be_true_is_taken(field: str, operator: str, value: Any) -> None:
    assert found(field, operator, value) == []


@pytest.mark.parametrize(
    ("field", "operator", "value"),
    [
        ("gendercode", "eq", 3),
        ("gendercode", "eq", True),
        ("gendercode", "eq", "01"),
        ("gendercode", "eq", [1, 2]),
        ("donotemail", "eq", "ja"),
        ("children", "eq", "three"),
        ("children", "eq", "1,000"),
        ("children", "eq", "+3"),
        ("children", "eq", 1.5),
        ("children", "in", [1, "1.5"]),
        ("children", "contains", "x"),
        ("annualincome", "gt", "12,50"),
        ("annualincome", "gt", "NaN"),
        ("birthdate", "ge", "20260131"),
        ("birthdate", "ge", "31.01.2026"),
        ("birthdate", "contains", "May"),
        ("parentid", "eq", "Contoso"),
        ("parentid", "eq", KEY[:-1]),
        ("parentid", "contains", "Contoso"),
        ("interests", "eq", 3),
        ("interests", "eq", "Sport"),
        ("interests", "contains_any", ["1,Sport"]),
        ("interests", "contains_any", [None]),
        ("interests", "contains_all", [1, "01"]),
        ("firstname", "eq", "x" * 51),
        ("firstname", "contains", "x" * 51),
        ("firstname", "eq", ["Anna"]),
        ("empty", "eq", "x"),
    ],
)
def test_a_value_that_a_column_never_holds_is_refused(field: str, operator: str, value: Any) -> None:
    assert found(field, operator, value) == [(VALUE, "value_does_not_fit")]


@pytest.mark.parametrize(
    ("field", "operator", "value", "hint"),
    [
        ("interests", "in", [1], "contains_any"),
        ("interests", "contains", "1", "contains_any"),
        ("interests", "begins_with", "1", "contains_all"),
        ("interests", "ends_with", "1", "eq"),
        ("interests", "gt", 1, "contains_any"),
        ("gendercode", "contains", "1", "eq"),
        ("gendercode", "contains_any", [1], "use in"),
        ("firstname", "contains_all", ["Anna"], "use in"),
        ("statecode", "begins_with", 1, "eq"),
        ("donotemail", "contains", "tr", "eq or ne"),
        ("donotemail", "lt", True, "eq or ne"),
    ],
)
def test_a_comparison_that_says_nothing_about_a_column_is_refused(field: str, operator: str, value: Any, hint: str) -> None:
    assert found(field, operator, value) == [(OPERATOR, "operator_does_not_fit")]
    assert hint in message(field, operator, value)
