"""What people are told of Campaign's exports while all goes on: what a cursor of the export feed remembers of them, in words. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from bridge.model.errors import HaltError

HOUR_S = 3600


def overdue(cursor: Mapping[str, Any], now: datetime, expected_s: float) -> HaltError | None:
    """No file has come for longer than expected."""
    waited_s = (now - datetime.fromisoformat(cursor["last_file_at"] or cursor["started_at"])).total_seconds()
    if waited_s <= expected_s:
        return None
    return HaltError(
        f"no export of opt-out flags has come from Campaign for {waited_s / HOUR_S:.0f} h",
        code="export_overdue",
        hint="See in Campaign whether the export workflow runs, and start it again; opt-outs given there do not arrive until it does.",
        origin="source",
    )


def remembered(cursor: Mapping[str, Any]) -> HaltError | None:
    """The worst that is known of the last files."""
    for each, told in (("failed", _unreadable), ("vanished", _vanished), ("untimed", _without_times)):
        if found := cursor.get(each):
            return told({"name": found} if isinstance(found, str) else found)  # a text: of a cursor as it was once
    return None


def _unreadable(failed: Mapping[str, Any]) -> HaltError:
    more = f" (and {failed['before']} before it)" if failed.get("before") else ""
    lies = "it lies where it was, since this account may not move it" if failed.get("kept") else "it lies in failed/"
    why = failed.get("why") or "see the log"
    return HaltError(
        f"the export {failed['name']}{more} could not be read as it should: {why}; {lies}, its good rows are taken, and the opt-outs in it"
        " have not all arrived",
        code="export_unreadable",
        hint="See export_row_skipped and export_failed in the reader's log, correct the file and put it back under another name, or ask for"
        " a full export. If Campaign writes such rows every time, correct its workflow (words for yes and no: CAMPAIGN_EXPORT_YES, _NO).",
        origin="source",
    )


def _vanished(vanished: Mapping[str, Any]) -> HaltError:
    rows = f"after {vanished['row']} rows of it had been read" if vanished.get("row") else "before it was read"
    how = "was replaced or written to" if vanished.get("replaced") else "has vanished"
    return HaltError(
        f"the export {vanished['name']} {how} {rows}: opt-outs in it may not have arrived",
        code="export_vanished",
        hint="See who else takes files out of this folder, or writes to them; then ask for a full export, or put the file back.",
        origin="source",
    )


def _without_times(untimed: Mapping[str, Any]) -> HaltError:
    parts, ways = [], []
    if untimed.get("flags"):
        parts.append(f"no time of {', '.join(untimed['flags'])}")
        ways.append("add the columns …LastModified to the export's workflow")
    if untimed.get("columns"):
        parts.append(f"times that cannot be read in {', '.join(untimed['columns'])}")
        ways.append("set CAMPAIGN_EXPORT_DATE_FORMAT to the order in which its workflow writes day, month and year")
    if untimed.get("unplaced"):
        parts.append(f"times without an offset for {', '.join(untimed['unplaced'])}")
        ways.append("set CAMPAIGN_EXPORT_TIME_ZONE")
    return HaltError(
        f"the export {untimed['name']} has {'; '.join(parts)}: opt-outs count, but nobody can be opted in again by it",
        code="export_without_times",
        hint=f"To do: {'; '.join(ways)}.",
        origin="source",
    )
