"""Plain reads: collections, single rows and counts [contract 3.2, 5, 7.4]."""

from __future__ import annotations

import json
import re
from bisect import bisect_right
from collections.abc import Iterator
from itertools import islice
from typing import Any
from urllib.parse import quote

from sandbox.dynamics import filters
from sandbox.dynamics.rows import Cookie, context, link, page_size, renderer
from sandbox.dynamics.store import Row, Store
from sandbox.dynamics.tables import Table
from sandbox.dynamics.wire import Answer, Call, ODataError, no_row, query_error, unsupported

OPTIONS = {"$select", "$filter", "$orderby", "$top", "$count", "$skiptoken"}
_PREFERENCES = ("odata.maxpagesize", "odata.include-annotations")


def refuse_other_options(call: Call, known: set[str]) -> None:
    """Raises 400 for `$skip`, 501 for options of the real thing that are not built here."""
    for name in call.query:
        if name == "$skip":
            raise query_error("Skip Clause is not supported in CRM")
        if (name.startswith("$") and name not in known) or name in ("fetchXml", "savedQuery", "userQuery"):
            raise unsupported(name)


def collection(store: Store, call: Call, table: Table) -> Answer:
    """One page. By primary key, which is the order without `$orderby`, too, pages go on after a key; else at a position in the result."""
    refuse_other_options(call, OPTIONS)
    render, cookie = renderer(store, call, table), Cookie.of(call)
    size, top = page_size(store, call), _top(store, call)
    if call.query.get("$orderby", table.key).removesuffix(" asc") != table.key:
        start = int(cookie.at) if cookie and cookie.at.isdigit() else 0
        rows = filters.ordered(_matching(store, call, table), call.query["$orderby"], table)[start : start + size + 1]
        at = str(start + size)
    else:
        rows = list(islice(_matching(store, call, table, cookie.at if cookie else ""), size + 1))
        at = rows[size - 1][table.key] if len(rows) > size else ""
    answer: dict[str, Any] = {"@odata.context": context(call, table)}
    if call.query.get("$count") == "true":
        answer["@odata.count"] = _count(store, call, table)
    page = rows[: size if top is None else min(size, top)]
    answer["value"] = [render(row) for row in page]
    if len(rows) > size and top is None:
        kept = {name: quote(value, safe="$,()'@:/") for name, value in call.query.items() if name != "$skiptoken"}
        token = Cookie(cookie.page + 1 if cookie else 2, at).encoded(table.key)
        answer["@odata.nextLink"] = link(call, table, kept | {"$skiptoken": token})
    return Answer(200, answer, call.applied(*_PREFERENCES))


def single(store: Store, call: Call, table: Table, key: str) -> Answer:
    """One row with its ETag; 304 when `If-None-Match` names its version."""
    refuse_other_options(call, {"$select"})
    row = store.data[table.name].rows.get(key)
    if row is None:
        raise no_row(table.name, key)
    etag = f'W/"{row["versionnumber"]}"'
    if call.header("If-None-Match") == etag:
        return Answer(304, None, {"ETag": etag})
    return represented(store, call, table, row, 200)


def represented(store: Store, call: Call, table: Table, row: Row, status: int) -> Answer:
    """The answer that carries one row."""
    body = {"@odata.context": context(call, table, "/$entity")} | renderer(store, call, table, single=True)(row)
    applied = call.applied("return", "odata.include-annotations")
    return Answer(status, body, {"ETag": f'W/"{row["versionnumber"]}"'} | applied)


def counted(store: Store, call: Call, table: Table) -> Answer:
    """`/<set>/$count`, which stops at the page limit."""
    refuse_other_options(call, {"$filter"})
    return plain_number(_count(store, call, table))


def plain_number(n: int) -> Answer:
    return Answer(200, str(n).encode(), {"Content-Type": "text/plain"})


def total_record_count(store: Store, call: Call) -> Answer:
    """`RetrieveTotalRecordCount(EntityNames=@p1)?@p1=["contact"]`: a snapshot, so possibly stale."""
    found = re.fullmatch(r"RetrieveTotalRecordCount\(EntityNames=(@\w+|\[.*\])\)", call.path)
    try:
        names = json.loads(call.query.get(found[1], found[1])) if found else None
    except ValueError:
        names = None
    if not isinstance(names, list) or any(str(name) not in store.tables for name in names):
        raise ODataError(400, "0x80040203", "EntityNames must be a list of logical names.")
    lag = store.settings.total_count_lag
    values = [max(0, len(store.data[name].rows) - lag) for name in names]
    result = {"Count": len(names), "IsReadOnly": False, "Keys": names, "Values": values}
    kind = f"{call.root}$metadata#Microsoft.Dynamics.CRM.RetrieveTotalRecordCountResponse"
    return Answer(200, {"@odata.context": kind, "EntityRecordCountCollection": result})


def _matching(store: Store, call: Call, table: Table, after: str = "") -> Iterator[Row]:
    """Rows that pass `$filter`, by primary key."""
    data = store.data[table.name]
    rows = (data.rows[key] for key in data.ids[bisect_right(data.ids, after) :])
    text = call.query.get("$filter")
    return filter(filters.compiled(text, filters.on_table(table)), rows) if text else iter(rows)


def _count(store: Store, call: Call, table: Table) -> int:
    return sum(1 for _ in islice(_matching(store, call, table), store.settings.page_limit))


def _top(store: Store, call: Call) -> int | None:
    """`$top`, which is ignored next to `odata.maxpagesize`."""
    text = call.query.get("$top")
    if text is None or "odata.maxpagesize" in call.prefer:
        return None
    if not text.isdigit():
        raise query_error(f"Invalid value '{text}' for $top query option found.")
    return int(text)
