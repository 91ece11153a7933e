"""The JSON of the control API: decisions of ingress and Opt In/Out on opt-out flags, and what is held of them."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Literal

from pydantic import Field, model_validator

from services.control.models.data_json import GUID
from services.control.models.workflow_json import In, Out

Outcome = Literal[
    "held", "released", "discarded", "voided", "waiting", "written", "executed", "kept", "unchanged", "absent", "observed_again", "stale",
    "dead_lettered", "done",
]  # fmt: skip
ID = r"^[0-9]{1,9}-[0-9]{1,18}$"
SETTLED = "`partition-offset` in the workflow's topic of decisions."


class InputsOut(Out):
    """What both systems said of one flag, when, and where that was read. A value that was never seen is null, and so is a time or a
    place that is not known."""

    campaign: bool | None = None
    campaign_changed_at: datetime | None = None
    campaign_from: str | None = None
    dynamics: bool | None = None
    dynamics_changed_at: datetime | None = None
    dynamics_from: str | None = None


class HeldOut(Out):
    """Something that waits for an admin: opt-outs that would be taken away, or a record that would be deleted in Campaign."""

    id: str = Field(description=SETTLED)
    kind: Literal["release", "delete"]
    table: str
    key: str = Field(description="Of the record in Dynamics; of a contact its id.")
    target: Literal["dynamics", "campaign"] | None = Field(description="The system that would be changed; null if it cannot be read.")
    flags: list[str] = Field(description="What would be set to false, by the target's names; `delete` for a delete.")
    rule: str = Field(description="Why it was decided; empty if the record cannot be read.")
    words: dict[str, InputsOut] = Field(description="What both systems said, by flag.")
    since: datetime


class HeldItemsOut(Out):
    items: list[HeldOut] = Field(description="Oldest first.")
    total: int
    next: str | None = Field(description="Give it as `after` for the next page.")


class DecisionOut(Out):
    id: str = Field(description=SETTLED)
    contact: str = Field(description="Key of the record.")
    table: str = "contact"
    kind: Literal["release", "delete"] | None = Field(None, description="Of what was held.")
    target: Literal["dynamics", "campaign"] | None = Field(description="Null if the record cannot be read.")
    flags: dict[str, bool]
    rule: str
    inputs: dict[str, InputsOut]
    origin: str = Field("", description="Where ingress read what it decided on.")
    decided_at: datetime
    outcome: Outcome = Field(description="`done`: dealt with, before outcomes were kept.")
    written_at: datetime | None = Field(None, description="When the target took it; null if it was not written, or nobody knows.")
    status: int | None = Field(None, description="The HTTP status the target answered with.")


class DecisionsOut(Out):
    decisions: list[DecisionOut] = Field(description="Newest first.")
    next: str | None = Field(description="Give it as `after` for the next page.")


class SettledOut(Out):
    """How many held items a command was for, and how many were not open any more, or never there."""

    released: int = 0
    discarded: int = 0
    skipped: int = 0


class HeldIn(In):
    """Exactly one of ids, contacts and all."""

    ids: list[Annotated[str, Field(pattern=ID)]] | None = Field(None, min_length=1, max_length=10_000)
    contacts: list[Annotated[str, Field(pattern=GUID)]] | None = Field(None, min_length=1, max_length=10_000)
    all: Literal[True] | None = None
    reason: str = Field(min_length=1, max_length=1000, pattern=r"\S")

    @model_validator(mode="after")
    def _one(self) -> HeldIn:
        if [self.ids, self.contacts, self.all].count(None) != 2:
            raise ValueError("give exactly one of ids, contacts and all")
        return self
