"""Workflows: status, start, stop, and the backlog over time."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Body, Query, Request

from bridge.model.desired import WORKFLOWS
from bridge.observe.log import log
from services.control.api.context import Control, Operator, Viewer, known
from services.control.api.problems import Refused, described
from services.control.api.views import workflow_view
from services.control.models.workflow_json import CommandIn, HistoryOut, SampleOut, StartedOut, WorkflowOut, WorkflowsOut
from services.control.rules import actions
from services.control.rules.actions import NotConfigured
from services.control.systems.preview import taken_away

START = (401, 403, 404, 409, 413, 422, 429, 503)


def router(control: Control) -> APIRouter:
    routes = APIRouter(tags=["workflows"])
    store, backlog, clock = control.store, control.backlog, control.clock

    @routes.get("/workflows", responses=described(401, 403, 429, 503))
    async def list_workflows(_: Viewer) -> WorkflowsOut:
        """All three workflows, in the order ingress, egress, optin."""
        return WorkflowsOut(workflows=[workflow_view(store, backlog, clock, each) for each in WORKFLOWS])

    @routes.get("/workflows/{id}", responses=described(401, 403, 404, 422, 429, 503))
    async def get_workflow(id: str, _: Viewer) -> WorkflowOut:
        """One workflow with its status, backlog and services."""
        return workflow_view(store, backlog, clock, known(id))

    @routes.post("/workflows/{id}/start", status_code=202, responses=described(*START))
    async def start_workflow(id: str, request: Request, _: Operator, command: Annotated[CommandIn | None, Body()] = None) -> StartedOut:
        """Records that the workflow should run, with the configuration saved now. Starting what runs changes nothing."""
        workflow = known(id)
        taken = await taken_away(control.planner, control.topics, store.saved(workflow).config)
        seen = store.verdict(workflow)[0].status, store.desired(workflow).generation
        try:
            await store.run(actions.start(workflow, seen, control.by(request), command.comment if command else None))
        except NotConfigured as exc:
            detail = "There is nothing to do yet: save a configuration first."
            raise Refused(409, "not_configured", detail) from exc
        log("command", what="start", workflow=workflow)
        return StartedOut(**workflow_view(store, backlog, clock, workflow).model_dump(), takes_away=taken)

    @routes.post("/workflows/{id}/stop", status_code=202, responses=described(401, 403, 404, 413, 422, 429, 503))
    async def stop_workflow(id: str, request: Request, _: Operator, command: Annotated[CommandIn | None, Body()] = None) -> WorkflowOut:
        """Records that the workflow should stop. What is in flight is finished, what waits stays in Kafka."""
        workflow = known(id)
        await store.run(actions.stop(workflow, control.by(request), command.comment if command else None))
        log("command", what="stop", workflow=workflow)
        return workflow_view(store, backlog, clock, workflow)

    @routes.get("/workflows/{id}/backlog/history", responses=described(401, 403, 404, 422, 429, 503))
    async def backlog_history(id: str, _: Viewer, minutes: Annotated[int, Query(ge=1, le=60)] = 60) -> HistoryOut:
        """Samples of the backlog, oldest first; null where Kafka could not be asked. This instance's, since its start."""
        points = backlog.history(known(id), minutes * 60)
        return HistoryOut(samples=[SampleOut(at=point.at, records=point.records) for point in points])

    return routes
