"""Change tracking: the first load, deltas and their tokens [contract 4].

A first load is paged by primary key; its token is the version of the last page's moment (switch `first_load_gap`). A
delta is fixed by two versions, the token's and that of its first page; what changes later belongs to the next delta.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import quote
from zlib import crc32

from sandbox.dynamics.reading import plain_number
from sandbox.dynamics.rows import Cookie, context, link, page_size, renderer
from sandbox.dynamics.store import Store
from sandbox.dynamics.tables import Table
from sandbox.dynamics.wire import Answer, Call, ODataError, query_error

_PREFERENCES = ("odata.track-changes", "odata.maxpagesize", "odata.include-annotations")
_TIME = "%m/%d/%Y %H:%M:%S"
Item = tuple[int, int, str, bool]  # group (upserts before deletes), order within it, id, deleted


def is_tracked(call: Call) -> bool:
    """A token in the link alone is enough."""
    cookie = Cookie.of(call)
    return "odata.track-changes" in call.prefer or "$deltatoken" in call.query or bool(cookie and cookie.tracking)


def read(store: Store, call: Call, table: Table) -> Answer:
    """One page of a first load or of a delta; the delta link stands on the last page, before `value`."""
    _check(store, call, table)
    cookie = Cookie.of(call)
    if cookie is not None and not cookie.tracking:
        raise query_error("The paging cookie belongs to a query without change tracking.")
    since, upto = (cookie.since, cookie.upto) if cookie else (0, store.version)
    if "$deltatoken" in call.query:
        since = _version(store, table, call.query["$deltatoken"])
    elif since and since < store.data[table.name].oldest_token:
        raise _expired(store)
    first = since == 0
    at = cookie.at if cookie else ""
    values, resume = (_first_load if first else _delta)(store, call, table, since, upto, at)
    answer: dict[str, Any] = {"@odata.context": context(call, table, "" if first else "/$delta")}
    select = {"$select": quote(call.query["$select"], safe=",")} if call.query.get("$select") else {}
    if resume is not None:
        token = Cookie(cookie.page + 1 if cookie else 2, resume, True, since, upto).encoded(table.key)
        answer["@odata.nextLink"] = link(call, table, select | {"$skiptoken": token})
    elif _link_is_given(store, call, table):
        reached = store.version if first and store.settings.first_load_gap == "lost" else upto
        encoded = re.sub("%..", lambda hit: hit[0].lower(), quote(f"{reached}!{store.now().strftime(_TIME)}", safe=""))
        answer["@odata.deltaLink"] = link(call, table, select | {"$deltatoken": encoded})
    answer["value"] = values
    return Answer(200, answer, call.applied(*_PREFERENCES))


def count(store: Store, call: Call, table: Table) -> Answer:
    """`/<set>/$count?$deltatoken=..`: changes since the token, deletions included."""
    _check(store, call, table)
    since = _version(store, table, call.query["$deltatoken"])
    return plain_number(len(_items(store, table, since, store.version)))


def _first_load(store: Store, call: Call, table: Table, _: int, __: int, at: str) -> tuple[list[Any], str | None]:
    """The page's rows, and where the next page resumes (None on the last)."""
    render, data, size = renderer(store, call, table), store.data[table.name], page_size(store, call)
    start = bisect_right(data.ids, at)
    keys = data.ids[start : start + size]
    more = len(data.ids) > start + size
    return [render(data.rows[key]) for key in keys], keys[-1] if more else None


def _delta(store: Store, call: Call, table: Table, since: int, upto: int, at: str) -> tuple[list[Any], str | None]:
    render, data, size = renderer(store, call, table), store.data[table.name], page_size(store, call)
    items = _items(store, table, since, upto)
    group, _, order = at.partition(".")
    start = bisect_right(items, (int(group), int(order), "~", True)) if at else 0
    page = items[start : start + size]
    tombstone = f"{call.root}$metadata#{table.set_name}/$deletedEntity"
    rows = [
        {"@odata.context": tombstone, "id": key, "reason": "deleted"} if deleted else render(data.rows[key]) for _, _, key, deleted in page
    ]
    return rows, f"{page[-1][0]}.{page[-1][1]}" if len(items) > start + size else None


def _items(store: Store, table: Table, since: int, upto: int) -> list[Item]:
    """The delta in its order; one item per row, unless `same_guid` is "both"."""
    data, settings = store.data[table.name], store.settings
    items = [(version, key, False) for version, key in data.known(since, settings.repeats)]
    for version, key, deleted in data.changed(since, upto):
        if not deleted or key not in data.rows or settings.same_guid == "both":
            items.append((version, key, deleted))
    if settings.shuffle:
        return sorted((0, crc32(b"%d" % version) << 64 | version, key, deleted) for version, key, deleted in items)
    return sorted((int(deleted), version, key, deleted) for version, key, deleted in items)


def _check(store: Store, call: Call, table: Table) -> None:
    """Raises what Dataverse says before it looks at a token: options, privilege, table not enabled."""
    for name in call.query:
        if name.startswith("$") and name not in ("$select", "$deltatoken", "$skiptoken"):
            raise query_error(f'The "{name}" query parameter isn\'t supported when Change Tracking is enabled.')
    if not store.settings.global_read:
        text = f"SecLib::CheckPrivilege failed. ObjectTypeCode: {table.code}, Required Depth: Global"
        raise ODataError(403, "0x80040220", text)
    if not table.tracked and store.settings.not_enabled == "error":
        raise ODataError(400, "0x80072491", f"Entity {table.name} isn't enabled for change tracking.")


def _link_is_given(store: Store, call: Call, table: Table) -> bool:
    annotated = "odata.include-annotations" in call.prefer and store.settings.annotations_lose_link
    return table.tracked and not annotated


def _version(store: Store, table: Table, token: str) -> int:
    """The version of a delta token. Raises 400 `0x80060888` (not one of ours) or `0x80044352` (expired)."""
    version, _, time = token.partition("!")
    try:
        since, issued = int(version), datetime.strptime(time, _TIME).replace(tzinfo=UTC)
    except ValueError as exc:
        raise query_error("The delta token is not valid.") from exc
    if since > store.version and since > 0:
        since = _future(store, table, since, issued)
    if since <= 0:
        raise query_error("The delta token is not valid.")
    old = store.now() - issued > timedelta(days=store.settings.retention_days)
    if old or since < store.data[table.name].oldest_token:
        raise _expired(store)
    return since


def _future(store: Store, table: Table, since: int, issued: datetime) -> int:
    """What a token of a later state, before a backup was restored, stands for; nobody documents it. Raises 400 or what has expired."""
    match store.settings.future_token:
        case "refused":
            raise query_error("The delta token is not valid.")
        case "expired":
            raise _expired(store)
        case "empty":
            return since
    at = issued.strftime("%Y-%m-%dT%H:%M:%SZ")
    return max((row["versionnumber"] for row in store.data[table.name].rows.values() if row["modifiedon"] < at), default=1)


def _expired(store: Store) -> ODataError:
    text = "Version stamp associated with the client has expired. Please perform a full sync."
    return ODataError(store.settings.expired_status, "0x80044352", text)
