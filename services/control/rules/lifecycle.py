"""From desired state and heartbeats to the status people see, and what a command does to the desired state. Pure (decision D6)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any

from bridge.model.config import Config, EgressConfig, IngressConfig, OptinConfig, default_ingress
from bridge.model.desired import HEARTBEAT_DEADLINE_S, Desired, Heartbeat, Reason, Status, Workflow

NAMES: Mapping[Workflow, str] = {
    "ingress": "Microsoft Dynamics 365 to Campaign",
    "egress": "Campaign to Microsoft Dynamics 365",
    "optin": "Opt In/Out",
}
ROLES: Mapping[Workflow, tuple[str, ...]] = {
    "ingress": ("reader", "writer"),
    "egress": ("reader", "writer"),
    "optin": ("reader", "resolver", "writer"),
}
GROUPS: Mapping[Workflow, tuple[str, ...]] = {
    "ingress": ("ingress",),
    "egress": ("egress",),
    "optin": ("optin-resolver", "optin"),
}
NOTICES = (  # codes of reasons that are told while a workflow runs
    "export_overdue", "export_folder_missing", "export_unreadable", "export_vanished", "export_without_times",
)  # fmt: skip
SHAPES: Mapping[Workflow, type[Config]] = {"ingress": IngressConfig, "egress": EgressConfig, "optin": OptinConfig}


@dataclass(frozen=True, slots=True)
class Beat:
    """A heartbeat, how long ago it was sent, and when by its sender's clock. `left`: the instance has said goodbye since."""

    heartbeat: Heartbeat
    age_s: float
    at_ms: int
    left: bool = False

    @property
    def fresh(self) -> bool:
        return self.age_s <= HEARTBEAT_DEADLINE_S


@dataclass(frozen=True, slots=True)
class Verdict:
    """The status of a workflow; `role` and `reason` say why it is FAILED, `since` when it came to be (ISO 8601)."""

    status: Status
    role: str | None = None
    reason: Reason | None = None
    since: str | None = None


def verdict(workflow: Workflow, desired: Desired, beats: Sequence[Beat], now: datetime, start_deadline_s: float) -> Verdict:
    """`beats`: the last one of every instance; of those that left all within the heartbeat deadline, and the last of each role."""
    fresh = [beat for beat in beats if beat.fresh]
    if desired.desired == "STOPPED":
        return _stopping([beat for beat in fresh if not beat.left])
    current = [beat for beat in beats if beat.heartbeat.generation == desired.generation]
    for beat in current:
        if beat.heartbeat.status == "FAILED" and beat.fresh and not beat.left:
            return _gone(beat)
    due = _after(desired.changed_at, start_deadline_s) if desired.changed_at else None
    missing = [role for role in ROLES[workflow] if not _runs(role, current)]
    verdicts = [_missing(role, current, due, now, start_deadline_s) for role in missing]
    failed = next((each for each in verdicts if each.status == "FAILED"), None)
    return failed or (Verdict("STARTING") if missing else Verdict("RUNNING"))


def _stopping(fresh: Sequence[Beat]) -> Verdict:
    """RUNNING until every instance says that it has stopped."""
    if any(beat.heartbeat.status in ("RUNNING", "STARTING") for beat in fresh):
        return Verdict("RUNNING")
    return Verdict("STOPPED")


def _runs(role: str, current: Sequence[Beat]) -> bool:
    return any(beat.heartbeat.role == role and beat.heartbeat.status == "RUNNING" and beat.fresh for beat in current)


def _missing(role: str, current: Sequence[Beat], due: datetime | None, now: datetime, start_deadline_s: float) -> Verdict:
    mine = [beat for beat in current if beat.heartbeat.role == role]
    starting = [beat.heartbeat for beat in mine if beat.heartbeat.status == "STARTING" and beat.fresh and not beat.left]
    for each in starting:
        if now > (own := _after(each.since, start_deadline_s)):
            return Verdict("FAILED", role, each.reason or _slow(role), own.isoformat())
    if starting:
        return Verdict("STARTING")
    if ended := [beat for beat in mine if beat.heartbeat.status in ("RUNNING", "FAILED")]:
        return _gone(min(ended, key=lambda beat: beat.age_s))
    if due is not None and now > due:
        return Verdict("FAILED", role, _silent(role), due.isoformat())
    return Verdict("STARTING")


def _gone(last: Beat) -> Verdict:
    """FAILED as its last heartbeat says, or because it was the last."""
    if (beat := last.heartbeat).status == "FAILED":
        return Verdict("FAILED", beat.role, beat.reason, beat.since)
    silent = datetime.fromtimestamp(last.at_ms / 1000, UTC) + timedelta(seconds=HEARTBEAT_DEADLINE_S)
    return Verdict("FAILED", beat.role, _silent(beat.role), silent.isoformat())


def _after(moment: str, seconds: float) -> datetime:
    return datetime.fromisoformat(moment) + timedelta(seconds=seconds)


def _silent(role: str) -> Reason:
    return Reason(
        "service_silent",
        f"no {role} has been heard of for more than {HEARTBEAT_DEADLINE_S:.0f} s",
        f"See whether the {role}'s process runs and reaches Kafka; it goes on by itself when it is back.",
        "service",
    )


def _slow(role: str) -> Reason:
    return Reason("start_deadline", f"the {role} has not started in time", f"See the {role}'s log.", "service")


def items_held(workflow: Workflow, releases: int, deletes: int) -> Reason:
    """What the consent guard holds: opt-outs that would be taken away, and records that would be deleted."""
    told = [
        _counted(releases, "decision that takes an opt-out away", "decisions that take an opt-out away", "OPTIN_RELEASE_LIMIT"),
        _counted(deletes, "delete in Campaign", "deletes in Campaign", "DELETE_LIMIT"),
    ]
    return Reason(
        "releases_held",
        f"{' and '.join(each for each in told if each)}: what goes beyond the limit within an hour is held",
        f"See on the page of {NAMES[workflow]} or with `bridge held list {workflow}` whether they are meant, then release or discard them; "
        "opt-outs and everything else go on meanwhile.",
        "service",
    )


def optouts_waiting(workflow: Workflow, waiting: int, dead: int) -> Reason:
    """Opt-outs that have not reached the system they are for; `dead` of them are in dead letters and are not tried again by themselves."""
    which = f", {dead} of them in dead letters" if dead else ""
    mend = "they are tried again by themselves"
    if dead:
        mend = f"remove their cause (`bridge dead-letters groups {workflow}`) and re-drive them"
    return Reason(
        "optouts_waiting",
        f"{waiting} {'opt-out has' if waiting == 1 else 'opt-outs have'} not been written yet{which}: these people may still be mailed",
        f"See the writer's log and the dead letters for what is refused; {mend}.",
        "target",
    )


def _counted(number: int, one: str, many: str, limit: str) -> str:
    return f"{number} {one if number == 1 else many} ({limit})" if number else ""


def started(desired: Desired, status: Status, revision: int, config: Mapping[str, Any], by: str, at: str, comment: str | None) -> Desired:
    """After Start: the saved configuration of this moment, and the replays that waited for a start. A workflow that runs (or is
    starting) is left alone, one that FAILED is started again."""
    if desired.desired == "RUNNING" and status != "FAILED":
        return desired
    replays = {**desired.replays, **desired.armed}
    return Desired("RUNNING", desired.generation + 1, revision, config, at, by, comment, replays, epoch=desired.epoch)


def stopped(desired: Desired, by: str, at: str, comment: str | None) -> Desired:
    if desired.desired == "STOPPED":
        return desired
    return replace(desired, desired="STOPPED", generation=desired.generation + 1, changed_at=at, changed_by=by, comment=comment)


def default_config(workflow: Workflow) -> Config:
    """Revision 1 out of the box."""
    return default_ingress() if workflow == "ingress" else SHAPES[workflow]()


def dumped(config: Config) -> dict[str, Any]:
    """As the API shows it and Kafka keeps it."""
    return config.model_dump(mode="json", by_alias=True)


def difference(running: Any, saved: Any, path: str = "") -> list[dict[str, Any]]:
    """What differs between two configurations, by JSON pointer, in the order of the members."""
    if isinstance(running, Mapping) and isinstance(saved, Mapping):
        names = [*running, *(name for name in saved if name not in running)]
        return [each for name in names for each in difference(running.get(name), saved.get(name), f"{path}/{name}")]
    if isinstance(running, list) and isinstance(saved, list):
        pairs = [
            (running[i] if i < len(running) else None, saved[i] if i < len(saved) else None) for i in range(max(len(running), len(saved)))
        ]
        return [each for i, (old, new) in enumerate(pairs) for each in difference(old, new, f"{path}/{i}")]
    return [] if running == saved else [{"path": path, "running": running, "saved": saved}]
