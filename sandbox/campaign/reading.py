"""Items, collections, pages, counts and filters (contract 3)."""

from __future__ import annotations

import base64
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import date
from itertools import islice
from typing import Any
from urllib.parse import urlencode

from multidict import MultiMapping

from sandbox.campaign import errors
from sandbox.campaign.model import BASE, SCALARS, Resource
from sandbox.campaign.store import Database, Row, Table

Predicate = Callable[[dict[str, Any]], bool]
STANDARD_FILTERS = {"byEmail": ("email",), "byKeysProfile": ("email",), "byText": ("text", "filterType")}


@dataclass(slots=True)
class Call:
    """One engine call: `root` is `<scheme>://<host>/<organization>/campaign`, `rest` the path after the resource."""

    method: str
    root: str
    family: str
    table: Table
    rest: list[str]
    query: MultiMapping[str]

    @property
    def url(self) -> str:
        return f"{self.root}/{self.family}/{self.table.resource.name}"


def _age(birth_date: str, today: str) -> int:
    born, now = date.fromisoformat(birth_date), date.fromisoformat(today)
    return now.year - born.year - ((now.month, now.day) < (born.month, born.day))


def _computed(row: Row, item: dict[str, Any], today: str) -> dict[str, Any]:
    """A profile's computed members."""
    first, last, email, place = item["firstName"], item["lastName"], item["email"], item["location"]
    name = f"{first} {last}".strip()
    lines = {"line1": f"{first} {last.upper()}".strip()} | {f"line{n + 1}": place[f"address{n}"] for n in range(1, 5)}
    lines["line6"] = f"{place['zipCode']} {place['city']}".strip()
    lines["serialized"] = "\n".join(lines.values())
    return {
        "age": _age(item["birthDate"], today) if item["birthDate"] else 0,
        "cryptedId": base64.b64encode(f"crypted:{row.id:016d}".encode()).decode(),
        "domain": email.partition("@")[2],
        "postalAddress": {**item["postalAddress"], **lines, "addrDefined": bool(place["city"])},
        "title": f"{name} ({email})".strip() if email else name,
    }


def plain(database: Database, table: Table, row: Row) -> dict[str, Any]:
    """A row with its defaults and computed members, without PKey, links and href."""
    resource = table.resource
    item = {**resource.template, **row.values}
    for name, value in row.values.items():
        if isinstance(value, dict):
            item[name] = {**resource.template[name], **value}
    if resource.name == "profile":
        item |= _computed(row, item, database.clock.stamp()[:10])
    return item


def label(resource: Resource, item: dict[str, Any]) -> str:
    return str(item.get("title") or item.get("label") or item.get("cusName") or item.get(resource.key, ""))


def item(database: Database, call: Call, row: Row, *, with_href: bool, with_links: bool = True) -> dict[str, Any]:
    """What the API answers for a row, names in alphabetical order, capitals first (3.2)."""
    table = call.table
    answer = plain(database, table, row)
    if call.family == BASE:
        answer = {name: value for name, value in answer.items() if name in table.resource.base_template}
    answer["PKey"] = pkey = database.pkey(table, row, call.family)
    if with_href:
        answer["href"] = f"{call.url}/{pkey}"
    if "subscriptions" in table.resource.fields:
        answer["subscriptions"] = {"href": f"{call.url}/{pkey}/subscriptions/"}
    for link in table.resource.links if with_links else ():
        parent = database.parent(link, row)
        if parent is not None and not database.hidden(database.tables[link.target], parent):
            answer[link.name] = _linked(database, call, database.tables[link.target], parent)
    return dict(sorted(answer.items()))


def _linked(database: Database, call: Call, target: Table, parent: Row) -> dict[str, Any]:
    pkey, values = database.pkey(target, parent, "link"), plain(database, target, parent)
    href = f"{call.root}/{call.family}/{target.resource.name}/{pkey}"
    title = label(target.resource, values)
    return {"PKey": pkey, "href": href, "label": title, "name": target.key_of(parent), "title": title}


def filters_of(resource: Resource, family: str) -> dict[str, tuple[str, ...]]:
    """Names and parameters of filters: the custom one, an Equal on the key, is unknown to /profileAndServices."""
    found = dict(STANDARD_FILTERS) if resource.name == "profile" else {}
    if resource.custom_filter and family != BASE:
        found[resource.custom_filter] = (f"{resource.key}_parameter",)
    return found


def _predicate(resource: Resource, name: str, query: MultiMapping[str]) -> Predicate:
    if name == resource.custom_filter:
        wanted = query.get(f"{resource.key}_parameter", "")
        return lambda values: bool(values[resource.key] == wanted)
    if name == "byText":
        text, only = query.get("text", ""), query.get("filterType")
        names = (only,) if only else ("email", "lastName")
        return lambda values: any(str(values.get(each, "")).startswith(text) for each in names)
    email = query.get("email", "")
    return lambda values: bool(values["email"] == email)


def _matching(database: Database, call: Call, filters: Sequence[str], after: int) -> Iterator[Row]:
    """Visible rows that satisfy all filters, above the number `after`, in order of creation."""
    resource = call.table.resource
    if filters == [resource.custom_filter]:
        row = call.table.by_key.get(call.query.get(f"{resource.key}_parameter", ""))
        return iter([row] if row and row.id > after and not database.hidden(call.table, row) else [])
    rows = database.visible(call.table, after)
    if not filters:
        return rows
    predicates = [_predicate(resource, name, call.query) for name in filters]
    return (row for row in rows if all(fits({**resource.template, **row.values}) for fits in predicates))


def _position(database: Database, call: Call) -> int:
    """Where the page starts, from `_lineStart`; raises AcsError for one that was not issued."""
    token = call.query.get("_lineStart")
    if token is None:
        return 0
    subject, context = database.tokens.open(token) or ("", "")
    if context != "n":
        raise errors.unparsable(token)
    return int(subject)


def _ordered(database: Database, call: Call, filters: Sequence[str], start: int) -> Iterator[tuple[int, Row]]:
    """The rows from `start` on, each with the position after it: its number, or its rank where `_order` is given."""
    order = call.query.get("_order")
    if not order:
        return ((row.id, row) for row in _matching(database, call, filters, start))
    name, _, direction = order.partition(" ")
    field = call.table.resource.visible(name, call.family)
    if field is None or field.type not in SCALARS or direction not in ("", "asc", "desc"):
        raise errors.unknown_property(call.table.resource, name)
    rows = sorted(
        ((plain(database, call.table, row)[name], row) for row in _matching(database, call, filters, 0)),
        key=lambda pair: pair[0],
        reverse=direction == "desc",
    )
    return ((rank, row) for rank, (_, row) in enumerate(rows[start:], start + 1))


def _page(database: Database, call: Call, filters: Sequence[str]) -> tuple[list[Row], str | None]:
    """The page's rows, and the `_lineStart` of the next page if there is one to be had (3.4)."""
    size = call.query.get("_lineCount", "25")
    if not size.isdecimal() or not int(size):
        raise errors.unparsable(size)
    found = list(islice(_ordered(database, call, filters, _position(database, call)), int(size) + 1))
    big = len(call.table.rows) > database.settings.big_table and call.query.get("_forcePagination") != "true"
    more = len(found) > int(size) and not big
    token = database.tokens.seal(str(found[int(size) - 1][0]), "n", 20) if more else None
    return [row for _, row in found[: int(size)]], token


def _carried(database: Database, call: Call) -> list[tuple[str, str]]:
    """The query that hrefs repeat."""
    left = {"_lineStart"} if database.settings.next_keeps_force_pagination else {"_lineStart", "_forcePagination"}
    return [(name, value) for name, value in call.query.items() if name not in left]


def collection(database: Database, call: Call, filters: Sequence[str]) -> dict[str, Any]:
    rows, next_token = _page(database, call, filters)
    carried, path = _carried(database, call), "".join(f"{name}/" for name in filters)
    start = call.query.get("_lineStart") or database.tokens.seal("0", "n", 20)
    params = urlencode([*(pair for pair in carried if pair[0] != "_lineCount"), ("_lineStart", start)], safe="@")
    answer: dict[str, Any] = {
        "content": [item(database, call, row, with_href=True) for row in rows],
        "count": {"href": f"{call.url}//{path}_count?{params}"},
        "serverSidePagination": True,
    }
    if next_token is not None:
        answer["next"] = {"href": f"{call.url}/{path}?{urlencode([*carried, ('_lineStart', next_token)], safe='@')}"}
    elif "_lineStart" not in call.query and len(rows) <= (1 if filters else 0):
        answer["count"]["value"] = len(rows)
    return answer


def count(database: Database, call: Call, filters: Sequence[str]) -> dict[str, int]:
    return {"count": sum(1 for _ in _matching(database, call, filters, 0))}


def attribute(database: Database, call: Call, name: str) -> dict[str, Any]:
    """`GET .../profile/email`: one member of each row, without `count` (3.1)."""
    rows, next_token = _page(database, call, [])
    answer: dict[str, Any] = {"content": [plain(database, call.table, row)[name] for row in rows]}
    if next_token is not None:
        params = urlencode([*_carried(database, call), ("_lineStart", next_token)], safe="@")
        answer["next"] = {"href": f"{call.url}/{name}?{params}"}
    return answer
