"""The JSON of the control API (contracts/control-api.md), for the answers and for OpenAPI: workflows and their configuration."""

from __future__ import annotations

from datetime import datetime
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from bridge.model.desired import Status, Workflow

BacklogVerdict = Literal["IDLE", "KEEPING_UP", "DRAINING", "GROWING", "STALLED", "WAITING", "SOURCE_AWAY", "STOPPED", "UNKNOWN"]


class Out(BaseModel):
    """Base of answers."""


class In(BaseModel):
    """Base of request bodies: unknown members are errors."""

    model_config = ConfigDict(extra="forbid")


class PartitionOut(Out):
    partition: int
    committed: int | None = Field(description="Null if the group has never committed here.")
    end: int
    lag: int


class TopicOut(Out):
    topic: str
    lag: int
    partitions: list[PartitionOut]


class GroupOut(Out):
    group: str
    state: str = Field(description="As Kafka names it: Stable, Empty, Dead, …")
    members: int
    topics: list[TopicOut]


class BacklogOut(Out):
    records: int | None = Field(description="Null when Kafka cannot be asked: never 0 by default.")
    verdict: BacklogVerdict
    oldest_age_s: float | None
    drain_rate_per_s: float | None
    eta_s: float | None
    as_of: datetime | None
    parked: int
    held: int = Field(0, description="Opt-outs to be taken away and records to be deleted that wait for an admin to release them.")
    optouts_waiting: int = Field(0, description="Opt-outs that could not be written yet: those that are tried again, and dead letters.")
    groups: list[GroupOut]


class ReasonOut(Out):
    code: str
    message: str
    hint: str
    origin: str
    role: str | None = None
    since: datetime | None = None


class ServiceOut(Out):
    role: str
    instance: str
    status: Status
    revision: int | None
    since: datetime
    heartbeat_at: datetime
    version: str
    reason: ReasonOut | None


class CountersOut(Out):
    read: int = 0
    written: int = Field(0, description="Created or updated. From here to `dead_lettered` a record has one outcome; all are `read`.")
    unchanged: int = Field(0, description="Nothing to write: the target was so already.")
    stale: int = Field(0, description="Older than what has been dealt with.")
    incomplete: int = Field(0, description="Read before a column was added to the mapping; the whole row comes again.")
    filtered: int = Field(0, description="Left out by the filter.")
    deleted: int = 0
    delete_ignored: int = Field(0, description="Deleted in the source, and deletes are not to be carried out.")
    absent: int = Field(0, description="The target has nobody to write to.")
    observed_again: int = Field(0, description="The target was other than known: looked at again, to be decided again.")
    held: int = Field(0, description="Waits for a person's release.")
    merged: int = Field(0, description="Waited together with a newer one of the same key, which brought it along.")
    dead_lettered: int = 0
    parked: int = 0
    optout_kept: int = Field(0, description="Opt-outs that a target keeps, since nobody's word takes them back.")
    target_calls: int = 0


Health = Literal["ok", "degraded", "failed", "stopped", "unknown"]


class WorkflowOut(Out):
    id: Workflow
    name: str
    status: Status
    desired: Literal["RUNNING", "STOPPED"]
    status_since: datetime
    reason: ReasonOut | None
    health: Health = Field(description="`degraded`: it runs, and there is a reason. `unknown`: Kafka cannot be asked.")
    configured: bool
    pending_changes: bool
    saved_revision: int
    running_revision: int | None
    backlog: BacklogOut
    services: list[ServiceOut]
    counters: CountersOut
    last_read_at: datetime | None
    last_written_at: datetime | None


class EstimateOut(Out):
    sample: int = Field(description="How many of the rows of the sample.")
    total: int | None = Field(description="The same for all rows there are, by proportion; null if Dynamics does not tell how many.")


class TakenOut(Out):
    """What a configuration of ingress would take away in Campaign, estimated from a live sample of rows of each table."""

    sample: int = Field(description="How many rows were tried; 0 also if nothing in the configuration takes anything away.")
    lowers: EstimateOut = Field(description="Opt-outs that would be taken away.")
    deletes: EstimateOut = Field(description="Records that would be deleted.")
    above_limits: bool = Field(description="Whether the estimate of a table is above one of its limits: the consent guard would hold some.")


class StartedOut(WorkflowOut):
    takes_away: TakenOut | None = Field(
        description="What the configuration would take away. Null for egress and optin, and if a system did not answer in time."
    )


class WorkflowsOut(Out):
    workflows: list[WorkflowOut]


class SampleOut(Out):
    at: datetime
    records: int | None


class HistoryOut(Out):
    samples: list[SampleOut]


class FindingOut(Out):
    path: str
    code: str
    message: str


class DifferenceOut(Out):
    path: str
    running: Any
    saved: Any


class RunningOut(Out):
    revision: int
    config: dict[str, Any]


class ConfigOut(Out):
    revision: int
    saved_at: datetime
    saved_by: str
    config: dict[str, Any]
    running: RunningOut | None
    diff: list[DifferenceOut]
    warnings: list[FindingOut] = Field([], description="After saving: what `validate` warns of.")
    takes_away: TakenOut | None = Field(
        None, description="After saving ingress: what it would take away; null if a system did not answer in time (see `plan`)."
    )


class ValidationOut(Out):
    valid: bool
    errors: list[FindingOut]
    warnings: list[FindingOut]


class Problem(Out):
    """RFC 9457."""

    type: str = "about:blank"
    title: str
    status: int
    detail: str
    code: str
    errors: list[FindingOut] | None = None


class RevisionOut(Out):
    revision: int
    saved_at: datetime
    saved_by: str
    comment: str | None


class RevisionsOut(Out):
    revisions: list[RevisionOut] = Field(description="Newest first.")


class RevisionConfigOut(RevisionOut):
    config: dict[str, Any]


class CommandIn(In):
    comment: str | None = Field(None, max_length=1000)


class ConfigIn(In):
    config: dict[str, Any]
    comment: str | None = Field(None, max_length=1000)


class DraftIn(In):
    config: dict[str, Any]


class RestoreIn(In):
    comment: str | None = Field(None, max_length=1000)
