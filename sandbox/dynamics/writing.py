"""Create, update, upsert and delete of single rows, with their conditions [contract 7.1-7.4, 7.6]."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from uuid import uuid4

from sandbox.dynamics import activities, security
from sandbox.dynamics.reading import represented
from sandbox.dynamics.rows import selected
from sandbox.dynamics.store import Store
from sandbox.dynamics.tables import APP_USER, Table
from sandbox.dynamics.values import from_payload
from sandbox.dynamics.wire import Answer, Call, ODataError, no_row, no_segment

_DUPLICATE = "A record with matching key values already exists."


def create(store: Store, call: Call, table: Table) -> Answer:
    """POST: 204, or 201 with the row. Raises 412 `0x80040237` when the key exists, 400 for a bad body."""
    body = call.json(table.set_name)
    changes = from_payload(store, table, body, None)
    key = changes.setdefault(table.key, str(uuid4()))
    if key in store.data[table.name].rows:
        raise ODataError(412, "0x80040237", _DUPLICATE)
    return _written(store, call, table, key, changes, body)


def patch(store: Store, call: Call, table: Table, key: str) -> Answer:
    """PATCH: an upsert, unless `If-Match` or `If-None-Match` say otherwise."""
    exists = _conditions(store, call, table, key)
    body = call.json(table.set_name)
    changes = from_payload(store, table, body, store.data[table.name].rows.get(key))
    if not exists and changes.get(table.key, key) != key:
        key = changes[table.key]  # on create the body's key wins [7.3]
        if key in store.data[table.name].rows:
            raise ODataError(412, "0x80040237", _DUPLICATE)
    return _written(store, call, table, key, {**changes, table.key: key}, body)


def put_column(store: Store, call: Call, table: Table, key: str, name: str) -> Answer:
    """PUT `/<set>(<id>)/<column>` with `{"value": ..}`; DELETE of the same URL clears the column."""
    column = table.columns.get(name)
    if column is None or column.wire != name or column.readonly or name == table.key:
        raise no_segment(name)
    if not _conditions(store, call, table, key):
        raise no_row(table.name, key)
    value = call.json(table.set_name).get("value") if call.method == "PUT" else None
    changes = from_payload(store, table, {name: value}, store.data[table.name].rows[key])
    return _written(store, call, table, key, changes, {name: value})


def delete(store: Store, call: Call, table: Table, key: str) -> Answer:
    """DELETE: 204. Raises 404 when it is gone already, 412 when `If-Match` names another version."""
    if not _conditions(store, call, table, key):
        raise no_row(table.name, key)
    store.drop(table.name, key)
    _log(store, call, table, key, None)
    return Answer(204)


def _conditions(store: Store, call: Call, table: Table, key: str) -> bool:
    """True when the row exists and may be written. Raises the 404 and 412 of 7.4."""
    row = store.data[table.name].rows.get(key)
    wanted = call.header("If-Match")
    if wanted and row is None:
        raise no_row(table.name, key)
    if row is not None and wanted not in ("", "*", f'W/"{row["versionnumber"]}"'):
        text = "The version of the existing record doesn't match the RowVersion property provided."
        raise ODataError(412, "0x80060882", text)
    if row is not None and call.header("If-None-Match") in ("*", f'W/"{row["versionnumber"]}"'):
        raise ODataError(412, "0x80040237", _DUPLICATE)
    return row is not None


def _written(store: Store, call: Call, table: Table, key: str, changes: Mapping[str, Any], body: Mapping[str, Any]) -> Answer:
    """Applies a checked write and answers it: 204, or the row for `return=representation`."""
    existed = key in store.data[table.name].rows
    shown = call.prefer.get("return") == "representation"
    answer = Answer(204)
    security.may_write(store.secured, store.settings, table, changes.keys())
    selected(call, table)  # a wrong $select must not leave a write behind
    row = store.put(table.name, key, activities.checked(store, table, key, changes), APP_USER)
    if not existed:
        activities.follow_up(store, table, row)
    _log(store, call, table, key, body)
    url = f"{call.root}{table.set_name}({key})"
    if shown:
        answer = represented(store, call, table, row, 200 if existed else 201)
    else:
        answer.headers["OData-EntityId"] = url
    answer.entity = url
    return answer


def _log(store: Store, call: Call, table: Table, key: str, body: Mapping[str, Any] | None) -> None:
    version, at = store.version, store.now_text()
    entry = {"table": table.name, "id": key, "method": call.method, "body": body, "version": version, "at": at}
    store.writes.append(entry)
