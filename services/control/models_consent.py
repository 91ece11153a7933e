"""The JSON of the control API: decisions of Opt In/Out, and those that are held."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Literal

from pydantic import Field, model_validator

from services.control.models import In, Out
from services.control.models_data import GUID

Outcome = Literal[
    "held", "released", "discarded", "waiting", "written", "unchanged", "absent", "observed_again", "stale", "dead_lettered", "done"
]  # fmt: skip


class InputsOut(Out):
    """What both systems said of one flag. A value that was never seen is null, a time that is not known as well."""

    campaign: bool | None
    campaign_changed_at: datetime | None
    dynamics: bool | None
    dynamics_changed_at: datetime | None


class HeldDecisionOut(Out):
    id: str = Field(description="`partition-offset` in optin.decisions.")
    contact: str
    target: Literal["dynamics", "campaign"]
    flags: dict[str, bool]
    rule: str
    since: datetime


class HeldDecisionsOut(Out):
    held: list[HeldDecisionOut] = Field(description="Oldest first.")
    total: int
    next: str | None = Field(description="Give it as `after` for the next page.")


class DecisionOut(Out):
    id: str = Field(description="`partition-offset` in optin.decisions.")
    contact: str
    target: Literal["dynamics", "campaign"] | None = Field(description="Null if the record cannot be read.")
    flags: dict[str, bool]
    rule: str
    inputs: dict[str, InputsOut]
    decided_at: datetime
    outcome: Outcome = Field(description="`done`: dealt with; what came of it is kept for the last decision of a contact only.")


class DecisionsOut(Out):
    decisions: list[DecisionOut] = Field(description="Newest first.")
    next: str | None = Field(description="Give it as `after` for the next page.")


class SettledOut(Out):
    """How many held decisions a command was for, and how many had been dealt with meanwhile."""

    released: int = 0
    discarded: int = 0
    skipped: int = 0


class HeldIn(In):
    """Either contacts or all."""

    contacts: list[Annotated[str, Field(pattern=GUID)]] | None = Field(None, min_length=1, max_length=10_000)
    all: Literal[True] | None = None
    reason: str = Field(min_length=1, max_length=1000)

    @model_validator(mode="after")
    def _one(self) -> HeldIn:
        if (self.contacts is None) == (self.all is None):
            raise ValueError("give either contacts or all")
        return self
