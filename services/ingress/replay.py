"""A replay: rows of one table once more through the replay lane, a page at a time between the polls for live changes.

The cursor's member `replay` tells how far it is, so that a restart goes on there:

    {"id": …, "state": "running" | "done" | "cancelled", "page_link": …, "next_key": 0, "rows": 0, "total": 5000, "started_at": …}
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from bridge.dynamics.changes import Row, TrackedTable
from bridge.dynamics.errors import QueryRefused, refused
from bridge.dynamics.lookups import AT_ONCE, Lookups
from bridge.model.desired import Replay

RESTARTS = 3

State = Mapping[str, Any]


def running(state: State | None) -> bool:
    return state is not None and state["state"] == "running"


def asked_for(request: Replay | None, state: State | None) -> bool:
    """Whether this request has not been taken up yet."""
    return request is not None and (state is None or state["id"] != request["id"])


def done(request: Replay) -> State:
    """For a request that a full read from the beginning fulfils as well."""
    return {"id": request["id"], "state": "done", "rows": 0}


async def begun(tracked: TrackedTable, request: Replay, now: datetime) -> State:
    """`total`: None if Dynamics does not tell how many rows there are, or if only those changed since a time are wanted."""
    keys = request["keys"]
    total = len(keys) if keys is not None else None if request["changed_since"] else await tracked.count()
    return {
        "id": request["id"],
        "state": "running",
        "page_link": None,
        "next_key": 0,
        "rows": 0,
        "total": total,
        "restarts": 0,
        "started_at": now.isoformat(),
    }


async def page(tracked: TrackedTable, request: Replay, state: State, lookups: Lookups) -> tuple[list[Row], State]:
    """The next rows and the state after them. Rows that are gone meanwhile are left out. Raises RetryError or HaltError."""
    if request["keys"] is not None:
        return await _by_key(tracked, request["keys"], state, lookups)
    since = None
    if request["changed_since"] and tracked.table.has_modifiedon:
        since = datetime.fromisoformat(request["changed_since"])
    try:
        rows, link = await tracked.rows(state["page_link"], since)
    except QueryRefused as exc:  # the server does not know the link any more: from the beginning
        if state["page_link"] is None or state["restarts"] >= RESTARTS:
            raise refused(exc) from exc
        return [], {**state, "page_link": None, "rows": 0, "restarts": state["restarts"] + 1}
    after = {**state, "rows": state["rows"] + len(rows), "page_link": link}
    return list(rows), after if link else _finished(after)


async def _by_key(tracked: TrackedTable, keys: list[str], state: State, lookups: Lookups) -> tuple[list[Row], State]:
    end = min(state["next_key"] + AT_ONCE, len(keys))
    found = await lookups.rows(tracked, keys[state["next_key"] : end])
    rows = [row for row in found if row is not None]
    after = {**state, "rows": end, "next_key": end}
    return rows, after if end < len(keys) else _finished(after)


def _finished(state: State) -> State:
    return {**state, "state": "done", "page_link": None}
