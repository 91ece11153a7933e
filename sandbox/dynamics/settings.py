"""Every switch and number of the stand-in; `GET` and `PATCH /_admin/settings` show and change them while it runs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal

from sandbox.dynamics.tables import ORGANIZATION

CHOICES: dict[str, tuple[Any, ...]] = {
    "first_load_gap": ("lost", "included"),
    "not_enabled": ("error", "missing_link"),
    "expired_status": (400, 410),
    "same_guid": ("upsert", "both"),
    "future_token": ("refused", "expired", "taken", "empty"),
    "attribute_privileges": ("told", "forbidden", "missing"),
    "security_tables": ("told", "forbidden", "missing"),
}


@dataclass
class Settings:
    """Defaults are the documented behaviour, or the contract's choice (SIM) where nobody documents it."""

    tenant: str = "sandbox-tenant"
    client_id: str = "sandbox-client"
    client_secret: str = "sandbox-secret"
    token_lifetime_s: int = 3599
    member: bool = True  # false: every call is refused with 403 0x80072560
    global_read: bool = True  # false: tracked reads are refused with 403 0x80040220
    # secured columns
    system_administrator: bool = False  # the application user has that role: he reads and changes every column
    attribute_privileges: Literal["told", "forbidden", "missing"] = "told"  # RetrievePrincipalAttributePrivileges
    security_tables: Literal["told", "forbidden", "missing"] = "told"  # profiles, permissions, roles, masking rules
    page_limit: int = 5000  # also the cap of $count
    metadata_lag_s: float = 0.0  # options that were just added are not seen for so long, but with `Consistency: Strong`
    total_count_lag: int = 0  # RetrieveTotalRecordCount tells this many rows too few
    foreign_links: bool = False  # links in answers lead to another host
    organization: str = ORGANIZATION  # WhoAmI tells it: another one is another environment, or a copy
    clock_ahead_s: float = 0  # by how much the server's clock is ahead, in `Date` and in every time it sets; negative: behind
    latency_ms: float = 0  # every Web API request takes at least this long
    operation_cost_ms: float = 0  # and that much more for each operation of a batch, and for a single write
    # change tracking
    retention_days: int = 7  # also organizations.expirechangetrackingindays
    first_load_gap: Literal["lost", "included"] = "lost"  # changes made while a first load is read page by page
    not_enabled: Literal["error", "missing_link"] = "error"  # a tracked read of a table without change tracking
    expired_status: Literal[400, 410] = 400
    same_guid: Literal["upsert", "both"] = "upsert"  # deleted, then created again with the same GUID
    shuffle: bool = False  # a delta in no order at all
    future_token: Literal["refused", "expired", "taken", "empty"] = "refused"  # a token of after the backup that was restored: "taken"
    # gives what was changed since its time, "empty" nothing and a token of now
    repeats: int = 0  # that many rows the reader already knows come again with every delta
    annotations_lose_link: bool = True  # annotations asked for in a tracked read: no delta link at its end
    # batches
    batch_max: int = 1000
    batch_lists_earlier: bool = True  # a failing batch also lists the operations before the failure
    # activities
    base_regarding: bool = False  # regardingobjectid_contact without the table's name is taken as well
    click_follow_up: bool = True  # the solution's processes: a new click or bounce makes a task
    bounce_follow_up: bool = True
    # service protection; the numbers count only while `throttle` is on
    throttle: bool = False
    window_s: float = 300
    limit_requests: int = 6000
    limit_execution_s: float = 1200
    limit_concurrent: int = 52
    request_cost_ms: float = 0  # added to the measured execution time of every request
    early_grace_ms: float = 0  # a request this soon after a 429 was under way already, so not early
    retry_after_growth_s: float = 1  # each request inside a Retry-After window makes it this much longer
    dop_hint: int = 8

    def change(self, changes: Mapping[str, Any]) -> None:
        """Takes all of `changes` or, with ValueError (unknown name, wrong type, not a choice), none."""
        known = asdict(self)
        for name, value in changes.items():
            if name not in known:
                raise ValueError(f"no setting {name}")
            if name in CHOICES and value not in CHOICES[name]:
                raise ValueError(f"{name} must be one of {CHOICES[name]}")
            wanted = (int, float) if isinstance(known[name], float | int) else str
            if isinstance(known[name], bool) != isinstance(value, bool) or not isinstance(value, wanted):
                raise ValueError(f"{name} must be of type {type(known[name]).__name__}")
        vars(self).update(changes)
