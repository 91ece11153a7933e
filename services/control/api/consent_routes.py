"""What ingress and Opt In/Out decided on opt-out flags, and what the consent guard holds of it."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Sequence
from typing import Annotated, Any

from fastapi import APIRouter, Query, Request, Response

from bridge.model.desired import Workflow
from bridge.observe.log import log
from services.control.api.context import Admin, Control, Viewer, known
from services.control.api.problems import Refused, described
from services.control.models.consent_json import (
    DecisionOut,
    DecisionsOut,
    HeldIn,
    HeldItemsOut,
    HeldOut,
    InputsOut,
    Outcome,
    SettledOut,
)
from services.control.models.data_json import GUID
from services.control.rules.actions import HeldAction
from services.control.rules.decision_records import DELETE, Decision
from services.control.topics.decisions import HELD
from services.control.topics.held_items import SecondPersonNeeded, check_second_person

READ = (401, 403, 404, 422, 429, 503)
COMMAND = (401, 403, 404, 413, 422, 429, 503)
AFTER = Query(pattern=r"^[0-9]{1,9}-[0-9]{1,18}$")
INPUTS = ("campaign", "campaign_changed_at", "campaign_from", "dynamics", "dynamics_changed_at", "dynamics_from")
COLUMNS = ("id", "contact", "target", "flag", "value", "rule", *INPUTS, "decided_at", "outcome", "written_at", "status", "table", "origin")
CSV: dict[int | str, dict[str, Any]] = {200: {"content": {"text/csv": {"schema": {"type": "string"}}}}}
NO_FLAGS = Refused(404, "no_decisions", "Only ingress and optin decide on opt-outs.")


def router(control: Control) -> APIRouter:
    routes = APIRouter(tags=["consent"], prefix="/workflows/{id}")
    _held(routes, control)

    @routes.get("/decisions", response_model=DecisionsOut, responses=CSV | described(*READ))
    async def list_decisions(
        id: str,
        request: Request,
        _: Viewer,
        contact: Annotated[str | None, Query(pattern=GUID)] = None,
        after: Annotated[str | None, AFTER] = None,
        limit: Annotated[int, Query(ge=1, le=1000)] = 100,
    ) -> DecisionsOut | Response:
        """Newest first, of one contact or of all: rule, both sides' values, times and where they were read, what came of it, when it was
        written and with which answer. `Accept: text/csv` gives a file with a line for each flag. Ingress and optin only."""
        workflow = deciding(id)
        key = None if contact is None else contact.lower()
        found = await control.decisions.page(workflow, key, after, limit)
        partitions = await control.topics.partitions_of("optin.state") if workflow == "optin" else 0
        outcomes = await control.outcomes.of(workflow, found, key, partitions)
        shown = [_shown(each, outcomes[each.id]) for each in found]
        if "text/csv" in request.headers.get("accept", ""):
            name = f"decisions-{workflow}-{key or 'all'}.csv"
            headers = {"Content-Disposition": f'attachment; filename="{name}"'}
            return Response(_csv(shown), media_type="text/csv; charset=utf-8", headers=headers)
        return DecisionsOut(decisions=shown, next=found[-1].id if len(found) == limit else None)

    return routes


def _held(routes: APIRouter, control: Control) -> None:
    @routes.get("/held", responses=described(*READ))
    async def list_held(
        id: str, _: Viewer, after: Annotated[str | None, AFTER] = None, limit: Annotated[int, Query(ge=1, le=1000)] = 100
    ) -> HeldItemsOut:
        """Opt-outs that would be taken away, and records that would be deleted in Campaign, that the consent guard holds; oldest first.
        Ingress and optin only."""
        workflow = deciding(id)
        found = await control.decisions.held(workflow, after, limit)
        total = control.decisions.counts(workflow).total
        return HeldItemsOut(items=[_item(each) for each in found], total=total, next=found[-1].id if len(found) == limit else None)

    @routes.post("/held/release", status_code=202, responses=described(*COMMAND))
    async def release_held(id: str, body: HeldIn, request: Request, _: Admin) -> SettledOut:
        """Lets held items go to the writer. One that has been decided again meanwhile is not applied. Ingress and optin only."""
        workflow = deciding(id)
        if control.settings.second_person:
            _check_second_person(control, workflow, control.by(request).name)
        done, skipped = await command(workflow, "released", body, request)
        return SettledOut(released=done, skipped=skipped)

    @routes.post("/held/discard", status_code=202, responses=described(*COMMAND))
    async def discard_held(id: str, body: HeldIn, request: Request, _: Admin) -> SettledOut:
        """Opt-outs and records stay as they are in the target until there is a new word or change. Ingress and optin only."""
        done, skipped = await command(deciding(id), "discarded", body, request)
        return SettledOut(discarded=done, skipped=skipped)

    async def command(workflow: Workflow, action: HeldAction, body: HeldIn, request: Request) -> tuple[int, int]:
        done, skipped = await control.settling.settle(workflow, action, body, control.by(request))
        log("command", what=action, workflow=workflow, count=done)
        return done, skipped


def deciding(id: str) -> Workflow:
    """Raises Refused 404 for a workflow that decides on no flags, or is none."""
    if (workflow := known(id)) == "egress":
        raise NO_FLAGS
    return workflow


def _check_second_person(control: Control, workflow: Workflow, who: str) -> None:
    try:
        check_second_person(control.store, workflow, who)
    except SecondPersonNeeded as exc:
        detail = f"{who} saved the configuration under which this was held. Another admin has to release it (CONSENT_SECOND_PERSON)."
        raise Refused(403, "second_person_needed", detail) from exc


def _item(decision: Decision) -> HeldOut:
    inputs = _inputs(decision)
    return HeldOut(
        id=decision.id,
        kind=decision.kind,
        table=decision.table,
        key=decision.key,
        target=decision.target,
        flags=sorted(decision.waits),
        rule=decision.event.rule if decision.event else "",
        words={name: each for name, each in inputs.items() if name in decision.waits},
        since=decision.time,
    )


def _shown(decision: Decision, outcome: Outcome) -> DecisionOut:
    event = decision.event
    return DecisionOut(
        id=decision.id,
        contact=decision.key,
        table=decision.table,
        kind=decision.kind if decision.guard == HELD or decision.kind == DELETE else None,
        target=decision.target if event else None,
        flags=dict(event.flags) if event else {},
        rule=event.rule if event else "",
        inputs=_inputs(decision),
        origin=decision.origin,
        decided_at=event.decided_at if event else decision.time,
        outcome=outcome,
        written_at=decision.written_at,
        status=decision.status,
    )


def _inputs(decision: Decision) -> dict[str, InputsOut]:
    return {name: InputsOut(**inputs) for name, inputs in decision.event.inputs.items()} if decision.event else {}


def _csv(decisions: Sequence[DecisionOut]) -> str:
    text = io.StringIO()
    writer = csv.writer(text)
    writer.writerow(COLUMNS)
    for each in decisions:
        writer.writerows(_lines(each))
    return text.getvalue()


def _lines(each: DecisionOut) -> Iterator[list[Any]]:
    """One for each flag; one in all for a delete, and for what cannot be read."""
    flags: dict[str, bool | None] = {**each.flags} or {DELETE if each.kind == DELETE else "": None}
    written = each.written_at.isoformat() if each.written_at else None
    for flag, value in flags.items():
        inputs = each.inputs.get(flag, InputsOut()).model_dump(mode="json")
        said = [inputs[name] for name in INPUTS]
        facts = [each.id, each.contact, each.target, flag, value, each.rule, *said, each.decided_at.isoformat(), each.outcome]
        yield [*facts, written, each.status, each.table, each.origin]
