"""An export of changed opt-out flags: from a file to observations, with all that such files are known to vary in (campaign.md §10.3).

Pure but for reading the local copy of the file. What cannot be read is never guessed, and spoils as little as it can: a cell its flag or
its time, a line its row, a header its file.
"""

from __future__ import annotations

import csv
import gzip
import re
import unicodedata
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import IO, Any

from bridge.campaign.settings import ExportSettings, spoken
from bridge.mapping.values import guid
from bridge.model.events import OptStatusObserved
from bridge.model.flags import ANY_FLAG_AT, FLAGS, OPT_OUT_FLAGS, RECORD_AT, TIMES, canonical_flag
from services.optin.export_rows import LONGEST_LINE, UNREADABLE, BadExport, Cells, broken, lines, rows
from services.optin.export_times import TimeColumn, TimeSpan

DELIMITERS = ",;\t"
GZIP = b"\x1f\x8b"
WRONG_BYTES = re.compile("[\udc80-\udcff]")  # as surrogateescape reads them
KNOWN_COLUMNS = (*OPT_OUT_FLAGS, *TIMES.values(), ANY_FLAG_AT, RECORD_AT)  # names of all columns that mean something, but for the key
LABELS = {  # of a profile's fields, where Campaign's own metadata do not tell
    "External Resource ID": "externalId",
    **{label: flag.name for flag in FLAGS for label in (flag.label, *flag.labels)},
    "Last modified": RECORD_AT,
}


@dataclass(frozen=True, slots=True)
class ExportRow:
    """`number`: the first one after the header is 1. `event`: what could be read of it, if anything. `bad`: why it is not as it should be;
    the flags that could be read are in the event nevertheless. `spoiled`: columns whose time cannot be read, `unplaced`: flags whose FALSE
    has lost its time, since nobody knows in which zone that is."""

    number: int
    event: OptStatusObserved | None = None
    bad: str | None = None
    spoiled: tuple[str, ...] = ()
    unplaced: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Header:
    """`at`: where the columns are that mean something."""

    delimiter: str
    width: int
    at: Mapping[str, int]


class Export:
    """One file, `name` for people. `flags`: those that are mapped. `labels`: display name → name of a column. `exported_at` stands in for
    a row's own time. Go through `surveyed` before `rows`: times of a column are read as all of them can be read.

    Raises BadExport, in `rows` as well: a file may break off in the middle of its compressed content.
    """

    def __init__(
        self,
        path: Path,
        flags: Sequence[str],
        settings: ExportSettings,
        exported_at: datetime,
        labels: Mapping[str, str] = LABELS,
        name: str = "export",
    ) -> None:
        self._path, self._flags, self._settings, self._exported_at, self._name = path, flags, settings, exported_at, name
        self._words = settings.words
        names = {**labels, **{each: each for each in KNOWN_COLUMNS}}
        known = {_folded(shown): each for shown, each in names.items() if _folded(shown)}
        self._key = known.get(_folded(settings.key_column), settings.key_column)
        self._meanings = {self._key, *KNOWN_COLUMNS}
        self._names = {**known, _folded(self._key): self._key}
        wanted = [*(TIMES[flag] for flag in flags if flag in TIMES), ANY_FLAG_AT, RECORD_AT]
        self._columns = {each: TimeColumn(settings.date_format, settings.time_zone, exported_at) for each in wanted}

    def surveyed(self) -> Iterator[None]:
        """One for each row, whose times have been heard; nothing where the setting tells how they are written. What is wrong with the file
        is for `rows` to tell."""
        if self._settings.date_format is not None:
            return
        try:
            with closing(self._text()) as text:
                header = self._header(text)
                columns = [(header.at[name], column) for name, column in self._columns.items() if name in header.at]
                for row in self._cut(text, header):
                    if row.whole and len(row.cells) == header.width:
                        for at, column in columns:
                            column.hear(row.cells[at])
                    yield
        except BadExport:
            return

    def rows(self, skip: int, observed_at: datetime) -> Iterator[ExportRow]:
        """In the order of the file, without the first `skip` ones. Empty lines are none."""
        with closing(self._text()) as text:
            header = self._header(text)
            for number, row in enumerate(self._cut(text, header), 1):
                if number > skip:
                    yield self._row(number, row, header, observed_at)

    def understood(self) -> bool:
        """Whether its first line has every mapped flag and its time under a name that is known here."""
        try:
            with closing(self._text()) as text:
                header = self._header(text)
        except BadExport:
            return False
        return not self._untimed(header) and set(header.at) >= set(self._flags)

    def untimed(self) -> Sequence[str]:
        """Mapped flags whose time has no column. Raises BadExport."""
        with closing(self._text()) as text:
            return self._untimed(self._header(text))

    def undecided(self) -> Sequence[str]:
        """Columns in which day and month cannot be told apart."""
        return [name for name, column in self._columns.items() if column.undecided()]

    def _untimed(self, header: Header) -> Sequence[str]:
        return [each for each in self._flags if each in TIMES and TIMES[each] not in header.at]

    def _text(self) -> IO[str]:
        try:
            with self._path.open("rb") as raw:
                packed = raw.read(2) == GZIP
            opened = gzip.open if packed else open
            text: IO[str] = opened(self._path, "rt", encoding=self._settings.encoding, errors="surrogateescape", newline="")
            return text
        except UNREADABLE as exc:
            raise broken(exc) from exc

    def _cut(self, text: IO[str], header: Header) -> Iterator[Cells]:
        return rows(lines(text), header.delimiter, header.width, header.at[self._key])

    def _header(self, text: IO[str]) -> Header:
        """The delimiter is the one with which the key column is found."""
        try:
            first = text.readline(LONGEST_LINE)
            for delimiter in DELIMITERS:
                shown = next(csv.reader([first], delimiter=delimiter), [])
                names = [self._names.get(_folded(each), each) for each in shown]
                if self._key in names:
                    return self._placed(delimiter, names)
        except UNREADABLE as exc:
            raise broken(exc) from exc
        raise BadExport(f"its first line has no column {self._key}")

    def _placed(self, delimiter: str, names: Sequence[str]) -> Header:
        twice = sorted({name for name in names if name in self._meanings and names.count(name) > 1})
        if twice:
            raise BadExport(f"its first line has two columns that mean {twice[0]}")
        if not set(self._flags) & set(names):
            raise BadExport("it has none of the mapped flags")
        return Header(delimiter, len(names), {name: at for at, name in enumerate(names) if name in self._meanings})

    def _row(self, number: int, row: Cells, header: Header, observed_at: datetime) -> ExportRow:
        if not row.whole:
            return ExportRow(number, bad="a quote in it does not close where a cell ends")
        if len(row.cells) != header.width:
            return ExportRow(number, bad=f"it has {len(row.cells)} cells, the header has {header.width}")
        cells = {name: row.cells[at] for name, at in header.at.items()}
        key = guid(cells[self._key])
        if key is None:
            return ExportRow(number, bad="no key of a contact")
        read = _Read(self._columns, self._words, cells, row.doubtful)
        flags = {name: flag for name in self._flags if (flag := read.flag(name)) is not None}
        record_at = read.record_changed_at() or self._exported_at
        if any(map(WRONG_BYTES.search, row.cells)):
            read.bad.append("it has bytes that are no text in this encoding")
        bad = read.bad[0] if read.bad else None
        if bad is not None and not flags:
            return ExportRow(number, bad=bad)
        event = OptStatusObserved(key, "campaign", flags, record_at, observed_at, origin=f"{self._name} row {number}")
        return ExportRow(number, event, bad, tuple(read.spoiled), tuple(read.unplaced))


class _Read:
    """The cells of a row, and what is wrong with them."""

    def __init__(self, columns: Mapping[str, TimeColumn], words: Mapping[str, bool], cells: Mapping[str, str], doubtful: bool) -> None:
        self._columns, self._words, self._cells, self._doubtful = columns, words, cells, doubtful
        self.bad: list[str] = []
        self.spoiled: list[str] = []
        self.unplaced: list[str] = []

    def flag(self, name: str) -> dict[str, Any] | None:
        """None: the row does not say. TRUE is no older than it can be, FALSE no younger; what may be no row at all takes nothing back."""
        word = spoken(self._cells.get(name, ""))
        if not word:
            return None
        value = self._words.get(word)
        if value is None:
            self.bad.append(f"{name} is neither yes nor no")
            return None
        span = self._first((TIMES[name],) if name in TIMES else (ANY_FLAG_AT, RECORD_AT))
        if span is None:
            return {"value": value, "changed_at": None}
        if value:
            return {"value": True, "changed_at": span.last}
        if not span.sure:
            self.unplaced.append(name)
        return {"value": False, "changed_at": span.first if span.sure and not self._doubtful else None}

    def record_changed_at(self) -> datetime | None:
        span = self._first((RECORD_AT, ANY_FLAG_AT))
        return span.last if span is not None and span.sure else None

    def _first(self, names: Sequence[str]) -> TimeSpan | None:
        """Of the first of these columns that has a time, readable or not."""
        for name in names:
            if (text := self._cells.get(name, "")).strip():
                try:
                    return self._columns[name].read(text)
                except ValueError:
                    if name not in self.spoiled:
                        self.spoiled.append(name)
                    return None
        return None


def _folded(shown: str) -> str:
    """Case, spaces and marks do not count, letters of any alphabet do; `denyListEmail` is `blackListEmail`."""
    name = unicodedata.normalize("NFC", shown.strip().strip('"\ufeff'))
    folded = "".join(each for each in canonical_flag(name).casefold() if each.isalnum() or not (each.isprintable() or each.isspace()))
    return "blacklist" + folded.removeprefix("denylist") if folded.startswith("denylist") else folded
