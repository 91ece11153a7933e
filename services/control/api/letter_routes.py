"""Dead letters, and where a record is."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query, Request

from bridge.observe.log import log
from services.control.api.context import Admin, Control, Operator, Viewer, known
from services.control.api.problems import Refused, described
from services.control.models.data_json import ChosenIn, DiscardIn, DoneOut, LetterGroupsOut, LettersOut, RecordOut

READ = (401, 403, 404, 422, 429, 503)
COMMAND = (401, 403, 404, 413, 422, 429, 503)


def router(control: Control) -> APIRouter:
    routes = APIRouter()
    _letters(routes, control)
    _records(routes, control)
    return routes


def _letters(routes: APIRouter, control: Control) -> None:
    @routes.get("/workflows/{id}/dead-letters", tags=["dead letters"], responses=described(*READ))
    async def list_dead_letters(
        id: str,
        who: Viewer,
        after: Annotated[str | None, Query(pattern=r"^\d{1,9}-\d{1,18}$")] = None,
        limit: Annotated[int, Query(ge=1, le=500)] = 50,
        fingerprint: Annotated[str | None, Query(max_length=64)] = None,
        values: bool = False,
    ) -> LettersOut:
        """Newest first. `values` (admin only) adds what the records hold."""
        workflow = known(id)
        if values and not who.may("admin"):
            raise Refused(403, "role_missing", f"Values need the role admin; {who.name} is {who.role}.")
        letters = await control.letters.page(workflow, after, limit, fingerprint, values)
        following = letters[-1].id if len(letters) == limit else None
        return LettersOut(dead_letters=letters, total=control.archive.count(workflow, fingerprint), next=following)

    @routes.get("/workflows/{id}/dead-letters/groups", tags=["dead letters"], responses=described(*READ))
    async def group_dead_letters(id: str, _: Viewer) -> LetterGroupsOut:
        """By cause: how many, since when, what it means and what to do."""
        return LetterGroupsOut(groups=control.letters.groups(known(id)))

    @routes.post("/workflows/{id}/dead-letters/redrive", tags=["dead letters"], status_code=202, responses=described(*COMMAND))
    async def redrive_dead_letters(id: str, body: ChosenIn, request: Request, _: Operator) -> DoneOut:
        """Sends records through the running mapping once more. One that has been written at a newer version meanwhile is not applied."""
        workflow = known(id)
        done = await control.letters.settle(workflow, "redriven", body, control.by(request))
        log("command", what="redrive", workflow=workflow, count=done.redriven)
        return done

    @routes.post("/workflows/{id}/dead-letters/discard", tags=["dead letters"], status_code=202, responses=described(*COMMAND))
    async def discard_dead_letters(id: str, body: DiscardIn, request: Request, _: Admin) -> DoneOut:
        """Marks letters as done with. They stay in Kafka until retention deletes them."""
        workflow = known(id)
        done = await control.letters.settle(workflow, "discarded", body, control.by(request), body.reason)
        log("command", what="discard", workflow=workflow, count=done.discarded)
        return done


def _records(routes: APIRouter, control: Control) -> None:
    @routes.get("/workflows/{id}/records/{key}", tags=["records"], responses=described(*READ))
    async def get_record(id: str, key: str, _: Viewer, table: Annotated[str, Query(min_length=1, max_length=128)] = "contact") -> RecordOut:
        """The hops of one record: when it was read, whether it waits, what became of it."""
        workflow = known(id)
        found = None
        window = control.backlog.window(workflow)
        groups = list(window[-1].groups or ()) if window else []
        if workflow == "ingress":
            partitions = await control.topics.partitions_of("ingress.state")
            found = await control.traces.ingress(table, key.lower(), partitions, groups)
        elif workflow == "egress":
            found = await control.traces.egress(key.lower(), await control.topics.partitions_of("egress.state"), groups)
        else:
            found = await control.traces.optin(key.lower(), await control.topics.partitions_of("optin.state"), groups)
        if found is None:
            raise Refused(404, "never_seen", f"No {table} record {key} has been seen by {workflow}.")
        return found
