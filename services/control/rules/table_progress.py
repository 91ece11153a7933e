"""What the API tells about one ingress table, from its cursor and the reader's last heartbeat. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from bridge.model.config import TableMapping
from bridge.model.desired import Replay
from services.control.models.data_json import ProgressOut, ReplayOut, TableOut

TRACKED_FOR = timedelta(days=7)  # what Dynamics keeps by default (dataverse.md §4.8)
LOADING = ("load", "reconcile")


@dataclass(frozen=True, slots=True)
class Position:
    """`key` is the cursor's in Kafka, `<system>:<name>`."""

    key: str
    value: Mapping[str, Any]
    updated_at: datetime

    @property
    def system(self) -> str:
        return self.key.partition(":")[0]

    @property
    def name(self) -> str:
        return self.key.partition(":")[2]


def table_view(
    mapping: TableMapping,
    position: Position | None,
    live: Mapping[str, Any] | None,
    replay: Replay | None,
    armed: bool,
    now: datetime,
) -> TableOut:
    """`live`: what the reader says of this table if one is heard of, newer than the cursor. `replay`: the last one asked for."""
    cursor = live or (position.value if position else {})
    token_at = _moment(cursor.get("token_at"))
    side = cursor.get("replay")
    return TableOut(
        source=mapping.source,
        target=mapping.target,
        phase=cursor.get("phase"),
        cursor_age_s=None if position is None else round(max(0.0, (now - (token_at or position.updated_at)).total_seconds()), 1),
        change_tracking_days_left=None if token_at is None else round((token_at + TRACKED_FOR - now) / timedelta(days=1), 1),
        rows_read=cursor.get("rows"),
        progress=_progress(cursor, side, now),
        replay_armed=armed,
        replay=_replay(replay, side, armed),
    )


def _progress(cursor: Mapping[str, Any], side: Mapping[str, Any] | None, now: datetime) -> ProgressOut | None:
    """Of the load under way, else of the replay."""
    if cursor.get("phase") in LOADING:
        return _done("initial" if cursor.get("lane") == "initial" else "resync", cursor, now)
    if side is not None and side.get("state") == "running":
        return _done("replay", side, now)
    return None


def _done(kind: str, counted: Mapping[str, Any], now: datetime) -> ProgressOut:
    done, total, began = int(counted.get("rows") or 0), counted.get("total"), _moment(counted.get("started_at"))
    eta = None
    if total and done and began is not None:
        eta = round(max(0.0, (now - began).total_seconds() / done * (int(total) - done)), 1)
    return ProgressOut.model_validate({"kind": kind, "done": done, "total": total, "eta_s": eta, "started_at": began})


def _replay(replay: Replay | None, side: Mapping[str, Any] | None, armed: bool) -> ReplayOut | None:
    """None once it is done: it can be asked for again then."""
    if replay is None:
        return None
    taken_up = not armed and side is not None and side.get("id") == replay["id"]
    if taken_up and side is not None and side.get("state") != "running":
        return None
    return ReplayOut(
        when=replay["when"],
        state="armed" if armed else "running" if taken_up else "requested",
        changed_since=_moment(replay["changed_since"]),
        keys=None if replay["keys"] is None else len(replay["keys"]),
        requested_at=datetime.fromisoformat(replay["requested_at"]),
        requested_by=replay["requested_by"],
    )


def _moment(text: Any) -> datetime | None:
    return datetime.fromisoformat(str(text)) if text else None
