"""Changes of tables and columns while the stand-in runs: what an administrator of the environment does, and other names."""

from __future__ import annotations

import re
from dataclasses import replace

from sandbox.dynamics import tables
from sandbox.dynamics.activity_tables import POINTER
from sandbox.dynamics.store import Store, TableData
from sandbox.dynamics.tables import Column, Table, common


def add_column(store: Store, table: str, column: Column) -> None:
    """From now on in every row; the table's delta tokens expire [4.7]."""
    if column.name in store.tables[table].columns:
        raise ValueError(f"{table} has {column.name} already")
    store.tables[table].columns[column.name] = column
    for row in store.data[table].rows.values():
        row.setdefault(column.name, column.default)
    store.expire_tokens(table)


def add_option(store: Store, table: str, column: str, value: int, label: str | None) -> None:
    """Of a choice column; metadata that are cached know it `metadata_lag_s` later [2]. `label` None: the label is there, but null."""
    definition = store.tables[table].columns[column]
    store.tables[table].columns[column] = replace(definition, options={**definition.options, value: label})
    store.options_added[table, column, value] = store.now().timestamp()


def remove_column(store: Store, table: str, name: str) -> None:
    del store.tables[table].columns[_free(store, table, name)]
    for row in store.data[table].rows.values():
        row.pop(name, None)
    store.expire_tokens(table)


def rename_column(store: Store, table: str, old: str, new: str) -> None:
    """The column keeps its place, its label and its values."""
    definition = store.tables[table]
    if new in definition.columns:
        raise ValueError(f"{table} has {new} already")
    renamed = replace(definition.columns[_free(store, table, old)], name=new, schema="")
    definition.columns = {column.name: column for column in (renamed if one.name == old else one for one in definition.columns.values())}
    for row in store.data[table].rows.values():
        row[new] = row.pop(old)
    store.expire_tokens(table)


def rename_table(store: Store, old: str, new: str, set_name: str = "") -> None:
    """Rows, columns, key and label stay; the navigation properties of activities follow the new name."""
    table, set_name = _own(store, old), set_name or f"{new}s"
    if not re.fullmatch(r"[a-z]\w*_\w+", new) or new in store.tables or set_name in store.sets:
        raise ValueError(f"{new} or {set_name} is taken or not the name of a custom table")
    table.name, table.set_name = new, set_name
    table.columns = {name: _moved(column, old, new) for name, column in table.columns.items()}
    _replaced(store, {table.name if name == old else name: data for name, data in store.data.items()}, old, (new,))
    if table.activity:
        for key, row in store.data[new].rows.items():
            row["activitytypecode"] = store.data[POINTER].rows[key]["activitytypecode"] = new


def add_table(store: Store, name: str) -> None:
    """A custom table with nothing but a name, `new_name`, of its own."""
    if not re.fullmatch(r"[a-z]\w*_\w+", name) or name in store.tables or f"{name}s" in store.sets:
        raise ValueError(f"{name} is taken or not the name of a custom table")
    made = store.tables[name] = tables.table(name, f"{name}s", name, 20_000 + len(store.tables), "new_name", tables.text(100, "new_name"))
    store.sets[made.set_name], store.data[name] = made, TableData()


def remove_table(store: Store, name: str) -> None:
    """With its rows, as if the solution that brought it was uninstalled."""
    table = _own(store, name)
    if table.activity:
        for key in store.data[name].rows:
            store.data[POINTER].place(key, None)
    del store.tables[name]
    _replaced(store, {other: data for other, data in store.data.items() if other != name}, name, ())


def _free(store: Store, table: str, name: str) -> str:
    """Raises ValueError for a column that the stand-in itself needs, KeyError for one that is not there."""
    definition = store.tables[table]
    needed = ("transactioncurrencyid", *(one.name for one in common())) + ("regardingobjectid", "activitytypecode") * definition.activity
    if name in (definition.key, definition.primary_name, *needed):
        raise ValueError(f"{name} cannot be removed or renamed")
    return definition.columns[name].name


def _own(store: Store, name: str) -> Table:
    if not store.tables[name].custom:
        raise ValueError(f"{name} is built in")
    return store.tables[name]


def _moved(column: Column, old: str, new: str) -> Column:
    nav = f"{column.nav.removesuffix(old)}{new}" if column.nav.endswith(f"_{old}") else column.nav
    return replace(column, nav=nav, default=new if column.name == "activitytypecode" else column.default)


def _replaced(store: Store, data: dict[str, TableData], old: str, targets: tuple[str, ...]) -> None:
    """Every index by name rebuilt; lookups to `old` lead to `targets` instead."""
    store.data = data
    store.tables = {table.name: table for table in store.tables.values()}
    store.sets = {table.set_name: table for table in store.tables.values()}
    for table in store.tables.values():
        for name, column in table.columns.items():
            if old in column.targets:
                kept = tuple(target for target in column.targets if target != old)
                table.columns[name] = replace(column, targets=(*kept, *targets))
