"""Opt In/Out in the demo: a no that is said in one system, and when the other one knows."""

from __future__ import annotations

from typing import Any

import httpx
from rich.console import Console
from rich.table import Table

COLUMN, FLAG = "donotphone", "blackListPhone"
CONFIG = {"direction": "bidirectional", "mappings": [{"source": COLUMN, "target": FLAG}]}


def contacts(dynamics: httpx.Client) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = dynamics.get("/_admin/tables/contact/rows").raise_for_status().json()["rows"]
    return found


def profiles(campaign: httpx.Client) -> dict[str, dict[str, Any]]:
    rows = campaign.get("/_admin/resources/profile/rows").raise_for_status().json()["rows"]
    return {row["externalId"]: row for row in rows}


def opted_out(dynamics: httpx.Client) -> int:
    """How many contacts do not want to be called."""
    return sum(bool(row[COLUMN]) for row in contacts(dynamics))


def says(campaign: httpx.Client, contact: str, value: bool) -> None:
    """A person opts out (or in) in Campaign, and the nightly export runs."""
    body = {"external_id": contact, "field": FLAG, "value": value}
    campaign.post("/_admin/opt-out", json=body).raise_for_status()
    campaign.post("/_admin/exports/run", json={}).raise_for_status()


def in_dynamics(dynamics: httpx.Client, contact: str) -> bool:
    return any(row[COLUMN] for row in contacts(dynamics) if row["contactid"] == contact)


def in_campaign(campaign: httpx.Client, contact: str) -> bool:
    return bool(profiles(campaign)[contact][FLAG])


def show(console: Console, control: httpx.Client, contact: str) -> None:
    """Who decided what, and why."""
    decisions = control.get("/workflows/optin/decisions", params={"contact": contact}).raise_for_status().json()["decisions"]
    table = Table(title=f"Decisions on contact {contact}", title_justify="left", box=None, pad_edge=False)
    for heading in ("WHEN", "SYSTEM", "FLAG", "RULE", "OUTCOME"):
        table.add_column(heading)
    for each in reversed(decisions):
        flags = ", ".join(f"{name}={str(value).lower()}" for name, value in each["flags"].items())
        table.add_row(each["decided_at"][11:19], each["target"], flags, each["rule"], each["outcome"])
    console.print(table)


def differences(dynamics: httpx.Client, campaign: httpx.Client) -> list[str]:
    there = profiles(campaign)
    return [
        f"contact {row['contactid']}: {COLUMN} differs"
        for row in contacts(dynamics)
        if bool(row[COLUMN]) != bool(there.get(row["contactid"], {}).get(FLAG))
    ]
