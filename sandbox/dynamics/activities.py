"""What activities do beyond other rows: one id over all tables, closed rows, follow-up tasks, the timeline [contract 7.5, 10.1]."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from typing import Any
from uuid import uuid4

from sandbox.dynamics.activity_tables import CLOSED, POINTER, TASK
from sandbox.dynamics.store import Row, Store
from sandbox.dynamics.tables import APP_USER, Table
from sandbox.dynamics.wire import ODataError

_DUE = timedelta(days=3)
_TASKS = {  # role of the table -> subject and description of the task
    "click": ("Follow up on URL click", "Adobe campaign email clicked at {}"),
    "bounce": ("Reconcile email address", "Adobe campaign email bounced at {}. Check the email address of the contact."),
}


def checked(store: Store, table: Table, key: str, changes: Mapping[str, Any]) -> Mapping[str, Any]:
    """`changes` as they will be stored. Raises 412 for an id that another activity has, 400 `0x80040230` for a closed row."""
    if not table.activity:
        return changes
    row = store.data[table.name].rows.get(key)
    if row is None and key in store.data[POINTER].rows:
        raise ODataError(412, "0x80040237", "A record with matching key values already exists.")
    if row is not None and row["statecode"] in CLOSED and not _reopens(table, changes):
        text = "The object cannot be updated because it is inactive: Cannot update Closed or Cancelled Activity"
        raise ODataError(400, "0x80040230", text)
    if table.name == TASK and changes.get("statecode") == 1:
        return {"actualend": store.now_text(), **changes}
    return changes


def _reopens(table: Table, changes: Mapping[str, Any]) -> bool:
    """Re-opening comes first, edits in a call of their own."""
    return changes.get("statecode", 1) not in CLOSED and set(changes) <= {"statecode", "statuscode", table.key}


def follow_up(store: Store, table: Table, row: Row) -> None:
    """The task that the solution's processes make of a new click or bounce; part of the same transaction, not in `writes`."""
    on = {"click": store.settings.click_follow_up, "bounce": store.settings.bounce_follow_up}
    if not on.get(table.role):
        return
    subject, description = _TASKS[table.role]
    times = (row[column.name] for column in table.columns.values() if column.custom and column.type == "DateTime")
    task = {
        "subject": subject,
        "description": description.format(next(times, None) or row["createdon"]),
        "scheduledend": (store.now() + _DUE).strftime("%Y-%m-%dT%H:%M:%SZ"),
        "regardingobjectid": row["regardingobjectid"],
        "ownerid": row["ownerid"],
    }
    store.put(TASK, str(uuid4()), task, APP_USER)


def timeline(store: Store, contact: str) -> list[Row]:
    """The whole rows of all activities regarding the contact, oldest `createdon` first, then as they came."""
    pointers = [row for row in store.data[POINTER].rows.values() if row["regardingobjectid"] == contact.lower()]
    pointers.sort(key=lambda row: str(row["createdon"]))
    return [store.data[row["activitytypecode"]].rows[row["activityid"]] for row in pointers]


def counts(store: Store) -> dict[str, int]:
    """Rows of each activity table but the base."""
    return {name: len(store.data[name].rows) for name, table in store.tables.items() if table.activity and name != POINTER}
