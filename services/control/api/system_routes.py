"""The two systems, the audit, and who asks."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any

from fastapi import APIRouter, Path, Query, Request

from bridge.model.config import EgressConfig, IngressConfig, OptinConfig
from bridge.model.desired import WORKFLOWS
from bridge.model.errors import HaltError
from bridge.observe.log import log
from services.control.api.context import Admin, Control, Operator, Viewer
from services.control.api.problems import described, not_there
from services.control.models.system_json import (
    AuditOut,
    AuditsOut,
    ChecksOut,
    FieldsOut,
    RestoredIn,
    RestoredOut,
    System,
    SystemOut,
    TableNamesOut,
    WhoOut,
)
from services.control.rules import actions
from services.control.systems.connection_tests import Checks

READ = (401, 403, 422, 429, 503)
NAME = Path(pattern=r"^[A-Za-z_][A-Za-z0-9_]*$", max_length=128)


def router(control: Control) -> APIRouter:
    routes = APIRouter()
    _systems(routes, control)
    _audit(routes, control)
    return routes


def _systems(routes: APIRouter, control: Control) -> None:
    @routes.get("/systems/{system}", tags=["systems"], responses=described(*READ))
    async def get_system(system: System, _: Viewer) -> SystemOut:
        """Settings without secrets, and how the last question to it went."""
        return control.systems.view(system)

    @routes.post("/systems/{system}/test", tags=["systems"], responses=described(401, 403, 413, 422, 429, 503))
    async def check_system(system: System, _: Operator) -> ChecksOut:
        """Tests the connection, one thing after the other, each with the way out."""
        ingress, egress, optin = (control.store.saved(workflow).config for workflow in WORKFLOWS)
        assert isinstance(ingress, IngressConfig)
        assert isinstance(egress, EgressConfig)
        assert isinstance(optin, OptinConfig)
        return await Checks(control.systems, ingress, egress, optin).run(system)

    @routes.post("/systems/dynamics/restored", tags=["systems"], status_code=202, responses=described(401, 403, 413, 422, 429, 503))
    async def dynamics_restored(body: RestoredIn, request: Request, _: Admin) -> RestoredOut:
        """Says that Dynamics was restored from a backup, copied or moved: its versions may have started over. Ingress and Opt In/Out read
        and compare everything again; while they run at once, else when they are started."""
        epochs = await control.store.run(actions.restored(control.by(request), body.reason))
        log("command", what="restored", system="dynamics")
        return RestoredOut(**epochs)

    @routes.get("/systems/{system}/tables", tags=["systems"], responses=described(*READ))
    async def list_system_tables(system: System, _: Viewer) -> TableNamesOut:
        """Tables of Dynamics, published resources of Campaign."""
        return TableNamesOut(tables=await control.systems.tables(system))

    @routes.get("/systems/{system}/tables/{table}/fields", tags=["systems"], responses=described(401, 403, 404, 422, 429, 503))
    async def list_system_fields(system: System, table: Annotated[str, NAME], _: Viewer) -> FieldsOut:
        """The fields of one of them: type, length, whether it can be written, and its choices."""
        try:
            return FieldsOut(fields=await control.systems.fields(system, table))
        except HaltError as exc:
            raise not_there(exc) from exc


def _audit(routes: APIRouter, control: Control) -> None:
    @routes.get("/audit", tags=["audit"], responses=described(401, 403, 422, 429, 503))
    async def list_audit(
        _: Viewer,
        after: Annotated[str | None, Query(pattern=r"^\d{1,9}-\d{1,18}$")] = None,
        limit: Annotated[int, Query(ge=1, le=500)] = 50,
    ) -> AuditsOut:
        """Every command and every refusal, newest first."""
        found = control.archive.audit(after, limit)
        return AuditsOut(entries=[_entry(*each) for each in found], next=found[-1][0] if len(found) == limit else None)

    @routes.get("/me", tags=["audit"], responses=described(401, 403, 429, 503))
    async def who_am_i(who: Viewer) -> WhoOut:
        """Name and role of the token."""
        return WhoOut(name=who.name, role=who.role)


def _entry(id: str, workflow: str | None, entry: dict[str, Any]) -> AuditOut:
    return AuditOut(
        id=id,
        at=datetime.fromisoformat(entry["at"]),
        by=str(entry.get("by")),
        address=entry.get("from"),
        workflow=workflow if workflow != "control" else None,
        what=str(entry.get("what")),
        before=entry.get("before"),
        after=entry.get("after"),
        result=str(entry.get("result")),
    )
