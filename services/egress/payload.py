"""From an event of the journal to an EmailEvent, or to the reason why it is none (campaign.md §8.3, §8.6). Pure."""

from __future__ import annotations

import json
import re
import uuid
from collections.abc import Collection, Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any, Literal

from bridge.mapping.values import guid, milliseconds, moment, truth
from bridge.model.config import EgressConfig
from bridge.model.errors import RejectError
from bridge.model.events import EmailEvent, Kind
from bridge.model.json_text import loads
from bridge.model.text import storable_json
from services.egress.pointers import Pointers, local
from services.egress.settings import EventSettings

EVENT_IDS = uuid.UUID("6c1a0d3e-7d0b-5d2f-9c55-0f6a4a5c8b11")  # never to be changed, or everything is written twice
NUMBER = re.compile(r"[0-9]+(\.[0-9]+)?")
BEYOND_S = 1e11  # no event is of the year 5138; as milliseconds it is one of 1973
KINDS: tuple[Kind, ...] = ("send", "open", "click", "bounce")
Why = Literal["other_event", "not_selected", "soft_bounce", "not_real"]


def selected(config: Mapping[str, Any]) -> list[Kind]:
    """The kinds that a configuration of the workflow has switched on."""
    chosen = EgressConfig.model_validate(config).events
    return [kind for kind in KINDS if getattr(chosen, kind)]


@dataclass(frozen=True, slots=True)
class Dropped:
    """An event that belongs on no timeline, and why."""

    why: Why


class Payloads:
    """Reads events as the settings say they look."""

    def __init__(self, settings: EventSettings) -> None:
        names = ("code", "id", "sent_at", "payload", "contact_key", "campaign", "delivery", "occurred_at", "url", "mirror_url")
        more = ("log_id", "tracking_id", "hard_bounce", "soft_bounce", "not_real")
        self._at = {name: Pointers(getattr(settings, name)) for name in (*names, *more)}
        self._kinds: Mapping[str, Kind] = {
            code.strip(): kind for kind in KINDS for code in str(getattr(settings, kind)).split(",") if code.strip()
        }

    def read(self, event: Any, selected: Collection[Kind], observed_at: datetime) -> EmailEvent | Dropped:
        """Raises RejectError (stage `map`) for an event of a selected kind that cannot be put on a timeline."""
        kind = self._kinds.get(str(self._at["code"].first(event)))
        if kind is None:
            return Dropped("other_event")
        payload = self._payload(event)
        if any(_yes(mark) for mark in self._at["not_real"].all(payload)):
            return Dropped("not_real")
        if kind == "bounce" and not self._hard(payload):
            return Dropped("soft_bounce")
        if kind not in selected:
            return Dropped("not_selected")
        key, occurred_at = self._contact(payload), self._occurred_at(event, payload)
        url = self._text(payload, "url") if kind == "click" else ""
        return EmailEvent(
            event_id=self._id(event, payload, kind, key, url),
            kind=kind,
            contact_key=key,
            campaign_name=self._text(payload, "campaign"),
            delivery_name=self._text(payload, "delivery"),
            occurred_at=occurred_at,
            tracking_url=url or None,
            mirror_page_url=self._text(payload, "mirror_url") or None,
            observed_at=observed_at,
        )

    def uuid_of(self, event: Any) -> str:
        """The id the envelope gives it, empty if none."""
        return self._text(event, "id")

    def names_nobody(self, event: Any) -> bool:
        """Whether the event holds a contact key and it is empty: a profile that is not from Dynamics."""
        return "" in self._at["contact_key"].all(self._payload(event))

    def _payload(self, event: Any) -> Any:
        """CloudEvents may carry `data` as a text of JSON (campaign.md §8.3)."""
        found = self._at["payload"].first(event)
        with suppress(ValueError, RecursionError):
            return storable_json(loads(found)) if isinstance(found, str) else found
        return found

    def _hard(self, payload: Any) -> bool:
        """Permanent, by its payload; if that says nothing, by its code."""
        return _yes(self._at["hard_bounce"].first(payload)) or not _yes(self._at["soft_bounce"].first(payload))

    def _contact(self, payload: Any) -> str:
        text = self._text(payload, "contact_key")
        if not text:
            raise RejectError("the event has no contact key", code="contact_key_missing", stage="map")
        if (key := guid(text)) is None:
            raise RejectError("the event's contact key is not the id of a contact", code="contact_key_unusable", stage="map")
        return key

    def _occurred_at(self, event: Any, payload: Any) -> datetime:
        for value in (self._at["occurred_at"].first(payload), self._at["sent_at"].first(event)):
            if (at := _moment(value)) is not None:
                return at
        raise RejectError("the event has no time", code="event_time_missing", stage="map")

    def _id(self, event: Any, payload: Any, kind: Kind, key: str, url: str) -> str:
        """By Campaign's own log, where the event names its line, else by the envelope's id: Campaign may publish an occurrence again, in
        another envelope."""
        line = self._text(payload, "tracking_id" if kind in ("open", "click") else "log_id")
        if line:
            at = _moment(self._at["occurred_at"].first(payload))
            parts = ["log", kind, key, line, at.isoformat() if at else "", url]
        elif envelope := self.uuid_of(event):
            parts = ["event", kind, envelope]
        else:
            parts = ["content", kind, json.dumps(payload, sort_keys=True, default=str)]
        return str(uuid.uuid5(EVENT_IDS, "\n".join(parts)))

    def _text(self, document: Any, name: str) -> str:
        value = self._at[name].first(document)
        return str(value).strip() if isinstance(value, str | int | Decimal) and not isinstance(value, bool) else ""


def _yes(value: Any) -> bool:
    """Of a mark: true, 1, "true", or a measure `{"xdm:value": 1}`."""
    if isinstance(value, dict):
        inner = [each for name, each in value.items() if local(name) == "value"]
        return any(_yes(each) for each in inner) if inner else bool(value)
    if isinstance(value, str):
        return truth(value.strip()) is True
    return bool(value)


def _moment(value: Any) -> datetime | None:
    """ISO 8601 (UTC where no offset is given), or a number since 1970: of seconds, or of a thousandth, millionth or billionth of one, which
    its size tells; in milliseconds, as events carry it."""
    if isinstance(value, str) and not NUMBER.fullmatch(value.strip()):
        return milliseconds(moment(value))
    try:
        if not isinstance(value, str | int | Decimal) or isinstance(value, bool) or (seconds := float(value)) <= 0:
            return None
        for _ in ("milliseconds", "microseconds", "nanoseconds"):
            seconds = seconds / 1000 if seconds >= BEYOND_S else seconds
        return milliseconds(datetime.fromtimestamp(seconds, UTC))
    except (ValueError, OverflowError, OSError):
        return None
