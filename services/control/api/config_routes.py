"""Configurations: get, save, restore, validate, plan."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any

from fastapi import APIRouter, Body, Header, Request, Response

from bridge.model.config import IngressConfig
from bridge.model.desired import Workflow
from bridge.model.errors import HaltError
from bridge.observe.log import log
from services.control.api.context import Admin, Control, Viewer, known
from services.control.api.problems import Refused, described, not_there
from services.control.api.views import config_view, etag
from services.control.models.data_json import PlanIn, PlanOut
from services.control.models.workflow_json import (
    ConfigIn,
    ConfigOut,
    DraftIn,
    FindingOut,
    RestoreIn,
    RevisionConfigOut,
    RevisionOut,
    RevisionsOut,
    ValidationOut,
)
from services.control.rules import actions
from services.control.rules.actions import Stale
from services.control.rules.lifecycle import dumped
from services.control.rules.validation import Finding, Findings
from services.control.systems.drafts import validated
from services.control.systems.preview import taken_away
from services.control.topics.store import Revision

READ = (401, 403, 404, 422, 429, 503)
SAVE = (401, 403, 404, 412, 413, 422, 428, 429, 503)


def router(control: Control) -> APIRouter:
    routes = APIRouter(tags=["configuration"], prefix="/workflows/{id}/config")
    _read(routes, control)
    _write(routes, control)
    _try(routes, control)
    return routes


def _read(routes: APIRouter, control: Control) -> None:
    store = control.store

    @routes.get("", responses=described(*READ))
    async def get_config(id: str, response: Response, _: Viewer) -> ConfigOut:
        """The saved configuration, the one that runs, and what differs. The ETag is for a later PUT."""
        return _tagged(config_view(store, known(id)), response)

    @routes.get("/revisions", responses=described(*READ))
    async def list_revisions(id: str, _: Viewer) -> RevisionsOut:
        """Every configuration that was ever saved, newest first."""
        revisions = store.revisions(known(id))
        return RevisionsOut(revisions=[RevisionOut(**_facts(revisions[number])) for number in sorted(revisions, reverse=True)])

    @routes.get("/revisions/{number}", responses=described(*READ))
    async def get_revision(id: str, number: int, _: Viewer) -> RevisionConfigOut:
        """One of them."""
        revision = _revision(control, known(id), number)
        return RevisionConfigOut(**_facts(revision), config=dumped(revision.config))


def _write(routes: APIRouter, control: Control) -> None:
    store = control.store

    @routes.put("", responses=described(*SAVE))
    async def put_config(
        id: str, body: ConfigIn, request: Request, response: Response, _: Admin, if_match: Annotated[str | None, Header()] = None
    ) -> ConfigOut:
        """Saves a new revision, which takes effect at the next start. Needs `If-Match` with the ETag of the last GET."""
        workflow = known(id)
        expected = _expected(if_match, store.saved(workflow).revision)
        findings = await _checked(control, workflow, body.config)
        if findings.errors or findings.config is None:
            raise Refused(422, "invalid_configuration", "The configuration was not saved.", findings.errors)
        await _save(control, actions.save(workflow, findings.config, expected, control.by(request), body.comment))
        log("command", what="config", workflow=workflow, revision=expected + 1)
        return _tagged(await _warned(control, workflow, findings), response)

    @routes.post("/revisions/{number}/restore", responses=described(401, 403, 404, 412, 413, 422, 429, 503))
    async def restore_revision(
        id: str,
        number: int,
        request: Request,
        response: Response,
        _: Admin,
        body: Annotated[RestoreIn | None, Body()] = None,
        if_match: Annotated[str | None, Header()] = None,
    ) -> ConfigOut:
        """Saves an earlier configuration as a new revision. With `If-Match` only if nobody has saved meanwhile."""
        workflow = known(id)
        revision = _revision(control, workflow, number)
        latest = store.saved(workflow).revision
        expected = latest if if_match is None else _expected(if_match, latest)
        findings = await _checked(control, workflow, dumped(revision.config))
        if findings.errors:
            raise Refused(422, "invalid_configuration", "This revision does not fit any more.", findings.errors)
        comment = body.comment if body and body.comment else f"revision {number} restored"
        await _save(control, actions.save(workflow, revision.config, expected, control.by(request), comment, "restore"))
        log("command", what="restore", workflow=workflow, revision=number)
        return _tagged(await _warned(control, workflow, findings), response)


def _try(routes: APIRouter, control: Control) -> None:
    @routes.post("/validate", responses=described(401, 403, 404, 413, 422, 429, 503))
    async def validate_config(id: str, body: DraftIn, _: Admin) -> ValidationOut:
        """What is wrong with a configuration, by itself and against both systems' metadata. Nothing is saved."""
        return _validation(await _checked(control, known(id), body.config))

    @routes.post("/plan", responses=described(401, 403, 404, 409, 413, 422, 429, 503))
    async def plan_config(id: str, body: PlanIn, _: Admin) -> PlanOut:
        """What a draft would do to a live sample of each table, by the writer's own code. Writes nothing. Ingress only."""
        if known(id) != "ingress":
            raise Refused(409, "no_plan", "Only the configuration of ingress can be planned.")
        findings = await _checked(control, "ingress", body.config)
        if findings.errors or not isinstance(findings.config, IngressConfig):
            raise Refused(422, "invalid_configuration", "The configuration has errors; mend them first.", findings.errors)
        partitions = await control.topics.partitions_of("ingress.state")
        try:
            return await control.planner.plan(findings.config, body.sample, partitions)
        except HaltError as exc:
            raise not_there(exc) from exc


async def _checked(control: Control, workflow: Workflow, raw: Any) -> Findings:
    return await validated(workflow, raw, control.store.configs(), control.systems, control.consent)


def _facts(revision: Revision) -> dict[str, object]:
    return {name: getattr(revision, name) for name in ("revision", "saved_at", "saved_by", "comment")}


def _revision(control: Control, workflow: Workflow, number: int) -> Revision:
    revision = control.store.revisions(workflow).get(number)
    if revision is None:
        raise Refused(404, "unknown_revision", f"There is no revision {number} of {workflow}.")
    return revision


async def _save(control: Control, change: actions.Change) -> None:
    try:
        await control.store.run(change)
    except Stale as exc:
        raise _stale(exc.current) from exc


def _tagged(view: ConfigOut, response: Response) -> ConfigOut:
    response.headers["ETag"] = etag(view)
    return view


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


async def _warned(control: Control, workflow: Workflow, findings: Findings) -> ConfigOut:
    """What was saved, with what it warns of and what it would take away."""
    told = {"warnings": _listed(findings.warnings), "takes_away": await taken_away(control.planner, control.topics, findings.config)}
    return config_view(control.store, workflow).model_copy(update=told)


def _validation(findings: Findings) -> ValidationOut:
    return ValidationOut(valid=not findings.errors, errors=_listed(findings.errors), warnings=_listed(findings.warnings))


def _listed(findings: Sequence[Finding]) -> list[FindingOut]:
    return [FindingOut(path=each.path, code=each.code, message=each.message) for each in findings]
