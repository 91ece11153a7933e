"""Times in an export: every form that Campaign's activity "Extract file" can write (campaign.md §7.4), read without guessing. Pure.

A column is written in one order of day, month and year. It is told by the setting, else by the column itself: what all its values of one
shape (where the four digits of the year stand) can be read as. With no order left, or with several, these values cannot be read. Where
the year comes first it is `yyyymmdd`, as ISO has it; `yyyyddmm` takes the setting.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta, timezone
from functools import lru_cache
from zoneinfo import ZoneInfo

from bridge.campaign.settings import DateFormat

ORDERS: Mapping[DateFormat, str] = {
    "yyyymmdd": "ymd", "mmddyyyy": "mdy", "ddmmyyyy": "dmy", "mmyyyydd": "myd", "ddyyyymm": "dym", "yyyyddmm": "ydm", "xml": "ymd",
}  # fmt: skip
FIRST_YEAR, LAST_YEAR = 1970, 2099
COMPACT = re.compile(r"([0-9]{8})([0-9]{6}(?:[0-9]{3})?)")
STAMP = re.compile(
    r"""(?P<date> [0-9]{8} | [0-9]{6} | [0-9]{1,4}(?P<mark>[-/.])[0-9]{1,4}(?P=mark)[0-9]{1,4})
        (?: (?P<between>\s*[T_]\s*|\s+)
            (?P<clock> [0-9]{1,2}:[0-9]{2}(?::[0-9]{2}(?:[.,][0-9]{1,9})?)? | [0-9]{4} | [0-9]{6}(?:[.,]?[0-9]{3})? )
            \s* (?P<zone>Z|UTC|GMT|[+-][0-9]{2}(?::?[0-9]{2})?)?
        )?""",
    re.VERBOSE | re.IGNORECASE,
)
WEST, EAST = timedelta(hours=12), timedelta(hours=14)  # of Greenwich: so late and so early can it be somewhere
DAY, MINUTE, TICK = timedelta(days=1), timedelta(minutes=1), timedelta(milliseconds=1)


@dataclass(frozen=True, slots=True)
class TimeSpan:
    """When something happened: not before `first`, not after `last`. `sure`: by a clock whose offset is known."""

    first: datetime
    last: datetime
    sure: bool = True


class TimeColumn:
    """The times of one column. `hear` every value of it first, unless `form` is set; then `read` each. Takes a few bytes for each shape."""

    def __init__(self, form: DateFormat | None, zone: str | None, exported_at: datetime) -> None:
        self._order = ORDERS[form] if form else None
        self._zone = ZoneInfo(zone) if zone else None
        self._exported_at = exported_at
        self._left: dict[str, frozenset[str]] = {}

    def hear(self, text: str) -> None:
        """Values that are no time in any order say nothing of the others."""
        parts = _parts(text)
        if parts is None or _iso(parts):
            return
        shape, readings = _readings(parts["date"])
        if readings:
            self._left[shape] = self._left.get(shape, frozenset(readings)) & frozenset(readings)

    def undecided(self) -> bool:
        """Whether there are values whose day and month cannot be told apart, or that contradict each other."""
        return self._order is None and any(_only(left) is None for left in self._left.values())

    def read(self, text: str) -> TimeSpan | None:
        """None: there is no time. Raises ValueError."""
        if not text.strip():
            return None
        parts = _parts(text)
        day = None if parts is None else self._day(parts)
        if parts is None or day is None:
            raise ValueError("a time cannot be read")
        try:
            return self._span(day, parts)
        except (ValueError, OverflowError):
            raise ValueError("a time cannot be read") from None

    def _day(self, parts: Mapping[str, str]) -> date | None:
        shape, readings = _readings(parts["date"])
        if _iso(parts):
            return readings.get("ymd")
        order = self._order or _only(self._left.get(shape, frozenset()))
        return readings.get(order or "")

    def _span(self, day: date, parts: Mapping[str, str]) -> TimeSpan:
        """What is not given of a time is unknown: a day is all of it, a minute too."""
        if not parts["clock"]:
            return self._bounded(self._placed(datetime(day.year, day.month, day.day), DAY - TICK, ""))
        hour, minute, second, part = _clock(parts["clock"])
        local = datetime(day.year, day.month, day.day, hour, minute, second or 0, part)
        span = self._placed(local, MINUTE - TICK if second is None else timedelta(), parts["zone"])
        return span if span.sure and second is not None else self._bounded(span)

    def _placed(self, local: datetime, length: timedelta, zone: str) -> TimeSpan:
        """On the time line. A local time that came twice, or not at all, as the clocks were changed, may be either."""
        if zone:
            first = local.replace(tzinfo=_offset(zone)).astimezone(UTC)
            return TimeSpan(first, first + length)
        if self._zone is None:
            at = local.replace(tzinfo=UTC)
            return TimeSpan(at - EAST, at + length + WEST, sure=False)
        begins = [local.replace(tzinfo=self._zone, fold=fold).astimezone(UTC) for fold in (0, 1)]
        ends = [(local + length).replace(tzinfo=self._zone, fold=fold).astimezone(UTC) for fold in (0, 1)]
        return TimeSpan(min(begins), max(ends), sure=True)

    def _bounded(self, span: TimeSpan) -> TimeSpan:
        """Nothing in a file happened after it was written."""
        return TimeSpan(span.first, max(span.first, min(span.last, self._exported_at)), span.sure)


def _parts(text: str) -> Mapping[str, str] | None:
    """The parts of a time as texts, "" for what is not there."""
    text = text.strip().strip('"').strip()
    if packed := COMPACT.fullmatch(text):
        text = f"{packed[1]} {packed[2]}"
    found = STAMP.fullmatch(text)
    return None if found is None else {name: value or "" for name, value in found.groupdict().items()}


def _clock(text: str) -> tuple[int, int, int | None, int]:
    """Hour, minute, second, if there is one, and microseconds: `09:08:07.123`, `090807123`, `0908`."""
    plain = re.sub(r"[.,]", "", text)
    whole, _, part = re.sub(r"[.,]", ".", text).partition(".")
    if ":" in text:
        hour, minute, *seconds = whole.split(":")
    else:
        hour, minute, seconds, part = plain[:2], plain[2:4], [plain[4:6]] if plain[4:] else [], plain[6:]
    return int(hour), int(minute), int(seconds[0]) if seconds else None, int(part.ljust(3, "0")[:3]) * 1000


def _iso(parts: Mapping[str, str]) -> bool:
    """The XML format, `2026-02-28T09:08:07.123Z`, is never anything else, whatever the column or the setting says."""
    return parts["mark"] == "-" and parts["date"][4:5] == "-" and parts["between"] in ("T", "t")


@lru_cache(maxsize=8192)
def _readings(text: str) -> tuple[str, Mapping[str, date]]:
    """The shape of a date, and what it is in each order that it can be in. Dates repeat: most are known already."""
    marks = re.findall(r"[^0-9]", text)
    pieces = text.split(marks[0]) if marks else [text]
    shape = "-".join("y" if len(each) == 4 else "n" for each in pieces) if marks else str(len(text))
    found = {}
    for order in dict.fromkeys(ORDERS.values()):
        day = _dated(order, pieces if marks else _cut(text, order))
        if day is not None:
            found[order] = day
    return shape, found


def _cut(digits: str, order: str) -> list[str]:
    pieces, at = [], 0
    for each in order:
        width = len(digits) - 4 if each == "y" else 2
        pieces.append(digits[at : at + width])
        at += width
    return pieces


def _dated(order: str, pieces: list[str]) -> date | None:
    by = dict(zip(order, pieces, strict=True))
    if len(by["y"]) not in (2, 4) or len(by["m"]) > 2 or len(by["d"]) > 2:
        return None
    year = int(by["y"])
    if len(by["y"]) == 2:
        year += 2000 if year < FIRST_YEAR - 1900 else 1900
    if not FIRST_YEAR <= year <= LAST_YEAR:
        return None
    try:
        return date(year, int(by["m"]), int(by["d"]))
    except ValueError:
        return None


def _only(left: frozenset[str]) -> str | None:
    """The order that is left; where the year may come first, `yyyyddmm` is not thought of, but never taken either."""
    left = left - {"ydm"} if "ymd" in left else left
    return next(iter(left)) if len(left) == 1 and "ydm" not in left else None


def _offset(zone: str) -> timezone:
    """Raises ValueError."""
    if zone.upper() in ("Z", "UTC", "GMT"):
        return UTC
    digits = zone[1:].replace(":", "")
    hours, minutes = int(digits[:2]), int(digits[2:] or 0)
    if minutes > 59 or hours > 14:
        raise ValueError(zone)
    return timezone((-1 if zone[0] == "-" else 1) * timedelta(hours=hours, minutes=minutes))
