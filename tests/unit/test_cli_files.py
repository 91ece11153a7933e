"""Configurations as YAML files, and the comparison of two configurations."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from bridge.model.config import EgressConfig, IngressConfig, OptinConfig, Shape
from cli.differences import difference, filled
from cli.exit_codes import Failure
from cli.yamlfile import dumped, parsed, read
from services.control.rules.lifecycle import SHAPES
from services.control.rules.lifecycle import dumped as saved

TEXT = st.one_of(st.text(), st.sampled_from("no NO yes on off null ~ 01234 1e5 12:30 2024-01-01 0x1f 1_000 .inf << = true -0 - 1.".split()))
SCALAR = st.one_of(st.none(), st.booleans(), st.integers(), st.floats(allow_nan=False, allow_infinity=False), TEXT)
JSON = st.recursive(SCALAR, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3), max_leaves=12)


@given(st.dictionaries(TEXT, JSON, max_size=4))
def test_what_is_written_is_read_back(config: dict[str, Any]) -> None:
    again = parsed(dumped("ingress", config))

    assert again == ("ingress", config)
    assert json.dumps(again[1]) == json.dumps(config)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("NO", "NO"),
        ("yes", "yes"),
        ("true", True),
        ("null", None),
        ("", None),
        ("01234", "01234"),
        ("12:30", "12:30"),
        ("2024-01-01", "2024-01-01"),
        ("7", 7),
        ("-1.5", -1.5),
        ("1e5", "1e5"),
        ("'7'", "7"),
        ("[DE, NO]", ["DE", "NO"]),
    ],
)
def test_values_are_read_as_yaml_1_2_has_them(text: str, value: Any) -> None:
    found = parsed("workflow: ingress\nconfig: {}\n".replace("{}", "\n  value: " + text))[1]["value"]

    assert (found, type(found)) == (value, type(value))


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("config: [", "line 1, column 10: not YAML that can be read"),
        ("[]", "expected the members"),
        ("", "expected the members"),
        ("workflow: ingress\nconfig: 3", "expected the members"),
        ("config: {}", "has to name"),
        ("workflow: ingress\nconfig: {}\nrevision: 3", "revision: only the members"),
        ("workflow: ingress\nconfig: {}\nconfig: {}", "config is there twice"),
        ("workflow: ingress\nconfig: {tables: [], tables: []}", "tables is there twice"),
        ("workflow: ingress\nconfig: {}\n---\nworkflow: egress\nconfig: {}", "not YAML that can be read"),
        ("workflow: ingress\nconfig: !!python/object/apply:os.getcwd []", "not YAML that can be read"),
        ("workflow: ingress\nconfig: {a: !!binary aGk=}", "JSON does not have"),
        ("workflow: ingress\nconfig: &a {a: *a}", "JSON does not have"),
        ("workflow: ingress\nconfig: {[1]: 2}", "not YAML that can be read"),
    ],
)
def test_a_file_that_cannot_be_used_says_why(tmp_path: Path, text: str, said: str) -> None:
    file = tmp_path / "x.yaml"
    file.write_text(text)

    with pytest.raises(Failure) as caught:
        read(str(file))

    assert caught.value.exit_code == 2
    assert said in str(caught.value)


def test_a_file_of_another_workflow_and_one_that_is_not_there(tmp_path: Path) -> None:
    file = tmp_path / "x.yaml"
    file.write_text("workflow: egress\nconfig: {}")

    assert read(str(file)) == ("egress", {})
    for named, workflow in ((file, "ingress"), (tmp_path / "y.yaml", None)):
        with pytest.raises(Failure) as caught:
            read(str(named), workflow)
        assert caught.value.exit_code == 2


# -- defaults ---------------------------------------------------------------------------------------------------------------------

SHORT: dict[str, dict[str, Any]] = {
    "ingress": {
        "tables": [
            {
                "source": "contact",
                "target": "profile",
                "key": {"source": "contactid", "target": "externalId"},
                "fields": [{"source": "a", "target": "b"}, {"source": "c", "target": "d", "apply_updates": False}],
                "replacements": [{"source": "a", "from": "1", "to": "x"}],
                "filter": {"conditions": [{"field": "a", "operator": "is_empty"}, {"field": "a", "operator": "eq", "value": 1}]},
            },
            {"source": "x", "target": "y", "key": {"source": "xid", "target": "cusX"}, "apply_deletes": True},
        ]
    },
    "egress": {"events": {"open": True}},
    "optin": {"direction": "bidirectional", "mappings": [{"source": "donotemail", "target": "denyListEmail"}]},
}


@pytest.mark.parametrize("workflow", ["ingress", "egress", "optin"])
@pytest.mark.parametrize("short", [True, False])
def test_defaults_are_those_of_control(workflow: Any, short: bool) -> None:
    config = SHORT[workflow] if short else {}
    shape: type[Shape] = SHAPES[workflow]

    full = filled(workflow, config)

    assert full == shape.model_validate(config).model_dump(mode="json", by_alias=True)
    assert difference(full, saved(SHAPES[workflow].model_validate(config))) == []


@pytest.mark.parametrize("config", [{"tables": 3}, {"tables": [3]}, {"tables": [{"filter": None, "fields": {}}]}, {"events": []}])
def test_what_does_not_fit_is_left_for_control_to_refuse(config: dict[str, Any]) -> None:
    shapes: dict[str, type[Shape]] = {"ingress": IngressConfig, "egress": EgressConfig, "optin": OptinConfig}
    for workflow, shape in shapes.items():
        with pytest.raises(ValidationError):
            shape.model_validate(filled(workflow, config))


# -- difference -------------------------------------------------------------------------------------------------------------------


@given(JSON, JSON)
def test_nothing_differs_exactly_when_the_json_is_the_same(one: Any, other: Any) -> None:
    assert difference(one, one) == []
    assert (difference(one, other) == []) == (json.dumps(one, sort_keys=True) == json.dumps(other, sort_keys=True))


@pytest.mark.parametrize(
    ("before", "after", "found"),
    [
        ({"a": 1}, {"a": 2}, [("/a", 1, 2)]),
        ({"a": 1}, {"a": True}, [("/a", 1, True)]),
        ({"a": None}, {}, [("/a", None, None)]),
        ({}, {"a": {"b": 1}}, [("/a", None, {"b": 1})]),
        ({"t": [{"x": 1}]}, {"t": [{"x": 2}, {"x": 3}]}, [("/t/0/x", 1, 2), ("/t/1", None, {"x": 3})]),
        ({"t": [{"x": 1}]}, {"t": []}, [("/t/0", {"x": 1}, None)]),
        ({"v": ["a"]}, {"v": ["a", None]}, [("/v", ["a"], ["a", None])]),
    ],
)
def test_differences_are_named_by_path(before: Any, after: Any, found: list[tuple[str, Any, Any]]) -> None:
    assert [(each["path"], each["from"], each["to"]) for each in difference(before, after)] == found
