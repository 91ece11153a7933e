"""The addresses of the pages. Each gives a frame; the numbers come over the REST API."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Path
from fastapi.responses import HTMLResponse

from bridge.model.desired import WORKFLOWS
from bridge.model.flags import FLAGS
from services.control.api.context import Viewer
from services.control.pages.frame import Frame, Link
from services.control.pages.labels import ABOUT, EVENTS, RECORDS, SETTINGS
from services.control.rules.lifecycle import NAMES

HOME = Link("Workflows", "/")
INGRESS = Link(NAMES["ingress"], "/workflows/ingress")
TABLE = Path(max_length=128)


def router(frame: Frame) -> APIRouter:
    routes = APIRouter(include_in_schema=False, default_response_class=HTMLResponse)
    _workflows(routes, frame)
    _data(routes, frame)
    _others(routes, frame)
    return routes


def _workflows(routes: APIRouter, frame: Frame) -> None:
    @routes.get("/")
    async def workflows(who: Viewer) -> HTMLResponse:
        return frame.page("workflows.html", who, workflows=[(each, NAMES[each], ABOUT[each]) for each in WORKFLOWS])

    @routes.get("/workflows/ingress")
    async def ingress(who: Viewer) -> HTMLResponse:
        return frame.page("ingress.html", who, [HOME, Link(INGRESS.label)], name=NAMES["ingress"], workflow="ingress")

    @routes.get("/workflows/ingress/tables/{table}")
    async def mapping(table: Annotated[str, TABLE], who: Viewer) -> HTMLResponse:
        return frame.page("mapping.html", who, [HOME, INGRESS, Link("Edit Table Mapping")], table=table)

    @routes.get("/workflows/egress")
    async def egress(who: Viewer) -> HTMLResponse:
        return frame.page("egress.html", who, [HOME, Link(NAMES["egress"])], name=NAMES["egress"], events=EVENTS)

    @routes.get("/workflows/optin")
    async def optin(who: Viewer) -> HTMLResponse:
        return frame.page("optin.html", who, [HOME, Link(NAMES["optin"])], name=NAMES["optin"], workflow="optin", flags=FLAGS)


def _data(routes: APIRouter, frame: Frame) -> None:
    @routes.get("/workflows/{id}/dead-letters")
    async def letters(id: str, who: Viewer) -> HTMLResponse:
        return _of_workflow("letters.html", "Dead letters", id, who)

    @routes.get("/workflows/{id}/records")
    async def records(id: str, who: Viewer) -> HTMLResponse:
        return _of_workflow("records.html", "Where is this record?", id, who)

    def _of_workflow(template: str, title: str, id: str, who: Viewer) -> HTMLResponse:
        workflow = next((each for each in WORKFLOWS if each == id), None)
        if workflow is None:
            return frame.page("missing.html", who, [HOME, Link("Not found")], 404)
        crumbs = [HOME, Link(NAMES[workflow], f"/workflows/{workflow}"), Link(title)]
        return frame.page(template, who, crumbs, title=title, workflow=workflow, name=NAMES[workflow], words=RECORDS[workflow])


def _others(routes: APIRouter, frame: Frame) -> None:
    @routes.get("/settings")
    async def settings(who: Viewer) -> HTMLResponse:
        return frame.page("settings.html", who, [HOME, Link("Settings")], sections=SETTINGS)

    @routes.get("/audit")
    async def audit(who: Viewer) -> HTMLResponse:
        return frame.page("audit.html", who, [HOME, Link("Audit")])

    @routes.get("/documentation")
    async def documentation(who: Viewer) -> HTMLResponse:
        return frame.page("documentation.html", who, [HOME, Link("Documentation")])
