"""Tables and columns as Dynamics describes them (dataverse.md §6)."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from bridge.answers import BAD_ANSWER_TRIES, readable
from bridge.dynamics.client import DynamicsClient
from bridge.dynamics.errors import QueryRefused, refused
from bridge.errors import HaltError, RetryError

UNMASKED = "UnMaskedData=true"
LOOKUPS = {"Lookup", "Customer", "Owner"}
OPTIONS = {
    "PicklistType": "Picklist",
    "StateType": "State",
    "StatusType": "Status",
    "MultiSelectPicklistType": "MultiSelectPicklist",
}
NOT_SYNCHRONISED = {"PartyList", "CalendarRules", "ManagedProperty", "EntityName", "Image", "File", "Virtual"}


@dataclass(frozen=True, slots=True)
class Column:
    """`type` is the AttributeType, for multi-select picklists `MultiSelectPicklist`. `options`: value → display value. `secured`: the
    MetadataId of a column with column security, empty for all others."""

    name: str
    type: str
    options: Mapping[int, str] = field(default_factory=dict)
    secured: str = ""

    @property
    def url_name(self) -> str:
        return f"_{self.name}_value" if self.type in LOOKUPS else self.name


@dataclass(frozen=True, slots=True)
class Table:
    """`columns` are those that were asked for, without the key. `unmasked`: one of them has a masking rule and may be read without it.
    `also`: those that are read with them where the table has them."""

    name: str
    set_name: str
    key: str
    columns: Mapping[str, Column]
    has_modifiedon: bool
    has_version: bool = True
    unmasked: bool = False
    also: Mapping[str, Column] = field(default_factory=dict)

    def select(self) -> str:
        """The `$select` of a read: the key comes by itself, `modifiedon` for the time of a change."""
        names = [column.url_name for column in [*self.columns.values(), *self.also.values()]]
        extra = ["modifiedon"] if self.has_modifiedon and "modifiedon" not in names else []
        return ",".join([*names, *extra] or [self.key])

    def asked(self, path: str) -> str:
        """The path or link of a read, with the word for values that a masking rule hides: without it nobody gets them (secured.py)."""
        if not self.unmasked or UNMASKED in path:
            return path
        return f"{path}{'&' if '?' in path else '?'}{UNMASKED}"

    def in_order(self, select: str) -> str:
        """The options of an untracked read of this `$select`: with the version, and by key, since pages are separate queries (§5)."""
        names = select.split(",")
        extra = ["versionnumber"] if self.has_version and "versionnumber" not in names else []
        return f"$select={','.join([*names, *extra])}&$orderby={self.key} asc"


async def read_table(client: DynamicsClient, name: str, columns: list[str], tracked: bool = True, also: Sequence[str] = ()) -> Table:
    """Raises HaltError naming what is missing: the table, its change tracking (unless not `tracked`), a column. `also`: columns to be read
    as well where the table has them."""
    path = f"EntityDefinitions(LogicalName='{name}')"
    described = await definition(client, path, name)
    if tracked and not described.get("ChangeTrackingEnabled"):
        raise HaltError(
            f"table {name} is not enabled for change tracking",
            code="change_tracking_off",
            hint=f"Switch on 'Track changes' for {name} in Dynamics, or remove its mapping, then start again.",
            origin=client.origin,
        )
    described_columns = await columns_of(client, path)
    types = {column: type_name(each) for column, each in described_columns.items()}
    if missing := [column for column in columns if column not in types]:
        raise HaltError(
            f"table {name} has no readable column {', '.join(missing)}",
            code=f"{client.origin}_column_missing",
            hint="Correct the mapping or restore the column in Dynamics, then start again.",
            origin=client.origin,
        )
    options = await _options(client, path, {types[column] for column in columns})
    found = {
        column: Column(column, _plain(types[column]), options.get(column, {}), secured_id(described_columns[column])) for column in columns
    }
    beside = {column: Column(column, _plain(types[column])) for column in also if column in types and column not in found}
    key = str(described["PrimaryIdAttribute"])
    return Table(name, str(described["EntitySetName"]), key, found, "modifiedon" in types, "versionnumber" in types, also=beside)


async def definition(client: DynamicsClient, path: str, name: str) -> dict[str, Any]:
    """Of one table, with `PrimaryIdAttribute` and `EntitySetName`. Raises HaltError if there is none of this name."""
    select = "LogicalName,EntitySetName,PrimaryIdAttribute,ChangeTrackingEnabled"
    try:
        found = await client.get(f"{path}?$select={select}")
    except QueryRefused as exc:
        if exc.status != 404 and exc.status != 400:
            raise refused(exc, client.origin) from exc
        raise HaltError(
            f"table {name} does not exist in this Dynamics environment",
            code=f"{client.origin}_table_missing",
            hint="Correct the mapping, or publish the table in Dynamics, then start again.",
            origin=client.origin,
            status=exc.status,
        ) from exc
    if not all(isinstance(found.get(member), str) for member in ("PrimaryIdAttribute", "EntitySetName")):
        raise RetryError(f"Dynamics: {path}: the answer describes no table", code="bad_answer", attempts=BAD_ANSWER_TRIES)
    return found


async def columns_of(client: DynamicsClient, path: str) -> dict[str, Mapping[str, Any]]:
    """What is told of every readable column, by its name."""
    select = "LogicalName,AttributeType,AttributeTypeName,IsValidForRead,AttributeOf,IsSecured,MetadataId"
    try:
        listed = await client.listed(f"{path}/Attributes?$select={select}")
    except QueryRefused as exc:
        raise refused(exc, client.origin) from exc
    with readable(f"Dynamics: {path}/Attributes"):
        return {str(each["LogicalName"]): each for each in listed if synchronised(each)}


def secured_id(attribute: Mapping[str, Any]) -> str:
    """The MetadataId of a secured column, by which its privileges are told; empty for a column without column security."""
    return str(attribute.get("MetadataId") or attribute["LogicalName"]).lower() if attribute.get("IsSecured") else ""


def type_name(attribute: Mapping[str, Any]) -> str:
    """`PicklistType`; `Picklist` where the metadata do not name it. Of multi-select picklists, images and files only this tells (§6.2)."""
    return str((attribute.get("AttributeTypeName") or {}).get("Value") or attribute["AttributeType"])


def synchronised(attribute: Mapping[str, Any]) -> bool:
    """Whether a column of this kind has a value that can be read and mapped."""
    addressable = attribute.get("IsValidForRead", True) and not attribute.get("AttributeOf")
    return bool(addressable) and _plain(type_name(attribute)) not in NOT_SYNCHRONISED


def _plain(type_name: str) -> str:
    return type_name.removesuffix("Type")


async def _options(client: DynamicsClient, path: str, types: set[str]) -> dict[str, dict[int, str]]:
    """Display values of all choice columns of the table, for the kinds of choice that are mapped."""
    casts = [OPTIONS[each if each.endswith("Type") else f"{each}Type"] for each in types if f"{_plain(each)}Type" in OPTIONS]
    answers = await asyncio.gather(*(_cast(client, path, cast) for cast in sorted(casts)))
    return {name: options for answer in answers for name, options in answer.items()}


async def _cast(client: DynamicsClient, path: str, cast: str) -> dict[str, dict[int, str]]:
    expand = "OptionSet,GlobalOptionSet" if cast == "Picklist" else "OptionSet"
    cast_path = f"{path}/Attributes/Microsoft.Dynamics.CRM.{cast}AttributeMetadata"
    try:
        listed = await client.listed(f"{cast_path}?$select=LogicalName&$expand={expand}")
    except QueryRefused as exc:
        raise refused(exc, client.origin) from exc
    with readable(f"Dynamics: {cast_path}"):
        return {str(each["LogicalName"]): labelled_options(each) for each in listed}


def labelled_options(attribute: Mapping[str, Any]) -> dict[int, str]:
    """Value → display value of a choice column's metadata."""
    option_set = attribute.get("OptionSet") or attribute.get("GlobalOptionSet") or {}
    return {int(option["Value"]): label(option) for option in option_set.get("Options") or ()}


def label(option: Mapping[str, Any]) -> str:
    """The display value of one option, in the caller's language if it has one."""
    shown = option.get("Label") or {}
    chosen = shown.get("UserLocalizedLabel") or next(iter(shown.get("LocalizedLabels") or ()), None)
    return str(chosen["Label"]) if chosen else str(option["Value"])
