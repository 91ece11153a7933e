"""What our application user may do with secured columns (systems-2026.md §4): null, or `jo****@…`, must not pass for a person's data.

Microsoft's function RetrievePrincipalAttributePrivileges tells what the user's field security profiles allow, his own and his teams'; where
it is refused, the profiles themselves are read. System administrators read and change every column without a profile. A masking rule hides
values from everybody, administrators too, unless *read unmasked* is allowed for all records and the read asks for it (`Table.asked`).
What the application user may not even ask about stays unknown: None.
"""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

from bridge.dynamics.client import DynamicsClient
from bridge.dynamics.errors import QueryRefused, refused
from bridge.dynamics.metadata import Table, columns_of, secured_id
from bridge.http.answers import readable
from bridge.model.errors import HaltError, Origin, RetryError
from bridge.observe.log import log

ALLOWED, EVERY_RECORD = 4, 3  # of fieldpermission: canread, canupdate; canreadunmasked
ADMINISTRATOR = "627090ff-40a3-4053-8790-584edc5be201"  # the role's template: the same in every environment
NOT_BUILT = 501
HINT = (
    "In Dynamics give the application user a column security profile with Read = Allowed, Update = Allowed for what Opt In/Out writes, and,"
    " where the column has a masking rule, Read unmasked = All records; or remove the mapping. Then start again."
)
Lack = Literal["read", "read unmasked", "update"]


@dataclass(frozen=True, slots=True)
class Grant:
    """The levels that profiles give for one column, as Dynamics counts them."""

    read: int = 0
    unmasked: int = 0
    update: int = 0

    def __or__(self, other: Grant) -> Grant:
        return Grant(max(self.read, other.read), max(self.unmasked, other.unmasked), max(self.update, other.update))


@dataclass(frozen=True, slots=True)
class ColumnAccess:
    """What may be done with a secured column; None: it cannot be found out. `masked`: it has a masking rule, as far as is known."""

    read: bool | None
    unmasked: bool | None
    update: bool | None
    masked: bool = False

    def lacks(self, write: bool = False) -> Lack | None:
        """What is not allowed for certain."""
        wanted: dict[Lack, bool | None] = {"read": self.read, "read unmasked": self.unmasked, **({"update": self.update} if write else {})}
        return next((what for what, allowed in wanted.items() if allowed is False), None)

    def unknown(self, write: bool = False) -> bool:
        """Whether it cannot be found out that all is allowed."""
        return self.lacks(write) is None and None in (self.read, self.unmasked, *([self.update] if write else []))


def access(grant: Grant | None, administrator: bool | None, masked: bool | None) -> ColumnAccess:
    """`grant` None: privileges are not told; `administrator`, `masked` None: nor is that."""
    given = grant or Grant()
    otherwise = None if grant is None and not administrator else administrator
    unmasked: bool | None = masked is False or given.unmasked >= EVERY_RECORD
    if not unmasked and (masked is None or grant is None or administrator is not False):
        unmasked = None  # whether the rule holds for administrators is told nowhere
    return ColumnAccess(
        read=given.read >= ALLOWED or otherwise,
        unmasked=unmasked,
        update=given.update >= ALLOWED or otherwise,
        masked=bool(masked) or given.unmasked > 0,
    )


async def checked(client: DynamicsClient, table: Table, writes: Collection[str] = ()) -> Table:
    """The table as it can be read: with the word for masked values, if it needs that. `writes`: columns that are changed as well. Raises
    HaltError `source_column_secured`; what cannot be found out is logged. Without secured columns nothing is asked."""
    found = await accesses(client, table.name, {name: column.secured for name, column in table.columns.items() if column.secured})
    refuse_secured(client.origin, table.name, found, writes)
    if unknown := sorted(name for name, each in found.items() if each.unknown(name in writes)):
        log("column_security_unknown", "warning", table=table.name, columns=unknown)
    return replace(table, unmasked=any(each.masked for each in found.values()))


def refuse_secured(origin: Origin, table: str, found: Mapping[str, ColumnAccess], writes: Collection[str] = ()) -> None:
    """Raises HaltError that names the columns which lack a right for certain, and which one."""
    lacking = [f"{name} ({what})" for name, each in sorted(found.items()) if (what := each.lacks(name in writes))]
    if lacking:
        text = f"table {table}: secured columns that the application user may not use: {', '.join(lacking)}"
        raise HaltError(text, code="source_column_secured", hint=HINT, origin=origin)


async def secured_columns(client: DynamicsClient, table: str) -> dict[str, ColumnAccess]:
    """What may be done with each secured column of a table. Raises as `accesses` does."""
    columns = await columns_of(client, f"EntityDefinitions(LogicalName='{table}')")
    return await accesses(client, table, {name: secured for name, each in columns.items() if (secured := secured_id(each))})


async def accesses(client: DynamicsClient, table: str, secured: Mapping[str, str]) -> dict[str, ColumnAccess]:
    """By column of `secured`, which holds their MetadataIds. Raises RetryError or HaltError if Dynamics cannot be asked anything."""
    if not secured:
        return {}
    try:
        answer = await client.get("WhoAmI")
    except QueryRefused as exc:
        raise refused(exc, client.origin) from exc
    with readable("Dynamics: WhoAmI"):
        user = str(answer["UserId"])
    teams = await _rows(client, f"systemusers({user})/teammembership_association?$select=teamid", forbidden=())
    grants, administrator, rules = await asyncio.gather(
        _grants(client, user, teams, table, secured),
        _is_administrator(client, user, teams),
        _rows(client, f"attributemaskingrules?$select=entityname,attributelogicalname&$filter=entityname eq '{table}'"),
    )
    masked = None if rules is None else {str(each.get("attributelogicalname")) for each in rules}
    return {
        name: access(None if grants is None else grants.get(name, Grant()), administrator, None if masked is None else name in masked)
        for name in secured
    }


async def _grants(
    client: DynamicsClient, user: str, teams: Sequence[Mapping[str, Any]] | None, table: str, secured: Mapping[str, str]
) -> dict[str, Grant] | None:
    """By column; None if neither the function nor the profiles tell."""
    function = f"systemusers({user})/Microsoft.Dynamics.CRM.RetrievePrincipalAttributePrivileges()"
    told = await _rows(client, function, "AttributePrivileges")
    if told is not None:
        names = {id: name for name, id in secured.items()}
        with readable(f"Dynamics: privileges on {table}"):
            return _together(
                (names.get(str(each.get("AttributeId")).lower()), _grant(each, "CanRead", "CanReadUnMasked", "CanUpdate")) for each in told
            )
    own = await _rows(client, f"systemusers({user})/systemuserprofiles_association?$select=fieldsecurityprofileid")
    if own is None or teams is None:
        return None
    with readable("Dynamics: teams"):
        through = [f"teams({team['teamid']})/teamprofiles_association?$select=fieldsecurityprofileid" for team in teams]
    profiles = [own, *await asyncio.gather(*(_rows(client, path) for path in through))]
    select = "attributelogicalname,canread,canreadunmasked,canupdate,_fieldsecurityprofileid_value"
    permissions = await _rows(client, f"fieldpermissions?$select={select}&$filter=entityname eq '{table}'")
    if permissions is None or None in profiles:
        return None
    with readable(f"Dynamics: privileges on {table}"):
        ours = {each["fieldsecurityprofileid"] for rows in profiles for each in rows or ()}
        return _together(
            (str(each["attributelogicalname"]), _grant(each, "canread", "canreadunmasked", "canupdate"))
            for each in permissions
            if each["_fieldsecurityprofileid_value"] in ours
        )


async def _is_administrator(client: DynamicsClient, user: str, teams: Sequence[Mapping[str, Any]] | None) -> bool | None:
    """Whether the user has the role, himself or through a team. Who may not read roles is no administrator, who may read everything."""
    with readable("Dynamics: teams"):
        holders = [
            f"systemusers({user})/systemuserroles_association",
            *(f"teams({team['teamid']})/teamroles_association" for team in teams or ()),
        ]
    answers = await asyncio.gather(*(_rows(client, f"{each}?$select=_roletemplateid_value", forbidden=()) for each in holders))
    if any(str(role.get("_roletemplateid_value")).lower() == ADMINISTRATOR for roles in answers for role in roles or ()):
        return True
    return None if teams is None or None in answers else False


async def _rows(
    client: DynamicsClient, path: str, member: str = "value", forbidden: Sequence[Mapping[str, Any]] | None = None
) -> Sequence[Mapping[str, Any]] | None:
    """What is listed there; None if Dynamics does not tell, `forbidden` if it does not tell us. Raises what passes by itself."""
    try:
        answer = await client.get(path)
    except QueryRefused:
        return None
    except HaltError as exc:
        if exc.status not in (403, 404):
            raise
        return forbidden if exc.status == 403 else None
    except RetryError as exc:
        if exc.status not in (NOT_BUILT, 400, 404):
            raise
        return None
    found = answer.get(member)
    return found if isinstance(found, list) and all(isinstance(each, dict) for each in found) else None


def _grant(told: Mapping[str, Any], read: str, unmasked: str, update: str) -> Grant:
    return Grant(*(int(told.get(name) or 0) for name in (read, unmasked, update)))


def _together(grants: Iterable[tuple[str | None, Grant]]) -> dict[str, Grant]:
    """Of several profiles the most that one allows."""
    found: dict[str, Grant] = {}
    for name, grant in grants:
        if name is not None:
            found[name] = found.get(name, Grant()) | grant
    return found
