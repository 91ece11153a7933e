"""The rows, their versions and their tombstones [contract 3.2, 4.11]. Everything in memory, for one event loop."""

from __future__ import annotations

import contextlib
from bisect import bisect_left, bisect_right, insort
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from sandbox.dynamics.activity_tables import POINTER, activity_tables
from sandbox.dynamics.permissions import Permissions
from sandbox.dynamics.settings import Settings
from sandbox.dynamics.tables import APP_USER, CURRENCY, ORGANIZATION, OTHER_USER, Table, standard_tables

Row = dict[str, Any]
_Undo = tuple["TableData", str, Row | None, int | None]
_SEEDED: dict[tuple[str, str], Row] = {
    ("systemuser", APP_USER): {"fullname": "# Adobe Campaign Connector"},
    ("systemuser", OTHER_USER): {"fullname": "Sofia Sales"},
    ("organization", ORGANIZATION): {"name": "Sandbox", "expirechangetrackingindays": 7},
    ("transactioncurrency", CURRENCY): {"currencyname": "US Dollar"},
}


@dataclass
class TableData:
    """`ids` is sorted. `log` holds (version, id) of every write, ascending; only the last of an id still counts."""

    rows: dict[str, Row] = field(default_factory=dict)
    ids: list[str] = field(default_factory=list)
    deleted: dict[str, int] = field(default_factory=dict)
    log: list[tuple[int, str]] = field(default_factory=list)
    oldest_token: int = 0  # tokens of earlier versions have expired

    def changed(self, since: int, upto: int) -> Iterator[tuple[int, str, bool]]:
        """(version, id, deleted) after `since` up to `upto`, by version; both for an id deleted and created again."""
        for version, key in self.log[bisect_right(self.log, (since, "~")) : bisect_right(self.log, (upto, "~"))]:
            row = self.rows.get(key)
            if row is not None and row["versionnumber"] == version:
                yield version, key, False
            elif self.deleted.get(key) == version:
                yield version, key, True

    def known(self, since: int, n: int) -> list[tuple[int, str]]:
        """The `n` latest rows that did not change after `since`."""
        found: list[tuple[int, str]] = []
        for at in range(bisect_right(self.log, (since, "~")) - 1, -1, -1):
            if len(found) >= n:
                break
            version, key = self.log[at]
            if key in self.rows and self.rows[key]["versionnumber"] == version:
                found.append((version, key))
        return found

    def place(self, key: str, row: Row | None) -> None:
        """Puts or, for None, removes a row; keeps `ids` sorted."""
        if row is None:
            if self.rows.pop(key, None) is not None:
                del self.ids[bisect_left(self.ids, key)]
            return
        if key not in self.rows:
            insort(self.ids, key)
        self.rows[key] = row


class Store:
    """All tables. `writes` lists what came through the Web API. One version counter for the whole database."""

    def __init__(self, settings: Settings, clock: Callable[[], datetime]) -> None:
        self.settings, self._clock = settings, clock
        self.version = 0
        self.clear()

    def clear(self) -> None:
        """Back to no rows but the seeded ones; versions go on rising, so that older delta tokens have expired."""
        self.tables: dict[str, Table] = standard_tables() | activity_tables()
        self.sets = {table.set_name: table for table in self.tables.values()}
        self.data = {name: TableData() for name in self.tables}
        self.writes: list[dict[str, Any]] = []
        self.secured: Permissions = {}
        self.options_added: dict[tuple[str, str, int], float] = {}  # when, by table, column and value
        self._undo: list[_Undo] | None = None
        self.advance_s = 0.0
        self.version = max(self.version + 1, int(self.now().timestamp() * 1000))
        self.expire_tokens()
        for (table, key), values in _SEEDED.items():
            self.put(table, key, values, OTHER_USER)

    def now(self) -> datetime:
        return datetime.fromtimestamp(self._clock().timestamp() + self.advance_s + self.settings.clock_ahead_s, UTC)

    def now_text(self) -> str:
        return self.now().strftime("%Y-%m-%dT%H:%M:%SZ")

    def bump(self) -> int:
        self.version += 1
        return self.version

    def expire_tokens(self, table: str = "") -> None:
        """Delta tokens given so far, of one table or all, end with `0x80044352`."""
        version = self.bump()
        for name in [table] if table else self.data:
            self.data[name].oldest_token = version

    def put(self, name: str, key: str, changes: Mapping[str, Any], by: str, modifiedon: str = "") -> Row:
        """Creates or changes one row with values that were checked before; stamps version, times and `by`. An import may set `modifiedon`
        to what it likes [4.11]."""
        data, now = self.data[name], modifiedon or self.now_text()
        old = data.rows.get(key)
        row: Row = {**(old or self._blank(name, key, changes.get("overriddencreatedon") or now)), **changes}
        row.update(versionnumber=self.bump(), modifiedon=now, modifiedby=by)
        if "firstname" in row:
            parts = (row.get(name) for name in ("firstname", "middlename", "lastname"))
            row["fullname"] = " ".join(part for part in parts if part)[:160] or None
        self._remember(data, key)
        data.place(key, row)
        data.log.append((row["versionnumber"], key))
        if self.tables[name].activity:
            self._point(key, row)
        return row

    def drop(self, name: str, key: str) -> None:
        """Deletes an existing row and leaves its tombstone."""
        data = self.data[name]
        self._remember(data, key)
        data.place(key, None)
        data.deleted[key] = self.bump()
        data.log.append((self.version, key))
        if self.tables[name].activity:
            self._point(key, None)

    @contextlib.contextmanager
    def transaction(self) -> Iterator[None]:
        """All writes of the block, or none if it raises. Cannot be nested."""
        self._undo, writes = [], len(self.writes)
        try:
            yield
        except BaseException:
            for data, key, row, deleted in reversed(self._undo):
                data.place(key, row)
                data.deleted.pop(key, None)
                if deleted is not None:
                    data.deleted[key] = deleted
            del self.writes[writes:]
            raise
        finally:
            self._undo = None

    def target_of(self, targets: tuple[str, ...], key: str) -> str | None:
        """Which of the tables holds the row that a lookup leads to."""
        return next((name for name in targets if name in self.data and key in self.data[name].rows), None)

    def _point(self, key: str, row: Row | None) -> None:
        """Keeps the row of `activitypointer` that every activity has, with what both tables know."""
        data = self.data[POINTER]
        self._remember(data, key)
        names = self.tables[POINTER].columns
        data.place(key, row and {name: row.get(name) for name in names} | {"statuscode": row["statecode"] + 1})

    def _remember(self, data: TableData, key: str) -> None:
        if self._undo is not None:
            self._undo.append((data, key, data.rows.get(key), data.deleted.get(key)))

    def _blank(self, name: str, key: str, created: str) -> Row:
        table = self.tables[name]
        row = {column.name: column.default for column in table.columns.values()}
        return row | {table.key: key, "createdon": created}
