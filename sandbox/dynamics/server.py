"""`DynamicsSandbox`: the stand-in as an object for tests, and as an aiohttp application."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from typing import Any
from uuid import uuid4

from aiohttp import web

from sandbox.dynamics import admin, batch
from sandbox.dynamics.environment import DynamicsEnvironment
from sandbox.dynamics.wire import Answer, Call, ODataError
from sandbox.web import Handler, counted, fault_routes

FOREIGN = "https://dynamics.example.net"
_ARRIVED = web.RequestKey("arrived", float)


class DynamicsSandbox(DynamicsEnvironment):
    """An environment that is served."""

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
        self.unknown(request.method, request.path)
        text = f"No HTTP resource was found that matches the request URI '{request.url}'."
        return _response(ODataError(404, "", text).answer(), {})


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
