"""What an answer of the Web API means for us (dataverse.md §1.4, §8, §9). Codes decide, then the status; texts never do."""

from __future__ import annotations

import httpx

from bridge.errors import BridgeError, HaltError, RetryError
from bridge.http import where

EXPIRED_TOKEN = "0x80044352"
NOT_TRACKED = {"0x80072491", "0x80072492"}
NO_SUCH_ROW = {"0x80040217", "0x80060891"}
NO_SUCH_TABLE = "0x8006088a"
BAD_QUERY = "0x80060888"
FULL_STORAGE = "0x80072325"
BUSY = {
    "0x80044150", "0x80044151", "0x80072323", "0x80072324", "0x80073000", "0x8004a001",
    "0x80072321", "0x80072322", "0x80072326",
}  # fmt: skip
FORBIDDEN = {
    "0x80072560": "Add the application as an application user of this environment.",
    "0x80095ffc": "The environment restricts API access: allow this application id.",
    "0x80040220": "Give the application user a role with organisation-level (Global) read on the mapped tables.",
}


class TrackingExpired(BridgeError):
    """The delta token is of no use any more: the table has to be read again from the beginning."""


class QueryRefused(BridgeError):
    """The server does not take this query or this link."""


def error_code(response: httpx.Response) -> str:
    """`0x80040217`, lower case; empty if the body is not the usual error object (gateways answer HTML)."""
    try:
        return str(response.json()["error"]["code"]).lower()
    except (ValueError, KeyError, TypeError):
        return ""


def error_for(response: httpx.Response, retry_after_s: float | None) -> BridgeError:
    status, code = response.status_code, error_code(response)
    text = f"Dynamics: {where(response)} {code}".rstrip()
    if code == EXPIRED_TOKEN or status == 410:
        return TrackingExpired(text, code="tracking_expired", status=status)
    if code in NOT_TRACKED:
        hint = "Switch on 'Track changes' for the table in Dynamics, then start again."
        return HaltError(text, code="change_tracking_off", hint=hint, origin="source", status=status)
    if code == FULL_STORAGE:
        hint = "Free or buy storage for this environment, then start again."
        return HaltError(text, code="source_full", hint=hint, origin="source", status=status)
    if status in (408, 429) or status >= 500 or code in BUSY:
        return RetryError(text, code="source_busy", status=status, retry_after_s=retry_after_s)
    if status == 401:
        hint = "Check DYNAMICS_CLIENT_ID, DYNAMICS_CLIENT_SECRET and DYNAMICS_URL: a fresh token was refused as well."
        return HaltError(text, code="source_refused", hint=hint, origin="source", status=status)
    if status == 403:
        hint = FORBIDDEN.get(code, "Give the application user the rights named in docs/getting-started.md.")
        return HaltError(text, code="source_forbidden", hint=hint, origin="source", status=status)
    if code == NO_SUCH_TABLE:
        hint = "The table does not exist in this environment: correct the mapping, then start again."
        return HaltError(text, code="source_table_missing", hint=hint, origin="source", status=status)
    return QueryRefused(text, code="query_refused", status=status)


def refused(error: QueryRefused) -> HaltError:
    """For a query that must work: nothing goes on without it."""
    return HaltError(
        str(error),
        code="source_query_refused",
        hint="Check the table and its mapped columns in Dynamics; if they are right, report this as a fault.",
        origin="source",
        status=error.status,
    )
