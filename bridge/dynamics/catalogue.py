"""What Dynamics offers to a mapping: tables, and the columns of one with types, lengths and choices (dataverse.md §6)."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from bridge.dynamics.client import DynamicsClient
from bridge.dynamics.errors import QueryRefused, refused
from bridge.dynamics.metadata import (
    DESCRIBED,
    OPTIONS,
    behavior_of,
    definition,
    format_of,
    label,
    labelled_options,
    localized,
    synchronised,
    type_name,
)
from bridge.http.answers import readable
from bridge.model.errors import HaltError

FURTHER = {**DESCRIBED, "String": f"{DESCRIBED['String']},MaxLength", "Memo": "LogicalName,MaxLength"}
BOOLEAN = "Boolean"


@dataclass(frozen=True, slots=True)
class TableInfo:
    name: str
    label: str
    change_tracking: bool


@dataclass(frozen=True, slots=True)
class ColumnInfo:
    """`type`, `format` and `behavior` as in bridge.dynamics.metadata.Column; `length` in characters; `options`: (value, display value)."""

    name: str
    label: str
    type: str
    length: int | None
    writable: bool
    key: bool
    options: tuple[tuple[str, str], ...]
    format: str = ""
    behavior: str = ""


async def list_tables(client: DynamicsClient) -> list[TableInfo]:
    """All tables a mapping can have, by name; those that do not track changes too, so that it can be said why they do not work."""
    select = "LogicalName,DisplayName,ChangeTrackingEnabled,EntitySetName,IsActivity,IsIntersect"
    listed = await _listed(client, f"EntityDefinitions?$select={select}&$filter=IsPrivate eq false")
    with readable("Dynamics: EntityDefinitions"):
        found = [
            TableInfo(str(each["LogicalName"]), _label(each), bool(each.get("ChangeTrackingEnabled")))
            for each in listed
            if each.get("EntitySetName") and not each.get("IsIntersect")
        ]
    return sorted(found, key=lambda each: each.name)


async def list_columns(client: DynamicsClient, table: str, choices: bool = True) -> list[ColumnInfo]:
    """Every readable column, the key first, then by name; their options only with `choices`. Raises HaltError if there is no such table."""
    path = f"EntityDefinitions(LogicalName='{table}')"
    key = str((await definition(client, path, table))["PrimaryIdAttribute"])
    select = "LogicalName,DisplayName,AttributeType,AttributeTypeName,IsValidForRead,IsValidForUpdate,AttributeOf"
    listed = await _listed(client, f"{path}/Attributes?$select={select}")
    with readable(f"Dynamics: {path}/Attributes"):
        described = [each for each in listed if synchronised(each)]
        types = {str(each["LogicalName"]): _type(each) for each in described}
        labels = {str(each["LogicalName"]): _label(each) for each in described}
    kinds = set(types.values())
    further, options = await asyncio.gather(_further(client, path, kinds), _options(client, path, kinds if choices else set()))
    columns = [
        ColumnInfo(
            name=name,
            label=labels[name],
            type=types[name],
            length=int(further[name].get("MaxLength") or 0) or None,
            writable=bool(each.get("IsValidForUpdate")),
            key=name == key,
            options=options.get(name, ()),
            format=format_of(further[name]),
            behavior=behavior_of(further[name]),
        )
        for each in described
        for name in [str(each["LogicalName"])]
    ]
    return sorted(columns, key=lambda column: (not column.key, column.name))


async def yes_no_labels(client: DynamicsClient, table: str) -> dict[str, tuple[str, str]]:
    """The display name of every yes/no column, and that of its TRUE; empty if Dynamics does not tell."""
    path = f"EntityDefinitions(LogicalName='{table}')"
    try:
        described = await _cast(client, path, BOOLEAN, "LogicalName,DisplayName&$expand=OptionSet")
    except HaltError:
        return {}
    with readable(f"Dynamics: {path}"):
        return {str(each["LogicalName"]): (_label(each), _yes_no(each.get("OptionSet") or {})[0][1]) for each in described}


def _type(attribute: Mapping[str, Any]) -> str:
    return type_name(attribute).removesuffix("Type")


async def _further(client: DynamicsClient, path: str, types: set[str]) -> defaultdict[str, dict[str, Any]]:
    """Lengths, formats and behaviour, by column; nothing for columns of which nobody tells them."""
    answers = await asyncio.gather(*(_cast(client, path, kind, select) for kind, select in FURTHER.items() if kind in types))
    with readable(f"Dynamics: {path}"):
        return defaultdict(dict, {str(each["LogicalName"]): each for answer in answers for each in answer})


async def _options(client: DynamicsClient, path: str, types: set[str]) -> dict[str, tuple[tuple[str, str], ...]]:
    """Choices by column; of a yes/no column as `true` and `false`."""
    kinds = sorted({OPTIONS[f"{each}Type"] for each in types if f"{each}Type" in OPTIONS} | ({BOOLEAN} & types))
    answers = await asyncio.gather(*(_choices(client, path, kind) for kind in kinds))
    return {name: options for answer in answers for name, options in answer.items()}


async def _choices(client: DynamicsClient, path: str, kind: str) -> dict[str, tuple[tuple[str, str], ...]]:
    expand = "OptionSet,GlobalOptionSet" if kind == "Picklist" else "OptionSet"
    answer = await _cast(client, path, kind, f"LogicalName&$expand={expand}")
    with readable(f"Dynamics: {path}"):
        if kind == BOOLEAN:
            return {str(each["LogicalName"]): _yes_no(each.get("OptionSet") or {}) for each in answer}
        return {
            str(each["LogicalName"]): tuple((str(value), text or str(value)) for value, text in labelled_options(each).items())
            for each in answer
        }


def _yes_no(option_set: Mapping[str, Any]) -> tuple[tuple[str, str], ...]:
    pairs = (("true", option_set.get("TrueOption")), ("false", option_set.get("FalseOption")))
    return tuple((value, (label(option) if option else "") or value) for value, option in pairs)


async def _cast(client: DynamicsClient, path: str, kind: str, select: str) -> list[dict[str, Any]]:
    return await _listed(client, f"{path}/Attributes/Microsoft.Dynamics.CRM.{kind}AttributeMetadata?$select={select}")


async def _listed(client: DynamicsClient, path: str) -> list[dict[str, Any]]:
    try:
        return await client.listed(path)
    except QueryRefused as exc:
        raise refused(exc, client.origin) from exc


def _label(described: Mapping[str, Any]) -> str:
    return localized(described.get("DisplayName")) or str(described["LogicalName"])
