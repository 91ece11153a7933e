"""The control service's web application: the REST API, and the door before everything."""

from __future__ import annotations

import asyncio
from typing import Any

from fastapi import APIRouter, FastAPI, Request
from fastapi.openapi.utils import get_openapi
from fastapi.responses import PlainTextResponse, StreamingResponse

from bridge import __version__
from bridge.observe.metrics import CONTENT_TYPE
from services.control.api import config_routes, consent_routes, letter_routes, problems, system_routes, table_routes, workflow_routes
from services.control.api.context import Control, Viewer
from services.control.api.door import API, Audited, Door
from services.control.api.exposition import exposition
from services.control.api.live_stream import Live
from services.control.api.problems import Refused, described
from services.control.api.views import workflow_view
from services.control.models.workflow_json import Problem

ASK_EVERY_S = 1.0
PUBLIC: dict[str, Any] = {"security": []}  # needs no token


def build_app(control: Control, live: Live, audit: Audited) -> FastAPI:
    app = FastAPI(title="Campaign Bridge control", version=__version__, docs_url=None, redoc_url=None, openapi_url="/openapi.json")
    problems.install(app)
    for module in (workflow_routes, config_routes, consent_routes, table_routes, letter_routes, system_routes):
        app.include_router(module.router(control), prefix=API)
    app.include_router(_events(control, live), prefix=API)
    app.include_router(_health(control))
    _describe(app)
    app.add_middleware(Door, access=control.access, audit=audit, https=control.settings.https)
    return app


def _events(control: Control, live: Live) -> APIRouter:
    routes = APIRouter(tags=["live"])
    content = {"text/event-stream": {"schema": {"type": "string"}}}

    @routes.get("/events", response_class=StreamingResponse, responses={200: {"content": content}, **described(401, 403, 429, 503)})
    async def events(who: Viewer, request: Request) -> StreamingResponse:
        """Server-sent events: `workflow` with the workflow whenever it changes, a comment every 15 s."""
        if live.full:
            raise Refused(503, "too_many_listeners", "So many clients listen already that this one has to poll.")
        heard = live.listen(lambda: control.access.who(request) == who)
        return StreamingResponse(heard, media_type="text/event-stream", headers={"X-Accel-Buffering": "no"})

    return routes


class Ready:
    """Whether Kafka answers, asked for once a second however many want to know."""

    def __init__(self, control: Control) -> None:
        self._control = control
        self._asked_at = float("-inf")
        self._asking: asyncio.Future[None] | None = None

    async def check(self) -> None:
        """Raises what the last question raised."""
        now = self._control.clock.monotonic()
        if self._asking is None or (self._asking.done() and now - self._asked_at > ASK_EVERY_S):
            self._asked_at = now
            self._asking = asyncio.ensure_future(self._ask())
        await asyncio.shield(self._asking)

    async def _ask(self) -> None:
        await asyncio.to_thread(self._control.topics.partitions)


def _health(control: Control) -> APIRouter:
    routes = APIRouter(tags=["operations"])
    ready = Ready(control)

    @routes.get("/healthz", openapi_extra=PUBLIC)
    async def healthz() -> dict[str, str]:
        """The process is up."""
        return {"status": "ok"}

    @routes.get("/readyz", responses=described(503), openapi_extra=PUBLIC)
    async def readyz() -> dict[str, str]:
        """Kafka answers."""
        await ready.check()
        return {"status": "ok"}

    shown = exposition(
        lambda workflow: workflow_view(control.store, control.backlog, control.clock, workflow), lambda: control.decisions.odd
    )

    @routes.get("/metrics", response_class=PlainTextResponse, openapi_extra=PUBLIC)
    async def metrics() -> PlainTextResponse:
        """For Prometheus; the names are in docs/operations.md."""
        return PlainTextResponse(shown(), media_type=CONTENT_TYPE)

    return routes


def _describe(app: FastAPI) -> None:
    """OpenAPI with our problem in place of FastAPI's own error, with a fault of ours for every operation, and how to sign in."""

    def openapi() -> dict[str, Any]:
        if app.openapi_schema is None:
            schema = get_openapi(title=app.title, version=app.version, routes=app.routes)
            parts = schema["components"]
            for name in ("HTTPValidationError", "ValidationError"):
                parts["schemas"].pop(name, None)
            parts["schemas"]["Problem"] = Problem.model_json_schema(ref_template="#/components/schemas/{model}")
            parts["schemas"]["Problem"].pop("$defs", None)
            parts["securitySchemes"] = {"token": {"type": "http", "scheme": "bearer"}}
            schema["security"] = [{"token": []}]
            for operation in (each for methods in schema["paths"].values() for each in methods.values()):
                operation["responses"]["500"] = described(500)[500] | {"description": "A fault of control's own, `internal_error`"}
            app.openapi_schema = schema
        return app.openapi_schema

    app.openapi = openapi  # type: ignore[method-assign]
