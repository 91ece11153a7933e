"""What a profile of Campaign says of its opt-out flags, as its API shows it (campaign.md §6.2). Pure."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from datetime import datetime, timedelta
from typing import Any

from bridge.consent.words import LOOKED
from bridge.mapping.values import milliseconds, moment
from bridge.model.events import OptStatusObserved
from bridge.model.flags import ANY_FLAG_AT, RECORD_AT, TIMES

PROFILES = "profileAndServicesExt/profile"  # where Campaign has them, with the fields that customers have added
MEASURED_S = 2.0  # a smaller difference of clocks cannot be told from the time that an answer takes


def flag_time(name: str, profile: Mapping[str, Any]) -> datetime | None:
    """When a flag was changed; of one without a time of its own, when any flag was. One that cannot be read counts as missing."""
    return _first(profile, (TIMES[name],) if name in TIMES else (ANY_FLAG_AT, RECORD_AT))


def record_time(profile: Mapping[str, Any]) -> datetime | None:
    """When the profile was changed in any way."""
    return _first(profile, (RECORD_AT, ANY_FLAG_AT))


def observed(
    contact: str, profile: Mapping[str, Any], names: Collection[str], now: datetime, ahead_ms: int | None = None
) -> OptStatusObserved:
    """A profile as it is now, with the times of these flags."""
    flags = {
        name: {"value": profile[name] is True, "changed_at": flag_time(name, profile)}
        for name in sorted(names)
        if profile.get(name) is not None
    }
    return OptStatusObserved(contact, "campaign", flags, record_time(profile), now, ahead_ms=ahead_ms, origin=LOOKED)


def created(contact: str, names: Collection[str], opted_out: Collection[str], now: datetime, ahead: int | None) -> OptStatusObserved:
    """A profile that has just been made: its flags are off, whatever was said before, but for those that were sent with it. Rows of an
    older one, in files that are read later, are known by its time, where Campaign's clock is known."""
    flags = {name: {"value": name in opted_out, "changed_at": None} for name in sorted(names)}
    made_at = None if ahead is None else now + timedelta(milliseconds=ahead) - timedelta(seconds=2 * MEASURED_S)
    return OptStatusObserved(contact, "campaign", flags, made_at, now, ours=True, ahead_ms=ahead, origin="profile created")


def gone(contact: str, now: datetime) -> OptStatusObserved:
    """There is no profile any more."""
    return OptStatusObserved(contact, "campaign", {}, None, now, gone=True, ours=True, origin="profile deleted")


def ahead_ms(our_ahead_s: float | None) -> int | None:
    """By how much a system's clock is ahead of ours, from how much ours was ahead of it; 0 within what can be measured, None if it was not
    measured."""
    if our_ahead_s is None:
        return None
    return 0 if abs(our_ahead_s) <= MEASURED_S else round(-our_ahead_s * 1000)


def _first(profile: Mapping[str, Any], names: tuple[str, ...]) -> datetime | None:
    times = (milliseconds(moment(profile.get(name))) for name in names)
    return next((each for each in times if each is not None), None)
