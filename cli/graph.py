"""A graph of the backlog in block characters. Pure.

Zero is a thin line at the bottom; `?` is a time at which Kafka could not be asked, a blank one of which control knows nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from math import ceil

BLOCKS = " ▁▂▃▄▅▆▇█"
UNKNOWN = "?"
STEPS = len(BLOCKS) - 1
HOLDS = timedelta(seconds=5)  # control samples every second, a slow Kafka less often


@dataclass(frozen=True)
class GraphPoint:
    """`records` None: not known."""

    at: datetime
    records: int | None


@dataclass(frozen=True)
class Bar:
    """The highest backlog of a stretch of time. `sampled` False: there is no sample of it at all."""

    records: int | None = None
    sampled: bool = False


def columns(points: Sequence[GraphPoint], minutes: int, width: int) -> list[Bar]:
    """`width` stretches of the `minutes` up to the last point. A sample holds until the next one, if that comes soon."""
    made = [Bar()] * width
    if not points:
        return made
    span = timedelta(minutes=minutes)
    begin = points[-1].at - span
    for point, following in zip(points, [*points[1:], None], strict=True):
        if point.at < begin:
            continue
        first = last = min(int((point.at - begin) / span * width), width - 1)
        if following is not None and following.at - point.at <= HOLDS:
            last = min(int((following.at - begin) / span * width), width) - 1
        for number in range(first, max(first, last) + 1):
            known = [each for each in (made[number].records, point.records) if each is not None]
            made[number] = Bar(max(known) if known else None, True)
    return made


def graph(points: Sequence[GraphPoint], minutes: int, width: int = 80, height: int = 8) -> list[str]:
    """The lines of the graph, the highest first, with the axes; `width` with the labels."""
    known = [point.records for point in points if point.records is not None]
    top = max(known, default=0)
    labels = [f"{top:,}", *[""] * (height - 2), "0"]
    margin = max(len(each) for each in labels)
    cells = columns(points, minutes, max(width - margin - 2, 10))
    lines = [
        f"{labels[height - 1 - row]:>{margin}} │" + "".join(_cell(each, top, row, height) for each in cells)
        for row in reversed(range(height))
    ]
    left, right = f"-{minutes} min", "now"
    lines.append(" " * margin + " └" + "─" * len(cells))
    lines.append(" " * (margin + 2) + left + right.rjust(len(cells) - len(left)))
    return lines


def _cell(column: Bar, top: int, row: int, height: int) -> str:
    """One character; row 0 is the lowest."""
    if not column.sampled:
        return " "
    if column.records is None:
        return UNKNOWN if row == 0 else " "
    level = 1 if column.records == 0 else 1 + ceil(column.records / top * (height * STEPS - 1))
    return BLOCKS[min(max(level - row * STEPS, 0), STEPS)]
