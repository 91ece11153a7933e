"""The switches of the stand-in: `GET` and `PATCH /_admin/settings`, or attributes in process. They act at once."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

SCOPES = (
    *("AdobeID", "openid", "read_organizations", "additional_info.projectedProductContext", "additional_info.roles"),
    *("adobeio_api", "read_client_secret", "manage_client_secrets", "campaign_sdk", "campaign_config_server_general"),
    *("deliverability_service_general", "event_receiver_api"),
)

CHOICES = {
    "wrong_organization": ("403023", "500"),
    "text_errors": ("plain", "json"),
    "over_long": ("error", "truncate"),
    "journal_retry_after_form": ("seconds", "date"),
    "journal_links": ("lines", "joined"),
    "journal_envelope": ("cloudevents", "pipeline"),
}


@dataclass
class Settings:
    """Defaults are what the contract holds most likely for the real thing; numbers refer to its sections."""

    organization: str = "sandbox"
    client_id: str = "sandbox-campaign"
    client_secret: str = "sandbox-secret"
    org_id: str = "sandbox@AdobeOrg"
    granted_scopes: list[str] = field(default_factory=lambda: list(SCOPES))
    token_lifetime_s: int = 86399
    tokens_per_minute: int = 0  # token requests before a 429; 0: no limit
    wrong_organization: str = "403023"  # or "500": the routing error of 1.5
    cname_missing: bool = False  # every call answers 502 "Oops"
    calls_per_second: float = 0.0  # token bucket of as many calls; 0: no limit
    retry_after_s: int = 1  # what a 429 of that bucket asks for
    early_grace_ms: float = 0.0  # a call this soon after a wait has begun was on the wire already, so not early
    text_errors: str = "plain"  # or "json": the text as a JSON string literal
    over_long: str = "error"  # or "truncate"
    iso_dates: bool = False  # accept 2024-01-02T03:04:05Z
    key_change: bool = False  # a free key value may be set through a PKey URL
    stamp_unchanged: bool = False  # stamp lastModified and opt-out times without a change, too
    publish_required: bool = True  # model changes wait for a publication
    publish_outage_s: float = 0.0  # rc=-2003 for so long after a publication
    big_table: int = 100_000  # above: no `next` without _forcePagination=true
    next_keeps_force_pagination: bool = False
    profile_delete_status: int = 200
    resource_delete_status: int = 204
    data_policies: dict[str, str] = field(default_factory=dict)  # {"profile.firstName": "smartCase"}, or "email"
    cardinality: dict[str, str] = field(default_factory=dict)  # {"cusVehicle.cusOwner": "0or1"}, over the model's
    on_delete: dict[str, str] = field(default_factory=dict)  # {"cusVehicle.cusOwner": "keep"}, cascade, last (4.5)
    refuse: list[dict[str, str]] = field(default_factory=list)  # {"resource", "field", "contains"}: answers a 500
    journal_retry_after_s: float = 10.0  # what a 204 at the journal's end asks for
    journal_retry_after_form: str = "seconds"  # or "date": an HTTP date; of the journal's 429, too
    journal_links: str = "lines"  # or "joined": all in one Link header
    journal_foreign_next: bool = False  # `next` leads to another host
    journal_envelope: str = "cloudevents"  # or "pipeline", for what is emitted from now on
    journal_duplicates: float = 0.0  # share of the emitted events that is written twice
    journal_shuffle: bool = False  # what is emitted in one go is written in any order
    journal_seed: int = 0  # decides both
    journal_calls_per_second: float = 0.0  # as calls_per_second, for the journal alone
    journal_page: int = 100  # events without `limit`
    journal_page_bytes: int = 1_500_000  # at most, but one event at least
    journal_retention_s: float = 7 * 86400.0
    sftp_user: str = "sandbox-sftp"
    sftp_may_move: bool = True  # or the account may neither rename nor make folders
    sftp_allow_list: list[str] = field(default_factory=list)  # CIDR; empty: any address

    def change(self, changes: Mapping[str, Any]) -> None:
        """Sets several, or none of them. Raises ValueError for an unknown name, another type or no choice."""
        for name, value in changes.items():
            if name not in vars(self):
                raise ValueError(f"unknown setting {name}")
            wanted = type(getattr(self, name))
            if not (type(value) is wanted or (wanted is float and type(value) is int)):
                raise ValueError(f"{name} must be {wanted.__name__}")
            if name in CHOICES and value not in CHOICES[name]:
                raise ValueError(f"{name} must be one of {', '.join(CHOICES[name])}")
        vars(self).update(changes)

    def reset(self) -> None:
        vars(self).update(vars(Settings()))
