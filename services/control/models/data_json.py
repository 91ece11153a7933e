"""The JSON of the control API: plans, tables, cursors, dead letters, records."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, Literal

from pydantic import AwareDatetime, Field, model_validator

from bridge.mapping.values import BARE_GUID
from services.control.models.workflow_json import EstimateOut, In, Out, TakenOut

GUID = f"^{BARE_GUID}$"  # keys stand in addresses of Dynamics


class CountsOut(Out):
    """What would happen to the rows of a sample. Every row is in exactly one of them."""

    create: int = 0
    update: int = 0
    unchanged: int = 0
    delete: int = 0
    filtered: int = 0
    rejected: int = 0


class RejectedOut(Out):
    code: str
    reason: str
    count: int
    keys: list[str] = Field(description="Up to ten of the rows.")


class FieldCountOut(Out):
    table: str
    source: str
    target: str
    count: int
    length: int | None = Field(None, description="How many characters the target holds.")


class PicklistValueOut(Out):
    table: str
    source: str
    value: str
    label: str | None
    count: int


class CallsOut(Out):
    sample: int = Field(description="Writing calls to Campaign for the rows of the sample.")
    total: int | None = Field(description="The same for all rows there are, by proportion; null if Dynamics does not tell how many.")


class LimitedOut(EstimateOut):
    limit: int = Field(description="So many within an hour pass the consent guard; what goes beyond is held.")
    above: bool = Field(description="Whether the estimate is above the limit.")


class TablePlanOut(Out):
    source: str
    target: str
    lane: Literal["initial", "resync", "replay"] = Field(description="How the rows would come: first load, added columns, or a replay.")
    sample: int = Field(description="How many rows were tried: fewer than asked for, if there are not more or time ran out.")
    total: int | None
    counts: CountsOut
    rejected: list[RejectedOut]
    truncated: list[FieldCountOut]
    not_convertible: list[FieldCountOut]
    unreplaced: list[PicklistValueOut] = Field(description="Picklist values of the sample that have no replacement.")
    calls: CallsOut
    lowers: LimitedOut = Field(description="Records whose opt-out in Campaign would be taken away.")
    deletes: LimitedOut = Field(description="Records that are in Campaign and would be deleted there.")


class PlanOut(TakenOut):
    """`counts`, `calls`, `lowers`, `deletes` and the lists are sums over the tables."""

    counts: CountsOut
    rejected: list[RejectedOut]
    truncated: list[FieldCountOut]
    not_convertible: list[FieldCountOut]
    unreplaced: list[PicklistValueOut]
    calls: CallsOut
    tables: list[TablePlanOut]


class ProgressOut(Out):
    kind: Literal["initial", "replay", "resync"]
    done: int
    total: int | None
    eta_s: float | None
    started_at: datetime | None


class ReplayOut(Out):
    when: Literal["next-start", "now"]
    state: Literal["armed", "requested", "running"]
    changed_since: datetime | None
    keys: int | None = Field(description="How many keys were given; null for the whole table.")
    requested_at: datetime
    requested_by: str


class TableOut(Out):
    source: str
    target: str
    phase: str | None = Field(description="load, reconcile, live, drain; null before the first start.")
    cursor_age_s: float | None
    change_tracking_days_left: float | None
    rows_read: int | None
    progress: ProgressOut | None
    replay_armed: bool
    replay: ReplayOut | None


class TablesOut(Out):
    tables: list[TableOut]


class CursorOut(Out):
    name: str
    system: str
    updated_at: datetime
    position: dict[str, Any] = Field(description="Without links, which carry filters.")


class CursorsOut(Out):
    cursors: list[CursorOut]


class LetterOut(Out):
    id: str = Field(description="`partition-offset` in the dead-letter topic.")
    key: str
    table: str | None
    code: str
    reason: str
    stage: str
    target_status: int | None
    when: datetime
    first_failed_at: datetime
    attempts: int
    revision: int | None
    fingerprint: str
    redriven: int = Field(description="How often the record had been re-driven when it came here.")
    state: Literal["open", "redriven", "discarded"]
    value: Any = Field(None, description="With values=true only: the decoded event, or its bytes in base64.")


class LettersOut(Out):
    dead_letters: list[LetterOut] = Field(description="Newest first.")
    total: int
    next: str | None = Field(description="Give it as `after` for the next page.")


class LetterGroupOut(Out):
    fingerprint: str
    code: str
    count: int
    open: int
    first: datetime
    last: datetime
    sample: LetterOut
    cause: str
    cure: str


class LetterGroupsOut(Out):
    groups: list[LetterGroupOut]


class HopOut(Out):
    hop: Literal["read", "waiting", "settled", "dead_lettered"]
    topic: str
    partition: int
    offset: int
    version: int | None
    outcome: str | None
    status: int | None
    attempts: int | None
    at: datetime | None


class RecordOut(Out):
    key: str
    table: str | None
    version: int | None
    outcome: str | None
    target_status: int | None
    attempts: int | None
    read_at: datetime | None
    settled_at: datetime | None
    hops: list[HopOut] = Field(description="In the order of time.")


class DoneOut(Out):
    """How many records a command was for, and how many it passed over because they had been dealt with."""

    redriven: int = 0
    discarded: int = 0
    skipped: int = 0


class PlanIn(In):
    config: dict[str, Any]
    sample: int = Field(100, ge=1, le=1000, description="Rows of each table.")


class ReplayIn(In):
    when: Literal["next-start", "now"]
    changed_since: AwareDatetime | None = None
    keys: list[Annotated[str, Field(pattern=GUID)]] | None = Field(None, min_length=1, max_length=1000)


class JournalIn(In):
    position: Literal["oldest", "latest"]


class ChosenIn(In):
    """Exactly one of the three."""

    ids: list[Annotated[str, Field(pattern=r"^\d{1,9}-\d{1,18}$")]] | None = Field(None, min_length=1, max_length=10_000)
    fingerprint: str | None = Field(None, min_length=1, max_length=64)
    all: Literal[True] | None = None

    @model_validator(mode="after")
    def _one(self) -> ChosenIn:
        if sum(each is not None for each in (self.ids, self.fingerprint, self.all)) != 1:
            raise ValueError("give exactly one of ids, fingerprint and all")
        return self


class DiscardIn(ChosenIn):
    reason: str = Field(min_length=1, max_length=1000)
