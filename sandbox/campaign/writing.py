"""Create, update and delete one record: all of a body or nothing of it (contract 4.1 - 4.6, 6.2)."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC
from typing import Any

from sandbox.campaign import errors
from sandbox.campaign.events import moment
from sandbox.campaign.model import BASE, EXT, OPT_OUTS, Field, Resource
from sandbox.campaign.store import Database, Row, Table
from sandbox.campaign.values import converted


def _item(database: Database, resource: Resource, field: Field, value: Any) -> dict[str, Any]:
    """The sent members of a nested element."""
    if value is None:
        return dict(field.empty)
    if not isinstance(value, dict):
        raise errors.unparsable(value)
    unknown = next((name for name in value if name not in field.members), None)
    if unknown is not None:
        raise errors.unknown_property(resource, unknown)
    return {name: converted(resource, field.members[name], each, database.settings) for name, each in value.items()}


def _link(database: Database, field: Field, value: Any) -> dict[str, Any]:
    """The join column from `{"PKey": ...}`; a link given by attributes is silently ignored."""
    if value is None:
        return {field.join: ""} if field.join else {}
    if not isinstance(value, dict):
        raise errors.unparsable(value)
    if "PKey" not in value:
        return {}
    target = database.tables.get(field.target)
    if target is None:
        raise errors.unparsable(value["PKey"])
    return {field.join: target.key_of(database.row_of_pkey(target, str(value["PKey"])))}


def checked(database: Database, table: Table, family: str, body: Mapping[str, Any]) -> dict[str, Any]:
    """The columns a body sets, converted. Raises AcsError for the first thing that is wrong."""
    resource, columns = table.resource, dict[str, Any]()
    for name, value in body.items():
        field = resource.fields.get(name)
        if name == "PKey" or (field is not None and field.read_only):
            raise errors.read_only(name)
        if field is None or (family == BASE and name.startswith("cus")):
            raise errors.unknown_property(resource, name)
        if field.type == "link":
            columns |= _link(database, field, value)
        elif field.type == "item":
            columns[name] = _item(database, resource, field, value)
        else:
            columns[name] = converted(resource, field, value, database.settings)
    for rule in database.settings.refuse:
        value = columns.get(rule["field"])
        if rule["resource"] == resource.name and value is not None and rule["contains"] in str(value):
            raise errors.refused_value(rule["field"], value, "refuse rule")
    return columns


def _stamp_opt_outs(row: Row, names: list[str], stamp: str) -> None:
    """6.2: each flag its own time, `All` with every blackList flag; push has none of its own."""
    for name in names:
        if name != "blackListPushnotification":
            row.values[f"{name}LastModified"] = stamp
        if name != "ccpaOptOut":
            row.values["blackListAllLastModified"] = stamp


def create(database: Database, table: Table, family: str, body: Mapping[str, Any]) -> Row:
    """Raises AcsError; a hidden row counts as a duplicate, too."""
    resource = table.resource
    columns = checked(database, table, family, body)
    key = columns.get(resource.key, "")
    if key and key in table.by_key:
        raise errors.duplicate_key(resource, key)
    row = Row(database.next_id(), columns)
    if resource.audit:
        columns["created"] = columns["lastModified"] = database.clock.stamp()
    if resource.name == "profile":
        _stamp_opt_outs(row, [name for name in OPT_OUTS if columns.get(name)], columns["created"])
    table.rows[row.id] = row
    if key:
        table.by_key[key] = row
    return row


def _check_key(database: Database, table: Table, row: Row, columns: Mapping[str, Any], by_key: bool) -> None:
    """4.2: an identification key cannot be changed; one that was never set can be set through a PKey URL."""
    resource = table.resource
    old, new = table.key_of(row), columns.get(resource.key)
    if new is None or new == old:
        return
    if not by_key and new in table.by_key:
        raise errors.duplicate_key(resource, new)
    if by_key or (old and not database.settings.key_change):
        raise errors.key_change(resource, old, new)


def update(
    database: Database, table: Table, family: str, row: Row, body: Mapping[str, Any], by_key: bool, at: str = ""
) -> tuple[bool, list[str]]:
    """True when something changed, and the opt-out flags that were written without a change. Raises AcsError.

    `by_key`: the row was addressed by its identification key. Members of a nested element that were not sent stay.
    `at`: the stamp of the change, else now."""
    resource, values = table.resource, row.values
    if "PKey" in body:
        if database.row_of_pkey(table, str(body["PKey"])) is not row:
            raise errors.key_change(resource, table.key_of(row), str(body["PKey"]))
        body = {name: value for name, value in body.items() if name != "PKey"}
    columns = checked(database, table, family, body)
    _check_key(database, table, row, columns, by_key)
    for name in [name for name in columns if isinstance(columns[name], dict)]:
        columns[name] = {**resource.template[name], **values.get(name, {}), **columns[name]}
    changed = [name for name, value in columns.items() if value != values.get(name, resource.template.get(name, ""))]
    written = [name for name in OPT_OUTS if name in columns] if resource.name == "profile" else []
    if resource.key in changed:
        table.by_key.pop(table.key_of(row), None)
        if columns[resource.key]:
            table.by_key[columns[resource.key]] = row
    values.update(columns)
    always = database.settings.stamp_unchanged
    if resource.audit and (changed or always):
        values["lastModified"] = stamp = at or database.clock.stamp()
        _stamp_opt_outs(row, written if always else [name for name in written if name in changed], stamp)
    return bool(changed), [name for name in written if name not in changed]


def delete(database: Database, table: Table, row: Row) -> None:
    """Removes the row, then what links ask for (4.5): `cascade` removes children with their parent, `last` a parent
    with its last child, `keep` (the default here) nothing."""
    del table.rows[row.id]
    key = table.key_of(row)
    if table.by_key.get(key) is row:
        del table.by_key[key]
    rules = database.settings.on_delete
    for other in database.tables.values() if rules else ():
        for link in other.resource.links:
            rule = rules.get(f"{other.resource.name}.{link.name}", "keep")
            if rule == "cascade" and link.target == table.resource.name and key:
                for child in [child for child in other.rows.values() if child.values.get(link.join) == key]:
                    delete(database, other, child)
            elif rule == "last" and other is table:
                parent, value = database.parent(link, row), row.values.get(link.join)
                if parent and not any(each.values.get(link.join) == value for each in table.rows.values()):
                    delete(database, database.tables[link.target], parent)


def put(database: Database, table: Table, body: Mapping[str, Any]) -> Row:
    """Creates, or updates the row with the same key, as a Campaign user would: hidden rows, too. Raises AcsError."""
    row = table.by_key.get(str(body.get(table.resource.key, "")))
    if row is None:
        return create(database, table, EXT, body)
    update(database, table, EXT, row, body, by_key=True)
    return row


def opt_out(database: Database, key: str, field: str, value: bool, at: str | None) -> Row:
    """A person sets or takes away one flag; `at`: ISO 8601, else now. Raises KeyError for no such profile, and ValueError."""
    if field not in OPT_OUTS:
        raise ValueError(f"field must be one of {', '.join(OPT_OUTS)}")
    table = database.tables["profile"]
    row = table.by_key[key]
    stamp = f"{moment(at).astimezone(UTC).replace(tzinfo=None).isoformat(' ', 'milliseconds')}Z" if at else ""
    update(database, table, EXT, row, {field: value}, by_key=True, at=stamp)
    return row
