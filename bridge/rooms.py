"""The rooms of settings: what each system, loop and service is told by the environment.

docs/settings.md lists every variable; tests/unit/test_conventions.py compares it with the classes here.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal
from zoneinfo import ZoneInfo

from pydantic import AfterValidator, Field, model_validator

from bridge.export_room import ExportSettings as ExportSettings
from bridge.settings import KafkaSettings, Room, Secret, ServiceSettings, TimeZone, Url, WebOrigin

TableName = Annotated[str, Field(pattern=r"^[a-z_][a-z0-9_]*$", max_length=128)]  # logical name of a table or column


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
    time_zone: TimeZone | None = Field(
        None,
        alias="DYNAMICS_TIME_ZONE",
        description="Where the day of a *User local* time is told for a date of Campaign, by its IANA name (default: UTC)",
    )

    @property
    def zone(self) -> ZoneInfo | None:
        return ZoneInfo(self.time_zone) if self.time_zone else None

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
    keys_in_capitals: Literal["auto", "yes", "no"] = Field(
        "auto",
        alias="CAMPAIGN_KEYS_IN_CAPITALS",
        description="Whether an older integration wrote contacts' ids in capital letters: `yes` looks for them before a profile is made, "
        "`auto` if one is among the first 2,000 profiles",
    )
    digest_key: Secret = Field(
        default_factory=Secret,
        alias="STATE_DIGEST_KEY",
        description="Key of the digests in the state topics (default: from org and client id; Opt In/Out: from its topic); a new one "
        "rewrites every record once, and Opt In/Out sees every flag as for the first time",
    )

    def digest_secret(self) -> str:
        """What the digests of written values are keyed with."""
        return self.digest_key.value() or f"{self.org_id}|{self.client_id}"


class JournalSettings(Room):
    url: Url = Field(alias="CAMPAIGN_JOURNAL_URL", description="I/O Events journal of the registration; egress only")
    poll_interval_s: float = Field(
        5, alias="CAMPAIGN_JOURNAL_POLL_INTERVAL_S", gt=0, le=3600, description="Pause at its end, if the journal does not say, seconds"
    )
    page_size: int = Field(500, alias="CAMPAIGN_JOURNAL_PAGE_SIZE", ge=1, le=10000, description="Events of one answer, at most")


def _pointers(default: str, alias: str, what: str) -> Any:
    pattern = r"^/[^,]*(,/[^,]*)*$"
    return Field(default, alias=alias, pattern=pattern, description=f"{what}: JSON pointers by comma, the first with a value counts")


def _codes(default: str, alias: str, what: str) -> Any:
    return Field(default, alias=alias, min_length=1, description=f"Event codes of {what}, by comma")


class EventSettings(Room):
    """What an event of the journal looks like (campaign.md §8.6: nobody has documented it). Code, id, payload and `sent_at` start at the
    event; all others at its payload. A name in a pointer matches with or without the prefix it has in the payload (`xdm:timestamp`)."""

    send: str = _codes("directMarketing.emailSent", "CAMPAIGN_EVENT_SEND", "sends")
    open: str = _codes("directMarketing.emailOpened", "CAMPAIGN_EVENT_OPEN", "opens")
    click: str = _codes("directMarketing.emailClicked", "CAMPAIGN_EVENT_CLICK", "clicks")
    bounce: str = _codes("directMarketing.emailBounced", "CAMPAIGN_EVENT_BOUNCE", "hard bounces")
    code: str = _pointers("/type,/header/_adobeio/eventCode", "CAMPAIGN_EVENT_CODE", "Code of an event")
    id: str = _pointers("/eventid,/event_id,/id,/header/msgId", "CAMPAIGN_EVENT_ID", "Id of an event")
    sent_at: str = _pointers("/time,/header/originalTimestamp,/header/createdAt", "CAMPAIGN_EVENT_SENT_AT", "Time of an event without one")
    payload: str = _pointers("/data,/body", "CAMPAIGN_EVENT_PAYLOAD", "Payload of an event")
    contact_key: str = _pointers("/acs/externalId", "CAMPAIGN_EVENT_CONTACT_KEY", "The profile's `externalId`: the contact's id")
    campaign: str = _pointers("/marketingCampaign/campaignName,/campaignName", "CAMPAIGN_EVENT_CAMPAIGN", "Name of the campaign")
    delivery: str = _pointers("/delivery/deliveryName,/deliveryName", "CAMPAIGN_EVENT_DELIVERY", "Name of the delivery")
    occurred_at: str = _pointers("/timestamp", "CAMPAIGN_EVENT_OCCURRED_AT", "When it happened (ISO 8601, or milliseconds)")
    url: str = _pointers("/link/url,/url", "CAMPAIGN_EVENT_URL", "The address that was clicked")
    mirror_url: str = _pointers("/acs/mirrorPageUrl,/mirrorPageUrl", "CAMPAIGN_EVENT_MIRROR_URL", "Address of the mirror page")
    log_id: str = _pointers("/acs/broadLogId,/broadlogID", "CAMPAIGN_EVENT_LOG_ID", "Id of a send or bounce in Campaign's logs")
    tracking_id: str = _pointers(
        "/acs/trackingLogId,/trackinglogID", "CAMPAIGN_EVENT_TRACKING_ID", "Id of an open or click in Campaign's logs"
    )
    hard_bounce: str = _pointers(
        "/directMarketing/nonDeliverables,/nonDeliverables", "CAMPAIGN_EVENT_HARD_BOUNCE", "What only permanent bounces have"
    )
    soft_bounce: str = _pointers("/directMarketing/bounces,/bounces", "CAMPAIGN_EVENT_SOFT_BOUNCE", "What only temporary bounces have")
    not_real: str = _pointers(
        "/message/proofMember,/message/testMember,/message/seedMember,/message/controlGroupMember",
        "CAMPAIGN_EVENT_NOT_REAL",
        "Marks of messages that are dropped: proofs, tests, seeds, control groups; each one counts",
    )


class TimelineSettings(Room):
    """Tables and columns of the activities (dataverse.md §10.3: the names are guesses)."""

    send_table: TableName = Field("adobe_emailsend", alias="DYNAMICS_SEND_TABLE", description="Activity of a send")
    open_table: TableName = Field("adobe_emailopen", alias="DYNAMICS_OPEN_TABLE", description="Activity of an open")
    click_table: TableName = Field("adobe_emailurlclick", alias="DYNAMICS_CLICK_TABLE", description="Activity of a click")
    bounce_table: TableName = Field("adobe_emailbounce", alias="DYNAMICS_BOUNCE_TABLE", description="Activity of a hard bounce")
    send_date: TableName = Field("adobe_datesent", alias="DYNAMICS_SEND_DATE_COLUMN", description="Its date and time")
    open_date: TableName = Field("adobe_dateopened", alias="DYNAMICS_OPEN_DATE_COLUMN", description="Its date and time")
    click_date: TableName = Field("adobe_dateclicked", alias="DYNAMICS_CLICK_DATE_COLUMN", description="Its date and time")
    bounce_date: TableName = Field("adobe_datebounced", alias="DYNAMICS_BOUNCE_DATE_COLUMN", description="Its date and time")
    campaign: TableName = Field("adobe_campaignname", alias="DYNAMICS_CAMPAIGN_COLUMN", description="Campaign name, in all four")
    delivery: TableName = Field("adobe_deliveryname", alias="DYNAMICS_DELIVERY_COLUMN", description="Delivery name, in all four")
    mirror_url: TableName = Field("adobe_mirrorpageurl", alias="DYNAMICS_MIRROR_URL_COLUMN", description="Mirror page, in all four")
    tracking_url: TableName = Field("adobe_trackingurl", alias="DYNAMICS_TRACKING_URL_COLUMN", description="Clicked address, of clicks")
    completion: Literal["none", "completed"] = Field(
        "none", alias="DYNAMICS_COMPLETION", description="`none`: activities stay open; `completed`: they are closed as they are made"
    )
    batch_max: int = Field(100, alias="DYNAMICS_BATCH_MAX", ge=1, le=1000, description="Activities of one request, at most")


class WriterSettings(Room):
    park_budget_s: float = Field(
        86400,
        alias="PARK_BUDGET_S",
        gt=0,
        le=604800,
        description="How long a record may wait for its parent or contact before it is dead-lettered, seconds",
    )
    dead_letters_in_a_row: int = Field(
        100, alias="DEAD_LETTER_MAX_CONSECUTIVE", ge=1, description="So many dead letters in a row halt the workflow"
    )
    dead_letter_ratio: float = Field(
        0.5, alias="DEAD_LETTER_MAX_RATIO", gt=0, le=1, description="So large a part of the last 500 records halts the workflow"
    )


class ConsentSettings(Room):
    """Limits and proof of what is decided on opt-outs and deletes (shared/contracts/consent.md), for ingress and Opt In/Out."""

    release_limit: int | None = Field(
        None,
        alias="OPTIN_RELEASE_LIMIT",
        ge=0,
        description="So many opt-outs may be taken away in an hour, by ingress and Opt In/Out together; what goes beyond is held "
        "(default: the larger of 100 and 1 % of the contacts)",
    )
    delete_limit: int | None = Field(
        None,
        alias="DELETE_LIMIT",
        ge=0,
        description="So many records of a table may be deleted in Campaign in an hour; what goes beyond is held "
        "(default: the larger of 500 and 2 % of the table's records)",
    )
    decisions_days: int = Field(
        365,
        alias="OPTIN_DECISIONS_DAYS",
        ge=1,
        le=3650,
        description="How long decisions on opt-outs are kept, days (it counts when their topics are created)",
    )
    merged: Literal["carry", "report"] = Field(
        "carry",
        alias="OPTIN_MERGED",
        description="Opt-outs of a contact that was merged into another: `carry` them over to it, or only `report` them in the log",
    )


class ResolverSettings(Room):
    digest_key: Secret = Field(default_factory=Secret, alias="STATE_DIGEST_KEY", description="Key of the digests in the state topics")


def _instances(text: str) -> str:
    for each in filter(str.strip, text.split(",")):
        name, _, address = (part.strip() for part in each.partition("="))
        if not name or not address.startswith(("https://", "http://")):
            raise ValueError("must be name=https://… , several by comma")
    return text


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
    instances: Annotated[str, AfterValidator(_instances)] = Field(
        "", alias="CONTROL_INSTANCES", description="Other instances' pages for the header, `name=https://…` by comma"
    )
    start_deadline_s: float = Field(
        120, alias="CONTROL_START_DEADLINE_S", gt=0, le=3600, description="STARTING for longer is FAILED, seconds"
    )
    second_person: bool = Field(
        False,
        alias="CONSENT_SECOND_PERSON",
        description="Whoever releases what is held must not be who saved the running configuration (needs tokens)",
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
    JournalSettings,
    EventSettings,
    TimelineSettings,
    WriterSettings,
    ExportSettings,
    ConsentSettings,
    ResolverSettings,
    ControlSettings,
)
