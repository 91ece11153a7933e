"""Tables and columns as Dynamics describes them (dataverse.md §6)."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from bridge.dynamics.client import DynamicsClient
from bridge.dynamics.errors import QueryRefused, refused
from bridge.http.answers import BAD_ANSWER_TRIES, readable
from bridge.model.errors import HaltError, RetryError

UNMASKED = "UnMaskedData=true"
LOOKUPS = {"Lookup", "Customer", "Owner"}
OPTIONS = {
    "PicklistType": "Picklist",
    "StateType": "State",
    "StatusType": "Status",
    "MultiSelectPicklistType": "MultiSelectPicklist",
}
TEXT_TYPES = {"String", "Memo"}
EXACT_FORMATS = {"Email", "Phone", "Url"}
DESCRIBED = {"String": "LogicalName,FormatName", "DateTime": "LogicalName,Format,DateTimeBehavior"}
NOT_SYNCHRONISED = {"PartyList", "CalendarRules", "ManagedProperty", "EntityName", "Image", "File", "Virtual"}


@dataclass(frozen=True, slots=True)
class Column:
    """`type` is the AttributeType, for multi-select picklists `MultiSelectPicklist`. `options`: value → display value, empty for an option
    without one. `secured`: the MetadataId of a column with column security, empty for all others. `format`: of texts and times (`Email`,
    `DateOnly`); `behavior`: of times (`UserLocal`, `DateOnly`, `TimeZoneIndependent`). Empty where it is not told."""

    name: str
    type: str
    options: Mapping[int, str] = field(default_factory=dict)
    secured: str = ""
    format: str = ""
    behavior: str = ""

    @property
    def url_name(self) -> str:
        return f"_{self.name}_value" if self.type in LOOKUPS else self.name

    @property
    def exact(self) -> bool:
        return is_exact(self.type, self.format)


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
    kinds = {types[column] for column in columns}
    options, described_further = await asyncio.gather(_options(client, path, kinds), _further(client, path, kinds))
    found = {
        column: Column(
            column,
            _plain(types[column]),
            options.get(column, {}),
            secured_id(described_columns[column]),
            format_of(described_further.get(column, {})),
            behavior_of(described_further.get(column, {})),
        )
        for column in columns
    }
    beside = {column: Column(column, _plain(types[column])) for column in also if column in types and column not in found}
    key = str(described["PrimaryIdAttribute"])
    return Table(name, str(described["EntitySetName"]), key, found, "modifiedon" in types, "versionnumber" in types, also=beside)


async def with_options(client: DynamicsClient, table: Table) -> Table:
    """The table with the options its choice columns have now, just added ones too."""
    types = {column.type for column in table.columns.values()}
    options = await _options(client, f"EntityDefinitions(LogicalName='{table.name}')", types, strong=True)
    columns = {name: replace(column, options=options.get(name, column.options)) for name, column in table.columns.items()}
    return replace(table, columns=columns)


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


def is_exact(type: str, format: str) -> bool:
    """Whether the values of such a column are more than words (schemas/ChangeEvent.avsc, `exact`): to cut them would make another one."""
    return type not in TEXT_TYPES or format in EXACT_FORMATS


def format_of(attribute: Mapping[str, Any]) -> str:
    """`Email`, `Phone`, `Url`, … of a text, `DateOnly` or `DateAndTime` of a time; empty where it is not told."""
    return str((attribute.get("FormatName") or {}).get("Value") or attribute.get("Format") or "")


def behavior_of(attribute: Mapping[str, Any]) -> str:
    """`UserLocal`, `DateOnly` or `TimeZoneIndependent` of a time; empty where it is not told."""
    return str((attribute.get("DateTimeBehavior") or {}).get("Value") or "")


def synchronised(attribute: Mapping[str, Any]) -> bool:
    """Whether a column of this kind has a value that can be read and mapped."""
    addressable = attribute.get("IsValidForRead", True) and not attribute.get("AttributeOf")
    return bool(addressable) and _plain(type_name(attribute)) not in NOT_SYNCHRONISED


def _plain(type_name: str) -> str:
    return type_name.removesuffix("Type")


async def _options(client: DynamicsClient, path: str, types: set[str], strong: bool = False) -> dict[str, dict[int, str]]:
    """Display values of all choice columns of the table, for the kinds of choice that are mapped."""
    casts = [OPTIONS[each if each.endswith("Type") else f"{each}Type"] for each in types if f"{_plain(each)}Type" in OPTIONS]
    answers = await asyncio.gather(*(_cast(client, path, cast, strong) for cast in sorted(casts)))
    return {name: options for answer in answers for name, options in answer.items()}


async def _further(client: DynamicsClient, path: str, types: set[str]) -> dict[str, Mapping[str, Any]]:
    """Formats of all texts, formats and behaviour of all times of the table, if such are mapped."""
    kinds = sorted({_plain(each) for each in types} & DESCRIBED.keys())
    answers = await asyncio.gather(*(_asked(client, path, kind, DESCRIBED[kind]) for kind in kinds))
    with readable(f"Dynamics: {path}"):
        return {str(each["LogicalName"]): each for answer in answers for each in answer}


async def _cast(client: DynamicsClient, path: str, cast: str, strong: bool) -> dict[str, dict[int, str]]:
    expand = "OptionSet,GlobalOptionSet" if cast == "Picklist" else "OptionSet"
    found = await _asked(client, path, cast, f"LogicalName&$expand={expand}", strong)
    with readable(f"Dynamics: {path}"):
        return {str(each["LogicalName"]): labelled_options(each) for each in found}


async def _asked(client: DynamicsClient, path: str, cast: str, select: str, strong: bool = False) -> list[dict[str, Any]]:
    """What only a cast tells of the columns of one kind."""
    try:
        return await client.listed(f"{path}/Attributes/Microsoft.Dynamics.CRM.{cast}AttributeMetadata?$select={select}", strong)
    except QueryRefused as exc:
        raise refused(exc, client.origin) from exc


def labelled_options(attribute: Mapping[str, Any]) -> dict[int, str]:
    """Value → display value of a choice column's metadata, empty for an option without a label."""
    option_set = attribute.get("OptionSet") or attribute.get("GlobalOptionSet") or {}
    return {int(option["Value"]): label(option) for option in option_set.get("Options") or ()}


def label(option: Mapping[str, Any]) -> str:
    """The display value of one option; empty if it has none."""
    return localized(option.get("Label"))


def localized(label: Mapping[str, Any] | None) -> str:
    """The text of a Label, in the caller's language if it has one; empty if there is none in any language, or all are null."""
    shown = label or {}
    texts = [(each or {}).get("Label") for each in (shown.get("UserLocalizedLabel"), *(shown.get("LocalizedLabels") or ()))]
    return next((str(text) for text in texts if text is not None and str(text).strip()), "")
