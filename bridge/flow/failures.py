"""How often and since when one job has failed, and what follows: to wait so long, or to give up."""

from __future__ import annotations

import math
import random
import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from bridge.flow.waits import FIRST_S, LONGEST_S, backoff_s
from bridge.model.errors import ParkError, RetryError
from bridge.model.events import Headers, Record

OUTAGE = 10  # records
PARKED_SINCE = "parked-since"  # header of a record that was published again while its key was parked: milliseconds since 1970
PARKED_TRIES = "parked-tries"  # another: how often it had been tried by then
PARKED_FROM = "parked-from"  # another: `partition-offset` of where it was for the first time
PLACE = re.compile(r"[0-9]{1,9}-[0-9]{1,18}")
MOST_DIGITS = 13  # of milliseconds, until the year 2286
PARKING = (PARKED_SINCE, PARKED_TRIES, PARKED_FROM)


@dataclass(slots=True)
class Failures:
    """Each kind is counted by itself: a target that is away uses up neither the tries of a record nor the time its key may be parked.

    `count`: of all kinds. `first_at`: the first of them. `parked_since`: when the key had to wait for something else for the first time.
    """

    count: int = 0
    first_at: datetime | None = None
    parked_since: datetime | None = None
    _away: int = 0
    _limited: int = 0
    _parked: int = 0

    def to_json(self) -> list[Any]:
        first_at, since = (None if at is None else at.isoformat() for at in (self.first_at, self.parked_since))
        return [self.count, first_at, since, self._away, self._limited, self._parked]

    @classmethod
    def from_json(cls, kept: list[Any]) -> Failures:
        count, *times, away, limited, parked = kept
        first_at, since = (None if at is None else datetime.fromisoformat(at) for at in times)
        return cls(count, first_at, since, away, limited, parked)

    def wait_s(self, exc: RetryError, records: Sequence[Record], now: datetime, budget_s: float, rng: random.Random) -> float | None:
        """Notes a failure of the job that is made of `records`. Seconds until the next try; None: no further one."""
        self._remember(records)
        self.first_at = self.first_at or now
        self.count += 1
        if isinstance(exc, ParkError):
            return self._parked_s(now, exc.budget_s or budget_s, rng)
        if exc.attempts is not None:
            self._limited += 1
            return None if self._limited >= exc.attempts else backoff_s(self._limited, rng)
        self._away += 1
        return backoff_s(self._away, rng) if exc.retry_after_s is None else exc.retry_after_s

    def _remember(self, records: Sequence[Record]) -> None:
        """What was known when they were published again; the copy may come after the record itself."""
        since = parked_since(records)
        if since is not None and (self.parked_since is None or since < self.parked_since):
            self.parked_since = since
            self.first_at = since if self.first_at is None else min(since, self.first_at)
            self.count = max([self.count, *(_number(record, PARKED_TRIES) or 0 for record in records)])

    def requeue_headers(self, record: Record) -> Headers:
        """The record's own, and since when it is parked."""
        assert self.parked_since is not None
        since = str(int(self.parked_since.timestamp() * 1000)).encode()
        more = [(PARKED_SINCE, since), (PARKED_TRIES, str(self.count).encode()), (PARKED_FROM, first_place(record).encode())]
        return [*without_parking(record.headers), *more]

    def _parked_s(self, now: datetime, budget_s: float, rng: random.Random) -> float | None:
        """Longer each time, up to a minute or a tenth of the time it has waited: what did not come in hours will not come within a minute.
        Its age counts, too, since a record that was published again begins with no failures. The last try is at the end of the budget."""
        self._parked += 1
        self.parked_since = self.parked_since or now
        age_s = max(0.0, (now - self.parked_since).total_seconds())
        if age_s >= budget_s:
            return None
        by_age = 1 + int(math.log2(1 + age_s / FIRST_S))
        return min(backoff_s(max(self._parked, by_age), rng, max(LONGEST_S, age_s / 10)), budget_s - age_s)


class Outage:
    """Failures without a reason use up a record's tries, unless many records meet them and none is written: then it is not the records."""

    def __init__(self) -> None:
        self._met: set[str] = set()

    def met(self, key: str, exc: RetryError) -> RetryError:
        """The error as it counts: in an outage its tries have no end."""
        if exc.attempts is None:
            return exc
        self._met.add(key)
        if len(self._met) < OUTAGE:
            return exc
        return RetryError(str(exc), code=exc.code, status=exc.status, retry_after_s=exc.retry_after_s)

    def over(self) -> None:
        """A record was written."""
        self._met.clear()


def without_parking(headers: Headers) -> Headers:
    return [header for header in headers if header[0] not in PARKING]


def first_place(record: Record) -> str:
    """`partition-offset` of the record, or of the one that it is a copy of."""
    told = (record.header(PARKED_FROM) or b"").decode("ascii", "replace")
    return told if PLACE.fullmatch(told) else f"{record.partition}-{record.offset}"


def parked_since(records: Sequence[Record]) -> datetime | None:
    """Since when the oldest of these is parked, as its copy tells."""
    since = [at for record in records if (at := _number(record, PARKED_SINCE)) is not None]
    return datetime.fromtimestamp(min(since) / 1000, UTC) if since else None


def _number(record: Record, header: str) -> int | None:
    """Of a header that anybody may have written; None for what is no number of a sane size."""
    text = (record.header(header) or b"").decode("ascii", "replace")
    return int(text) if text.isdigit() and len(text) <= MOST_DIGITS else None
