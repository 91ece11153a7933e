"""The journal as a feed of email events (bridge.flow.reader.Source).

A cursor is a JSON object: `journal` (whose it is), `link` (where to go on), `phase` `live`, `position` of the last event, `token_at`;
or, as an operator set it, `{"position": "oldest" | "latest"}`.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Collection
from datetime import datetime
from typing import Any

from bridge.campaign.journal import JournalClient, JournalPage
from bridge.flow.reader import Cursor, Step
from bridge.flow.waits import LetterLimit
from bridge.kafka.dead_letters import letter_headers
from bridge.model.clock import Clock
from bridge.model.errors import HaltError, RejectError
from bridge.model.events import Headers, Kind, Outgoing, Record, event_headers
from bridge.observe.log import log
from services.egress.payload import Dropped, Payloads

TOPIC, LETTERS = "egress.email-events", "egress.dead-letters"
CURSOR = "campaign:journal"


class JournalFeed:
    """`counted`: what became of the events that were not published, by reason, and `dead_lettered`."""

    def __init__(
        self,
        client: JournalClient,
        payloads: Payloads,
        selected: Collection[Kind],
        limit: LetterLimit,
        clock: Clock,
        *,
        journal: str,
        topic_prefix: str,
        revision: int,
        produced_by: str,
        poll_interval_s: float,
    ) -> None:
        self._client, self._payloads, self._selected, self._limit, self._clock = client, payloads, selected, limit, clock
        self._journal, self._prefix, self._revision = journal, topic_prefix, revision
        self._produced_by, self._poll_interval_s = produced_by, poll_interval_s
        self.counted: Counter[str] = Counter()
        self._too_many: HaltError | None = None

    async def step(self, cursor: Cursor | None) -> Step:
        """A page whose letters are too many goes out all the same, then we halt: else the next start would halt at it again, for ever."""
        if self._too_many is not None:
            raise self._too_many
        page = await self._client.page(self._link(cursor))
        found = [self._outgoing(position, event) for position, event in page.events]
        events = [each for each in found if each is not None]
        return Step(events, self._after(cursor, page), self._wait_s(page), consumed=bool(page.events))

    def _link(self, cursor: Cursor | None) -> str:
        if cursor is not None and cursor.get("link"):
            if cursor.get("journal") == self._journal:
                return str(cursor["link"])
            log("journal_changed", "warning")  # a position means nothing in another journal; what we know already is harmless
        return self._client.first("latest" if cursor is not None and cursor.get("position") == "latest" else "oldest")

    def _after(self, cursor: Cursor | None, page: JournalPage) -> dict[str, Any]:
        link = page.next_link or self._link(cursor)
        position = page.events[-1][0] if page.events else (cursor or {}).get("position")
        moment = self._clock.now().isoformat()
        return {"phase": "live", "journal": self._journal, "link": link, "position": position, "token_at": moment}

    def _wait_s(self, page: JournalPage) -> float:
        if page.events:
            return 0.0
        return self._poll_interval_s if page.retry_after_s is None else page.retry_after_s

    def _outgoing(self, position: str, event: Any) -> Outgoing | None:
        now = self._clock.now()
        headers = event_headers("live", position, self._produced_by)
        try:
            found = self._payloads.read(event, self._selected, now)
        except RejectError as exc:
            return self._letter(position, event, exc, headers, now)
        if isinstance(found, Dropped):
            self.counted[found.why] += 1
            return None
        self._limit.passed()
        return Outgoing(TOPIC, found.contact_key, found, [*headers, ("event-id", found.event_id.encode())])

    def _letter(self, position: str, event: Any, exc: RejectError, headers: Headers, now: datetime) -> Outgoing:
        """The event as the journal gave it; the writer understands it, too, once it is re-driven."""
        try:
            if not self._payloads.names_nobody(event):  # such profiles are no fault of the settings, however many there are
                self._limit.set_aside()
        except HaltError as too_many:
            self._too_many = too_many
        self.counted["dead_lettered"] += 1
        key = self._payloads.uuid_of(event)
        record = Record(TOPIC, 0, -1, int(now.timestamp() * 1000), key.encode(), json.dumps(event, default=str).encode(), headers)
        facts = letter_headers(record, exc, self._prefix, "egress", self._revision, attempts=1, first_failed_at=now, failed_at=now)
        log("record_dead_lettered", "warning", position=position, code=exc.code, stage=exc.stage)
        return Outgoing(LETTERS, key, record.value, facts)
