"""An environment of Dynamics with all its state, and what other users and operators do to it."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any
from uuid import uuid4

from sandbox.dynamics import activities, data, restoring, schema
from sandbox.dynamics.access import Limits, Tokens
from sandbox.dynamics.permissions import Permission
from sandbox.dynamics.service import Service
from sandbox.dynamics.settings import Settings
from sandbox.dynamics.store import Row, Store
from sandbox.dynamics.tables import OTHER_USER, Column
from sandbox.dynamics.values import raw
from sandbox.dynamics.wire import Answer, Call, ODataError, no_row
from sandbox.web import Ledger


class DynamicsEnvironment:
    """One environment. `clock` gives an aware UTC time; `settings` may be changed at any moment.

    The methods edit rows as another user of Dynamics would: versions rise, `modifiedby` is not the connector.
    They raise KeyError for an unknown table and ODataError for values that the table cannot take.
    """

    def __init__(self, settings: Settings | None = None, clock: Callable[[], datetime] = lambda: datetime.now(UTC)) -> None:
        self.settings = settings or Settings()
        self._initial = copy.copy(self.settings)
        self.ledger = Ledger()
        self.store = Store(self.settings, clock)
        self.tokens = Tokens(self.settings, self.store.now)
        self.limits = Limits(self.settings, self.store.now)
        self.backups: dict[str, restoring.Backup] = {}
        self.service = Service(self.store, lambda call: self.unknown(call.method, call.path), self._struck)

    def upsert(self, table: str, row: Mapping[str, Any], modifiedon: str = "") -> str:
        """Creates or changes a row given by logical column names; gives its id. `modifiedon`: as imports set it (2026-03-01T12:00:00Z)."""
        definition = self.store.tables[table]
        changes = raw(self.store, definition, row)
        key: str = changes.setdefault(definition.key, str(uuid4()))
        created = key not in self.store.data[table].rows
        row = self.store.put(table, key, changes, OTHER_USER, modifiedon)
        if created:
            activities.follow_up(self.store, definition, row)
        return key

    def delete(self, table: str, key: str) -> None:
        """Raises ODataError 404 when there is no such row."""
        if key not in self.store.data[table].rows:
            raise no_row(table, key)
        self.store.drop(table, key)

    def rows(self, table: str) -> list[Row]:
        """All rows by logical column names, by primary key; not to be changed."""
        stored = self.store.data[table]
        return [stored.rows[key] for key in stored.ids]

    def load(self, contacts: int = 0, vehicles: int = 0, seed: int = 1) -> dict[str, int]:
        return data.load(self.store, contacts, vehicles, seed)

    def churn(self, seed: int = 1, updates: int = 0, inserts: int = 0, deletes: int = 0) -> dict[str, Any]:
        return data.churn(self.store, seed, updates, inserts, deletes)

    def secure(self, table: str, column: str, permission: Permission | None) -> None:
        """The column is secured from now on, and this is what the application user may do with it; None: it is secured no more."""
        name = self.store.tables[table].columns[column].name
        self.store.secured.pop((table, name), None)
        if permission is not None:
            self.store.secured[table, name] = permission

    def add_column(self, table: str, column: Column) -> None:
        """From now on in every row; the table's delta tokens expire [4.7]."""
        schema.add_column(self.store, table, column)

    def add_option(self, table: str, column: str, value: int, label: str | None) -> None:
        """From now on rows may hold it; the metadata show it after `metadata_lag_s`. None: with a label that is null."""
        schema.add_option(self.store, table, column, value, label)

    def remove_column(self, table: str, name: str) -> None:
        schema.remove_column(self.store, table, name)

    def rename_column(self, table: str, old: str, new: str) -> None:
        """Values stay. Raises ValueError for a column that the stand-in itself needs."""
        schema.rename_column(self.store, table, old, new)

    def rename_table(self, old: str, new: str, set_name: str = "") -> None:
        """Of a custom table; the set is called `<new>s` unless told otherwise. Raises ValueError."""
        schema.rename_table(self.store, old, new, set_name)

    def add_table(self, name: str) -> None:
        """A custom table without rows, with the column `new_name`; the set is called `<name>s`. Raises ValueError."""
        schema.add_table(self.store, name)

    def remove_table(self, name: str) -> None:
        """Of a custom table, with its rows. Raises ValueError for a built-in one."""
        schema.remove_table(self.store, name)

    def timeline(self, contact: str) -> list[Row]:
        """Whole rows of all activities regarding the contact, each with its `activitytypecode`, oldest first."""
        return activities.timeline(self.store, contact)

    def activities(self) -> dict[str, int]:
        """How many rows each activity table has, `activitypointer` left out."""
        return activities.counts(self.store)

    def backup(self) -> restoring.Backup:
        """For `restore`, which brings rows, tombstones and versions back to what they are now."""
        return restoring.backup(self.store)

    def restore(self, state: restoring.Backup) -> None:
        restoring.restore(self.store, state)

    def merge(self, loser: str, master: str) -> None:
        """Two contacts, as a person does. Raises ODataError 404."""
        restoring.merge(self.store, loser, master)

    def expire_tokens(self) -> None:
        """Every delta token given so far answers `0x80044352`."""
        self.store.expire_tokens()

    def advance(self, seconds: float) -> None:
        self.store.advance_s += seconds

    def writes(self, table: str = "", key: str = "") -> list[dict[str, Any]]:
        """What came through the Web API and was kept, oldest first."""
        return [w for w in self.store.writes if table in ("", w["table"]) and key.lower() in ("", w["id"])]

    def reset(self) -> None:
        """Everything as new, delta tokens and bearer tokens of before are dead."""
        vars(self.settings).update(vars(self._initial))
        self.ledger.clear()
        self.store.clear()
        self.tokens.revoke()
        self.limits.clear()
        self.backups.clear()

    def _struck(self, call: Call) -> Answer | None:
        """Of a fault of kind `operation`. A 401 in the middle of a batch means that the token has come to its end."""
        fault = self.ledger.struck(call.method, call.path, operation=True)
        if fault is None:
            return None
        if fault.status == 401:
            self.tokens.revoke()
        return ODataError(fault.status, fault.body, "An injected fault.").answer()

    def unknown(self, method: str, path: str) -> None:
        self.ledger.unknown_routes.append(f"{method} {path}")
