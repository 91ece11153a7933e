"""Activity tables as the environment has them: what writing to a contact's timeline needs to know (dataverse.md §3.6, §7.5, §10.3)."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from bridge.dynamics.catalogue import ColumnInfo, list_columns
from bridge.dynamics.client import DynamicsClient
from bridge.dynamics.errors import QueryRefused, refused
from bridge.dynamics.metadata import definition
from bridge.http.answers import readable
from bridge.model.errors import HaltError

TEXT, MOMENT = ("String", "Memo"), ("DateTime",)
COMPLETED = 1


@dataclass(frozen=True, slots=True)
class WantedTable:
    """An activity table, and the columns that are to be written: setting's variable → column. `dates` are moments, `texts` text."""

    variable: str
    name: str
    texts: Mapping[str, str]
    dates: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class ActivityTable:
    """`lengths`: of its text columns, in UTF-16 units. `regarding`: the navigation property that leads to a contact; `contacts`: their
    entity set. `completed`: the statuscode of a completed activity, None if it is to stay open. `ends`: whether it has `actualend`."""

    name: str
    set_name: str
    key: str
    regarding: str
    contacts: str
    lengths: Mapping[str, int]
    completed: int | None
    ends: bool


async def read_activities(client: DynamicsClient, wanted: Sequence[WantedTable], completed: bool) -> list[ActivityTable]:
    """All of them, in order. Raises HaltError (`target_tables_missing`) that names everything that is missing, in one message."""
    contacts = str((await definition(client, "EntityDefinitions(LogicalName='contact')", "contact"))["EntitySetName"])
    answers = await asyncio.gather(*(_read(client, each, contacts, completed) for each in wanted))
    if problems := [each for each in answers if isinstance(each, str)]:
        raise HaltError(
            "; ".join(problems),
            code="target_tables_missing",
            hint="Install or repair the solution that brings these tables, or set the DYNAMICS_… variables to the names they have, "
            "then start again.",
            origin="target",
        )
    return [each for each in answers if isinstance(each, ActivityTable)]


async def _read(client: DynamicsClient, wanted: WantedTable, contacts: str, completed: bool) -> ActivityTable | str:
    """The table, or what is wrong with it."""
    path = f"EntityDefinitions(LogicalName='{wanted.name}')"
    try:
        described = await definition(client, path, wanted.name)
        columns = {column.name: column for column in await list_columns(client, wanted.name, choices=False)}
    except HaltError as exc:
        if not exc.code.endswith("_table_missing"):
            raise
        return f"there is no table {wanted.name} ({wanted.variable})"
    if problems := _problems(wanted, columns):
        return f"table {wanted.name}: {', '.join(problems)}"
    regarding = await _regarding(client, path)
    if regarding is None:
        return f"table {wanted.name} is no activity that can regard a contact ({wanted.variable})"
    return ActivityTable(
        name=wanted.name,
        set_name=str(described["EntitySetName"]),
        key=str(described["PrimaryIdAttribute"]),
        regarding=regarding,
        contacts=contacts,
        lengths={name: column.length for name, column in columns.items() if column.length},
        completed=await _completed(client, path) if completed else None,
        ends="actualend" in columns and columns["actualend"].writable,
    )


def _problems(wanted: WantedTable, columns: Mapping[str, ColumnInfo]) -> list[str]:
    found = []
    for names, types in (({"the subject of every activity": "subject", **wanted.texts}, TEXT), (wanted.dates, MOMENT)):
        for variable, name in names.items():
            if name not in columns:
                found.append(f"no column {name} ({variable})")
            elif columns[name].type not in types:
                found.append(f"column {name} is of type {columns[name].type}, not {types[0]} ({variable})")
    return found


async def _regarding(client: DynamicsClient, path: str) -> str | None:
    select = "SchemaName,ReferencingAttribute,ReferencedEntity,ReferencingEntityNavigationPropertyName"
    query = f"{path}/ManyToOneRelationships?$select={select}&$filter=ReferencingAttribute eq 'regardingobjectid'"
    try:
        listed = await client.listed(query)
    except QueryRefused as exc:
        raise refused(exc, client.origin) from exc
    with readable(f"Dynamics: {path}/ManyToOneRelationships"):
        names = [each["ReferencingEntityNavigationPropertyName"] for each in listed if each["ReferencedEntity"] == "contact"]
    return str(names[0]) if names else None


async def _completed(client: DynamicsClient, path: str) -> int:
    """The first statuscode of state 1; 2 where the metadata do not say (the default of custom activities)."""
    query = f"{path}/Attributes/Microsoft.Dynamics.CRM.StatusAttributeMetadata?$select=LogicalName&$expand=OptionSet"
    try:
        listed = await client.listed(query)
    except QueryRefused as exc:
        raise refused(exc, client.origin) from exc
    with readable(f"Dynamics: {path}/Attributes"):
        options = [option for each in listed for option in (each.get("OptionSet") or {}).get("Options") or ()]
        return next((int(option["Value"]) for option in options if option.get("State") == COMPLETED), 2)
