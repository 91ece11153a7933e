"""What the I/O Events journal holds: events in order, each at a position of its own, for seven days (contract 8.2, S31, S32)."""

from __future__ import annotations

import itertools
import json
from bisect import bisect_left
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from random import Random
from typing import Any, NamedTuple
from uuid import uuid4

from sandbox.campaign import traffic
from sandbox.campaign.events import KINDS, EmailEvent, enveloped, moment
from sandbox.campaign.store import Database

CLICKED = "https://www.example.com/offer"


class Entry(NamedTuple):
    """`text` is the event as JSON, `at` when it was written, in seconds since 1970."""

    position: str
    text: str
    at: float


class Expired(Exception):
    """Raised for a position that cannot be read on from any more."""


class Journal:
    """The entries, and how they come in and go. Ages are the sandbox's clock's."""

    def __init__(self, database: Database) -> None:
        self.database, self.settings, self.clock = database, database.settings, database.clock
        self.clear()

    def clear(self) -> None:
        """Nothing is left, and no position is good any more."""
        self._entries: list[Entry] = []
        self._numbers: dict[str, int] = {}
        self._first = 0  # the number of the oldest entry
        self._aged_end = ""
        self._unit = uuid4()
        self._logs = itertools.count(1_000_001)

    def __len__(self) -> int:
        self._age()
        return len(self._entries)

    @property
    def end(self) -> str:
        """The last position, also when its event grew too old and none came since; "" for none."""
        return self._entries[-1].position if self._entries else self._aged_end

    def after(self, position: str) -> int:
        """The index of the entry after this one. Raises Expired."""
        self._age()
        if position == self.end:
            return len(self._entries)
        if position not in self._numbers:
            raise Expired(position)
        return self._numbers[position] - self._first + 1

    def written_since(self, time: float) -> int:
        """The index of the first entry written at or after this time."""
        self._age()
        return bisect_left(self._entries, time, key=lambda entry: entry.at)

    def page(self, start: int, limit: int) -> list[Entry]:
        """As many entries as go on one page: at least one, if there is one."""
        chosen, size = list[Entry](), 0
        for entry in itertools.islice(self._entries, start, start + limit):
            size += len(entry.text.encode()) + len(entry.position) + 26
            if chosen and size > self.settings.journal_page_bytes:
                break
            chosen.append(entry)
        return chosen

    def listed(self) -> list[dict[str, Any]]:
        self._age()
        return [{"position": entry.position, "event": json.loads(entry.text)} for entry in self._entries]

    def append(self, events: Sequence[Any]) -> list[str]:
        """Writes the events as they are; gives their positions."""
        return self._write([json.dumps(event) for event in events])

    def emit(self, events: Sequence[Mapping[str, Any]]) -> list[str]:
        """Writes email events, as `EmailEvent` says them; gives their ids. Raises TypeError and ValueError."""
        return self._emit([EmailEvent(**event) for event in events])

    def traffic(self, seed: int, mails: int, keys: Sequence[str] | None, day: str | None) -> dict[str, Any]:
        """Emits a day's traffic to `keys`, or to all profiles with an externalId; None: the day until now."""
        profiles = self.database.tables["profile"].by_key
        start = moment(day) if day else datetime.fromtimestamp(self.clock.now() - 86400, UTC)
        events, expected = traffic.traffic(seed, mails, list(profiles if keys is None else keys), start, self._logs)
        self._emit(events)
        return {"events": len(events), "expected": expected}

    def redeliver(self, seed: int, shuffle: bool) -> int:
        """Writes everything that is in it once more, at new positions."""
        self._age()
        texts = [entry.text for entry in self._entries]
        if shuffle:
            Random(seed).shuffle(texts)
        return len(self._write(texts))

    def expire(self, keep: int) -> int:
        """Drops all but the newest `keep`; the position of no dropped one is good any more. Gives how many were dropped."""
        dropped = self._drop(max(len(self._entries) - keep, 0))
        self._aged_end = ""
        return dropped

    def _emit(self, events: list[EmailEvent]) -> list[str]:
        settings, now = self.settings, self.clock.now()
        texts, ids = [], []
        for event in events:
            self._complete(event, now)
            texts.append(json.dumps(enveloped(event, settings, now)))
            ids.append(str(event.id))
        random = Random(f"{settings.journal_seed}/{self._first + len(self._entries)}")
        texts += [text for text in texts if random.random() < settings.journal_duplicates]
        if settings.journal_shuffle:
            random.shuffle(texts)
        self._write(texts)
        return ids

    def _complete(self, event: EmailEvent, now: float) -> None:
        """Fills in what was not said. Raises ValueError for a time that is none."""
        event.id = event.id or str(uuid4())
        event.at = event.at or datetime.fromtimestamp(int(now), UTC).isoformat()
        moment(event.at)
        event.broad_log_id = event.broad_log_id or str(next(self._logs))
        if event.tracking_log_id is None and KINDS[event.kind].tracked:
            event.tracking_log_id = str(next(self._logs))
        if event.email is None:
            profile = self.database.tables["profile"].by_key.get(event.external_id or "")
            event.email = profile.values.get("email") if profile else None
        if event.mirror_page_url is None:
            event.mirror_page_url = f"https://{self.settings.organization}.campaign.example.com/nl/jsp/m.jsp?c={event.broad_log_id}"
        if event.url is None and event.kind == "click":
            event.url = CLICKED

    def _write(self, texts: Sequence[str]) -> list[str]:
        now, number = self.clock.now(), self._first + len(self._entries)
        entries = [Entry(f"moose:{self._unit}:{uuid4()}", text, now) for text in texts]
        self._entries += entries
        self._numbers.update((entry.position, each) for each, entry in enumerate(entries, number))
        return [entry.position for entry in entries]

    def _age(self) -> None:
        """Drops what is older than the retention."""
        oldest = self.clock.now() - self.settings.journal_retention_s
        if self._entries and self._entries[0].at < oldest:
            self._drop(bisect_left(self._entries, oldest, key=lambda entry: entry.at))

    def _drop(self, number: int) -> int:
        """The oldest entries; the last of all leaves its position as the end."""
        for entry in self._entries[:number]:
            del self._numbers[entry.position]
            self._aged_end = entry.position
        del self._entries[:number]
        self._first += number
        return number
