"""What should run (`control.workflows`) and what does run (`control.services`): the two halves of decision D6, as plain data."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Literal, TypedDict

from bridge.model.errors import BridgeError, HaltError

Workflow = Literal["ingress", "egress", "optin"]
Status = Literal["RUNNING", "STOPPED", "STARTING", "FAILED"]
OUTCOMES = (
    "written",
    "unchanged",
    "stale",
    "incomplete",
    "filtered",
    "deleted",
    "delete_ignored",
    "absent",
    "observed_again",
    "held",
    "merged",
    "dead_lettered",
)
"""What becomes of a record that a writer has taken from Kafka, one of these: together they are what was read and is done with."""
WORKFLOWS: tuple[Workflow, ...] = ("ingress", "egress", "optin")
FAULT = "internal_error"
HEARTBEAT_EVERY_S = 2.0
HEARTBEAT_DEADLINE_S = 10.0


class Replay(TypedDict):
    """Rows of one table that are to go through the replay lane once more. `id` tells one request from the next. `changed_since` (ISO 8601)
    and `keys` narrow it down; both None: the whole table."""

    id: str
    when: Literal["next-start", "now"]
    changed_since: str | None
    keys: list[str] | None
    requested_at: str
    requested_by: str


@dataclass(frozen=True, slots=True)
class Desired:
    """`generation` grows with every start and stop: a service that failed tries again only with a new one. `revision` and `config` are
    those that were saved when Start was pressed. `replays` (by table) are for the reader now, `armed` ones join them at the next start.
    `epoch` counts how often somebody has said that Dynamics was restored: what is read from then on belongs to it."""

    desired: Literal["RUNNING", "STOPPED"] = "STOPPED"
    generation: int = 0
    revision: int | None = None
    config: Mapping[str, Any] | None = None
    changed_at: str | None = None
    changed_by: str | None = None
    comment: str | None = None
    replays: Mapping[str, Replay] = field(default_factory=dict)
    armed: Mapping[str, Replay] = field(default_factory=dict)
    epoch: int = 0

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    @staticmethod
    def from_json(data: Mapping[str, Any]) -> Desired:
        """Members of a later version are ignored. Raises TypeError for what is no JSON object: that is no wish to stop."""
        if not isinstance(data, dict):
            raise TypeError("no JSON object")
        return Desired(**{name: data[name] for name in Desired.__slots__ if name in data})


@dataclass(frozen=True, slots=True)
class Reason:
    """Why something is not running, in words, with the way out."""

    code: str
    message: str
    hint: str
    origin: str

    @staticmethod
    def of(error: BridgeError) -> Reason:
        if isinstance(error, HaltError):
            return Reason(error.code, str(error), error.hint, error.origin)
        return Reason(error.code, str(error), "Nothing to do: the service tries again by itself.", "service")

    @staticmethod
    def of_fault(exc: Exception) -> Reason:
        """Of a fault of our own: its kind and its notes (which record it met), never its text, which may hold anything."""
        at = ", ".join(getattr(exc, "__notes__", ()))
        text = f"the service met a fault of its own ({type(exc).__name__}{f' at {at}' if at else ''})"
        return Reason(FAULT, text, "See the service's log, report the fault, then start again.", "service")

    @staticmethod
    def of_displacement() -> Reason:
        text = "another process of this role seems to use the same INSTANCE_ID: they keep displacing each other"
        return Reason("instance_id_conflict", text, "Give every instance its own INSTANCE_ID, then start again.", "configuration")


@dataclass(frozen=True, slots=True)
class Heartbeat:
    """What one instance of one role says of itself, every two seconds. Counters count since the instance began to run.

    `reason_since`: since when the reason holds (ISO 8601). `in_work`, `source_away`: see bridge.model.report.Report.
    """

    workflow: str
    role: str
    instance: str
    status: Status
    generation: int
    revision: int | None
    since: str
    version: str
    reason: Reason | None = None
    counters: Mapping[str, int] = field(default_factory=dict)
    parked: int = 0
    last_read_at: str | None = None
    last_written_at: str | None = None
    feeds: Mapping[str, Any] = field(default_factory=dict)
    reason_since: str | None = None
    in_work: int = 0
    source_away: bool = False

    @property
    def key(self) -> str:
        return f"{self.workflow}/{self.role}/{self.instance}"

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    @staticmethod
    def from_json(data: Mapping[str, Any]) -> Heartbeat:
        """Members of a later version are ignored."""
        known = {name: data[name] for name in Heartbeat.__slots__ if name in data}
        return Heartbeat(**known | {"reason": Reason(**data["reason"]) if data.get("reason") else None})
