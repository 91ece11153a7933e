"""Which offset may be committed: the lowest one that is not settled, for each partition (decision D2). Pure, guarded by one lock."""

from __future__ import annotations

import threading
from collections import OrderedDict

Position = tuple[str, int]  # topic, partition


class OffsetLedger:
    """Records are noted when read, settled when the target or the dead letters have them, in any order."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._open: dict[Position, OrderedDict[int, int]] = {}  # offset → timestamp, in the order read
        self._next: dict[Position, int] = {}
        self._committed: dict[Position, int] = {}

    def own(self, position: Position, committed: int | None) -> None:
        """From now on `position` is ours, with this committed offset (None: never committed)."""
        with self._lock:
            self._open[position] = OrderedDict()
            self._next.pop(position, None)
            self._committed.pop(position, None)
            if committed is not None:
                self._next[position] = self._committed[position] = committed

    def disown(self, position: Position) -> None:
        with self._lock:
            for book in (self._open, self._next, self._committed):
                book.pop(position, None)

    def owns(self, position: Position) -> bool:
        return position in self._open

    def read(self, position: Position, offset: int, timestamp_ms: int = 0) -> None:
        with self._lock:
            if position in self._open:
                self._open[position][offset] = timestamp_ms
                self._next[position] = offset + 1

    def settle(self, position: Position, offset: int) -> None:
        """This record needs nothing more. Records of partitions that are no longer ours are ignored."""
        with self._lock:
            if position in self._open:
                self._open[position].pop(offset, None)

    def reached_end(self, position: Position, offset: int) -> None:
        """The end of the partition: transaction markers before it will never be read as records."""
        with self._lock:
            if position in self._open and offset > self._next.get(position, -1):
                self._next[position] = offset

    def commitable(self) -> dict[Position, int]:
        """Offsets that have moved since the last `committed`."""
        with self._lock:
            moved = {}
            for position, waiting in self._open.items():
                target = next(iter(waiting)) if waiting else self._next.get(position)
                if target is not None and target > self._committed.get(position, -1):
                    moved[position] = target
            return moved

    def committed(self, offsets: dict[Position, int]) -> None:
        with self._lock:
            for position, offset in offsets.items():
                if position in self._open:
                    self._committed[position] = max(offset, self._committed.get(position, -1))

    def settled_behind(self, position: Position, offset: int) -> int:
        """How many settled records cannot be committed because `offset` is not settled: what a restart would read again."""
        with self._lock:
            waiting = self._open.get(position)
            return 0 if not waiting else self._next[position] - offset - len(waiting)

    def waiting(self) -> int:
        with self._lock:
            return sum(len(waiting) for waiting in self._open.values())

    def oldest_ms(self) -> int | None:
        """Timestamp of the oldest record in hand."""
        with self._lock:
            return min((next(iter(waiting.values())) for waiting in self._open.values() if waiting), default=None)
