"""One authorized call: from the path to the operation, and the answer with its accounting (contract 2.2, 4.1, 9.1)."""

from __future__ import annotations

import json
import time
from collections.abc import Collection
from http import HTTPStatus
from typing import Any
from urllib.parse import unquote

from aiohttp import web

from sandbox.campaign import errors, metadata, reading, writing
from sandbox.campaign.accounting import Accounting
from sandbox.campaign.errors import AcsError
from sandbox.campaign.model import BASE, FAMILIES
from sandbox.campaign.reading import Call
from sandbox.campaign.store import Database
from sandbox.web import Ledger


def _json(payload: Any, status: int = HTTPStatus.OK) -> web.Response:
    return web.Response(body=json.dumps(payload).encode(), status=status, content_type="application/json")


def _body(raw: bytes, method: str) -> dict[str, Any]:
    """One JSON object; nothing at all is fine for a PATCH. Raises AcsError, for a list, too: there is no bulk (S17)."""
    if not raw and method == "PATCH":
        return {}
    try:
        body = json.loads(raw)
    except ValueError:
        body = None
    if not isinstance(body, dict):
        raise errors.unparsable(raw[:40].decode(errors="replace"))
    return body


class Engine:
    """Runs calls against the database."""

    def __init__(self, database: Database, accounting: Accounting, ledger: Ledger) -> None:
        self.database, self.accounting, self.ledger = database, accounting, ledger
        self.publishing_until = 0.0

    async def run(self, request: web.Request, organization: str, tail: str) -> web.Response:
        """`tail` is the raw path after `/campaign/`. Raises AcsError."""
        root = f"{request.scheme}://{request.host}/{organization}/campaign"
        family, _, rest = tail.partition("/")
        segments = [unquote(segment) for segment in rest.split("/")]
        if family not in FAMILIES:
            raise self.unknown(request)
        if family != BASE and self.publishing_until and time.monotonic() < self.publishing_until:
            raise errors.not_published()
        if request.method == "GET" and segments == [""]:
            return _json(metadata.resource_list(self.database, root, family))
        about_type = segments[0] == "resourceType"
        name = segments[1] if about_type else segments[0].removesuffix(".json")
        table = self.database.tables.get(name)
        if table is None or family not in table.resource.families:
            raise self.unknown(request)
        if not table.resource.published:
            raise errors.not_published()
        self.accounting.called(name, request.method)
        call = Call(request.method, root, family, table, segments[2:] if about_type else segments[1:], request.query)
        if about_type:
            call.rest = ["metadata", *call.rest]
        if request.method == "GET":
            return _json(self.read(call, request))
        return self.write(call, await request.read(), request)

    def unknown(self, request: web.Request) -> AcsError:
        """Recorded, so that a test can assert that the client asks for nothing that does not exist."""
        self.ledger.unknown_routes.append(f"{request.method} {request.path_qs}")
        return errors.not_published()

    def read(self, call: Call, request: web.Request) -> dict[str, Any]:
        database, resource, rest = self.database, call.table.resource, call.rest
        filters = reading.filters_of(resource, call.family)
        names = [segment for segment in rest if segment]
        if not names or names[0] in filters or names[-1] in ("_count", "metadata", "filters"):
            return self._many(call, names, filters, request)
        if len(names) == 1 and names[0] in resource.template and resource.visible(names[0], call.family):
            self.accounting.operations["other"] += 1
            return reading.attribute(database, call, names[0])
        row = database.find(call.table, call.family, names[0])
        if len(rest) == 1:
            self.accounting.read(resource.name, call.table.key_of(row))
            return reading.item(database, call, row, with_href=False)
        field = resource.visible(names[1], call.family) if len(names) == 2 else None
        if field is None or field.type != "collection":
            raise self.unknown(request)
        self.accounting.operations["other"] += 1
        return {"content": [], "serverSidePagination": True}

    def _many(self, call: Call, names: list[str], filters: Collection[str], request: web.Request) -> dict[str, Any]:
        """What is about no single row."""
        database, resource = self.database, call.table.resource
        self.accounting.operations["other"] += 1
        if names == ["metadata"]:
            return metadata.resource_type(database, call.root, call.family, resource)
        if names == ["metadata", "filters"]:
            return metadata.filters(database, call.family, resource)
        chain = names[:-1] if names[-1:] == ["_count"] else names
        wrong = next((name for name in chain if name not in filters), None)
        if wrong is not None:
            raise errors.not_a_key(wrong) if wrong.startswith("by") else self.unknown(request)
        operation = reading.collection if chain is names else reading.count
        return operation(database, call, chain)

    def write(self, call: Call, raw: bytes, request: web.Request) -> web.Response:
        """POST to the collection, PATCH and DELETE of one record; anything else is no route."""
        key = call.rest[0] if call.rest else ""
        wanted = "POST" if not key and len(call.rest) < 2 else ""
        if call.method not in ((wanted,) if wanted else ("PATCH", "DELETE")) or len(call.rest) > 1:
            raise self.unknown(request)
        body: dict[str, Any] | None = None
        try:
            body = None if call.method == "DELETE" else _body(raw, call.method)
            if body is not None and call.method == "POST":
                return self._create(call, body)
            return self._change(call, key, body)
        except AcsError as error:
            key = key or str((body or {}).get(call.table.resource.key, ""))
            self.accounting.wrote(call.table.resource.name, key, call.method, body, error.status)
            raise

    def _create(self, call: Call, body: dict[str, Any]) -> web.Response:
        row = writing.create(self.database, call.table, call.family, body)
        self.accounting.wrote(call.table.resource.name, call.table.key_of(row), "POST", body, HTTPStatus.CREATED)
        answer = reading.item(self.database, call, row, with_href=True, with_links=False)
        return _json(answer, HTTPStatus.CREATED)

    def _change(self, call: Call, key: str, body: dict[str, Any] | None) -> web.Response:
        """PATCH with a body, DELETE without."""
        database, table, settings = self.database, call.table, self.database.settings
        row = database.find(table, call.family, key)
        business_key = table.key_of(row)
        if body is None:
            writing.delete(database, table, row)
            profile = table.resource.name == "profile"
            status = settings.profile_delete_status if profile else settings.resource_delete_status
            self.accounting.wrote(table.resource.name, business_key, "DELETE", None, status)
            return web.Response(status=status)
        changed, unchanged_flags = writing.update(database, table, call.family, row, body, not key.startswith("@"))
        self.accounting.unchanged_updates += not changed
        self.accounting.unchanged_opt_out_writes += len(unchanged_flags)
        self.accounting.wrote(table.resource.name, table.key_of(row) or business_key, "PATCH", body, HTTPStatus.OK)
        pkey = database.pkey(table, row, call.family)
        return _json({"PKey": pkey, "href": f"{call.url}/{pkey}"})
