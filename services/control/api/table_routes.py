"""Ingress tables with their progress, replay, and the readers' cursors."""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from typing import Any

from fastapi import APIRouter, Request

from bridge.dynamics.changes import TrackedTable
from bridge.dynamics.metadata import read_table
from bridge.flow.reader import without_links
from bridge.model.config import IngressConfig, TableMapping
from bridge.model.desired import Replay, Workflow
from bridge.model.errors import BridgeError
from bridge.observe.log import log
from services.control.api.context import Admin, Control, Operator, Viewer, known
from services.control.api.problems import Refused, described
from services.control.models.data_json import CursorOut, CursorsOut, JournalIn, ReplayIn, TableOut, TablesOut
from services.control.rules import actions
from services.control.rules.actions import NotRunning, NotStopped
from services.control.rules.table_progress import Position, table_view

MOST_WAITING = MOST_ROWS = 2_000_000
JOURNAL = "campaign:journal"
COMMAND = (401, 403, 404, 409, 413, 422, 429, 503)


def router(control: Control) -> APIRouter:
    routes = APIRouter()
    _tables(routes, control)
    _cursors(routes, control)
    return routes


def _tables(routes: APIRouter, control: Control) -> None:
    @routes.get("/workflows/ingress/tables", tags=["tables"], responses=described(401, 403, 429, 503))
    async def list_tables(_: Viewer) -> TablesOut:
        """The mapped tables: how old the reader's position is, what has been read, loads and replays under way."""
        return TablesOut(tables=[_view(control, table) for table in _saved(control).tables])

    @routes.post("/workflows/ingress/tables/{table}/replay", tags=["tables"], status_code=202, responses=described(*COMMAND))
    async def replay_table(table: str, body: ReplayIn, request: Request, _: Operator) -> TableOut:
        """Sends the table's rows once more: all of them, those changed since a time, or those with the given keys. `next-start` waits
        for the next stop and start, `now` goes beside the live changes."""
        mapping = _mapped(control, table)
        await _check_sizes(control, mapping, body)
        asked = Replay(
            id=uuid.uuid4().hex,
            when=body.when,
            changed_since=body.changed_since.isoformat() if body.changed_since else None,
            keys=list(dict.fromkeys(key.lower() for key in body.keys)) if body.keys else None,
            requested_at=control.clock.now().isoformat(),
            requested_by=request.state.who.name,
        )
        try:
            await control.store.run(actions.ask_replay(table, asked, control.by(request)))
        except NotRunning as exc:
            detail = "Ingress does not run: start it first, or ask for the replay with the next start."
            raise Refused(409, "not_running", detail) from exc
        log("command", what="replay", table=table, when=body.when)
        return _view(control, mapping)

    @routes.delete("/workflows/ingress/tables/{table}/replay", tags=["tables"], status_code=202, responses=described(*COMMAND))
    async def cancel_replay(table: str, request: Request, _: Operator) -> TableOut:
        """Disarms a replay, or stops one that is under way; what it has queued is still written."""
        mapping = _mapped(control, table)
        await control.store.run(actions.cancel_replay(table, control.by(request)))
        log("command", what="replay-cancel", table=table)
        return _view(control, mapping)


def _cursors(routes: APIRouter, control: Control) -> None:
    @routes.get("/workflows/{id}/cursors", tags=["cursors"], responses=described(401, 403, 404, 422, 429, 503))
    async def list_cursors(id: str, _: Viewer) -> CursorsOut:
        """Where the readers are."""
        return CursorsOut(cursors=[_cursor(each) for each in control.cursors.of(known(id))])

    @routes.delete("/workflows/{id}/cursors/{name}", tags=["cursors"], status_code=202, responses=described(*COMMAND))
    async def delete_cursor(id: str, name: str, request: Request, _: Admin) -> CursorsOut:
        """Forgets a position: the next start reads that table from the beginning. Only while the workflow is STOPPED."""
        workflow = known(id)
        position = control.cursors.find(workflow, name)
        if position is None:
            raise Refused(404, "unknown_cursor", f"There is no cursor {name}.")
        await _set(control, workflow, position.key, None, request)
        return CursorsOut(cursors=[_cursor(each) for each in control.cursors.of(workflow) if each.key != position.key])

    @routes.put("/workflows/egress/cursors/journal", tags=["cursors"], status_code=202, responses=described(*COMMAND))
    async def set_journal(body: JournalIn, request: Request, _: Admin) -> CursorsOut:
        """Where the next start begins to read the journal of events. Only while egress is STOPPED."""
        await _set(control, "egress", JOURNAL, {"position": body.position}, request)
        now = control.clock.now()
        others = [each for each in control.cursors.of("egress") if each.key != JOURNAL]
        return CursorsOut(cursors=[_cursor(each) for each in [Position(JOURNAL, {"position": body.position}, now), *others]])


async def _set(control: Control, workflow: Workflow, key: str, value: Mapping[str, Any] | None, request: Request) -> None:
    if control.store.verdict(workflow)[0].status != "STOPPED":
        raise _not_stopped(workflow)
    # ingress finds in its state by itself in which epoch it was, without a full read of all other tables
    before = control.cursors.find(workflow, key) if workflow == "optin" else None
    epoch = 0 if before is None else int(before.value.get("epoch", 0))
    try:
        await control.store.run(actions.set_cursor(workflow, key, value, control.by(request), epoch))
    except NotStopped as exc:
        raise _not_stopped(workflow) from exc
    log("command", what="cursor", workflow=workflow, cursor=key)


def _not_stopped(workflow: Workflow) -> Refused:
    return Refused(409, "not_stopped", f"Stop {workflow} first and wait until it is STOPPED: a running reader keeps its own position.")


def _cursor(position: Position) -> CursorOut:
    shown = without_links(position.value) or dict(position.value)
    return CursorOut(name=position.name, system=position.system, updated_at=position.updated_at, position=shown)


def _saved(control: Control) -> IngressConfig:
    config = control.store.saved("ingress").config
    assert isinstance(config, IngressConfig)
    return config


def _mapped(control: Control, table: str) -> TableMapping:
    for mapping in _saved(control).tables:
        if mapping.source == table:
            return mapping
    raise Refused(404, "unknown_table", f"Table {table} is not mapped.")


def _view(control: Control, mapping: TableMapping) -> TableOut:
    desired = control.store.desired("ingress")
    feeds = [beat.heartbeat.feeds for beat in control.store.beats("ingress") if beat.fresh and not beat.left]
    live = next((found[mapping.source] for found in feeds if mapping.source in found), None)
    replay = desired.armed.get(mapping.source) or desired.replays.get(mapping.source)
    armed = mapping.source in desired.armed
    return table_view(mapping, control.cursors.table(mapping.source), live, replay, armed, control.clock.now())


async def _check_sizes(control: Control, mapping: TableMapping, body: ReplayIn) -> None:
    """The limits of the original (F96, F97). Raises Refused 409."""
    window = control.backlog.window("ingress")
    waiting = window[-1].records if window else None
    if waiting is not None and waiting >= MOST_WAITING:
        detail = f"{waiting} records wait already; replay when fewer than {MOST_WAITING} do."
        raise Refused(409, "backlog_too_large", detail)
    if body.when == "next-start":
        rows = await _rows(control, mapping)
        if rows is not None and rows >= MOST_ROWS:
            detail = f"{mapping.source} has {rows} rows; above {MOST_ROWS} replay by changed_since or keys, with when = now."
            raise Refused(409, "table_too_large", detail)


async def _rows(control: Control, mapping: TableMapping) -> int | None:
    """How many rows there are: as Dynamics tells, else as counted at the last load; None if neither is known."""
    if control.systems.configured("dynamics"):
        try:
            table = await control.systems.asked("dynamics", read_table(control.systems.dynamics, mapping.source, []))
            return await control.systems.asked("dynamics", TrackedTable(control.systems.dynamics, table, 1).count())
        except (BridgeError, Refused) as exc:
            log("refused", "warning", what="replay-count", code=exc.code)
    position = control.cursors.table(mapping.source)
    return None if position is None else position.value.get("total") or position.value.get("rows")
