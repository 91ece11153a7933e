"""Where Dynamics is, who asks, and how often."""

from __future__ import annotations

from typing import Annotated
from zoneinfo import ZoneInfo

from pydantic import Field, model_validator

from bridge.model.settings import Secret, Settings, TimeZone, Url

TableName = Annotated[str, Field(pattern=r"^[a-z_][a-z0-9_]*$", max_length=128)]  # logical name of a table or column


class DynamicsSettings(Settings):
    url: Url = Field(alias="DYNAMICS_URL", description="`https://<server>.api.crm.dynamics.com`")
    tenant_id: str = Field(alias="DYNAMICS_TENANT_ID", pattern=r"^[a-zA-Z0-9.-]+$", description="Entra tenant")
    client_id: str = Field(alias="DYNAMICS_CLIENT_ID", min_length=1, description="Entra application")
    client_secret: Secret = Field(alias="DYNAMICS_CLIENT_SECRET", description="Its secret")
    token_url: Url = Field(
        "", alias="DYNAMICS_TOKEN_URL", description="Token endpoint (default: Entra's, for the tenant)", validate_default=False
    )
    poll_interval_s: float = Field(
        5, alias="DYNAMICS_POLL_INTERVAL_S", gt=0, le=3600, description="Longest pause between two polls of a table, seconds"
    )
    page_size: int = Field(5000, alias="DYNAMICS_PAGE_SIZE", ge=1, le=5000, description="Rows per page")
    concurrency: int = Field(16, alias="DYNAMICS_CONCURRENCY", ge=1, le=52, description="Requests at once, of one process")
    request_timeout_s: float = Field(60, alias="DYNAMICS_REQUEST_TIMEOUT_S", gt=0, le=600, description="One request, seconds")
    time_zone: TimeZone | None = Field(
        None,
        alias="DYNAMICS_TIME_ZONE",
        description="Where the day of a *User local* time is told for a date of Campaign, by its IANA name (`Europe/Berlin`), see below; "
        "unset: UTC",
    )

    @property
    def zone(self) -> ZoneInfo | None:
        return ZoneInfo(self.time_zone) if self.time_zone else None

    @model_validator(mode="after")
    def _default_token_url(self) -> DynamicsSettings:
        if not self.token_url:
            object.__setattr__(self, "token_url", f"https://login.microsoftonline.com/{self.tenant_id}/oauth2/v2.0/token")
        return self
