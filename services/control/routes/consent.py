"""Opt In/Out: what was decided of whom, and the releases that the consent guard holds."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from typing import Annotated, Any

from fastapi import APIRouter, Query, Request, Response

from bridge.log import log
from services.control.commands import HeldAction
from services.control.consent import HELD, Decision, settle
from services.control.context import Admin, Control, Viewer
from services.control.models_consent import DecisionOut, DecisionsOut, HeldDecisionOut, HeldDecisionsOut, HeldIn, InputsOut, SettledOut
from services.control.models_data import GUID
from services.control.problems import described

READ = (401, 403, 422, 429, 503)
COMMAND = (401, 403, 413, 422, 429, 503)
AFTER = Query(pattern=r"^\d{1,9}-\d{1,18}$")
COLUMNS = ("id", "contact", "target", "flag", "value", "rule", "campaign", "campaign_changed_at", "dynamics", "dynamics_changed_at")
CSV: dict[int | str, dict[str, Any]] = {200: {"content": {"text/csv": {"schema": {"type": "string"}}}}}


def router(control: Control) -> APIRouter:
    routes = APIRouter(tags=["opt-in/out"])
    _held(routes, control)

    @routes.get("/workflows/optin/decisions", response_model=DecisionsOut, responses=CSV | described(*READ))
    async def list_decisions(
        request: Request,
        _: Viewer,
        contact: Annotated[str | None, Query(pattern=GUID)] = None,
        after: Annotated[str | None, AFTER] = None,
        limit: Annotated[int, Query(ge=1, le=1000)] = 100,
    ) -> DecisionsOut | Response:
        """Newest first, of one contact or of all: rule, both sides' values and times, and what came of it. `Accept: text/csv` gives a
        file with a line for each flag."""
        key = None if contact is None else contact.lower()
        found = await control.decisions.page(key, after, limit)
        outcomes = await control.outcomes.of(found, key, await control.topics.partitions_of("optin.state"))
        shown = [_shown(each, outcomes[each.id]) for each in found]
        if "text/csv" in request.headers.get("accept", ""):
            name = f"decisions-{key or 'all'}.csv"
            headers = {"Content-Disposition": f'attachment; filename="{name}"'}
            return Response(_csv(shown), media_type="text/csv; charset=utf-8", headers=headers)
        return DecisionsOut(decisions=shown, next=found[-1].id if len(found) == limit else None)

    return routes


def _held(routes: APIRouter, control: Control) -> None:
    @routes.get("/workflows/optin/held", responses=described(*READ))
    async def list_held(
        _: Viewer, after: Annotated[str | None, AFTER] = None, limit: Annotated[int, Query(ge=1, le=1000)] = 100
    ) -> HeldDecisionsOut:
        """Decisions that take an opt-out away and that the consent guard holds; oldest first."""
        found = await control.decisions.held(after, limit)
        shown = [
            HeldDecisionOut(
                id=each.id,
                contact=each.contact,
                target=each.event.target,
                flags=dict(each.event.flags),
                rule=each.event.rule,
                since=each.time,
            )
            for each in found
            if each.event is not None
        ]
        total = control.decisions.held_count()
        return HeldDecisionsOut(held=shown, total=total, next=found[-1].id if len(found) == limit else None)

    @routes.post("/workflows/optin/held/release", status_code=202, responses=described(*COMMAND))
    async def release_held(body: HeldIn, request: Request, _: Admin) -> SettledOut:
        """Lets held decisions go to the writer. One whose flag has been decided anew meanwhile is not applied."""
        done, skipped = await command("released", body, request)
        return SettledOut(released=done, skipped=skipped)

    @routes.post("/workflows/optin/held/discard", status_code=202, responses=described(*COMMAND))
    async def discard_held(body: HeldIn, request: Request, _: Admin) -> SettledOut:
        """The opt-outs stay as they are in the target until the flag changes in either system."""
        done, skipped = await command("discarded", body, request)
        return SettledOut(discarded=done, skipped=skipped)

    async def command(action: HeldAction, body: HeldIn, request: Request) -> tuple[int, int]:
        contacts = None if body.contacts is None else [each.lower() for each in body.contacts]
        done, skipped = await settle(control.decisions, control.store, action, contacts, control.by(request), body.reason)
        log("command", what=action, workflow="optin", count=done)
        return done, skipped


def _shown(decision: Decision, outcome: Any) -> DecisionOut:
    event = decision.event
    return DecisionOut(
        id=decision.id,
        contact=decision.contact,
        target=event.target if event else None,
        flags=dict(event.flags) if event else {},
        rule=event.rule if event else "",
        inputs={name: InputsOut(**inputs) for name, inputs in event.inputs.items()} if event else {},
        decided_at=event.decided_at if event else decision.time,
        outcome=(decision.action or HELD) if decision.guard == HELD else outcome,
    )


def _csv(decisions: Sequence[DecisionOut]) -> str:
    text = io.StringIO()
    writer = csv.writer(text)
    writer.writerow([*COLUMNS, "decided_at", "outcome"])
    for each in decisions:
        for flag, value in each.flags.items():
            inputs = each.inputs[flag].model_dump(mode="json")
            facts = [each.id, each.contact, each.target, flag, value, each.rule, *(inputs[name] for name in COLUMNS[6:])]
            writer.writerow([*facts, each.decided_at.isoformat(), each.outcome])
    return text.getvalue()
