"""What differs between two configurations. Pure."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from rich.table import Table

from cli.screen import table

# What control fills in where a file is silent (contracts/control-api.md), so that a short file equals what was saved from it.
# Members without a default are not named. [x]: a list of x, empty by default.
_TABLE: dict[str, Any] = {
    "fields": [{"apply_updates": True}],
    "replacements": [{}],
    "filter": {"match": "all", "conditions": [{"value": None}], "delete_filtered_out": False},
    "apply_deletes": False,
    "picklists": "technical",
}
DEFAULTS: dict[str, dict[str, Any]] = {
    "ingress": {"tables": [_TABLE]},
    "egress": {"events": {"send": False, "open": False, "click": False, "bounce": False}},
    "optin": {"direction": "disabled", "mappings": [{}]},
}


def filled(workflow: str, config: Mapping[str, Any]) -> dict[str, Any]:
    """The configuration with its defaults, as control saves it. What does not fit is left for control to refuse."""
    made: dict[str, Any] = _filled(dict(config), DEFAULTS.get(workflow, {}))
    return made


def _filled(given: Any, shape: Any) -> Any:
    if isinstance(shape, dict) and isinstance(given, dict):
        return given | {name: _filled(given.get(name, _default(each)), each) for name, each in shape.items()}
    if isinstance(shape, list) and isinstance(given, list):
        return [_filled(each, shape[0]) for each in given]
    return given


def _default(shape: Any) -> Any:
    return type(shape)() if isinstance(shape, dict | list) else shape


def difference(before: Any, after: Any, path: str = "") -> list[dict[str, Any]]:
    """`{"path", "from", "to"}` by JSON pointer, in the order of the members. None where one of the two has nothing.

    true is not 1 here, though Python says so."""
    if isinstance(before, dict) and isinstance(after, dict):
        names = [*before, *(name for name in after if name not in before)]
        found = []
        for name in names:
            if name in before and name in after:
                found += difference(before[name], after[name], f"{path}/{name}")
            else:
                found.append(_entry(f"{path}/{name}", before.get(name), after.get(name)))
        return found
    if _objects(before) and _objects(after):
        common = min(len(before), len(after))
        found = [each for i in range(common) for each in difference(before[i], after[i], f"{path}/{i}")]
        found += [_entry(f"{path}/{i}", each, None) for i, each in enumerate(before) if i >= common]
        found += [_entry(f"{path}/{i}", None, each) for i, each in enumerate(after) if i >= common]
        return found
    return [] if _same(before, after) else [_entry(path or "/", before, after)]


def difference_table(entries: list[dict[str, Any]]) -> Table:
    return table(["PATH", "FROM", "TO"], [(each["path"], each["from"], each["to"]) for each in entries])


def _objects(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(each, dict) for each in value)


def _same(one: Any, other: Any) -> bool:
    return json.dumps(one, sort_keys=True) == json.dumps(other, sort_keys=True)


def _entry(path: str, before: Any, after: Any) -> dict[str, Any]:
    return {"path": path, "from": before, "to": after}
