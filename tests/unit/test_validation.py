"""services.control.rules.validation: what is wrong with a configuration by itself (control-api.md, Configuration)."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridge.model.config import Config
from bridge.model.desired import WORKFLOWS, Workflow
from bridge.model.flags import OPT_OUT_FLAGS
from services.control.rules.lifecycle import SHAPES, default_config, dumped
from services.control.rules.validation import Findings, check

CONTACT_KEY = {"source": "contactid", "target": "externalId"}


def fields(*pairs: tuple[str, str]) -> list[dict[str, Any]]:
    return [{"source": source, "target": target} for source, target in pairs]


def a_table(source: str = "contact", target: str = "profile", **more: Any) -> dict[str, Any]:
    key = CONTACT_KEY if source == "contact" else {"source": f"{source}id", "target": "cusKey"}
    return {"source": source, "target": target, "key": key, "fields": fields(("firstname", "firstName"))} | more


def saved(**configs: Any) -> dict[Workflow, Config]:
    """The defaults, with these instead."""
    return {
        workflow: SHAPES[workflow].model_validate(configs[workflow]) if workflow in configs else default_config(workflow)
        for workflow in WORKFLOWS
    }


def ingress(*tables: dict[str, Any], before: dict[Workflow, Config] | None = None) -> Findings:
    return check("ingress", {"tables": list(tables)}, before or saved())


def optin(*pairs: tuple[str, str], direction: str = "bidirectional", before: dict[Workflow, Config] | None = None) -> Findings:
    mappings = fields(*pairs)
    return check("optin", {"direction": direction, "mappings": mappings}, before or saved(ingress={"tables": []}))


def codes(findings: Findings) -> list[tuple[str, str]]:
    return [(each.path, each.code) for each in findings.errors]


@pytest.mark.parametrize("workflow", WORKFLOWS)
def test_what_comes_out_of_the_box_is_right(workflow: Workflow) -> None:
    findings = check(workflow, dumped(default_config(workflow)), saved())

    assert (findings.errors, findings.warnings, findings.config) == ([], [], default_config(workflow))


def test_every_operator_and_option_of_the_contract_is_taken() -> None:
    operators = "eq ne lt le gt ge contains begins_with ends_with".split()
    conditions = [{"field": "a", "operator": operator, "value": 1} for operator in operators]
    conditions += [{"field": "a", "operator": "in", "value": [1, "b", None]}, {"field": "a", "operator": "is_empty"}]
    conditions += [{"field": "a", "operator": "is_not_empty"}]
    conditions += [{"field": "a", "operator": operator, "value": [1, 2]} for operator in ("contains_any", "contains_all", "eq", "ne")]
    table = a_table(
        fields=[{"source": "firstname", "target": "firstName", "apply_updates": False}],
        replacements=[{"source": "firstname", "from": "1", "to": "male"}],
        filter={"match": "any", "conditions": conditions, "delete_filtered_out": True},
        apply_deletes=True,
        picklists="display",
    )

    assert ingress(table).errors == []


def test_f102_a_table_is_mapped_once_on_either_side() -> None:
    assert codes(ingress(a_table(), a_table("account", "cusA"), a_table("account", "cusB"))) == [("/tables/2/source", "table_mapped_twice")]
    assert codes(ingress(a_table("account", "cusA"), a_table("new_vehicle", "cusA"))) == [("/tables/1/target", "table_mapped_twice")]


def test_f123_two_columns_may_not_feed_one_field() -> None:
    table = a_table(fields=fields(("firstname", "firstName"), ("nickname", "firstName")))

    assert codes(ingress(table)) == [("/tables/0/fields/1/target", "target_mapped_twice")]


def test_f123_not_even_under_the_two_names_of_a_flag() -> None:
    table = a_table(fields=fields(("donotemail", "denyListEmail"), ("donotbulkemail", "blackListEmail")))

    assert codes(ingress(table)) == [("/tables/0/fields/1/target", "target_mapped_twice")]


def test_the_key_field_cannot_be_fed_a_second_time() -> None:
    table = a_table(fields=fields(("employeeid", "externalId")))

    assert codes(ingress(table)) == [("/tables/0/fields/0/target", "target_mapped_twice")]


def test_a_read_only_field_cannot_be_fed() -> None:
    assert codes(ingress(a_table(fields=fields(("a", "PKey"))))) == [("/tables/0/fields/0/target", "read_only_target")]


@pytest.mark.parametrize("key", [{"source": "employeeid", "target": "externalId"}, {"source": "contactid", "target": "email"}])
def test_f112_a_contacts_external_id_is_its_contactid(key: dict[str, str]) -> None:
    before = saved(ingress={"tables": []})

    assert codes(ingress(a_table(key=key), before=before)) == [("/tables/0/key", "contact_key")]


def test_f109_the_key_of_an_existing_mapping_cannot_be_changed() -> None:
    before = saved(ingress={"tables": [a_table("new_vehicle", "cusVehicle")]})
    changed = a_table("new_vehicle", "cusVehicle", key={"source": "new_vehicleid", "target": "cusOther"})

    assert codes(ingress(changed, before=before)) == [("/tables/0/key", "key_changed")]
    assert codes(ingress(changed, before=saved())) == []


def test_f127_a_replacement_needs_a_mapping_of_its_column() -> None:
    table = a_table(replacements=[{"source": "gendercode", "from": "1", "to": "male"}])

    assert codes(ingress(table)) == [("/tables/0/replacements/0/source", "replacement_of_unmapped_field")]


def test_a_value_is_replaced_by_one_other_value() -> None:
    replacements = [{"source": "firstname", "from": "1", "to": to} for to in ("a", "b")]

    assert codes(ingress(a_table(replacements=replacements))) == [("/tables/0/replacements/1/from", "replaced_twice")]


def filtered(*conditions: tuple[str, str, Any], match: str = "all") -> list[tuple[str, str]]:
    made = [{"field": field, "operator": operator, "value": value} for field, operator, value in conditions]
    return codes(ingress(a_table(filter={"match": match, "conditions": made})))


@pytest.mark.parametrize("operator", ["in", "contains_any", "contains_all", "eq", "ne"])
def test_a_filter_by_no_value_at_all_is_refused(operator: str) -> None:
    assert ("/tables/0/filter/conditions/0/value", "no_value") in filtered(("a", operator, []))


@pytest.mark.parametrize(
    "conditions",
    [
        [("a", "eq", "Oslo"), ("a", "eq", "Bergen")],
        [("a", "in", [1, 2]), ("a", "gt", 2)],
        [("a", "eq", True), ("a", "ne", "yes")],
        [("a", "eq", "Oslo"), ("a", "is_empty", None)],
        [("a", "eq", [1, 2]), ("a", "contains_any", [3])],
    ],
)
def test_conditions_that_no_value_fulfils_together_are_refused(conditions: list[tuple[str, str, Any]]) -> None:
    assert ("/tables/0/filter/conditions/0/value", "never_true") in filtered(*conditions)
    assert filtered(*conditions, match="any") == []


@pytest.mark.parametrize(
    "conditions",
    [
        [("a", "eq", "Oslo"), ("b", "eq", "Bergen")],
        [("a", "in", [1, 2]), ("a", "gt", 1)],
        [("a", "eq", "Oslo"), ("a", "begins_with", "O")],
        [("a", "eq", [2, 1]), ("a", "contains_all", [1])],
        [("a", "eq", None), ("a", "is_empty", None)],
        [("a", "ne", 1), ("a", "ne", 2)],
    ],
)
def test_conditions_on_one_column_that_a_value_fulfils_are_taken(conditions: list[tuple[str, str, Any]]) -> None:
    assert filtered(*conditions) == []


@pytest.mark.parametrize(
    ("operator", "value"), [("in", 1), ("contains", [1]), ("lt", [1]), ("contains_any", None), ("contains_all", None), ("is_empty", [1])]
)
def test_a_value_of_another_shape_than_its_operator_takes_is_refused(operator: str, value: Any) -> None:
    assert [path for path, _ in filtered(("a", operator, value))] == ["/tables/0/filter/conditions/0"]


def test_twenty_tables_besides_contact_are_allowed_and_one_more_is_told() -> None:
    tables = [a_table(f"new_{number}", f"cus{number}") for number in range(21)]

    allowed, too_many = ingress(a_table(), *tables[:20]), ingress(a_table(), *tables)

    assert (allowed.errors, allowed.warnings) == ([], [])
    assert [(each.path, each.code) for each in too_many.errors + too_many.warnings] == [("/tables", "too_many_tables")]


def test_more_than_fifty_fields_are_a_warning() -> None:
    columns = [(f"c{number}", f"cus{number}") for number in range(51)]

    allowed, many = ingress(a_table(fields=fields(*columns[:50]))), ingress(a_table(fields=fields(*columns)))

    assert (allowed.errors, allowed.warnings, many.errors) == ([], [], [])
    assert [(each.path, each.code) for each in many.warnings] == [("/tables/0/fields", "too_many_fields")]


@pytest.mark.parametrize("flag", [*OPT_OUT_FLAGS, "denyList", "denyListPushnotification"])
def test_each_of_the_eight_flags_can_be_mapped_and_deny_list_is_an_alias(flag: str) -> None:
    assert optin(("donotemail", flag)).errors == []


@pytest.mark.parametrize("target", ["firstName", "blackListTelex", "denyListTelex", "blacklistemail"])
def test_nothing_but_a_flag_can_be_mapped_in_optin(target: str) -> None:
    assert codes(optin(("donotemail", target))) == [("/mappings/0/target", "unknown_flag")]


def test_from_dynamics_to_campaign_the_flags_travel_with_ingress() -> None:
    assert codes(optin(("donotemail", "blackListEmail"), direction="dynamics-to-campaign")) == [("/mappings", "mappings_not_allowed")]
    assert optin(direction="dynamics-to-campaign").errors == []


def test_a_direction_in_which_no_flag_is_mapped_is_a_warning() -> None:
    by_ingress = saved(ingress={"tables": [a_table(fields=fields(("donotemail", "denyListEmail")))]})

    assert [each.code for each in optin(direction="dynamics-to-campaign").warnings] == ["no_flag_in_ingress"]
    assert optin(direction="dynamics-to-campaign", before=by_ingress).warnings == []


def test_a_flag_is_mapped_once_in_optin_by_either_name() -> None:
    assert codes(optin(("donotemail", "blackListEmail"), ("donotphone", "denyListEmail"))) == [
        ("/mappings/1/target", "target_mapped_twice")
    ]


@pytest.mark.parametrize("one", ["blackListEmail", "denyListEmail"])
@pytest.mark.parametrize("other", ["blackListEmail", "denyListEmail"])
def test_a_flag_is_decided_by_one_workflow_only(one: str, other: str) -> None:
    by_ingress = saved(ingress={"tables": [a_table(fields=fields(("donotemail", one)))]})
    by_optin = saved(optin={"direction": "bidirectional", "mappings": fields(("donotemail", one))})

    assert [code for _, code in codes(optin(("donotemail", other), before=by_ingress))] == ["flag_mapped_twice"]
    assert codes(ingress(a_table(fields=fields(("donotemail", other))), before=by_optin)) == [
        ("/tables/0/fields/0/target", "flag_mapped_twice")
    ]


@pytest.mark.parametrize(
    ("direction", "mapped", "configured"),
    [
        ("disabled", True, False),
        ("dynamics-to-campaign", False, False),
        ("campaign-to-dynamics", True, True),
        ("bidirectional", True, True),
        ("bidirectional", False, False),
    ],
)
def test_optin_is_configured_when_campaign_tells_dynamics_something(direction: str, mapped: bool, configured: bool) -> None:
    config = optin(*[("donotemail", "blackListEmail")] * mapped, direction=direction).config

    assert config is not None
    assert config.configured() is configured


@pytest.mark.parametrize("events", [{}, {"send": False}, {"open": True}])
def test_egress_is_configured_when_one_kind_of_event_is_wanted(events: dict[str, bool]) -> None:
    config = check("egress", {"events": events}, saved()).config

    assert config is not None
    assert config.configured() is any(events.values())


@pytest.mark.parametrize(
    ("raw", "path"),
    [
        ({"tables": [a_table(colour="red")]}, "/tables/0/colour"),
        ({"tables": [a_table(picklists="both")]}, "/tables/0/picklists"),
        ({"tables": [{"source": "contact"}]}, "/tables/0/target"),
        ({"tables": [a_table(filter={"conditions": [{"field": "a", "operator": "like"}]})]}, "/tables/0/filter/conditions/0/operator"),
        ({"tables": [a_table(replacements=[{"source": "a", "from": 1, "to": "x"}])]}, "/tables/0/replacements/0/from"),
        ({"tables": [a_table(filter={"conditions": [{"field": "a", "operator": "in", "value": 1}]})]}, "/tables/0/filter/conditions/0"),
        (
            {"tables": [a_table(filter={"conditions": [{"field": "a", "operator": "eq", "value": {"x": 1}}]})]},
            "/tables/0/filter/conditions/0/value",
        ),
    ],
)
def test_a_wrong_shape_is_told_with_its_place(raw: Any, path: str) -> None:
    findings = check("ingress", raw, saved())

    assert findings.config is None
    assert {each.path for each in findings.errors} >= {path}
    assert all(each.path in (path, "/tables/0/key") for each in findings.errors)


@given(
    st.sampled_from(WORKFLOWS),
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.text(max_size=5),
        lambda inner: (
            st.lists(inner, max_size=3)
            | st.dictionaries(st.sampled_from(["tables", "source", "events", "mappings", "direction"]), inner, max_size=3)
        ),
    ),
)
def test_no_json_makes_the_check_raise(workflow: Workflow, raw: Any) -> None:
    findings = check(workflow, raw, saved())

    assert (findings.config is None) <= bool(findings.errors)


@pytest.mark.parametrize("value", ["yes", "true", 1, 0, "n"])
def test_yes_and_no_are_json_s_own(value: Any) -> None:
    assert [finding.path for finding in check("egress", {"events": {"send": value}}, saved()).errors] == ["/events/send"]
    assert [finding.path for finding in ingress(a_table(apply_deletes=value)).errors] == ["/tables/0/apply_deletes"]
