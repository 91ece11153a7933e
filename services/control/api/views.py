"""Puts together what the API answers from the store and the backlog's samples. Pure but for reading those."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

from bridge.kafka.lag import GroupLag
from bridge.model.clock import Clock
from bridge.model.desired import Heartbeat, Reason, Status, Workflow
from services.control.models.workflow_json import (
    BacklogOut,
    ConfigOut,
    CountersOut,
    DifferenceOut,
    GroupOut,
    Health,
    PartitionOut,
    ReasonOut,
    RunningOut,
    ServiceOut,
    TopicOut,
    WorkflowOut,
)
from services.control.rules import degraded, lifecycle
from services.control.rules.backlog_trend import Sample, eta_s, rates, verdict, waiting_since
from services.control.rules.lifecycle import NAMES, NOTICES, Beat, Verdict, difference, dumped
from services.control.topics.lag_samples import Backlog
from services.control.topics.store import Revision, Store


def workflow_view(store: Store, backlog: Backlog, clock: Clock, workflow: Workflow) -> WorkflowOut:
    """Raises RetryError while control has not read its topics."""
    desired, saved = store.desired(workflow), store.saved(workflow)
    state, since = store.verdict(workflow)
    there = [beat for beat in store.beats(workflow) if not beat.left and beat.fresh]
    beats = sorted(there, key=lambda beat: (beat.heartbeat.role, beat.heartbeat.instance))
    config = config_view(store, workflow)
    reads = [beat.heartbeat.last_read_at for beat in beats if beat.heartbeat.last_read_at]
    writes = [beat.heartbeat.last_written_at for beat in beats if beat.heartbeat.last_written_at]
    parked = sum(beat.heartbeat.parked for beat in beats)
    view = backlog_view(backlog, clock, workflow, state.status == "STOPPED", beats)
    reason = _failed(state, since) or _notice(workflow, state, beats, backlog, view, since, clock.now())
    return WorkflowOut(
        id=workflow,
        name=NAMES[workflow],
        status=state.status,
        desired=desired.desired,
        status_since=datetime.fromisoformat(since),
        reason=reason,
        health=_health(state.status, reason, view),
        configured=saved.config.configured(),
        pending_changes=bool(config.diff),
        saved_revision=saved.revision,
        running_revision=desired.revision if desired.desired == "RUNNING" else None,
        backlog=view,
        services=[_service(beat.heartbeat, beat.at_ms) for beat in beats],
        counters=_counters([beat.heartbeat for beat in beats], parked),
        last_read_at=datetime.fromisoformat(max(reads)) if reads else None,
        last_written_at=datetime.fromisoformat(max(writes)) if writes else None,
    )


def backlog_view(backlog: Backlog, clock: Clock, workflow: Workflow, stopped: bool, beats: Sequence[Beat]) -> BacklogOut:
    """`beats`: of the instances that are there."""
    window = backlog.window(workflow)
    parked = sum(beat.heartbeat.parked for beat in beats)
    last = window[-1] if window else None
    moved = waiting_since(window)
    rate = sum(rates(moved).values()) if len(moved) > 1 else None
    known = last is not None and last.records is not None
    oldest = None
    if last is not None and last.oldest_ms is not None:
        oldest = max(0.0, clock.now().timestamp() - last.oldest_ms / 1000)
    return BacklogOut(
        records=last.records if last else None,
        verdict=verdict(
            window,
            stopped,
            only_parked=parked > 0 and not any(beat.heartbeat.in_work for beat in beats) and _read_to_the_end(last),
            source_away=any(beat.heartbeat.source_away for beat in beats),
        ),
        oldest_age_s=None if oldest is None else round(oldest, 1),
        drain_rate_per_s=_rounded(rate),
        eta_s=_rounded(eta_s(moved)) if known else None,
        as_of=last.at if last else None,
        parked=parked,
        held=backlog.held(workflow).total,
        optouts_waiting=_waiting_optouts(beats, backlog, workflow),
        groups=[_group(group) for group in (last.groups if last and last.groups else ())],
    )


def config_view(store: Store, workflow: Workflow) -> ConfigOut:
    desired, saved = store.desired(workflow), store.saved(workflow)
    config = dumped(saved.config)
    running = None
    if desired.desired == "RUNNING" and desired.revision is not None and desired.config is not None:
        running = RunningOut(revision=desired.revision, config=dict(desired.config))
    diff = difference(running.config, config) if running else []
    return ConfigOut(
        revision=saved.revision,
        saved_at=datetime.fromisoformat(saved.saved_at),
        saved_by=saved.saved_by,
        config=config,
        running=running,
        diff=[DifferenceOut(**each) for each in diff],
    )


def etag(revision: Revision | ConfigOut) -> str:
    return f'"{revision.revision}"'


def _failed(state: Verdict, since: str) -> ReasonOut | None:
    """Since when: as the service that failed says, else since the status is what it is."""
    if state.status != "FAILED" or state.reason is None:
        return None
    return _reason(state.reason, state.role, state.since or since)


def _read_to_the_end(last: Sample | None) -> bool:
    """Whether nothing waits before the writers: groups are in the order of the data's way."""
    return last is not None and last.groups is not None and not any(group.records for group in last.groups[:-1])


def _health(status: Status, reason: ReasonOut | None, backlog: BacklogOut) -> Health:
    if status == "FAILED":
        return "failed"
    if backlog.records is None:
        return "unknown"
    if status == "STOPPED":
        return "stopped"
    return "degraded" if status == "RUNNING" and reason is not None else "ok"


def _notice(
    workflow: Workflow, state: Verdict, beats: Sequence[Beat], backlog: Backlog, view: BacklogOut, since: str, now: datetime
) -> ReasonOut | None:
    """What people have to know although nothing has failed: first of all that somebody's no has not arrived, also while it is stopped."""
    if waiting := _waiting_optouts(beats, backlog, workflow):
        return _reason(lifecycle.optouts_waiting(workflow, waiting, backlog.dead_optouts(workflow)), "writer", since)
    if state.status != "RUNNING":
        return None
    if (trouble := degraded.in_trouble(workflow, beats, view.records, now)) is not None:
        return _reason(trouble.reason, trouble.role, trouble.since.isoformat())
    if (held := backlog.held(workflow)).total:
        role = "resolver" if workflow == "optin" else "writer"
        return _reason(lifecycle.items_held(workflow, held.releases, held.deletes), role, since)
    for beat in beats:
        reason = beat.heartbeat.reason
        if reason is not None and reason.code in NOTICES:
            return _reason(reason, beat.heartbeat.role, since)
    if view.verdict == "WAITING" and (view.oldest_age_s or 0) >= degraded.AFTER_S:
        waits_since = now - timedelta(seconds=view.oldest_age_s or 0)
        return _reason(degraded.waiting_for_parents(workflow, view.parked), "writer", waits_since.isoformat())
    load = degraded.loading(beats, now)
    return None if load is None else _reason(load.reason, load.role, load.since.isoformat())


def _waiting_optouts(beats: Sequence[Beat], backlog: Backlog, workflow: Workflow) -> int:
    """Those that are tried again, and those in open dead letters."""
    return sum(beat.heartbeat.counters.get("optouts_waiting", 0) for beat in beats) + backlog.dead_optouts(workflow)


def _reason(reason: Reason, role: str | None, since: str) -> ReasonOut:
    return ReasonOut(
        code=reason.code,
        message=reason.message,
        hint=reason.hint,
        origin=reason.origin,
        role=role,
        since=datetime.fromisoformat(since),
    )


def _service(beat: Heartbeat, at_ms: int) -> ServiceOut:
    return ServiceOut(
        role=beat.role,
        instance=beat.instance,
        status=beat.status,
        revision=beat.revision,
        since=datetime.fromisoformat(beat.since),
        heartbeat_at=datetime.fromtimestamp(at_ms / 1000, UTC),
        version=beat.version,
        reason=_reason(beat.reason, beat.role, beat.reason_since or beat.since) if beat.reason else None,
    )


def _counters(beats: list[Heartbeat], parked: int) -> CountersOut:
    """Sums over the instances that are there; `read` is what the readers have published."""
    names = [name for name in CountersOut.model_fields if name != "parked"]
    sums = {name: sum(beat.counters.get(name, 0) for beat in beats) for name in names}
    return CountersOut(**sums, parked=parked)


def _group(group: GroupLag) -> GroupOut:
    topics = [
        TopicOut(
            topic=topic,
            lag=sum(each.lag for each in partitions),
            partitions=[
                PartitionOut(partition=each.partition, committed=each.committed, end=each.end, lag=each.lag) for each in partitions
            ],
        )
        for topic, partitions in group.topics.items()
    ]
    return GroupOut(group=group.group, state=group.state, members=group.members, topics=topics)


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 1)
