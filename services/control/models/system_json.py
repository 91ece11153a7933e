"""The JSON of the control API: the two systems, the audit, who asks."""

from __future__ import annotations

from datetime import datetime
from typing import Any, Literal

from pydantic import Field

from services.control.models.workflow_json import In, Out

System = Literal["dynamics", "campaign"]
Role = Literal["viewer", "operator", "admin"]


class ConnectionOut(Out):
    state: Literal["connected", "failed", "unknown", "not_configured"]
    checked_at: datetime | None


class LastErrorOut(Out):
    code: str
    message: str
    at: datetime


class SystemOut(Out):
    system: System
    settings: dict[str, Any] = Field(description='Without secrets: `{"set": true}` in their place.')
    connection: ConnectionOut
    last_error: LastErrorOut | None


class CheckOut(Out):
    name: str
    status: Literal["ok", "failed", "skipped"]
    message: str
    hint: str | None


class ChecksOut(Out):
    system: System
    ok: bool
    checks: list[CheckOut]


class RestoredIn(In):
    reason: str = Field(min_length=1, max_length=1000)


class RestoredOut(Out):
    """In which source epoch each workflow reads from now on."""

    ingress: int
    optin: int


class TableNameOut(Out):
    name: str
    label: str
    change_tracking: bool | None = Field(None, description="Null for Campaign.")


class TableNamesOut(Out):
    tables: list[TableNameOut]


class OptionOut(Out):
    value: str
    label: str


class FieldOut(Out):
    name: str
    label: str
    type: str
    length: int | None
    writable: bool
    key: bool
    options: list[OptionOut]
    format: str | None = Field(None, description="Of texts and times of Dynamics: `Email`, `Phone`, `Url`, `DateOnly`, …")
    behavior: str | None = Field(None, description="Of times of Dynamics: `UserLocal`, `DateOnly` or `TimeZoneIndependent`.")


class FieldsOut(Out):
    fields: list[FieldOut]


class AuditOut(Out):
    id: str
    at: datetime
    by: str
    address: str | None = Field(description="Where the request came from.")
    workflow: str | None
    what: str
    before: dict[str, Any] | None
    after: dict[str, Any] | None
    result: str = Field(description="`done`, or the code of the refusal.")


class AuditsOut(Out):
    entries: list[AuditOut] = Field(description="Newest first.")
    next: str | None = Field(description="Give it as `after` for the next page.")


class WhoOut(Out):
    name: str
    role: Role
