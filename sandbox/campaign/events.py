"""One email event as Campaign would emit it: the XDM payload and its envelope (contract 8.3, 8.6, S35)."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any
from uuid import uuid4
from zlib import crc32

from sandbox.campaign.settings import Settings

CAMPAIGN = "https://ns.adobe.com/experience/campaign/"
MEMBERS = {"proof": "xdm:proofMember", "test": "xdm:testMember", "seed": "xdm:seedMember", "control": "xdm:controlGroupMember"}


@dataclass(frozen=True, slots=True)
class Kind:
    """`metric`: the member of `xdm:directMarketing`; `tracked`: it comes from the tracking log."""

    code: str
    metric: str
    source: str
    tracked: bool = False
    reason: str = ""


KINDS = {
    "send": Kind("directMarketing.emailSent", "xdm:sends", "pipelined-mta"),
    "delivered": Kind("directMarketing.emailDelivered", "", "pipelined-mta"),
    "open": Kind("directMarketing.emailOpened", "xdm:opens", "pipelined-trackinglogd", tracked=True),
    "click": Kind("directMarketing.emailClicked", "xdm:clicks", "pipelined-trackinglogd", tracked=True),
    "bounce": Kind("directMarketing.emailBounced", "xdm:nonDeliverables", "pipelined-inMail", reason="unknown_user"),
    "soft_bounce": Kind("directMarketing.emailBouncedSoft", "xdm:bounces", "pipelined-inMail", reason="mailbox_full"),
    "unsubscribe": Kind("directMarketing.emailUnsubscribed", "xdm:unsubscriptions", "pipelined-trackinglogd", tracked=True),
}


@dataclass(slots=True)
class EmailEvent:
    """What happened to one mail. `at` is ISO 8601; `member`: None, proof, test, seed or control. None: a default is found."""

    kind: str
    external_id: str | None = None
    campaign: str = "CAMP2010"
    delivery: str = "DM190"
    at: str | None = None
    url: str | None = None
    mirror_page_url: str | None = None
    email: str | None = None
    member: str | None = None
    id: str | None = None
    broad_log_id: str | None = None
    tracking_log_id: str | None = None

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise ValueError(f"kind must be one of {', '.join(KINDS)}")
        if self.member is not None and self.member not in MEMBERS:
            raise ValueError(f"member must be one of {', '.join(MEMBERS)}")


def moment(text: str) -> datetime:
    """An ISO time, UTC where it names no offset. Raises ValueError."""
    parsed = datetime.fromisoformat(text)
    return parsed if parsed.tzinfo else parsed.replace(tzinfo=UTC)


def payload(event: EmailEvent, settings: Settings) -> dict[str, Any]:
    """The XDM event plus `acs`; `broad_log_id` and `at` of the event have to be set."""
    kind = KINDS[event.kind]
    message: dict[str, Any] = {
        "xdm:id": event.broad_log_id,
        "xdm:profileSnapshot": {"xdm:directMarketingEmail": {"xdm:address": event.email or ""}},
        "xdm:quarantine": event.kind == "bounce",
        **{name: event.member == member for member, name in MEMBERS.items()},
    }
    if kind.reason:
        message["xdm:reason"] = kind.reason
    found: dict[str, Any] = {
        "xdm:timestamp": event.at,
        "xdm:channel": {"@id": "https://ns.adobe.com/xdm/channels/email"},
        "xdm:directMarketing": {kind.metric: {"xdm:value": 1}} if kind.metric else {},
        f"{CAMPAIGN}message": message,
        f"{CAMPAIGN}delivery": {
            "xdm:id": str(crc32(event.delivery.encode())),
            "xdm:testEnabled": event.member in ("proof", "test"),
            "xdm:messageClass": "one_time",
            "xdm:deliveryName": event.delivery,
        },
        f"{CAMPAIGN}marketingCampaign": {"xdm:id": str(crc32(event.campaign.encode())), "xdm:campaignName": event.campaign},
        f"{CAMPAIGN}containerID": settings.organization,
        f"{CAMPAIGN}eventSource": kind.source,
    }
    if event.url:
        found[f"{CAMPAIGN}link"] = {"xdm:id": str(crc32(event.url.encode())), "xdm:url": event.url}
    found["acs"] = {
        "externalId": event.external_id or "",
        "email": event.email or "",
        "mirrorPageUrl": event.mirror_page_url or "",
        "broadLogId": event.broad_log_id,
        "trackingLogId": event.tracking_log_id or "",
    }
    return found


def _cloud_event(event: EmailEvent, settings: Settings) -> dict[str, Any]:
    """The members with an underscore are the deprecated names of the same."""
    return {
        "specversion": "1.0",
        "type": KINDS[event.kind].code,
        "source": f"urn:acs:{settings.organization}",
        "id": event.id,
        "time": event.at,
        "datacontenttype": "application/json",
        "data": payload(event, settings),
        "eventid": event.id,
        "event_id": event.id,
        "recipientclientid": settings.client_id,
        "recipient_client_id": settings.client_id,
    }


def _pipeline_event(event: EmailEvent, settings: Settings, now: float) -> dict[str, Any]:
    header = {
        "msgType": "xdmEntityProjectionEvent",
        "msgId": event.id,
        "msgVersion": "1.0.0",
        "xactionId": str(uuid4()),
        "createdAt": int(now * 1000),
        "originalTimestamp": int(moment(event.at or "").timestamp() * 1000),
        "imsOrgId": settings.org_id,
        "xdmSchema": {"name": "_xdm.context.experienceevent", "version": "1.0.0"},
        "_adobeio": {"eventCode": KINDS[event.kind].code, "imsOrgId": settings.org_id, "providerMetadata": "acs"},
    }
    return {"header": header, "body": payload(event, settings)}


def enveloped(event: EmailEvent, settings: Settings, now: float) -> dict[str, Any]:
    """The journal's `event` in the envelope of the settings; `now` in seconds since 1970."""
    return _pipeline_event(event, settings, now) if settings.journal_envelope == "pipeline" else _cloud_event(event, settings)
