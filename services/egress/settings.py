"""What events of Campaign look like, and the tables and columns of the timeline in Dynamics."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field

from bridge.dynamics.settings import TableName
from bridge.model.settings import Settings


def _pointers(default: str, alias: str, what: str) -> Any:
    pattern = r"^/[^,]*(,/[^,]*)*$"
    return Field(default, alias=alias, pattern=pattern, description=f"{what}: comma-separated JSON pointers, the first with a value counts")


def _codes(default: str, alias: str, what: str) -> Any:
    return Field(default, alias=alias, min_length=1, description=f"Event codes of {what}, comma-separated")


class EventSettings(Settings):
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


class TimelineSettings(Settings):
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
