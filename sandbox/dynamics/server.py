"""`DynamicsSandbox`: the stand-in as an object for tests, and as an aiohttp application."""

from __future__ import annotations

import asyncio
import copy
import time
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from typing import Any
from uuid import uuid4

from aiohttp import web

from sandbox.dynamics import activities, admin, batch, data, restoring, schema
from sandbox.dynamics.access import Limits, Tokens
from sandbox.dynamics.security import Permission
from sandbox.dynamics.service import Service
from sandbox.dynamics.settings import Settings
from sandbox.dynamics.store import Row, Store
from sandbox.dynamics.tables import OTHER_USER, Column
from sandbox.dynamics.values import raw
from sandbox.dynamics.wire import Answer, Call, ODataError, no_row
from sandbox.web import Handler, Ledger, counted, fault_routes

FOREIGN = "https://dynamics.example.net"
_ARRIVED = web.RequestKey("arrived", float)


class DynamicsSandbox:
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
        self.service = Service(self.store, lambda call: self._unknown(call.method, call.path), self._struck)

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

    def app(self) -> web.Application:
        """A fresh application over this environment."""
        app = web.Application(middlewares=[self._arrival(), counted(self.ledger, _group)], client_max_size=256 * 1024**2)
        app.add_routes(fault_routes(self.ledger) + admin.routes(self))
        app.router.add_post("/{tenant}/oauth2/v2.0/token", self._token)
        app.router.add_route("*", r"/api/data/{version:v9\.\d}/{path:.*}", self._web_api)
        app.router.add_route("*", "/{path:.*}", self._nothing)
        return app

    def _arrival(self) -> Any:
        """Middleware: notes when a request came, before injected faults hold it up."""

        @web.middleware
        async def middleware(request: web.Request, handler: Handler) -> web.StreamResponse:
            request[_ARRIVED] = self.store.now().timestamp()
            return await handler(request)

        return middleware

    async def _token(self, request: web.Request) -> web.Response:
        form: dict[str, str] = {}
        if request.content_type == "application/x-www-form-urlencoded":
            form = {name: str(value) for name, value in (await request.post()).items()}
        return _response(self.tokens.issue(request.match_info["tenant"], form, _root(request)), {})

    async def _web_api(self, request: web.Request) -> web.Response:
        refused = self.tokens.check(request.headers.get("Authorization", ""), _root(request))
        limit = self.limits.refused(self.ledger.in_flight, request[_ARRIVED]) if refused is None else None
        answer = refused or (limit.answer() if limit else await self._timed(request))
        return _response(answer, self.limits.headers() | self._date())

    def _date(self) -> dict[str, str]:
        """Of a server whose clock is wrong; aiohttp sets the right one."""
        ahead = timedelta(seconds=self.settings.clock_ahead_s)
        return {"Date": format_datetime(datetime.now(UTC) + ahead, usegmt=True)} if ahead else {}

    async def _timed(self, request: web.Request) -> Answer:
        started = time.perf_counter()
        body = await request.read()
        if self.settings.latency_ms:
            await asyncio.sleep(self.settings.latency_ms / 1000)
        host = FOREIGN if self.settings.foreign_links else _root(request)
        root = f"{host}/api/data/{request.match_info['version']}/"
        call = Call(request.method, request.match_info["path"], request.query, request.headers, body, root)
        is_batch, before = call.path == "$batch", self.service.operations
        answer = batch.answer(self.service, call) if is_batch else self.service.answer(call)
        if self.settings.operation_cost_ms:
            operations = self.service.operations - before if is_batch else call.method != "GET"
            await asyncio.sleep(operations * self.settings.operation_cost_ms / 1000)
        self.limits.done(time.perf_counter() - started)
        return answer

    async def _nothing(self, request: web.Request) -> web.Response:
        self._unknown(request.method, request.path)
        text = f"No HTTP resource was found that matches the request URI '{request.url}'."
        return _response(ODataError(404, "", text).answer(), {})

    def _struck(self, call: Call) -> Answer | None:
        """Of a fault of kind `operation`. A 401 in the middle of a batch means that the token has come to its end."""
        fault = self.ledger.struck(call.method, call.path, operation=True)
        if fault is None:
            return None
        if fault.status == 401:
            self.tokens.revoke()
        return ODataError(fault.status, fault.body, "An injected fault.").answer()

    def _unknown(self, method: str, path: str) -> None:
        self.ledger.unknown_routes.append(f"{method} {path}")


def _root(request: web.Request) -> str:
    return f"{request.scheme}://{request.host}"


def _group(request: web.Request) -> str:
    """`GET contacts`, `POST $batch`, `POST token`: what the ledger counts a request as."""
    parts = request.path.strip("/").split("/")
    name = parts[3] if parts[:2] == ["api", "data"] and len(parts) > 3 else parts[-1]
    return f"{request.method} {name.partition('(')[0]}"


def _response(answer: Answer, headers: Mapping[str, str]) -> web.Response:
    body, request_id = answer.payload(), str(uuid4())
    always = {
        "OData-Version": "4.0",
        "REQ_ID": request_id,
        "x-ms-service-request-id": request_id,
        "Cache-Control": "no-cache",
    }
    response = web.Response(status=answer.status, body=body or None, headers=always | dict(headers) | answer.headers)
    response.headers.add("Set-Cookie", "ARRAffinity=sandbox; path=/; secure; HttpOnly")
    return response
