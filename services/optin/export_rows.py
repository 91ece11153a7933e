"""The text of an export, cut into rows. A row is whole or it is bad, and no bad row takes others with it. Pure.

A quote that was opened by mistake would swallow the rows up to the next one. Therefore lines are one row only if they have as many cells
as the header and none of them, past the first, looks like a row of its own; else the first is a bad row and the others are read one by
one: in doubt, since they may be what somebody wrote into a cell.
"""

from __future__ import annotations

import csv
import zlib
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import IO

from bridge.mapping.values import GUID

LONGEST_ROW = 20  # lines: a quote that is open for longer is a stray one
LONGEST_LINE = 1 << 20  # characters
TOO_LONG = "\0\n"  # stands for a line that is longer: no row of an export
UNREADABLE = (OSError, EOFError, zlib.error, csv.Error, UnicodeError, LookupError)


class BadExport(Exception):
    """The file cannot be read, or not to its end; the text says why, without its content."""


@dataclass(frozen=True, slots=True)
class Cells:
    """Of one row. `whole`: it could be told where its cells end. `doubtful`: it may be a part of another row's cell."""

    cells: Sequence[str]
    whole: bool = True
    doubtful: bool = False


def broken(exc: Exception) -> BadExport:
    return BadExport(f"it cannot be read to its end ({type(exc).__name__})")


def lines(text: IO[str]) -> Iterator[str]:
    """Raises BadExport."""
    try:
        while line := text.readline(LONGEST_LINE):
            if len(line) < LONGEST_LINE or line.endswith("\n"):
                yield line
                continue
            while line and not line.endswith(("\n", "\r")):
                line = text.readline(LONGEST_LINE)
            yield TOO_LONG
    except UNREADABLE as exc:
        raise broken(exc) from exc


class Ahead:
    """Lines to come. What is wrong behind them is raised after the last one of them."""

    def __init__(self, source: Iterator[str]) -> None:
        self._source = source
        self._error: BadExport | None = None
        self.lines: deque[str] = deque()

    def fill(self, number: int) -> bool:
        """Whether there is any line. Raises BadExport."""
        while len(self.lines) < number and self._error is None:
            try:
                line = next(self._source, None)
            except BadExport as exc:
                self._error = exc
                break
            if line is None:
                break
            self.lines.append(line)
        if not self.lines and self._error is not None:
            raise self._error
        return bool(self.lines)

    def drop(self, number: int) -> None:
        for _ in range(number):
            self.lines.popleft()


def rows(source: Iterator[str], delimiter: str, width: int, key_at: int) -> Iterator[Cells]:
    """In their order, without empty lines. `width`: cells of the header, `key_at`: which of them is the key. Raises BadExport."""
    ahead, in_doubt = Ahead(source), 0
    while ahead.fill(1):
        line, taken = ahead.lines[0], 1
        row: Cells | None
        if '"' not in line:
            text = line.rstrip("\r\n")
            row = Cells(text.split(delimiter), doubtful=in_doubt > 0) if text else None
        else:
            ahead.fill(LONGEST_ROW)
            row, taken, swallowed = _quoted(ahead.lines, delimiter, width, key_at, in_doubt > 0)
            in_doubt = max(in_doubt, swallowed + 1 if swallowed else 0)
        if row is not None:
            yield row
        ahead.drop(taken)
        in_doubt = max(0, in_doubt - taken)


def _quoted(ahead: deque[str], delimiter: str, width: int, key_at: int, doubtful: bool) -> tuple[Cells, int, int]:
    """The row that begins with the first line, how many lines it takes, and how many lines after it are in doubt."""
    reader = csv.reader(ahead, delimiter=delimiter, strict=True)
    try:
        cells = next(reader)
    except csv.Error:
        return Cells((), whole=False), 1, 0
    taken = reader.line_num
    if taken == 1:
        return Cells(cells, doubtful=doubtful), 1, 0
    inside = [ahead[number] for number in range(1, taken)]
    if len(cells) != width or any(_keyed(each, delimiter, key_at) for each in inside):
        return Cells((), whole=False), 1, taken - 1
    return Cells(cells, doubtful=doubtful), taken, 0


def _keyed(line: str, delimiter: str, key_at: int) -> bool:
    """Whether a line, for itself, has a contact's id where the key is."""
    try:
        parsed = next(csv.reader([line], delimiter=delimiter), [])
    except csv.Error:
        parsed = []
    return any(len(cells) > key_at and GUID.search(cells[key_at]) for cells in (parsed, line.split(delimiter)))
