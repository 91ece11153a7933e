"""Until when what was published in some topics has been dealt with by a group, by whichever of its members."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta

from bridge.kafka.lag import LagReader
from bridge.kafka.settings import KafkaSettings
from bridge.model.clock import Clock

LOOK_EVERY_S = 1.0
STILL_S = 90.0  # what has not moved for so long waits for something else: it was read
MOST_MARKS = 100
NEVER = datetime.min.replace(tzinfo=UTC)
Places = Mapping[tuple[str, int], int]  # topic, partition → offset


class Marks:
    """Where topics ended at some moments, and the last of these by which all has been committed."""

    def __init__(self) -> None:
        self.until = NEVER
        self.look_at = float("-inf")
        self._waiting: deque[tuple[datetime, Places]] = deque()
        self._still: dict[tuple[str, int], tuple[int, datetime]] = {}  # where something waits: up to where, and since when

    @property
    def waiting(self) -> int:
        return len(self._waiting)

    def note(self, now: datetime, ends: Places, done: Places) -> None:
        """`ends` as they are at `now` or later; `done`: what has been committed, by then. A record that is parked holds back what is
        committed behind it, for hours where little comes: a partition that does not move for a while has nothing else left of that time."""
        for place, end in ends.items():
            at, (before, since) = done.get(place, 0), self._still.get(place, (-1, now))
            if at < end:
                self._still[place] = (at, since if before == at else now)
        if len(self._waiting) < MOST_MARKS:
            self._waiting.append((now, ends))
        while self._waiting and self._is_settled(now, *self._waiting[0], done):
            self.until = self._waiting.popleft()[0]

    def _is_settled(self, now: datetime, marked: datetime, ends: Places, done: Places) -> bool:
        return all(done.get(place, 0) >= end or self._stands_still(now, place, marked) for place, end in ends.items())

    def _stands_still(self, now: datetime, place: tuple[str, int], marked: datetime) -> bool:
        """Whether it has not moved for a while since then."""
        _, since = self._still.get(place, (-1, now))
        return now - max(since, marked) >= timedelta(seconds=STILL_S)


class KafkaSettled:
    """Of `<prefix>.<table>` for each table. It notes where the topics end, and later that this has been committed."""

    def __init__(self, settings: KafkaSettings, group: str, prefix: str, clock: Clock) -> None:
        self._settings, self._group, self._prefix, self._clock = settings, group, prefix, clock
        self._reader: LagReader | None = None
        self._looking = asyncio.Lock()
        self._seen: dict[tuple[str, ...], Marks] = {}

    async def until(self, tables: Sequence[str]) -> datetime:
        """All published before this moment is dealt with. Raises RetryError while Kafka does not tell."""
        asked = tuple(sorted(tables))
        async with self._looking:
            marks = self._seen.setdefault(asked, Marks())
            if self._clock.monotonic() >= marks.look_at:
                await self._look(asked, marks)
                marks.look_at = self._clock.monotonic() + LOOK_EVERY_S
            return marks.until

    async def _look(self, tables: Sequence[str], marks: Marks) -> None:
        if self._reader is None:
            self._reader = LagReader(self._settings)
        now = self._clock.now()
        lag = await asyncio.to_thread(self._reader.group, self._group, [f"{self._prefix}.{table}" for table in tables])
        every = [(topic, each) for topic, partitions in lag.topics.items() for each in partitions]
        done = {(topic, each.partition): each.committed or 0 for topic, each in every}
        marks.note(now, {(topic, each.partition): each.end for topic, each in every}, done)
