"""bridge.mapping.rows.filters: which rows go to Campaign (control-api.md, operators; campaign.md §14.11)."""

from __future__ import annotations

import re
from pathlib import Path
from typing import get_args

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from bridge.mapping.filters import TESTS, holds, passes
from bridge.model.config import Condition, Filter, Scalar
from bridge.model.events import Value
from bridge.model.operators import OPERATORS, Operator

ROOT = Path(__file__).parents[2]
GUID = "a1b2c3d4-0000-4000-8000-00000000000f"
json_scalars: st.SearchStrategy[Scalar] = st.one_of(
    st.none(), st.booleans(), st.integers(), st.floats(), st.text(), st.from_regex(r"\A[-+]?[0-9]{1,5}([.,][0-9]{1,4})?\Z"),
    st.datetimes().map(lambda moment: moment.isoformat()), st.dates().map(lambda day: day.isoformat()),
)  # fmt: skip


def on(value: Value, operator: Operator, operand: Scalar | list[Scalar] = None) -> bool:
    return holds(value, Condition(field="column", operator=operator, value=operand))


def a_filter(match: str, *conditions: tuple[str, Operator, Scalar]) -> Filter:
    made = [{"field": field, "operator": operator, "value": value} for field, operator, value in conditions]
    return Filter.model_validate({"match": match, "conditions": made})


@pytest.mark.parametrize(
    ("value", "operator", "operand", "expected"),
    [
        # text, case-sensitive
        ("Oslo", "eq", "Oslo", True),
        ("Oslo", "eq", "oslo", False),
        ("Oslo", "ne", "oslo", True),
        ("Bergen", "lt", "Oslo", True),
        ("Oslo", "le", "Oslo", True),
        ("Oslo", "gt", "Bergen", True),
        ("Oslo", "ge", "Tromsø", False),
        ("Oslo", "contains", "sl", True),
        ("Oslo", "contains", "SL", False),
        ("Oslo", "begins_with", "Os", True),
        ("Oslo", "begins_with", "lo", False),
        ("Oslo", "ends_with", "lo", True),
        ("Oslo", "ends_with", "Os", False),
        # whole numbers
        (9, "lt", 10, True),
        (9, "le", 9, True),
        (10, "gt", 9, True),
        (10, "ge", 11, False),
        (1, "eq", "1", True),
        (1, "ne", 2, True),
        (12, "contains", 2, True),
        # doubles
        (2.5, "eq", 2.5, True),
        (2.5, "lt", 10, True),
        (0.1, "eq", "0.1", True),
        # money and decimals, which travel as text
        ("12.5000", "eq", 12.5, True),
        ("9.90", "lt", 10, True),
        ("100.00", "gt", 20, True),
        ("100.00", "ge", "20", True),
        ("-3.00", "lt", 0, True),
        # yes/no
        (True, "eq", True, True),
        (True, "eq", False, False),
        (False, "ne", True, True),
        (True, "eq", "true", True),
        (False, "eq", 0, True),
        (True, "eq", "Oslo", False),
        # dates and times
        ("1980-05-17", "lt", "1980-06-01", True),
        ("2016-09-28T22:57:53Z", "gt", "2016-09-28", True),
        ("2016-09-28T22:57:53Z", "eq", "2016-09-28T22:57:53.000Z", True),
        ("2016-09-28T22:57:53Z", "eq", "2016-09-29T00:57:53+02:00", True),
        ("2016-09-28T00:00:00Z", "le", "2016-09-28", True),
        # empty
        (None, "is_empty", None, True),
        ("", "is_empty", None, True),
        ("Oslo", "is_empty", None, False),
        (0, "is_empty", None, False),
        (False, "is_empty", None, False),
        (None, "is_not_empty", None, False),
        ("Oslo", "is_not_empty", None, True),
        (None, "eq", None, True),
        (None, "ne", "Oslo", True),
        (None, "eq", 0, False),
        (None, "eq", False, False),
    ],
)
def test_an_operator_follows_the_kind_of_value(value: Value, operator: Operator, operand: Scalar, expected: bool) -> None:
    assert on(value, operator, operand) is expected


@pytest.mark.parametrize(("value", "expected"), [(1, True), (3, True), (2, False), ("3.00", True), (None, False)])
def test_in_takes_any_of_its_values(value: Value, expected: bool) -> None:
    assert on(value, "in", [1, "3"]) is expected


def test_an_empty_value_may_be_one_of_those_of_in() -> None:
    assert on(None, "in", ["Oslo", None])


@pytest.mark.parametrize(("text", "number"), [("01234", "1234"), ("1e3", "1000"), ("1_0", "10"), ("+4712", "4712")])
def test_a_text_that_only_looks_like_a_number_is_compared_as_text(text: str, number: str) -> None:
    """Postal codes, telephone numbers, customer numbers: money and decimals never come in these forms."""
    assert not on(text, "eq", number)


@pytest.mark.parametrize(
    ("value", "operator", "operand", "expected"),
    [
        ("11,12", "eq", [12, 11], True),
        ("11,12", "eq", "12, 11", True),
        ("11,12", "eq", ["11", "12", "13"], False),
        ("11,12", "eq", 11, False),
        ("11", "eq", 11, True),
        ("11", "eq", ["11"], True),
        ("11,12", "ne", [12, 11], False),
        ("11,12", "ne", [11], True),
        (None, "ne", [11], True),
        ("11,12", "in", ["12,11", 5], True),
        ("11,12", "contains_any", [1], False),
        ("11,12", "contains_any", [1, 12], True),
        ("11,12", "contains_any", "12", True),
        ("11,12", "contains_any", ["1,12"], True),
        ("11", "contains_any", 11, True),
        (None, "contains_any", [11], False),
        ("", "contains_any", [""], False),
        ("11,12", "contains_all", [12], True),
        ("11,12", "contains_all", [12, 11], True),
        ("11,12", "contains_all", [11, 13], False),
        ("11,12", "contains_all", [1], False),
        (None, "contains_all", [11], False),
        ("Oslo, Bergen", "eq", "Bergen, Oslo", False),
    ],
)
def test_a_column_with_several_choices_is_a_set_of_options(
    value: Value, operator: Operator, operand: Scalar | list[Scalar], expected: bool
) -> None:
    assert on(value, operator, operand) is expected


@pytest.mark.parametrize("written", [GUID, GUID.upper(), f"{{{GUID}}}", f"{{{GUID.upper()}}}", f" ({GUID}) "])
def test_a_guid_is_the_same_in_capitals_and_in_braces(written: str) -> None:
    assert on(GUID, "eq", written) and on(written, "eq", GUID)
    assert on(GUID, "in", [1, written])
    assert not on(GUID, "ne", written)
    assert not on(GUID, "eq", written.replace("f", "e").replace("F", "E"))


def test_a_part_of_a_guid_may_be_in_capitals() -> None:
    assert on(GUID, "begins_with", "{A1B2") and on(GUID, "contains", "-4000-") and on(GUID, "ends_with", "F}")
    assert not on(GUID, "begins_with", "B2")


@given(json_scalars, st.sampled_from(["lt", "le", "gt", "ge", "contains", "begins_with", "ends_with"]))
@example("", "contains")
def test_an_empty_field_is_never_less_greater_or_containing(operand: Scalar, operator: Operator) -> None:
    operand = "x" if operand is None else operand

    assert not on(None, operator, operand)
    assert not on("", operator, operand)


@given(json_scalars, json_scalars)
def test_ne_is_the_negation_of_eq(value: Value, operand: Scalar) -> None:
    assert on(value, "ne", operand) is not on(value, "eq", operand)


@given(json_scalars, st.lists(json_scalars, max_size=5))
def test_in_is_any_eq(value: Value, operands: list[Scalar]) -> None:
    assert on(value, "in", operands) is any(on(value, "eq", each) for each in operands)


@given(json_scalars, json_scalars, st.sampled_from(list(OPERATORS)))
def test_no_json_scalar_makes_a_filter_raise(value: Value, operand: Scalar, operator: Operator) -> None:
    wanted: Scalar | list[Scalar] = [operand] if operator == "in" else "x" if operand is None else operand

    assert on(value, operator, wanted) in (True, False)


@given(json_scalars)
def test_every_value_equals_itself_but_for_nan(value: Value) -> None:
    assert on(value, "eq", value) or value != value or value == ""


@given(st.one_of(st.integers(), st.dates().map(str)), st.one_of(st.integers(), st.dates().map(str)))
def test_of_two_values_one_is_less_or_they_are_equal(left: Value, right: Scalar) -> None:
    assert [on(left, "lt", right), on(left, "eq", right), on(left, "gt", right)].count(True) == 1


@pytest.mark.parametrize(
    ("match", "city", "state", "expected"),
    [
        ("all", "Oslo", 0, True),
        ("all", "Oslo", 1, False),
        ("all", "Bergen", 1, False),
        ("any", "Oslo", 1, True),
        ("any", "Bergen", 0, True),
        ("any", "Bergen", 1, False),
    ],
)
def test_f135_and_wants_all_conditions_or_any_of_them(match: str, city: str, state: int, expected: bool) -> None:
    wanted = a_filter(match, ("address1_city", "eq", "Oslo"), ("statecode", "eq", 0))

    assert passes({"address1_city": city, "statecode": state}, wanted) is expected


@pytest.mark.parametrize("match", ["all", "any"])
def test_f137_without_conditions_every_row_passes(match: str) -> None:
    assert passes({}, a_filter(match))


def test_a_column_that_is_not_there_is_empty() -> None:
    assert passes({}, a_filter("all", ("fax", "is_empty", None)))
    assert not passes({}, a_filter("all", ("fax", "eq", "1")))


def test_the_operators_are_the_same_in_the_model_the_rules_the_pages_and_the_documentation() -> None:
    pages = (ROOT / "services/control/pages/static/operators.js").read_text()
    documented = {
        name for row in re.findall(r"^\| (`\w+`.*?) \|", (ROOT / "docs/cli.md").read_text(), re.M) for name in re.findall(r"`(\w+)`", row)
    }

    assert set(OPERATORS) == set(get_args(Operator)) == set(TESTS)
    assert dict(re.findall(r'^  (\w+): \{ label: "[^"]+", kind: "(\w+)" \},$', pages, re.M)) == OPERATORS
    assert set(OPERATORS) <= documented
