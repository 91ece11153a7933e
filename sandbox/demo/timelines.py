"""The contacts' timelines in the Dynamics stand-in: one to look at, and whether all events are there."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import httpx
from rich.console import Console
from rich.table import Table

TABLES = {"send": "adobe_emailsend", "open": "adobe_emailopen", "click": "adobe_emailurlclick", "bounce": "adobe_emailbounce"}
WORDS = {table: kind for kind, table in TABLES.items()} | {"task": "task"}


def rows(dynamics: httpx.Client, table: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = dynamics.get(f"/_admin/tables/{table}/rows").raise_for_status().json()["rows"]
    return found


def show(console: Console, dynamics: httpx.Client) -> None:
    """The timeline of a contact who clicked."""
    person = rows(dynamics, TABLES["click"])[0]["regardingobjectid"]
    timeline = dynamics.get(f"/_admin/timeline/{person}").raise_for_status().json()["rows"]
    table = Table(title=f"Timeline of contact {person}", title_justify="left", box=None, pad_edge=False)
    for heading in ("WHEN", "WHAT", "SUBJECT", "LINK"):
        table.add_column(heading, overflow="fold")
    for row in sorted(timeline, key=_when):
        link = row.get("adobe_trackingurl") or row.get("adobe_mirrorpageurl") or ""
        table.add_row(_when(row), WORDS[row["activitytypecode"]], row["subject"], link)
    console.print(table)


def differences(dynamics: httpx.Client, expected: Mapping[str, int]) -> list[str]:
    counted = {kind: len(rows(dynamics, table)) for kind, table in TABLES.items()}
    return [f"{kind}: {counted[kind]} activities, {number} events" for kind, number in expected.items() if counted[kind] != number]


def _when(row: Mapping[str, Any]) -> str:
    moments = (row.get(f"adobe_date{what}") for what in ("sent", "opened", "clicked", "bounced"))
    return str(next((moment for moment in moments if moment), row["scheduledend"]))
