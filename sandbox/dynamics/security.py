"""Secured columns: who may read and change them, and what whoever may not is shown instead.

After Microsoft's pages on column-level security (fieldpermission, fieldsecurityprofile, attributemaskingrule, optional parameters): a
secured column is null to whoever may not read it. With a masking rule *everybody* reads it masked, an administrator too; the value itself
comes with `UnMaskedData=true`, to whoever may read unmasked: 0 not, 1 one record at a time, 3 every record.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any
from uuid import NAMESPACE_OID, uuid5

from sandbox.dynamics import filters
from sandbox.dynamics.permissions import ALLOWED, Permission, Permissions
from sandbox.dynamics.settings import Settings
from sandbox.dynamics.store import Row
from sandbox.dynamics.tables import APP_USER, Column, Table
from sandbox.dynamics.wire import Answer, Call, ODataError, no_segment

TEAM, ADMINISTRATOR = "11111111-0000-4000-8000-00000000000a", "627090ff-40a3-4053-8790-584edc5be201"
PROFILES = {"user": "11111111-0000-4000-8000-00000000000b", "team": "11111111-0000-4000-8000-00000000000c"}
_PRIVILEGES = f"systemusers({APP_USER})/Microsoft.Dynamics.CRM.RetrievePrincipalAttributePrivileges"
Shown = Callable[[Any], Any]


def column_id(table: str, column: str) -> str:
    """The MetadataId of a column."""
    return str(uuid5(NAMESPACE_OID, f"{table}/{column}"))


def masked(value: Any) -> Any:
    """`john.doe@example.com` → `jo******@example.com`; other texts but for their first two letters."""
    if not isinstance(value, str):
        return value
    name, at, rest = value.partition("@")
    return name[:2] + "*" * max(0, len(name) - 2) + at + rest


def shown(
    permissions: Permissions, settings: Settings, call: Call, table: Table, columns: Iterable[Column], single: bool
) -> dict[str, Shown]:
    """By the name in the row, what becomes of the values of columns that are not shown as they are."""
    asked, changed = call.query.get("UnMaskedData") == "true", dict[str, Shown]()
    for column in columns:
        permission = permissions.get((table.name, column.name))
        if permission is None:
            continue
        granted = permission if permission.through else Permission(0, 0, 0, permission.masked)
        if granted.read != ALLOWED and not settings.system_administrator:
            changed[column.name] = lambda _: None
        elif granted.masked and not (asked and (settings.system_administrator or granted.unmasked >= (1 if single else 3))):
            changed[column.name] = masked
    return changed


def may_write(permissions: Permissions, settings: Settings, table: Table, names: Iterable[str]) -> None:
    """Raises 403 `0x8004F507` for a secured column that the application user may not change."""
    for name in names:
        permission = permissions.get((table.name, name))
        if permission and not settings.system_administrator and (permission.through is None or permission.update != ALLOWED):
            text = f"Caller does not have permission to update secured attribute: {name}"
            raise ODataError(403, "0x8004f507", text)


def hidden(row: Row, changed: Mapping[str, Shown]) -> Row:
    return row | {name: change(row.get(name)) for name, change in changed.items()}


def answer(permissions: Permissions, settings: Settings, call: Call) -> Answer | None:
    """What is told of profiles, permissions, roles and masking rules; None for a path that is of something else."""
    if call.method != "GET":
        return None
    if call.path.removesuffix("()") == _PRIVILEGES:
        _told(settings.attribute_privileges, call.path)
        return Answer(200, {"AttributePrivileges": [*_privileges(permissions)]})
    rows = _rows(permissions, settings, call.path)
    if rows is None:
        return None
    _told(settings.security_tables, call.path)
    if text := call.query.get("$filter"):
        rows = [*filter(filters.compiled(text, lambda path: (lambda row: row.get(path), lambda _, literal: literal)), rows)]
    names = [name for name in call.query.get("$select", "").split(",") if name]
    return Answer(200, {"value": [{name: row[name] for name in names or row} for row in rows]})


def _told(how: str, path: str) -> None:
    if how == "missing":
        raise no_segment(path)
    if how == "forbidden":
        raise ODataError(403, "0x80040220", "Principal user is missing a read privilege.")


def _privileges(permissions: Permissions) -> Iterable[Row]:
    for (table, column), each in permissions.items():
        if each.through:
            levels = {"CanCreate": each.update, "CanRead": each.read, "CanUpdate": each.update, "CanReadUnMasked": each.unmasked}
            yield {"AttributeId": column_id(table, column), **levels}


def _rows(permissions: Permissions, settings: Settings, path: str) -> list[Row] | None:
    profiles = re.fullmatch(rf"(systemusers|teams)\(({APP_USER}|{TEAM})\)/(systemuserprofiles|teamprofiles)_association", path)
    if profiles:
        return [{"fieldsecurityprofileid": PROFILES[profiles[3].removesuffix("profiles").removeprefix("system")]}]
    if path == f"systemusers({APP_USER})/teammembership_association":
        return [{"teamid": TEAM}]
    if path == f"systemusers({APP_USER})/systemuserroles_association":
        return [{"roleid": TEAM, "_roletemplateid_value": ADMINISTRATOR}] if settings.system_administrator else []
    if path == f"teams({TEAM})/teamroles_association":
        return []
    if path == "attributemaskingrules":
        return [{"entityname": table, "attributelogicalname": name} for (table, name), each in permissions.items() if each.masked]
    if path == "fieldpermissions":
        return [_permission(*name, each) for name, each in permissions.items() if each.through]
    return None


def _permission(table: str, column: str, each: Permission) -> Row:
    levels = {"canread": each.read, "canreadunmasked": each.unmasked, "canupdate": each.update, "cancreate": each.update}
    profile = PROFILES[each.through or "user"]
    return {"entityname": table, "attributelogicalname": column, "_fieldsecurityprofileid_value": profile, **levels}
