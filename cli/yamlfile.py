"""Configurations as YAML files with the members `workflow` and `config`.

Read as YAML 1.2 has it: only true and false are truth values, dates and numbers with leading zeros are text. PyYAML's own rules (1.1)
would make false of the country NO and 668 of the postal code 01234.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from cli.exit_codes import USAGE, Failure

MEMBERS = {"workflow", "config"}


class Loader(yaml.SafeLoader):
    """Fewer values that are not text than SafeLoader, and a member given twice is an error."""

    yaml_implicit_resolvers: dict[str, Any] = {}  # noqa: RUF012 - PyYAML's own shape

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        names = [name.value for name, _ in node.value if isinstance(name, yaml.ScalarNode) and name.value != "<<"]
        twice = {name for name in names if names.count(name) > 1}
        if twice:
            raise yaml.constructor.ConstructorError(None, None, f"{sorted(twice)[0]} is there twice", node.start_mark)
        return super().construct_mapping(node, deep)


for tag, pattern, first in (
    ("bool", r"true|True|TRUE|false|False|FALSE", "tTfF"),
    ("null", r"~|null|Null|NULL|", "~nN\0"),
    ("int", r"[-+]?(0|[1-9][0-9]*)", "-+0123456789"),
    ("float", r"[-+]?(0|[1-9][0-9]*)\.[0-9]+([eE][-+][0-9]+)?", "-+0123456789"),
    ("merge", r"<<", "<"),
):
    Loader.add_implicit_resolver(f"tag:yaml.org,2002:{tag}", re.compile(f"^({pattern})$"), ["" if each == "\0" else each for each in first])


class Dumper(yaml.SafeDumper):
    """Writes text with unusual line breaks escaped: SafeDumper writes them so that they are read as blanks."""

    def represent_str(self, data: str) -> yaml.ScalarNode:
        style = '"' if any(each in data for each in "\x85\u2028\u2029") else None
        return self.represent_scalar("tag:yaml.org,2002:str", data, style)


Dumper.add_representer(str, Dumper.represent_str)


def dumped(workflow: str, config: Mapping[str, Any]) -> str:
    """The file's text. What it is read back as is equal to what was given."""
    document = {"workflow": workflow, "config": config}
    return str(yaml.dump(document, Dumper=Dumper, sort_keys=False, allow_unicode=True, width=120))


def read(file: str, workflow: str | None = None) -> tuple[str, dict[str, Any]]:
    """Workflow and configuration of a file, `-` for stdin. With `workflow` the file's member may be missing, but not another one.
    Raises USAGE."""
    try:
        text = sys.stdin.read() if file == "-" else Path(file).read_text(encoding="utf-8")
    except (OSError, UnicodeError) as exc:
        reason = (exc.strerror if isinstance(exc, OSError) else None) or "it is not UTF-8 text"
        raise Failure(USAGE, f"{file} cannot be read: {reason}") from exc
    try:
        return parsed(text, workflow)
    except ValueError as exc:
        raise Failure(USAGE, f"{file}: {exc}") from exc


def parsed(text: str, workflow: str | None = None) -> tuple[str, dict[str, Any]]:
    """As `read`, of a text. Raises ValueError saying what is wrong."""
    try:
        document = yaml.load(text, Loader)
    except yaml.YAMLError as exc:
        raise ValueError(_reason(exc)) from exc
    except RecursionError as exc:
        raise ValueError("it is nested too deeply") from exc
    if not isinstance(document, dict) or not isinstance(document.get("config"), dict):
        raise ValueError("expected the members workflow and config, as `bridge config get` prints them")
    if unknown := sorted(str(name) for name in document.keys() - MEMBERS):
        raise ValueError(f"{', '.join(unknown)}: only the members workflow and config are known")
    named = document.get("workflow", workflow)
    if not isinstance(named, str) or not named:
        raise ValueError("the member workflow has to name ingress, egress or optin")
    if workflow is not None and named != workflow:
        raise ValueError(f"it is a configuration of {named}, not of {workflow}")
    try:
        json.dumps(document["config"], allow_nan=False)
    except (TypeError, ValueError) as exc:
        raise ValueError("it holds values that JSON does not have") from exc
    return named, document["config"]


def _reason(exc: yaml.YAMLError) -> str:
    """Where and what, without PyYAML's excerpt of the file."""
    mark, problem = getattr(exc, "problem_mark", None), getattr(exc, "problem", None)
    place = f"line {mark.line + 1}, column {mark.column + 1}: " if mark else ""
    return f"{place}not YAML that can be read: {problem or type(exc).__name__}"
