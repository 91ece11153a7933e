"""The REST API (contracts/control-api.md). Thin: it checks, calls the store, and answers."""

from __future__ import annotations

import asyncio
from typing import Annotated, Any

from fastapi import Body, FastAPI, Header, Query, Request, Response
from fastapi.openapi.utils import get_openapi

from bridge import __version__
from bridge.clock import Clock
from bridge.desired import WORKFLOWS, Workflow
from bridge.kafka.topics import Topics
from bridge.log import log
from services.control import problems
from services.control.backlog import Backlog
from services.control.models import (
    CommandIn,
    ConfigIn,
    ConfigOut,
    DraftIn,
    FindingOut,
    HistoryOut,
    Problem,
    SampleOut,
    ValidationOut,
    WorkflowOut,
    WorkflowsOut,
)
from services.control.problems import Refused, described
from services.control.store import NotConfigured, Stale, Store
from services.control.validation import Findings, check
from services.control.views import config_view, etag, workflow_view

BASE = "/api/v1"
LARGEST_BODY = 1024 * 1024
BY = "operator"  # without tokens there is one user: whoever reaches the loopback address


def build_app(store: Store, backlog: Backlog, topics: Topics, clock: Clock) -> FastAPI:
    app = FastAPI(title="Campaign Bridge control", version=__version__, docs_url=None, redoc_url=None)
    problems.install(app)
    _limit_bodies(app)
    _workflows(app, store, backlog, clock)
    _configuration(app, store)
    _health(app, topics)
    _describe(app)
    return app


def _workflows(app: FastAPI, store: Store, backlog: Backlog, clock: Clock) -> None:
    @app.get(f"{BASE}/workflows", responses=described(503), tags=["workflows"])
    async def list_workflows() -> WorkflowsOut:
        """All three workflows, in the order ingress, egress, optin."""
        return WorkflowsOut(workflows=[workflow_view(store, backlog, clock, each) for each in WORKFLOWS])

    @app.get(f"{BASE}/workflows/{{id}}", responses=described(404, 422, 503), tags=["workflows"])
    async def get_workflow(id: str) -> WorkflowOut:
        """One workflow with its status, backlog and services."""
        return workflow_view(store, backlog, clock, _known(id))

    @app.post(f"{BASE}/workflows/{{id}}/start", status_code=202, responses=described(404, 409, 413, 422, 503), tags=["workflows"])
    async def start_workflow(id: str, command: Annotated[CommandIn | None, Body()] = None) -> WorkflowOut:
        """Records that the workflow should run, with the configuration saved now. Starting what runs changes nothing."""
        workflow = _known(id)
        try:
            await store.begin(workflow, BY, command.comment if command else None)
        except NotConfigured as exc:
            detail = "There is nothing to do yet: save a configuration first."
            raise Refused(409, "not_configured", detail) from exc
        log("command", what="start", workflow=workflow)
        return workflow_view(store, backlog, clock, workflow)

    @app.post(f"{BASE}/workflows/{{id}}/stop", status_code=202, responses=described(404, 413, 422, 503), tags=["workflows"])
    async def stop_workflow(id: str, command: Annotated[CommandIn | None, Body()] = None) -> WorkflowOut:
        """Records that the workflow should stop. What is in flight is finished, what waits stays in Kafka."""
        workflow = _known(id)
        await store.end(workflow, BY, command.comment if command else None)
        log("command", what="stop", workflow=workflow)
        return workflow_view(store, backlog, clock, workflow)

    @app.get(f"{BASE}/workflows/{{id}}/backlog/history", responses=described(404, 422), tags=["workflows"])
    async def backlog_history(id: str, minutes: Annotated[int, Query(ge=1, le=60)] = 60) -> HistoryOut:
        """Samples of the backlog, oldest first; null where Kafka could not be asked."""
        samples = backlog.window(_known(id), minutes * 60)
        return HistoryOut(samples=[SampleOut(at=sample.at, records=sample.records) for sample in samples])


def _configuration(app: FastAPI, store: Store) -> None:
    @app.get(f"{BASE}/workflows/{{id}}/config", responses=described(404, 422, 503), tags=["configuration"])
    async def get_config(id: str, response: Response) -> ConfigOut:
        """The saved configuration, the one that runs, and what differs. The ETag is for a later PUT."""
        view = config_view(store, _known(id))
        response.headers["ETag"] = etag(view)
        return view

    @app.put(f"{BASE}/workflows/{{id}}/config", responses=described(404, 412, 413, 422, 428, 503), tags=["configuration"])
    async def put_config(id: str, body: ConfigIn, response: Response, if_match: Annotated[str | None, Header()] = None) -> ConfigOut:
        """Saves a new revision, which takes effect at the next start. Needs `If-Match` with the ETag of the last GET."""
        workflow = _known(id)
        expected = _expected(if_match, store.saved(workflow).revision)
        findings = check(workflow, body.config, store.configs())
        if findings.errors or findings.config is None:
            raise Refused(422, "invalid_configuration", "The configuration was not saved.", findings.errors)
        try:
            await store.save(workflow, findings.config, expected, BY, body.comment)
        except Stale as exc:
            raise _stale(exc.current) from exc
        log("command", what="config", workflow=workflow, revision=expected + 1)
        view = config_view(store, workflow)
        response.headers["ETag"] = etag(view)
        return view

    @app.post(f"{BASE}/workflows/{{id}}/config/validate", responses=described(404, 413, 422, 503), tags=["configuration"])
    async def validate_config(id: str, body: DraftIn) -> ValidationOut:
        """What is wrong with a configuration. Nothing is saved."""
        return _validation(check(_known(id), body.config, store.configs()))


def _health(app: FastAPI, topics: Topics) -> None:
    @app.get("/healthz", tags=["operations"])
    async def healthz() -> dict[str, str]:
        """The process is up."""
        return {"status": "ok"}

    @app.get("/readyz", responses=described(503), tags=["operations"])
    async def readyz() -> dict[str, str]:
        """Kafka answers."""
        await asyncio.to_thread(topics.partitions)
        return {"status": "ok"}


def _known(id: str) -> Workflow:
    for workflow in WORKFLOWS:
        if workflow == id:
            return workflow
    raise Refused(404, "unknown_workflow", f"There is no such workflow; there are {', '.join(WORKFLOWS)}.")


def _expected(if_match: str | None, current: int) -> int:
    if if_match is None:
        detail = "Send If-Match with the ETag of the configuration that you edited."
        raise Refused(428, "if_match_required", detail)
    text = if_match.strip().removeprefix("W/").strip('"')
    if text == "*":
        return current
    if text != str(current):
        raise _stale(current)
    return current


def _stale(current: int) -> Refused:
    detail = f"Revision {current} has been saved meanwhile: get it, merge your changes, and save again."
    return Refused(412, "stale_revision", detail)


def _validation(findings: Findings) -> ValidationOut:
    return ValidationOut(
        valid=not findings.errors,
        errors=[FindingOut(path=each.path, code=each.code, message=each.message) for each in findings.errors],
        warnings=[FindingOut(path=each.path, code=each.code, message=each.message) for each in findings.warnings],
    )


def _limit_bodies(app: FastAPI) -> None:
    @app.middleware("http")
    async def limited(request: Request, call_next: Any) -> Response:
        length = request.headers.get("content-length", "0")
        if request.headers.get("transfer-encoding") or not length.isdigit() or int(length) > LARGEST_BODY:
            return problems.answer(413, "body_too_large", "Send a body of 1 MiB at most, with its Content-Length.")
        answered: Response = await call_next(request)
        return answered


def _describe(app: FastAPI) -> None:
    """OpenAPI with our problem in place of FastAPI's own error."""

    def openapi() -> dict[str, Any]:
        if app.openapi_schema is None:
            schema = get_openapi(title=app.title, version=app.version, routes=app.routes)
            schemas = schema["components"]["schemas"]
            for name in ("HTTPValidationError", "ValidationError"):
                schemas.pop(name, None)
            schemas["Problem"] = Problem.model_json_schema(ref_template="#/components/schemas/{model}")
            schemas["Problem"].pop("$defs", None)
            app.openapi_schema = schema
        return app.openapi_schema

    app.openapi = openapi  # type: ignore[method-assign]
