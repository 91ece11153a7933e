"""bridge.mapping.rows.convert: one value of Dynamics in the type of its Campaign field (campaign.md §9.3, §4.3)."""

from __future__ import annotations

import math
import re
from datetime import UTC, datetime, timedelta, timezone
from typing import get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridge.mapping.convert import Kind, TargetField, campaign_time, convert, empty
from bridge.model.errors import RejectError
from bridge.model.events import Value

CANARY = "s3cret-value"
GENDER = (("unknown", "Unknown"), ("male", "Male"), ("female", "Woman"))


def a_field(kind: Kind, raw_type: str = "", length: int | None = None) -> TargetField:
    options = GENDER if kind == "enumeration" else ()
    return TargetField("location.city", kind, raw_type or kind, length, options=options)


def rejection(value: Value, field: TargetField) -> RejectError:
    with pytest.raises(RejectError) as caught:
        convert(value, field)
    return caught.value


@pytest.mark.parametrize(
    ("value", "kind", "expected"),
    [
        # the pairs of the table
        (True, "boolean", True),
        (False, "boolean", False),
        (42, "integer", 42),
        ("12.5000", "number", 12.5),
        (47.63958, "number", 47.63958),
        ("2018-05-17T08:44:49Z", "datetime", "2018-05-17 08:44:49.000Z"),
        ("1980-05-17", "date", "1980-05-17"),
        ("Oslo", "string", "Oslo"),
        # between the primitive sets
        (True, "integer", 1),
        (False, "number", 0.0),
        (True, "string", "true"),
        (1, "boolean", True),
        (0, "boolean", False),
        (42, "number", 42.0),
        (42, "string", "42"),
        ("1.0000", "boolean", True),
        ("12.0000", "integer", 12),
        ("12.5000", "string", "12.5000"),
        (0.0, "boolean", False),
        (3.0, "integer", 3),
        (2.5, "string", "2.5"),
        (1.0, "string", "1"),
        (-0.0, "string", "0"),
        (0.00001, "string", "0.00001"),
        (1e22, "string", "10000000000000000000000"),
        ("2018-05-17T08:44:49Z", "date", "2018-05-17"),
        ("2018-05-17T08:44:49Z", "string", "2018-05-17T08:44:49Z"),
        ("1980-05-17", "datetime", "1980-05-17 00:00:00.000Z"),
        ("1980-05-17", "string", "1980-05-17"),
        ("true", "boolean", True),
        ("No", "boolean", False),
        (" 12 ", "integer", 12),
        (" 12.5 ", "number", 12.5),
        # anything else goes as a string, unchanged
        ("3fa85f64-5717-4562-b3fc-2c963f66afa6", "string", "3fa85f64-5717-4562-b3fc-2c963f66afa6"),
        ("1,3", "string", "1,3"),
    ],
)
def test_f154_a_value_becomes_the_type_of_its_field(value: Value, kind: Kind, expected: Value) -> None:
    converted = convert(value, a_field(kind))

    assert (converted, type(converted)) == (expected, type(expected))


@pytest.mark.parametrize("kind", ["string", "integer", "number", "boolean", "date", "datetime", "enumeration"])
@pytest.mark.parametrize("value", [None, ""])
def test_empty_stays_empty(value: Value, kind: Kind) -> None:
    assert convert(value, a_field(kind)) is None


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("2018-05-17T08:44:49.366Z", "2018-05-17 08:44:49.366Z"),
        ("2018-05-17T08:44:49.3669Z", "2018-05-17 08:44:49.366Z"),
        ("2018-05-17T10:44:49+02:00", "2018-05-17 08:44:49.000Z"),
        ("2018-05-17T08:44:49", "2018-05-17 08:44:49.000Z"),
    ],
)
def test_a_time_has_a_blank_three_decimals_and_is_utc(value: str, expected: str) -> None:
    assert convert(value, a_field("datetime")) == expected


@given(
    st.datetimes(min_value=datetime(1753, 1, 2), max_value=datetime(9999, 12, 30)),
    st.integers(-14 * 60, 14 * 60).map(lambda minutes: timezone(timedelta(minutes=minutes))),
)
def test_every_time_keeps_its_moment_to_the_millisecond(naive: datetime, zone: timezone) -> None:
    moment = naive.replace(tzinfo=zone)

    shown = campaign_time(moment)

    assert re.fullmatch(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\.\d{3}Z", shown)
    lost = moment - datetime.strptime(shown, "%Y-%m-%d %H:%M:%S.%fZ").replace(tzinfo=UTC)
    assert timedelta(0) <= lost < timedelta(milliseconds=1)


@given(st.text(min_size=1), st.integers(1, 40))
def test_a_string_is_cut_at_the_length_of_its_field(value: str, length: int) -> None:
    converted = convert(value, a_field("string", length=length))

    assert converted == value[:length]


@pytest.mark.parametrize(
    "name",
    "email cusEmail2 phone mobilePhone cusMobile fax cusURL cusHomepageUrl website cusLoyaltyID cusNumber location.zipCode".split(),
)
def test_what_identifies_or_addresses_somebody_is_never_cut(name: str) -> None:
    field = TargetField(name, "string", length=10)

    error = rejection(CANARY, field)

    assert convert(CANARY[:10], field) == CANARY[:10]
    assert (error.code, error.stage) == ("too_long", "map")
    assert all(told in str(error) for told in (name, " 10 ", f" {len(CANARY)};"))
    assert CANARY not in str(error)


@pytest.mark.parametrize("field", [TargetField("cusA", "string", "uuid", 10), TargetField("cusA", "string", length=10, policy="email")])
def test_a_fields_type_and_policy_tell_that_it_is_never_cut(field: TargetField) -> None:
    assert rejection(CANARY, field).code == "too_long"


@pytest.mark.parametrize("name", ["firstName", "location.address1", "cusHumidity", "cusCurlyHair", "cusKeynote"])
def test_plain_words_are_cut_as_ever(name: str) -> None:
    assert convert(CANARY, TargetField(name, "string", length=5)) == CANARY[:5]


@pytest.mark.parametrize(("value", "exact"), [("new.address@example.org", True), (1234567, False), (1.2345678, False)])
def test_what_its_column_says_is_more_than_words_is_never_cut_and_nor_are_numbers(value: Value, exact: bool) -> None:
    with pytest.raises(RejectError) as caught:
        convert(value, a_field("string", length=6), exact)

    assert caught.value.code == "too_long"


def test_length_counts_characters_as_campaign_does() -> None:
    assert convert("😀😀😀", a_field("string", length=2)) == "😀😀"
    assert convert("😀😀", TargetField("email", "string", length=2)) == "😀😀"


BLANK = [" ", "\t\n", "\u00a0", "\u3000 \u2003", "\u200b", "\ufeff \u202a\u202c"]


@pytest.mark.parametrize("kind", ["integer", "number", "boolean", "date", "datetime", "enumeration"])
@pytest.mark.parametrize("value", BLANK)
def test_blank_text_is_empty_for_what_is_no_text(value: str, kind: Kind) -> None:
    assert convert(value, a_field(kind)) is None


@pytest.mark.parametrize(
    ("value", "kind", "expected"),
    [
        ("\u00a012\u00a0", "integer", 12),
        ("\u200b12.5", "number", 12.5),
        (" Yes\u00a0", "boolean", True),
        (" 1980-05-17\u00a0", "date", "1980-05-17"),
        ("\u00a02018-05-17T08:44:49Z ", "datetime", "2018-05-17 08:44:49.000Z"),
        ("male ", "enumeration", "male"),
    ],
)
def test_white_space_around_a_value_does_not_refuse_it(value: str, kind: Kind, expected: Value) -> None:
    assert convert(value, a_field(kind)) == expected


def test_an_email_address_is_trimmed() -> None:
    email = TargetField("email", "string", length=16)

    assert convert(f"\u00a0 ada@example.org\u200b{' ' * 9}", email) == "ada@example.org"
    assert convert("ada@example.org\u00a0", a_field("string"), exact=True) == "ada@example.org"
    assert convert(BLANK[2], email) is None


def test_words_keep_the_white_space_they_have() -> None:
    assert convert(" Oslo\u00a0", a_field("string")) == " Oslo\u00a0"


@pytest.mark.parametrize(
    ("raw_type", "inside", "outside"),
    [
        ("byte", [-128, 127], [-129, 128]),
        ("short", [-32768, 32767], [-32769, 32768]),
        ("long", [-(2**31), 2**31 - 1], [-(2**31) - 1, 2**31]),
        ("int64", [-(2**63), 2**63 - 1], [-(2**63) - 1, 2**63]),
    ],
)
def test_a_whole_number_must_fit_its_raw_type(raw_type: str, inside: list[int], outside: list[int]) -> None:
    field = a_field("integer", raw_type)

    assert [convert(number, field) for number in inside] == inside
    assert [rejection(number, field).code for number in outside] == ["not_convertible"] * 2


@pytest.mark.parametrize(
    ("value", "kind"),
    [
        (2.5, "integer"),
        ("12.5", "integer"),
        (CANARY, "integer"),
        ("NaN", "integer"),
        ("Infinity", "integer"),
        ("1e999999999", "integer"),
        (CANARY, "number"),
        ("NaN", "number"),
        (math.inf, "number"),
        ("1e400", "number"),
        (2, "boolean"),
        ("maybe", "boolean"),
        (5, "date"),
        (True, "datetime"),
        ("2018-13-40", "date"),
        ("17.05.2018", "datetime"),
        ("other", "enumeration"),
        ("any", "link"),
        ("any", "collection"),
        ("any", "item"),
    ],
)
def test_what_does_not_fit_is_rejected_at_stage_map(value: Value, kind: Kind) -> None:
    error = rejection(value, a_field(kind))

    assert (error.stage, error.code) == ("map", "not_convertible")
    assert "location.city" in str(error)


@given(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text(), st.text(alphabet="0123456789.-+eETZ:")),
    st.sampled_from(get_args(Kind)),
    st.sampled_from(["byte", "long", "int64", "double", "string"]),
)
def test_any_value_is_converted_or_rejected_and_nothing_else(value: Value, kind: Kind, raw_type: str) -> None:
    stage = "map"
    try:
        convert(value, a_field(kind, raw_type, length=10))
    except RejectError as error:
        stage = error.stage

    assert stage == "map"


@given(
    st.text(min_size=1).map(lambda text: f"{CANARY}{text}"),
    st.sampled_from(["integer", "number", "boolean", "date", "datetime", "enumeration", "link", "collection"]),
)
def test_a_rejection_names_the_field_and_never_the_value(value: str, kind: Kind) -> None:
    error = rejection(value, a_field(kind))

    assert "location.city" in str(error)
    assert CANARY not in str(error)


@pytest.mark.parametrize("value", ["male", "MALE", "Male"])
def test_an_enumeration_is_written_by_name(value: str) -> None:
    assert convert(value, a_field("enumeration")) == "male"


def test_an_enumeration_takes_a_label_as_well() -> None:
    assert convert("Woman", a_field("enumeration")) == "female"


def test_an_enumeration_without_known_names_takes_what_comes() -> None:
    assert convert("en_us", TargetField("preferredLanguage", "enumeration")) == "en_us"


@pytest.mark.parametrize(
    ("kind", "expected"),
    [("string", ""), ("date", ""), ("datetime", ""), ("integer", 0), ("number", 0), ("boolean", False), ("enumeration", "unknown")],
)
def test_empty_is_what_campaign_shows_for_it(kind: Kind, expected: Value) -> None:
    assert empty(a_field(kind)) == expected
