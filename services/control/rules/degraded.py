"""What keeps a RUNNING workflow from its work, from heartbeats. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from bridge.model.desired import Heartbeat, Reason, Workflow
from services.control.rules.lifecycle import NOTICES, Beat

AFTER_S = 15.0
UNREACHABLE, BUSY = ("network", "token_endpoint", "bad_answer"), ("busy", "source_busy", "target_busy")
SYSTEMS: Mapping[tuple[Workflow, str], str] = {
    ("ingress", "reader"): "Dynamics",
    ("ingress", "writer"): "Campaign",
    ("egress", "reader"): "Adobe I/O Events",
    ("egress", "writer"): "Dynamics",
    ("optin", "reader"): "Dynamics or Campaign",
    ("optin", "writer"): "Dynamics or Campaign",
}


@dataclass(frozen=True, slots=True)
class Degraded:
    """Why, which role says so, and since when."""

    reason: Reason
    role: str
    since: datetime


def in_trouble(workflow: Workflow, beats: Sequence[Beat], waiting: int | None, now: datetime) -> Degraded | None:
    """The trouble of one of these instances that has lasted longest, 15 s at least. `waiting`: records in Kafka, None if not known."""
    lasting = [each for beat in beats if (each := _lasting(workflow, beat, waiting, now)) is not None]
    return min(lasting, key=lambda each: each.since, default=None)


def _lasting(workflow: Workflow, beat: Beat, waiting: int | None, now: datetime) -> Degraded | None:
    told = beat.heartbeat
    if told.status != "RUNNING" or told.reason is None or told.reason.code in NOTICES or told.reason_since is None:
        return None
    lasted_s = beat.at_ms / 1000 - datetime.fromisoformat(told.reason_since).timestamp() + beat.age_s  # by its sender's clock
    if lasted_s < AFTER_S:
        return None
    return Degraded(_reason(workflow, told, told.reason, waiting), told.role, now - timedelta(seconds=lasted_s))


def _reason(workflow: Workflow, told: Heartbeat, reason: Reason, waiting: int | None) -> Reason:
    side, system = "source" if told.role == "reader" else "target", SYSTEMS.get((workflow, told.role), "Kafka")
    safe = "what changes there meanwhile is read when it answers again" if side == "source" else _waits(waiting)
    if reason.code in UNREACHABLE:
        hint = f"See whether {system} answers: the page Settings tests it. The {told.role} goes on by itself when it does; {safe}."
        return Reason(f"{side}_unreachable", f"{system} cannot be reached ({reason.message})", hint, side)
    if reason.code in BUSY:
        hint = f"Nothing to do: the {told.role} goes on by itself at that time; {safe}."
        return Reason(f"{side}_busy", f"{system} is busy ({reason.message})", hint, side)
    origin = "kafka" if reason.code in ("group_not_joined", "kafka_unavailable") else reason.origin
    return Reason(reason.code, reason.message, f"{reason.hint.rstrip('.')}; {_waits(waiting)}.", origin)


def _waits(waiting: int | None) -> str:
    if not waiting:
        return "nothing is lost meanwhile"
    return f"{waiting} {'record waits' if waiting == 1 else 'records wait'} in Kafka meanwhile"


def waiting_for_parents(workflow: Workflow, parked: int) -> Reason:
    which = "contact" if workflow == "egress" else "parent"
    return Reason(
        "waiting_for_parents",
        f"{parked} {'record waits' if parked == 1 else 'records wait'} for a {which} that is not there yet; all else is written",
        f"Nothing to do if the {which}s are to come: records are tried again when they do, and are dead letters after PARK_BUDGET_S.",
        "target",
    )


def loading(beats: Sequence[Beat], now: datetime) -> Degraded | None:
    """A full read that has gone on for 15 s: of the table that has most left."""
    found = [
        (name, feed, beat.heartbeat.role)
        for beat in beats
        for name, feed in beat.heartbeat.feeds.items()
        if feed.get("phase") in ("load", "again") and feed.get("started_at")
    ]
    if not found:
        return None
    name, feed, role = max(found, key=lambda each: _left(each[1]))
    since = datetime.fromisoformat(feed["started_at"]).astimezone(UTC)
    if (now - since).total_seconds() < AFTER_S:
        return None
    done, total = int(feed.get("rows") or 0), feed.get("total")
    rows = f"{done:,} of {int(total):,}" if total else f"{done:,}"
    reason = Reason("loading", f"{name}: {rows} rows read", "Nothing to do: changes meanwhile are not held up.", "source")
    return Degraded(reason, role, since)


def _left(feed: Mapping[str, Any]) -> int:
    return int(feed.get("total") or 0) - int(feed.get("rows") or 0)
