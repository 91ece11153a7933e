"""bridge.mapping.rows: a change event and its table's mapping, and what Campaign is to hold (campaign.md §14.9 - 14.13)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridge.mapping.convert import TargetField
from bridge.mapping.rows import Mapped, Mapper, Skip, flat, nested
from bridge.model.config import TableMapping
from bridge.model.errors import RejectError
from bridge.model.events import Value
from bridge.model.flags import OPT_OUT_FLAGS
from tests.unit.fakes import an_event

CANARY = "s3cret-value"
TARGET = {
    field.name: field
    for field in (
        TargetField("externalId", "string", length=40),
        TargetField("firstName", "string", length=30),
        TargetField("lastName", "string", length=50),
        TargetField("age", "integer", "long"),
        TargetField("birthDate", "date", "date"),
        TargetField("gender", "enumeration", "byte", options=(("unknown", "Unknown"), ("male", "Male"), ("female", "Female"))),
        TargetField("cusColor", "string", length=30),
        TargetField("cusOwnerId", "string", length=36),
        TargetField("location.address2", "string", length=80),
        TargetField("location.city", "string", length=80),
        *(TargetField(flag, "boolean", "boolean") for flag in OPT_OUT_FLAGS),
    )
}


def a_mapper(columns: dict[str, str], **more: Any) -> Mapper:
    """`columns`: Dynamics column → Campaign field; `more` on top of the mapping."""
    listed = [{"source": source, "target": target} for source, target in columns.items()]
    key = {"source": "contactid", "target": "externalId"}
    return Mapper(TableMapping.model_validate({"source": "contact", "target": "profile", "key": key, "fields": listed} | more), TARGET)


def mapped(
    mapper: Mapper,
    fields: Mapping[str, Value],
    labels: dict[str, str] | None = None,
    exact: Sequence[str] = (),
    days: dict[str, str] | None = None,
) -> Mapped:
    result = mapper.to_campaign(an_event(fields, labels=labels, exact=exact, days=days))
    assert isinstance(result, Mapped)
    return result


def test_f112_the_key_of_a_contact_goes_to_the_key_field_as_it_is() -> None:
    result = mapped(a_mapper({"firstname": "firstName"}), {"firstname": "Ada"})

    assert result.key == "c-1"
    assert "externalId" not in result.fields


def test_f113_a_custom_entity_may_have_its_key_in_any_column() -> None:
    mapper = a_mapper({"new_color": "cusColor"}, key={"source": "new_vehicleid", "target": "cusOwnerId"}, source="new_vehicle")

    result = mapped(mapper, {"new_color": "red"})

    assert (mapper.key_field.name, result.key, result.fields) == ("cusOwnerId", "c-1", {"cusColor": "red"})


def test_a_key_that_is_too_long_is_rejected_not_cut() -> None:
    mapper = a_mapper({"firstname": "firstName"})

    with pytest.raises(RejectError) as caught:
        mapper.to_campaign(an_event({"firstname": "Ada"}, key=CANARY * 4))

    assert (caught.value.stage, caught.value.code) == ("map", "key_too_long")
    assert "externalId" in str(caught.value)
    assert CANARY not in str(caught.value)


def test_f116_a_dotted_target_becomes_a_member_of_its_element() -> None:
    result = mapped(a_mapper({"line2": "location.address2", "city": "location.city"}), {"line2": "Floor 2", "city": "Oslo"})

    assert nested(result.fields) == {"location": {"address2": "Floor 2", "city": "Oslo"}}


def test_f119_f120_targets_without_apply_updates_are_named() -> None:
    fields = [
        {"source": "firstname", "target": "firstName"},
        {"source": "lastname", "target": "lastName", "apply_updates": False},
    ]
    result = mapped(a_mapper({}, fields=fields), {"firstname": "Ada", "lastname": "Lovelace"})

    assert result.first_only == {"lastName"}
    assert result.fields == {"firstName": "Ada", "lastName": "Lovelace"}


def test_f123_one_column_may_feed_two_fields() -> None:
    fields = [{"source": "name", "target": "firstName"}, {"source": "name", "target": "lastName"}]

    assert mapped(a_mapper({}, fields=fields), {"name": "Ada"}).fields == {"firstName": "Ada", "lastName": "Ada"}


def test_the_key_column_can_be_mapped_to_a_second_field() -> None:
    assert mapped(a_mapper({"contactid": "cusOwnerId"}), {}).fields == {"cusOwnerId": "c-1"}


@pytest.mark.parametrize(("value", "expected"), [("#ff0000", "red"), ("#00ff00", "#00ff00"), (None, None), ("#FF0000", "#FF0000")])
def test_f127_f130_a_replacement_swaps_one_value_of_a_mapped_column(value: Value, expected: Value) -> None:
    mapper = a_mapper({"color": "cusColor"}, replacements=[{"source": "color", "from": "#ff0000", "to": "red"}])

    assert mapped(mapper, {"color": value}).fields == {"cusColor": expected}


@pytest.mark.parametrize(("value", "written"), [(1, "1"), (True, "true"), (False, "false"), ("", ""), (None, ""), (2.5, "2.5")])
def test_f130_any_type_can_be_replaced_by_what_people_write_for_it(value: Value, written: str) -> None:
    mapper = a_mapper({"color": "cusColor"}, replacements=[{"source": "color", "from": written, "to": "F"}])

    assert mapped(mapper, {"color": value}).fields == {"cusColor": "F"}


@pytest.mark.parametrize("written", ["5", "5.0", "5.0000", " 5 "])
@pytest.mark.parametrize("value", ["5.0000", "5", 5, 5.0])
def test_a_number_is_replaced_as_a_number(value: Value, written: str) -> None:
    mapper = a_mapper({"price": "cusColor"}, replacements=[{"source": "price", "from": written, "to": "cheap"}])

    assert mapped(mapper, {"price": value}, exact=["price"]).fields == {"cusColor": "cheap"}
    assert mapper.replaces(an_event({"price": value}, exact=["price"]), "price")


@pytest.mark.parametrize(("value", "exact"), [("1.10", []), ("01", ["code"]), ("", ["code"]), (None, []), (True, ["code"])])
def test_what_is_no_number_is_not_replaced_as_one(value: Value, exact: list[str]) -> None:
    mapper = a_mapper({"code": "cusColor"}, replacements=[{"source": "code", "from": each, "to": "!"} for each in ("1.1", "1")])

    assert mapped(mapper, {"code": value}, exact=exact).fields["cusColor"] != "!"


def test_the_replacement_that_is_written_as_the_value_is_counts_first() -> None:
    pairs = {"5": "number", "5.0000": "text", "Five": "label"}
    mapper = a_mapper(
        {"price": "cusColor"}, picklists="display", replacements=[{"source": "price", "from": old, "to": new} for old, new in pairs.items()]
    )

    assert mapped(mapper, {"price": "5.0000"}, exact=["price"]).fields == {"cusColor": "text"}
    assert mapped(mapper, {"price": 5.0}, {"price": "Five"}).fields == {"cusColor": "number"}
    assert mapped(mapper, {"price": "5.00"}, {"price": "Five"}, exact=["price"]).fields == {"cusColor": "label"}


@pytest.mark.parametrize("operand", [5, 5.0, "5", "5.0"])
def test_a_filter_compares_money_and_decimals_as_numbers(operand: Any) -> None:
    mapper = a_mapper({"price": "cusColor"}, filter={"conditions": [{"field": "price", "operator": "eq", "value": operand}]})

    assert isinstance(mapper.to_campaign(an_event({"price": "5.0000"}, exact=["price"])), Mapped)
    assert mapper.to_campaign(an_event({"price": "5.0001"}, exact=["price"])) is Skip.FILTERED


def test_what_a_column_says_is_exact_is_dead_lettered_and_not_cut() -> None:
    mapper = a_mapper({"telephone1": "cusColor"})
    long = f"+47 {'1' * 40}"

    with pytest.raises(RejectError) as caught:
        mapper.to_campaign(an_event({"telephone1": long}, exact=["telephone1"]))

    assert (caught.value.code, caught.value.stage) == ("too_long", "map")
    assert [doubt for _, _, doubt in mapper.doubts(an_event({"telephone1": long}, exact=["telephone1"]))] == ["not_convertible"]
    assert mapped(mapper, {"telephone1": long}).fields == {"cusColor": long[:30]}
    assert [doubt for _, _, doubt in mapper.doubts(an_event({"telephone1": long}))] == ["truncated"]


def test_the_labels_of_a_multi_select_picklist_are_words_and_its_numbers_are_not() -> None:
    columns, fields, labels = {"features": "cusColor"}, {"features": ",".join(map(str, range(20)))}, {"features": "Navigation, " * 9}

    assert mapped(a_mapper(columns, picklists="display"), fields, labels, ["features"]).fields == {"cusColor": ("Navigation, " * 9)[:30]}
    with pytest.raises(RejectError):
        a_mapper(columns).to_campaign(an_event(fields, labels=labels, exact=["features"]))


def test_a_date_is_the_day_where_people_live_and_a_text_is_the_time_as_it_is() -> None:
    at = "2026-06-14T22:00:00Z"
    mapper = a_mapper({}, fields=[{"source": "memberday", "target": "birthDate"}, {"source": "memberday", "target": "cusColor"}])

    assert mapped(mapper, {"memberday": at}, days={"memberday": "2026-06-15"}).fields == {"birthDate": "2026-06-15", "cusColor": at}
    assert mapped(mapper, {"memberday": at}).fields == {"birthDate": "2026-06-14", "cusColor": at}


def test_a_replacement_comes_before_the_day() -> None:
    mapper = a_mapper({"memberday": "birthDate"}, replacements=[{"source": "memberday", "from": "1900-01-01T00:00:00Z", "to": ""}])

    assert mapped(mapper, {"memberday": "1900-01-01T00:00:00Z"}, days={"memberday": "1899-12-31"}).fields == {"birthDate": None}


@pytest.mark.parametrize("picklists", ["technical", "display"])
@pytest.mark.parametrize("written", ["1", "Mr"])
def test_a_replacement_finds_the_technical_value_and_in_display_mode_the_label(picklists: str, written: str) -> None:
    mapper = a_mapper({"gendercode": "gender"}, picklists=picklists, replacements=[{"source": "gendercode", "from": written, "to": "male"}])
    if (picklists, written) == ("technical", "Mr"):
        with pytest.raises(RejectError):
            mapper.to_campaign(an_event({"gendercode": 1}, labels={"gendercode": "Mr"}))
        return

    assert mapped(mapper, {"gendercode": 1}, {"gendercode": "Mr"}).fields == {"gender": "male"}


@pytest.mark.parametrize(("picklists", "expected"), [("technical", "100000001"), ("display", "Diesel")])
def test_f140_a_picklist_goes_by_its_technical_or_its_display_value(picklists: str, expected: str) -> None:
    mapper = a_mapper({"new_fueltype": "cusColor"}, picklists=picklists)

    assert mapped(mapper, {"new_fueltype": 100000001}, {"new_fueltype": "Diesel"}).fields == {"cusColor": expected}


def test_f140_without_a_label_the_display_mode_keeps_the_value() -> None:
    assert mapped(a_mapper({"code": "cusColor"}, picklists="display"), {"code": 7}).fields == {"cusColor": "7"}


def test_f132_a_filter_may_use_a_column_that_is_not_mapped() -> None:
    filtered = {"conditions": [{"field": "statecode", "operator": "eq", "value": 0}]}
    mapper = a_mapper({"firstname": "firstName"}, filter=filtered)

    assert mapper.to_campaign(an_event({"firstname": "Ada", "statecode": 1})) is Skip.FILTERED
    assert mapped(mapper, {"firstname": "Ada", "statecode": 0}).fields == {"firstName": "Ada"}


def test_f134_a_filter_sees_the_value_before_its_replacement() -> None:
    mapper = a_mapper(
        {"color": "cusColor"},
        filter={"conditions": [{"field": "color", "operator": "eq", "value": "#f00"}]},
        replacements=[{"source": "color", "from": "#f00", "to": "red"}],
    )

    assert mapped(mapper, {"color": "#f00"}).fields == {"cusColor": "red"}


@pytest.mark.parametrize(("match", "passes"), [("all", False), ("any", True)])
def test_f135_and_or(match: str, passes: bool) -> None:
    conditions = [{"field": "a", "operator": "eq", "value": 1}, {"field": "b", "operator": "eq", "value": 1}]
    mapper = a_mapper({"a": "age"}, filter={"match": match, "conditions": conditions})

    assert isinstance(mapper.to_campaign(an_event({"a": 1, "b": 2})), Mapped) is passes


def test_f137_without_filter_every_row_goes() -> None:
    assert mapped(a_mapper({"firstname": "firstName"}), {"firstname": None}).fields == {"firstName": None}


def test_a_filter_may_use_the_key() -> None:
    mapper = a_mapper({}, filter={"conditions": [{"field": "contactid", "operator": "eq", "value": "c-2"}]})

    assert isinstance(mapper.to_campaign(an_event({}, key="c-2")), Mapped)
    assert mapper.to_campaign(an_event({}, key="c-1")) is Skip.FILTERED


@pytest.mark.parametrize("there", [{}, {"firstname": "Ada"}, {"statecode": 0}])
def test_a_row_read_before_a_column_was_mapped_is_incomplete(there: dict[str, Value]) -> None:
    filtered = {"conditions": [{"field": "statecode", "operator": "eq", "value": 0}]}
    mapper = a_mapper({"firstname": "firstName"}, filter=filtered)

    assert mapper.to_campaign(an_event(there)) is Skip.INCOMPLETE


def test_f154_a_value_that_does_not_fit_names_its_field_and_not_itself() -> None:
    with pytest.raises(RejectError) as caught:
        a_mapper({"children": "age"}).to_campaign(an_event({"children": CANARY}))

    assert (caught.value.stage, caught.value.code) == ("map", "not_convertible")
    assert "age" in str(caught.value)
    assert CANARY not in str(caught.value)


@pytest.mark.parametrize("flag", OPT_OUT_FLAGS)
@pytest.mark.parametrize(("value", "expected"), [(True, True), (False, False), (1, True)])
def test_an_opt_out_flag_is_told_apart_from_the_fields(flag: str, value: Value, expected: bool) -> None:
    mapper = a_mapper({"donotemail": flag})

    assert mapper.said(an_event({"donotemail": value})) == {flag: expected}
    assert mapped(mapper, {"donotemail": value}).fields == {}


@pytest.mark.parametrize("flag", OPT_OUT_FLAGS)
@pytest.mark.parametrize("value", [None, ""])
def test_an_empty_opt_out_never_becomes_may_be_mailed(flag: str, value: Value) -> None:
    assert a_mapper({"donotemail": flag}).said(an_event({"donotemail": value})) == {flag: None}


@pytest.mark.parametrize("value", ["perhaps", 2, "1.5"])
def test_an_opt_out_that_cannot_be_told_is_open_and_does_not_refuse_the_row(value: Value) -> None:
    mapper = a_mapper({"donotemail": "blackListEmail", "firstname": "firstName"})

    assert mapper.said(an_event({"donotemail": value, "firstname": "Ann"})) == {"blackListEmail": None}
    assert mapped(mapper, {"donotemail": value, "firstname": "Ann"}).fields == {"firstName": "Ann"}


@pytest.mark.parametrize("flag", [flag for flag in OPT_OUT_FLAGS if flag.startswith("blackList")])
def test_deny_list_is_another_name_for_the_same_flag(flag: str) -> None:
    alias = "denyList" + flag.removeprefix("blackList")

    assert a_mapper({"donotemail": alias}).said(an_event({"donotemail": True})) == {flag: True}


names = st.from_regex(r"\A[a-z][a-zA-Z0-9]{0,5}\Z")
bodies = st.recursive(
    st.dictionaries(names, st.one_of(st.none(), st.booleans(), st.integers(), st.text()), min_size=1, max_size=4),
    lambda inner: st.dictionaries(names, st.one_of(inner, st.text()), min_size=1, max_size=4),
    max_leaves=8,
)


@given(bodies)
def test_nested_and_flat_are_inverse(body: dict[str, Any]) -> None:
    assert nested(flat(body)) == body
    assert flat(nested(flat(body))) == flat(body)
