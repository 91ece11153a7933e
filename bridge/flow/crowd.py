"""When more keys wait than are kept in hand: the others wait at the end of their topics and take turns. Pure.

    a key that would be parked: its records are published again ─▶ end of the topic ─▶ read again: room? its turn : published again

Who has gone round since the last try comes before who was tried just now, so that all have their turns. What was published again is read
before what is new, and each passage costs Kafka its bytes: a topic that has been gone through is left alone for the rest of a round, half a
minute.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime

from bridge.events import Headers, Record
from bridge.flow.failures import PARKED_ROUND
from bridge.flow.parking import is_back

ROUND_S = 30.0


class Rounds:
    """Of each topic, through what waits at its end."""

    def __init__(self) -> None:
        self._began: Mapping[str, datetime] = {}
        self._gone_through: frozenset[str] = frozenset()  # of the topics in a round

    def turned_away(self, record: Record, now: datetime) -> None:
        """There was no room for this one. One that was published in this round tells that all has been gone through."""
        began = self._began.get(record.topic)
        if began is None or (now - began).total_seconds() >= ROUND_S:
            began = now
            self._began = {**self._began, record.topic: now}
            self._gone_through -= {record.topic}
        if record.timestamp_ms >= began.timestamp() * 1000:
            self._gone_through |= {record.topic}

    def are_on(self, topic: str, now: datetime) -> bool:
        """Whether some of it were turned away in this round or the one before."""
        began = self._began.get(topic)
        return began is not None and (now - began).total_seconds() < 2 * ROUND_S

    def rests(self, topic: str, now: datetime) -> bool:
        """Whether nothing of it should be read now. Asked from another thread."""
        began = self._began.get(topic)
        return began is not None and topic in self._gone_through and (now - began).total_seconds() < ROUND_S


def sent_round(headers: Headers) -> Headers:
    """Those of a record that was turned away."""
    return [*(header for header in headers if header[0] != PARKED_ROUND), (PARKED_ROUND, b"1")]


def must_go_round(record: Record, since: datetime | None, now: datetime, budget_s: float) -> bool:
    """Whether a record that is read while there is no room waits on at the end: it has been there, and its time is not over."""
    return is_back(record) and since is not None and (now - since).total_seconds() < budget_s
