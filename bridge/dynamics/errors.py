"""What an answer of the Web API means for us (dataverse.md §1.4, §8, §9). Codes decide, then the status; texts never do."""

from __future__ import annotations

from typing import Any

import httpx

from bridge.http.answers import BAD_ANSWER_TRIES, is_unauthorized, refusal, where
from bridge.model.errors import BridgeError, HaltError, Origin, RetryError

EXPIRED_TOKEN = "0x80044352"
NOT_TRACKED = {"0x80072491", "0x80072492"}
NO_SUCH_ROW = {"0x80040217"}
LAGGING = {"0x80040216", "0x80060891"}  # metadata of before a publication (§8.3): we use no alternate keys, which the second is about
NOT_CONDITIONAL = "0x8006088d"  # this table takes no etag
NO_SUCH_TABLE = "0x8006088a"
UNEXPLAINED_TRIES = 20
FULL_STORAGE = "0x80072325"
BUSY = {
    "0x80044150", "0x80044151", "0x80072323", "0x80072324", "0x80073000", "0x8004a001",
    "0x80072321", "0x80072322", "0x80072326",
}  # fmt: skip
FORBIDDEN = {
    "0x80072560": "Add the application as an application user of this environment.",
    "0x80095ffc": "The environment restricts API access: allow this application id.",
    "0x80040220": "Give the application user a role with organisation-level (Global) rights: read on mapped tables, create on activities.",
}


class TrackingExpired(BridgeError):
    """The delta token is of no use any more: the table has to be read again from the beginning."""


class QueryRefused(BridgeError):
    """The server does not take this query or this link."""


def error_code(response: httpx.Response) -> str:
    """`0x80040217`, lower case; `0x0` if Dynamics leaves it open (§9.1), empty if the body is not its error object: a gateway's page."""
    return code_of(refusal(response))


def code_of(body: Any) -> str:
    """As `error_code`, of a body that has been read."""
    error = body.get("error") if isinstance(body, dict) else None
    code = error.get("code") if isinstance(error, dict) else None
    return (code.lower() or "0x0") if isinstance(code, str) else ""


def error_for(response: httpx.Response, retry_after_s: float | None, origin: Origin) -> BridgeError:
    page = response.status_code == 401 and not is_unauthorized(response)
    return meaning(where(response), response.status_code, error_code(response), retry_after_s, origin, page=page)


def meaning(place: str, status: int, code: str, retry_after_s: float | None, origin: Origin, *, page: bool = False) -> BridgeError:
    """`place`: what was asked for; `code`: of the error object, lower case; `origin`: what Dynamics is to the workflow. Without a code it
    was not Dynamics that spoke, but something before it, which says nothing of query, rights or link: that is waited out. Only a 401 needs
    none (§1.4), unless it is a proxy's `page`."""
    text = f"Dynamics: {place} {code}".rstrip()

    def halt(what: str, hint: str) -> HaltError:
        return HaltError(text, code=what, hint=hint, origin=origin, status=status)

    if code == EXPIRED_TOKEN or (status == 410 and code):
        return TrackingExpired(text, code="tracking_expired", status=status)
    if code in NOT_TRACKED:
        return halt("change_tracking_off", "Switch on 'Track changes' for the table in Dynamics, then start again.")
    if code == FULL_STORAGE:
        return halt(f"{origin}_full", "Free or buy storage for this environment, then start again.")
    if status in (408, 429) or status >= 500 or code in BUSY:
        return RetryError(text, code=f"{origin}_busy", status=status, retry_after_s=retry_after_s)
    if status == 401 and not page:
        hint = "Check DYNAMICS_CLIENT_ID, DYNAMICS_CLIENT_SECRET and DYNAMICS_URL: a fresh token was refused as well."
        return halt(f"{origin}_refused", hint)
    if status < 400 or not code:
        return RetryError(f"{text}: the answer is not Dynamics'", code="bad_answer", status=status, attempts=BAD_ANSWER_TRIES)
    if status == 403:
        return halt(f"{origin}_forbidden", FORBIDDEN.get(code, "Give the application user the rights named in docs/getting-started.md."))
    if code == NO_SUCH_TABLE:
        return halt(f"{origin}_table_missing", "The table does not exist in this environment: correct the mapping, then start again.")
    if code in LAGGING:
        return RetryError(text, code=f"{origin}_busy", status=status, attempts=UNEXPLAINED_TRIES)
    return QueryRefused(text, code="query_refused", status=status)


def refused(error: QueryRefused, origin: Origin = "source") -> HaltError:
    """For a query that must work: nothing goes on without it."""
    return HaltError(
        str(error),
        code=f"{origin}_query_refused",
        hint="Check the table and its columns in Dynamics; if they are right, report this as a fault.",
        origin=origin,
        status=error.status,
    )
