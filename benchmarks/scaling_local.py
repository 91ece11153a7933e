"""What is kept in files, at sizes that a whole pipeline does not reach here: a partition of the local copy, the comparison after a load.

For benchmarks/scaling.py. Both are the product's own; only what feeds them is made up.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

from benchmarks.lean import MIXED, key
from benchmarks.rig import Notes
from benchmarks.sizes import known
from bridge.kafka.local_part import LocalPart
from services.ingress.comparison import Comparison

PART = 5000


class Spent:
    """CPU of this process and seconds since it began, or since it was asked last."""

    def __init__(self, notes: Notes) -> None:
        self._notes, self._cpu, self._wall = notes, time.process_time(), time.monotonic()

    def on(self, what: str, records: int) -> None:
        cpu, wall = time.process_time(), time.monotonic()
        self._notes.note(f"{what}, CPU µs", (cpu - self._cpu) * 1e6 / records)
        self._notes.note(f"{what}, wall µs", (wall - self._wall) * 1e6 / records)
        self._cpu, self._wall = time.process_time(), time.monotonic()


async def partition(notes: Notes, _: str, records: int) -> None:
    """One partition of the ingress writer's copy: 15 million records in 12 partitions are 1.25 million in each."""
    with tempfile.TemporaryDirectory(prefix="scale-") as folder:
        part, value = LocalPart(Path(folder) / "part.sqlite"), known(11).to_json()
        spent = Spent(notes)
        for number in range(records):
            part.put(f"contact/{key(number)}", value)
        spent.on("a new record", records)
        for number in range(0, records, 4):
            part.put(f"contact/{key(number * MIXED % records)}", value)
        spent.on("a change", records // 4)
        for number in range(0, records, 4):
            part.get(f"contact/{key(number * MIXED % records)}")
        spent.on("a look", records // 4)
        part.count("true")
        spent.on("counting all, of one record", records)
        part.close()
        notes.each("bytes of one record", part.path.stat().st_size)


async def comparison(notes: Notes, _: str, records: int) -> None:
    """Keys and versions of all rows, and of all events, in the reader's temporary file; nothing differs."""
    with tempfile.TemporaryDirectory(prefix="scale-") as folder, closing(Comparison(Path(folder) / "compare.sqlite")) as made:
        spent = Spent(notes)
        for page in _pages(records):
            made.list(page)
        spent.on("a key that is listed", records)
        for page in _pages(records):
            made.note((name, 0, version, False) for name, version in page)
        spent.on("an event that is noted", records)
        assert made.compare(0) == (0, 0)
        spent.on("looking for differences, of one record", records)
        notes.each("bytes of one record", made.size())


def _pages(records: int) -> Iterator[list[tuple[str, int]]]:
    for first in range(0, records, PART):
        yield [(key(number), number) for number in range(first, min(first + PART, records))]
