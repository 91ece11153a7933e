"""An export of changed opt-out flags: from a file to observations, with all that such files are known to vary in (campaign.md §10.3).

Pure but for reading the local copy of the file.
"""

from __future__ import annotations

import csv
import gzip
import re
import zlib
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import islice
from pathlib import Path
from typing import IO, Any

from bridge.config import OPT_OUT_FLAGS, canonical_flag
from bridge.events import OptStatusObserved
from services.optin.hearing import NO_OWN_TIME

GUID = re.compile(r"\{?([0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12})\}?", re.IGNORECASE)
DELIMITERS = ",;\t"
TRUE, FALSE = {"true", "1", "yes"}, {"false", "0", "no"}
LONGEST_ROW = 20  # lines: a quote that is open for longer is a stray one
GZIP = b"\x1f\x8b"
ALL, RECORD = "blackListAllLastModified", "lastModified"
LABELS = {  # of a profile's fields, where Campaign's own metadata do not tell
    "External Resource ID": "externalId",
    "No longer contact": "blackList",
    "No longer contact (by any channel)": "blackList",
    "No longer contact by email": "blackListEmail",
    "No longer contact by fax": "blackListFax",
    "No longer contact by SMS": "blackListMobile",
    "No longer contact by mobile": "blackListMobile",
    "No longer contact by phone": "blackListPhone",
    "No longer contact by direct mail": "blackListPostalMail",
    "No longer contact by push notification": "blackListPushnotification",
    "CCPA opt-out": "ccpaOptOut",
    "Last modified": "lastModified",
}


class BadExport(Exception):
    """The whole file cannot be read; the text says why, without its content."""


@dataclass(frozen=True, slots=True)
class BadRow:
    """`number`: of the row, the first one after the header is 1."""

    number: int
    why: str


class Export:
    """One file. `flags`: those that are mapped. `labels`: display name → name of a column. `exported_at` stands in for a row's own time.

    Raises BadExport, in `rows` as well: a file may break off in the middle of its compressed content.
    """

    def __init__(
        self, path: Path, flags: Sequence[str], key_column: str, encoding: str, exported_at: datetime, labels: Mapping[str, str] = LABELS
    ) -> None:
        self._path, self._flags, self._encoding, self._exported_at = path, flags, encoding, exported_at
        self._key_column = key_column
        names = {name: name for name in _columns(key_column)}
        self._names = {_folded(shown): name for shown, name in {**labels, **names}.items()}

    def rows(self, skip: int, observed_at: datetime) -> Iterator[OptStatusObserved | BadRow]:
        """In the order of the file, without the first `skip` ones. Empty lines are none."""
        try:
            with closing(self._text()) as text:
                delimiter, header = self._header(text)
                rows = filter(None, _cells(text, delimiter))
                for number, row in enumerate(islice(rows, skip, None), skip + 1):
                    yield self._row(number, dict(zip(header, row, strict=False)), observed_at)
        except (OSError, EOFError, zlib.error, csv.Error, UnicodeError, LookupError) as exc:
            raise BadExport(f"it cannot be read to its end ({type(exc).__name__})") from exc

    def understood(self) -> bool:
        """Whether its first line has every mapped flag and its time under a name that is known here."""
        times = [f"{name}LastModified" for name in self._flags if name != NO_OWN_TIME]
        try:
            with closing(self._text()) as text:
                _, header = self._header(text)
        except (BadExport, OSError, EOFError, zlib.error, csv.Error, UnicodeError, LookupError):
            return False
        return set(header) >= {*self._flags, *times}

    def _text(self) -> IO[str]:
        with self._path.open("rb") as raw:
            packed = raw.read(2) == GZIP
        opened = gzip.open if packed else open
        text: IO[str] = opened(self._path, "rt", encoding=self._encoding, newline="")
        return text

    def _header(self, text: IO[str]) -> tuple[str, list[str]]:
        """The delimiter, which is the one with which the key column is found, and names as we know them."""
        first = text.readline()
        for delimiter in DELIMITERS:
            shown = next(csv.reader([first], delimiter=delimiter), [])
            header = [self._names.get(_folded(each), each) for each in shown]
            if self._key_column in header:
                if not set(self._flags) & set(header):
                    raise BadExport("it has none of the mapped flags")
                return delimiter, header
        raise BadExport(f"its first line has no column {self._key_column}")

    def _row(self, number: int, row: Mapping[str, str], observed_at: datetime) -> OptStatusObserved | BadRow:
        key = GUID.fullmatch(row.get(self._key_column, "").strip())
        if key is None:
            return BadRow(number, "no key of a contact")
        try:
            flags = {name: self._flag(name, row) for name in self._flags if row.get(name, "").strip()}  # empty: it says nothing
            changed_at = record_changed_at(row) or self._exported_at
        except ValueError as exc:
            return BadRow(number, str(exc))
        return OptStatusObserved(key[1].lower(), "campaign", flags, changed_at, observed_at)

    def _flag(self, name: str, row: Mapping[str, str]) -> dict[str, Any]:
        text = row[name].strip().lower()
        if text not in TRUE | FALSE:
            raise ValueError(f"{name} is neither true nor false")
        return {"value": text in TRUE, "changed_at": flag_changed_at(name, row)}


def _cells(text: Iterator[str], delimiter: str) -> Iterator[list[str]]:
    """The lines that one row goes over are taken together; a stray quote spoils its own line only."""
    ahead = deque(islice(text, LONGEST_ROW))
    while ahead:
        reader = csv.reader(ahead, delimiter=delimiter, strict=True)
        try:
            row, lines = next(reader), reader.line_num
        except csv.Error:
            row, lines = _alone(ahead[0], delimiter), 1
        yield row
        for _ in range(lines):
            ahead.popleft()
        ahead.extend(islice(text, lines))


def _alone(line: str, delimiter: str) -> list[str]:
    try:
        return next(csv.reader([line], delimiter=delimiter), [])
    except csv.Error:
        return [""]  # too long: no row of an export


def flag_changed_at(name: str, profile: Mapping[str, Any]) -> datetime | None:
    """When a flag of a profile was changed; push has no time of its own (campaign.md §6.2). Raises ValueError."""
    return _first(profile, (ALL, RECORD) if name == NO_OWN_TIME else (f"{name}LastModified",))


def record_changed_at(profile: Mapping[str, Any]) -> datetime | None:
    """When the profile was changed in any way. Raises ValueError."""
    return _first(profile, (RECORD, ALL))


def _first(profile: Mapping[str, Any], names: Sequence[str]) -> datetime | None:
    times = (_moment(str(profile.get(name) or "")) for name in names)
    return next((each for each in times if each is not None), None)


def _columns(key_column: str) -> list[str]:
    """All columns that mean something, and the documentation's other names for them."""
    times = [f"{flag}LastModified" for flag in OPT_OUT_FLAGS]
    return [key_column, *OPT_OUT_FLAGS, *times, ALL, RECORD]


def _folded(shown: str) -> str:
    """Case, spaces and marks do not count; `denyListEmail` is `blackListEmail`."""
    name = shown.strip().strip('"\ufeff')
    folded = re.sub(r"[^a-z0-9]", "", canonical_flag(name).lower())
    return "blacklist" + folded.removeprefix("denylist") if folded.startswith("denylist") else folded


def _moment(text: str) -> datetime | None:
    """`2026-03-01 12:00:00.123Z`, the same with `T`, or `2026/03/01 12:00:00`; UTC where no offset is given; empty: none."""
    text = text.strip().strip('"')
    if not text:
        return None
    try:
        parsed = datetime.fromisoformat(text.replace("/", "-"))
        moment = (parsed if parsed.tzinfo else parsed.replace(tzinfo=UTC)).astimezone(UTC)
    except (ValueError, OverflowError):
        raise ValueError("a time cannot be read") from None
    return moment.replace(microsecond=moment.microsecond // 1000 * 1000)
