"""What a value of Dynamics, Campaign or a file says: as text, yes or no, a number, a moment, a GUID. Pure."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from decimal import Decimal
from math import isfinite
from typing import Any

TRUE, FALSE = ("true", "1", "yes"), ("false", "0", "no")
NUMBER = re.compile(r"^-?(0|[1-9][0-9]*)([.][0-9]+)?$", re.ASCII)
BARE_GUID = r"[0-9A-Fa-f]{8}(-[0-9A-Fa-f]{4}){3}-[0-9A-Fa-f]{12}"
GUID = re.compile(rf"[{{(]?({BARE_GUID})[)}}]?", re.ASCII)


def text(value: Any) -> str:
    """A value as people write it in a filter, a replacement or a text: true, 1, 12.5, 0.00001, Oslo; nothing for empty."""
    if value is None:
        return ""
    if isinstance(value, float) and isfinite(value):
        written = format(Decimal(str(value or 0)), "f")
        return written.removesuffix(".0")
    return str(value).lower() if isinstance(value, bool) else str(value)


def truth(value: Any) -> bool | None:
    """Yes or no; None for any other word."""
    lowered = text(value).lower()
    return True if lowered in TRUE else False if lowered in FALSE else None


def guid(value: Any) -> str | None:
    """As Dynamics writes one: small letters, no braces; None for what is none."""
    found = GUID.fullmatch(value.strip()) if isinstance(value, str) else None
    return found[1].lower() if found else None


def number(value: Any) -> Decimal | None:
    """A value as a number, None for what is none. Text counts as one only as Dynamics writes it: a postal code 01234 or a phone number
    +4712 is text."""
    if isinstance(value, str):
        return Decimal(value) if NUMBER.match(value) else None
    if value is None or isinstance(value, bool):
        return None
    found = Decimal(str(value))
    return found if found.is_finite() else None


def moment(value: Any) -> datetime | None:
    """A day or a time in ISO 8601, in UTC unless it says otherwise; None for what is none."""
    if not isinstance(value, str):
        return None
    try:
        parsed = datetime.fromisoformat(value.strip())
    except ValueError:
        return None
    return parsed if parsed.tzinfo else parsed.replace(tzinfo=UTC)


def milliseconds(at: datetime | None) -> datetime | None:
    """In UTC, without what events cannot carry; None for None, and for a moment before or after all years."""
    try:
        utc = None if at is None else at.astimezone(UTC)
    except OverflowError:
        return None
    return None if utc is None else utc.replace(microsecond=utc.microsecond // 1000 * 1000)
