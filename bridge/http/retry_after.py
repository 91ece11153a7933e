"""How long a server asks to wait, and how far its clock is from ours. Pure."""

from __future__ import annotations

from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

import httpx

SHORTEST_WAIT_S, LONGEST_WAIT_S = 1.0, 3600.0  # a Retry-After outside of these is a fault of the gateway, and counts as missing


def retry_after_s(response: httpx.Response, now: datetime) -> float | None:
    """Seconds asked for by Retry-After, given in seconds or as an HTTP date; None if absent or not to be believed.

    A date is measured against the answer's own Date header where there is one: our clock may be off.
    """
    return asked_wait_s(response.headers.get("retry-after", ""), _http_date(response.headers.get("date", "")) or now)


def asked_wait_s(value: str, sent: datetime) -> float | None:
    """What a Retry-After of an answer of `sent` asks for. None, so that the caller's own back-off counts, for what is neither seconds nor a
    date, and for a wait of nothing, into the past or of many hours: with no wait at all the same refusal would come at once, for ever."""
    try:
        seconds = float(value)
    except ValueError:
        until = _http_date(value)
        if until is None:
            return None
        seconds = (until - sent).total_seconds()
    return seconds if SHORTEST_WAIT_S <= seconds <= LONGEST_WAIT_S else None  # NaN compares false, too


def ahead_s(response: httpx.Response, now: datetime, asked: datetime | None = None) -> float | None:
    """By how many seconds our clock is ahead of the server's; None if the answer has no date. `asked`: when the call began. An answer dated
    between then and now shows no difference, however long it took."""
    sent = _http_date(response.headers.get("date", ""))
    if sent is None:
        return None
    return max(0.0, ((asked or now) - sent).total_seconds()) + min(0.0, (now - sent).total_seconds())


def _http_date(text: str) -> datetime | None:
    try:
        parsed = parsedate_to_datetime(text)
    except (TypeError, ValueError, OverflowError):
        return None
    return parsed if parsed.tzinfo else parsed.replace(tzinfo=UTC)
