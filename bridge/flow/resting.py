"""What waits in its topic, not in hand: where, and from when on it may be tried again; and which of two copies of a record counts. Pure."""

from __future__ import annotations

import math
from array import array
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from bridge.flow.failures import first_place
from bridge.flow.offsets import Position
from bridge.model.events import Record

NOWHERE: Position = ("", -1)
PERIOD_S = 10.0  # what may be tried again within one is read again together


@dataclass(slots=True, eq=False)
class Turn:
    """Records of one partition that are due: offset → opt-outs that wait in it."""

    position: Position
    offsets: dict[int, int] = field(default_factory=dict)


class Resting:
    """Offsets that stay uncommitted, 8 bytes each beside what the ledger needs for them."""

    def __init__(self) -> None:
        self._due: dict[int, dict[Position, array[int]]] = {}  # number of the period → offsets
        self._ripe = (NOWHERE, array("q"))  # those of one period and partition, last offset first
        self._turn = Turn(NOWHERE)
        self._opt_outs: dict[tuple[Position, int], int] = {}

    def __len__(self) -> int:
        """Those whose turn it is are among them until it is over."""
        return sum(map(len, self._every())) + len(self._turn.offsets)

    def opt_outs(self) -> int:
        return sum(self._opt_outs.values()) + sum(self._turn.offsets.values())

    def add(self, position: Position, offset: int, at_s: float, opt_outs: int = 0) -> None:
        """Not to be tried before `at_s`, on a clock that only goes forwards."""
        self._due.setdefault(math.ceil(at_s / PERIOD_S), {}).setdefault(position, array("q")).append(offset)
        if opt_outs:
            self._opt_outs[position, offset] = opt_outs

    def next(self, now_s: float, most: int) -> Turn | None:
        """Some that have waited longest for their turn, neighbours. None while nothing is due."""
        position, offsets = self._ripe
        if not offsets:
            period = min(self._due, default=math.inf)
            if period * PERIOD_S > now_s:
                return None
            places = self._due[int(period)]
            position, found = places.popitem()
            self._ripe = position, (offsets := array("q", sorted(found, reverse=True)))
            if not places:
                del self._due[int(period)]
        due = [offsets.pop() for _ in range(min(most, len(offsets)))]
        self._turn = Turn(position, {offset: self._opt_outs.pop((position, offset), 0) for offset in due})
        return self._turn

    def taken(self) -> None:
        """The turn is over: what it held is in hand."""
        self._turn = Turn(NOWHERE)

    def forget(self, partitions: Iterable[int]) -> None:
        """They are not ours any more; nor are they in the turn."""
        gone = set(partitions)
        kept = {period: {place: each for place, each in places.items() if place[1] not in gone} for period, places in self._due.items()}
        self._due = {period: places for period, places in kept.items() if places}
        self._opt_outs = {place: number for place, number in self._opt_outs.items() if place[0][1] not in gone}
        if self._ripe[0][1] in gone:
            self._ripe = (NOWHERE, array("q"))
        if self._turn.position[1] in gone:
            self._turn.offsets.clear()

    def _every(self) -> Iterator[array[int]]:
        yield self._ripe[1]
        for places in self._due.values():
            yield from places.values()


@dataclass(frozen=True, slots=True)
class Copy:
    """A record that was published again, until it is read. `at_s`: not to be tried before."""

    offset: int
    at_s: float
    opt_outs: int


class Copies:
    """After a restart records are read again of which there are copies already, and copied again. Of two the earlier one counts: it knows
    since when the record waits."""

    def __init__(self) -> None:
        self._newest: dict[tuple[Position, str, bytes | None], Copy] = {}
        self._void: set[tuple[Position, int]] = set()

    def __len__(self) -> int:
        return len(self._newest) + len(self._void)

    def published(self, record: Record, copy: Copy) -> None:
        """`record` has a copy that has not been read yet."""
        self._newest[_name(record)] = copy

    def read(self, record: Record) -> Copy | None:
        """To be asked of each that is back, once; what was noted when it was published."""
        newest = self._newest.get(name := _name(record))
        if newest is None or record.offset > newest.offset:
            return None
        del self._newest[name]
        if record.offset < newest.offset:
            self._void.add((record.position, newest.offset))
        return newest

    def is_void(self, record: Record) -> bool:
        """Whether an earlier copy of it is still there. To be asked once."""
        place = (record.position, record.offset)
        void = place in self._void
        self._void.discard(place)
        return void

    def forget(self, partitions: Iterable[int]) -> None:
        gone = set(partitions)
        self._newest = {name: copy for name, copy in self._newest.items() if name[0][1] not in gone}
        self._void = {place for place in self._void if place[0][1] not in gone}


def _name(record: Record) -> tuple[Position, str, bytes | None]:
    return record.position, first_place(record), record.key
