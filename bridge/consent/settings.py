"""Limits and proof of what is decided on opt-outs and deletes."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from bridge.model.settings import Settings


class ConsentSettings(Settings):
    """Limits and proof of what is decided on opt-outs and deletes (shared/contracts/consent.md), for ingress and Opt In/Out."""

    release_limit: int | None = Field(
        None,
        alias="OPTIN_RELEASE_LIMIT",
        ge=0,
        description="So many opt-outs may be taken away in an hour, by ingress and Opt In/Out and all their instances "
        "together; what goes beyond is held "
        "(default: the larger of 100 and 1 % of the contacts)",
    )
    delete_limit: int | None = Field(
        None,
        alias="DELETE_LIMIT",
        ge=0,
        description="So many records of one table may be deleted in Campaign in an hour, by all instances together; what goes "
        "beyond is held "
        "(default: the larger of 500 and 2 % of the table's records)",
    )
    decisions_days: int = Field(
        365,
        alias="OPTIN_DECISIONS_DAYS",
        ge=1,
        le=3650,
        description="How long decisions on opt-outs are kept, days; it counts when their topics are created",
    )
    merged: Literal["carry", "report"] = Field(
        "carry",
        alias="OPTIN_MERGED",
        description="Opt-outs of a contact that was merged into another: `carry` them over to it, or only `report` them in the log",
    )
