"""What an answer of Campaign or of the gateway before it means for us (campaign.md §1.5, §3.8, §4.6).

Campaign tells most mistakes as HTTP 500 with text, so the text decides; it is read here and goes no further, it can hold values.
"""

from __future__ import annotations

import re
from collections.abc import Callable

import httpx

from bridge.http.answers import BAD_ANSWER_TRIES, bad_answer, is_page, refusal, where
from bridge.model.errors import BridgeError, HaltError, RejectError, RetryError

REPUBLISH = "Publish the data model with the Profiles & Services Ext API in Campaign, then start again."
UNEXPLAINED_TRIES = 8

QUOTED = re.compile(
    r"(?<!\w)'.*?'(?!\w)|(?<=\)=)\(.*?\)|(?<=contains )\(.*\)", re.DOTALL
)  # an apostrophe inside a word begins and ends none
DUPLICATE = re.compile(r"with the same key '' already exists|PGS-220000 .*duplicate key value violates unique constraint", re.DOTALL)
ENGINE = re.compile(r"\b[A-Z]{3}-\d{6}\b")  # RST-360011, XTK-170036: Campaign itself speaks
BUSY = (408, 429, 502, 503, 504)

PERMANENT = {  # part of the text → code; the first that is found counts
    "property is not valid": "unknown_field",
    "is not valid for the": "value_refused",
    "read-only": "read_only_field",
    "value too long": "value_too_long",
    "RST-360012": "key_change_refused",
    "XTK-170036": "value_refused",
    "property is mandatory": "field_missing",
    "is not a valid constant": "value_refused",
}
GATEWAY_HALTS = {
    "403000": "Check CAMPAIGN_CLIENT_ID: the gateway got no API key.",
    "403003": "Check CAMPAIGN_CLIENT_ID: the gateway does not know this API key.",
    "403011": "Give the credential the scopes named in docs/getting-started.md (CAMPAIGN_SCOPES).",
    "403012": "Adobe's gateway blocks this machine's public address: ask Adobe.",
    "403013": "Adobe's gateway does not know this machine's public address: have it put on the allow-list.",
    "403023": "Give the technical account the product profile of this instance, and check CAMPAIGN_URL.",
}


Meaning = Callable[[httpx.Response, float | None], BridgeError]


class Duplicate(BridgeError):
    """A record with this key is there already."""


class NotFound(BridgeError):
    """No record with this key can be seen: never created, deleted, or a child hidden without its parent."""


def error_for(response: httpx.Response, retry_after_s: float | None) -> BridgeError:
    """Only what the gateway or Campaign itself says of a record or of our settings is a refusal; all else comes from something before them
    and is waited out."""
    status, place = response.status_code, f"Campaign: {where(response)}"
    if (envelope := _envelope(response)) is not None:
        return _gateway_error(place, status, envelope, retry_after_s)
    if status in BUSY:
        return RetryError(place, code="target_busy", status=status, retry_after_s=retry_after_s)
    if status < 400 or is_page(response):
        return bad_answer(response, "the answer is not Campaign's", "Campaign")
    text = _text(response)
    words = QUOTED.sub("''", text)  # what a text quotes is somebody's value, whatever it says
    if DUPLICATE.search(words):
        return Duplicate(f"{place} duplicate key", code="duplicate_key", status=status)
    if "rc=-2003" in words or "BAS-010040" in words:
        return HaltError(f"{place} data model", code="target_not_published", hint=REPUBLISH, origin="target", status=status)
    if status == 404 and ("Unable to find document" in words or "RST-360011" in words):  # not the 404 of some proxy
        return NotFound(f"{place} not found", code="not_found", status=status)
    for part, code in PERMANENT.items():
        if part in words:
            return RejectError(f"{place} {code}", code=code, status=status)
    if status >= 500:  # Campaign's "contact your administrator", alone: may pass, may be this record
        return RetryError(place, code="target_error", status=status, attempts=UNEXPLAINED_TRIES)
    if ENGINE.search(words) or (status == 400 and text.strip()):
        return RejectError(place, code="refused", status=status)
    return bad_answer(response, "the answer is not Campaign's", "Campaign")


def _gateway_error(place: str, status: int, envelope: str, retry_after_s: float | None) -> BridgeError:
    text = f"{place} {envelope}"
    if envelope in GATEWAY_HALTS:
        return _refused(text, status, GATEWAY_HALTS[envelope])
    if envelope in ("500", "502"):  # routing: {"code": 500 | 502}
        hint = "Check CAMPAIGN_URL: organization or instance are not known to the gateway."
        return HaltError(text, code="target_not_routed", hint=hint, origin="target", status=status)
    if status == 429 or status >= 500 or envelope.startswith(("429", "503")):
        return RetryError(text, code="target_busy", status=status, retry_after_s=retry_after_s)
    if status in (401, 403):
        return _refused(text, status, "Check the Adobe credential, its scopes and its product profile.")
    if status == 400:
        return RejectError(text, code="refused", status=status)
    return RetryError(text, code="bad_answer", status=status, attempts=BAD_ANSWER_TRIES)  # the gateway knows nothing of records


def _refused(text: str, status: int, hint: str) -> HaltError:
    return HaltError(text, code="target_refused", hint=hint, origin="target", status=status)


def _envelope(response: httpx.Response) -> str | None:
    """The code of the gateway's `{"error_code", "message"}` or of the router's `{"code", "message"}`."""
    body = refusal(response)
    code = (body.get("error_code") or body.get("code")) if isinstance(body, dict) else None
    return str(code) if isinstance(code, str | int) else None


def _text(response: httpx.Response) -> str:
    """The error text, whether bare or a JSON string (campaign.md U5)."""
    parsed = refusal(response)
    return parsed if isinstance(parsed, str) else response.content.decode("utf-8", "replace")
