"""The rooms of settings: what each system, loop and service is told by the environment.

docs/settings.md lists every variable; tests/unit/test_conventions.py compares it with the classes here.
"""

from __future__ import annotations

from pathlib import Path

from pydantic import Field, model_validator

from bridge.settings import KafkaSettings, Room, Secret, ServiceSettings, Url, WebOrigin


class DynamicsSettings(Room):
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

    @model_validator(mode="after")
    def _default_token_url(self) -> DynamicsSettings:
        if not self.token_url:
            object.__setattr__(self, "token_url", f"https://login.microsoftonline.com/{self.tenant_id}/oauth2/v2.0/token")
        return self


CAMPAIGN_SCOPES = (
    "campaign_sdk,openid,deliverability_service_general,campaign_config_server_general,AdobeID,additional_info.projectedProductContext"
)


class CampaignSettings(Room):
    url: Url = Field(alias="CAMPAIGN_URL", description="`https://mc.adobe.io/<instance>`")
    client_id: str = Field(alias="CAMPAIGN_CLIENT_ID", min_length=1, description="Client id of the Adobe credential")
    client_secret: Secret = Field(alias="CAMPAIGN_CLIENT_SECRET", description="Its secret")
    org_id: str = Field(alias="CAMPAIGN_ORG_ID", min_length=1, description="`<id>@AdobeOrg`")
    token_url: Url = Field("https://ims-na1.adobelogin.com/ims/token/v3", alias="CAMPAIGN_TOKEN_URL", description="IMS token endpoint")
    scopes: str = Field(CAMPAIGN_SCOPES, alias="CAMPAIGN_SCOPES", min_length=1, description="Scopes to ask for, by comma")
    concurrency: int = Field(16, alias="CAMPAIGN_CONCURRENCY", ge=1, le=256, description="Calls at once, of one process")
    calls_per_second: float = Field(0, alias="CAMPAIGN_CALLS_PER_SECOND", ge=0, le=10000, description="Own limit of one process; 0: none")
    request_timeout_s: float = Field(30, alias="CAMPAIGN_REQUEST_TIMEOUT_S", gt=0, le=600, description="One call, seconds")
    digest_key: Secret = Field(
        default_factory=Secret,
        alias="STATE_DIGEST_KEY",
        description="Key of the digests in the state topic (default: from org and client id); a new one rewrites every record once",
    )

    def digest_secret(self) -> str:
        """What the digests of written values are keyed with."""
        return self.digest_key.value() or f"{self.org_id}|{self.client_id}"


class WriterSettings(Room):
    park_budget_s: float = Field(
        86400,
        alias="PARK_BUDGET_S",
        gt=0,
        le=604800,
        description="How long a record may wait for its parent before it is dead-lettered, seconds",
    )
    dead_letters_in_a_row: int = Field(
        100, alias="DEAD_LETTER_MAX_CONSECUTIVE", ge=1, description="So many dead letters in a row halt the workflow"
    )
    dead_letter_ratio: float = Field(
        0.5, alias="DEAD_LETTER_MAX_RATIO", gt=0, le=1, description="So large a part of the last 500 records halts the workflow"
    )


class ControlSettings(Room):
    host: str = Field("127.0.0.1", alias="CONTROL_HOST", min_length=1, description="Address control listens on")
    port: int = Field(8080, alias="CONTROL_PORT", ge=0, le=65535, description="Its port")
    tokens_file: Path | None = Field(
        None, alias="CONTROL_TOKENS_FILE", description="Tokens (hashed) with name and role; without it control is on loopback only"
    )
    tls_cert_file: Path | None = Field(None, alias="CONTROL_TLS_CERT_FILE", description="Certificate (PEM), for https")
    tls_key_file: Path | None = Field(None, alias="CONTROL_TLS_KEY_FILE", description="Its key (PEM)")
    public_url: WebOrigin | None = Field(None, alias="CONTROL_PUBLIC_URL", description="`https://…` of the proxy before control, if any")
    org_name: str = Field("", alias="ORG_NAME", description="Shown in the header of the pages")
    instance_name: str = Field("", alias="INSTANCE_NAME", description="Shown in the header of the pages")
    instances: str = Field("", alias="CONTROL_INSTANCES", description="Other instances' pages for the header, `name=https://…` by comma")
    start_deadline_s: float = Field(
        120, alias="CONTROL_START_DEADLINE_S", gt=0, le=3600, description="STARTING for longer is FAILED, seconds"
    )

    @property
    def https(self) -> bool:
        """Whether browsers reach control by https."""
        return self.tls_cert_file is not None or (self.public_url or "").startswith("https://")


ROOMS: tuple[type[Room], ...] = (
    KafkaSettings,
    ServiceSettings,
    DynamicsSettings,
    CampaignSettings,
    WriterSettings,
    ControlSettings,
)
