"""How long a record may wait, and how many dead letters stop a workflow."""

from __future__ import annotations

from pydantic import Field

from bridge.model.settings import Settings


class WriterSettings(Settings):
    park_budget_s: float = Field(
        86400,
        alias="PARK_BUDGET_S",
        gt=0,
        le=604800,
        description="How long a record may wait for its parent or contact before it is dead-lettered, seconds; it is tried again "
        "after 0.5, 1, 2 … 60 s, later after a tenth of the time it has waited",
    )
    dead_letters_in_a_row: int = Field(
        100, alias="DEAD_LETTER_MAX_CONSECUTIVE", ge=1, description="So many dead letters in a row halt the workflow"
    )
    dead_letter_ratio: float = Field(
        0.5, alias="DEAD_LETTER_MAX_RATIO", gt=0, le=1, description="So large a part of the last 500 records halts the workflow"
    )
