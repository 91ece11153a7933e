"""From an EmailEvent to the activity that tells of it (dataverse.md §7.5, §10; campaign.md F162–F171). Pure."""

from __future__ import annotations

import re
import uuid
from collections.abc import Iterable, Mapping
from typing import Any

from bridge.dynamics.activities import ActivityTable, WantedTable
from bridge.dynamics.batch import Operation, Request
from bridge.model.events import EmailEvent, Kind
from services.egress.settings import TimelineSettings

ACTIVITY_IDS = uuid.UUID("b2c6c1b0-3f7e-5c0b-8a53-5f3b8f0a2d77")  # never to be changed, or everything is written twice
ENOUGH_FOR_A_URL, ENOUGH_FOR_A_NAME = 2000, 100
CONTROL_CHARACTERS = re.compile(r"[\x00-\x1f\x7f]+")


def wanted_tables(settings: TimelineSettings) -> dict[Kind, WantedTable]:
    """What has to be there, under the names the settings give."""
    texts = {
        "DYNAMICS_CAMPAIGN_COLUMN": settings.campaign,
        "DYNAMICS_DELIVERY_COLUMN": settings.delivery,
        "DYNAMICS_MIRROR_URL_COLUMN": settings.mirror_url,
    }
    url = {"DYNAMICS_TRACKING_URL_COLUMN": settings.tracking_url}
    names: dict[Kind, tuple[str, str]] = {
        "send": (settings.send_table, settings.send_date),
        "open": (settings.open_table, settings.open_date),
        "click": (settings.click_table, settings.click_date),
        "bounce": (settings.bounce_table, settings.bounce_date),
    }
    return {
        kind: WantedTable(
            f"DYNAMICS_{kind.upper()}_TABLE",
            table,
            texts | (url if kind == "click" else {}),
            {f"DYNAMICS_{kind.upper()}_DATE_COLUMN": date},
        )
        for kind, (table, date) in names.items()
    }


def short_columns(settings: TimelineSettings, tables: Iterable[ActivityTable]) -> list[tuple[str, str]]:
    """Table and column of those in which texts will be cut."""
    least = {
        settings.mirror_url: ENOUGH_FOR_A_URL,
        settings.tracking_url: ENOUGH_FOR_A_URL,
        settings.campaign: ENOUGH_FOR_A_NAME,
        settings.delivery: ENOUGH_FOR_A_NAME,
    }
    return [(table.name, column) for table in tables for column, length in least.items() if table.lengths.get(column, length) < length]


class Activities:
    """The request that creates an event's activity; a change set with its completion where activities are to be completed. `root`: path
    of the Web API."""

    def __init__(self, settings: TimelineSettings, tables: Mapping[Kind, ActivityTable], root: str) -> None:
        self._settings, self._tables, self._root = settings, tables, root
        self._dates: Mapping[Kind, str] = {
            "send": settings.send_date,
            "open": settings.open_date,
            "click": settings.click_date,
            "bounce": settings.bounce_date,
        }

    def create(self, event: EmailEvent) -> Operation:
        table = self._tables[event.kind]
        request = Request("POST", f"{self._root}{table.set_name}", self._body(event, table))
        if table.completed is None:
            return (request,)
        return (request, Request("PATCH", "$1", {"statecode": 1, "statuscode": table.completed}))

    def _body(self, event: EmailEvent, table: ActivityTable) -> dict[str, Any]:
        moment = event.occurred_at.isoformat(timespec="seconds").replace("+00:00", "Z")
        texts = {
            "subject": f"Campaign Name: {event.campaign_name}; Delivery Name: {event.delivery_name}",
            self._settings.campaign: event.campaign_name,
            self._settings.delivery: event.delivery_name,
            self._settings.mirror_url: event.mirror_page_url,
        }
        if event.kind == "click":
            texts[self._settings.tracking_url] = event.tracking_url
        cut = {name: shortened(text, table.lengths.get(name)) for name, text in texts.items() if text}
        return {
            table.key: activity_id(event.event_id),
            **cut,
            self._dates[event.kind]: moment,
            **({"actualend": moment} if table.ends else {}),
            f"{table.regarding}@odata.bind": f"/{table.contacts}({event.contact_key})",
        }


def activity_id(event_id: str) -> str:
    return str(uuid.uuid5(ACTIVITY_IDS, event_id))


def shortened(text: str, length: int | None) -> str:
    """At most `length` UTF-16 units, as Dynamics counts, and no control characters, which it refuses."""
    clean = CONTROL_CHARACTERS.sub(" ", text)
    if length is None:
        return clean
    return clean.encode("utf-16-le", "replace")[: 2 * length].decode("utf-16-le", "ignore")
