"""Authenticated calls to one Campaign instance: records by business key, metadata, resource lists."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any
from urllib.parse import quote

import httpx

from bridge.campaign.errors import NotFound, error_for
from bridge.campaign.settings import CampaignSettings
from bridge.http.answers import BAD_ANSWER_TRIES, bad_answer, parse_object
from bridge.http.credentials import ClientSecret
from bridge.http.gate import Gate, Pause
from bridge.http.session import Session
from bridge.http.transport import build_client, result_of
from bridge.model.clock import Clock
from bridge.model.errors import RejectError, RetryError
from bridge.observe.metrics import Result

DONE = {"GET": (200,), "POST": (200, 201), "PATCH": (200, 204), "DELETE": (200, 204)}
EMPTY = {("POST", 201), ("PATCH", 204), ("DELETE", 200), ("DELETE", 204)}  # what needs no body


def credential(settings: CampaignSettings) -> ClientSecret:
    """The Adobe credential (campaign.md §1.1)."""
    return ClientSecret(settings.client_id, settings.client_secret, settings.scopes)


def counts_as(response: httpx.Response) -> Result:
    """Campaign says 500 for most refusals; its text tells them from faults."""
    result = result_of(response)
    return "refused" if result == "failed" and not isinstance(error_for(response, None), RetryError) else result


class CampaignClient:
    """One per process: gate and token are shared by all workers. Every method raises RetryError, HaltError or RejectError."""

    def __init__(
        self, settings: CampaignSettings, clock: Clock, client: httpx.AsyncClient | None = None, *, pause: Pause | None = None
    ) -> None:
        self._gate = Gate(settings.concurrency, clock, settings.calls_per_second, pause)
        self._session = Session(
            client or build_client(settings.request_timeout_s, settings.concurrency),
            f"{settings.url}/campaign/",
            settings.token_url,
            credential(settings),
            self._gate,
            clock,
            origin="target",
            headers={"X-Api-Key": settings.client_id, "Cache-Control": "no-cache", "Content-Type": "application/json"},
            counts_as=counts_as,
        )
        self.close = self._session.close
        self.authenticate = self._session.authenticate

    @property
    def calls(self) -> int:
        """Calls made so far."""
        return self._gate.calls

    @property
    def ahead_s(self) -> float | None:
        """By how much our clock was ahead at the last answer."""
        return self._session.ahead_s

    async def create(self, path: str, body: dict[str, Any]) -> int:
        """POST of a new record; the status. Raises Duplicate if the key is taken."""
        return (await self._call("POST", path, body)).status_code

    async def update(self, path: str, key: str, body: dict[str, Any]) -> int:
        """PATCH by business key; the status. Raises NotFound."""
        return (await self._call("PATCH", f"{path}/{quote(key, safe='')}", body)).status_code

    async def delete(self, path: str, key: str) -> int:
        """DELETE by business key; the status. Raises NotFound. Nobody could confirm Campaign's words for a key that is not there
        (campaign.md §4.5), and a proxy says 404 as well: for words we do not know a look tells."""
        try:
            return (await self._call("DELETE", f"{path}/{quote(key, safe='')}")).status_code
        except (RejectError, RetryError) as exc:
            if exc.status != 404:
                raise
            unclear = str(exc)
        await self.read(path, key)
        raise RetryError(f"{unclear}, and the record is there", code="bad_answer", status=404, attempts=BAD_ANSWER_TRIES)

    async def read(self, path: str, key: str) -> dict[str, Any]:
        """GET by business key. Raises NotFound."""
        response = await self._call("GET", f"{path}/{quote(key, safe='')}")
        answer = parse_object(response)
        content = answer.get("content", answer)  # one page of the documentation wraps it
        if content == []:
            raise NotFound("Campaign: the key was not found", code="not_found", status=404)
        record = content[0] if isinstance(content, list) else content
        if not isinstance(record, dict) or not record.get("PKey"):  # which every record has: half of one would be taken for its flags
            raise bad_answer(response, "the answer is no record", "Campaign")
        return record

    async def first(self, path: str) -> dict[str, Any] | None:
        """A record of this resource, any that Campaign shows; None if it shows none."""
        found = records(await self.get(f"{path}?_lineCount=1"), path)
        return found[0] if found else None

    async def get(self, path: str) -> dict[str, Any]:
        """Any other JSON object, by path below /campaign/ or by an absolute link that Campaign gave."""
        return parse_object(await self._call("GET", path))

    async def _call(self, method: str, path: str, body: dict[str, Any] | None = None) -> httpx.Response:
        url = self._session.url(path)
        response = await self._session.call(lambda: self._request(method, url, body))
        if not response.is_success:
            raise error_for(response, self._session.retry_after_s(response))
        _done(response)
        return response

    def _request(self, method: str, url: str, body: dict[str, Any] | None) -> httpx.Request:
        try:
            return self._session.request(method, url, json=body)
        except (ValueError, TypeError) as exc:  # half a character, a number that is none: of an event that others have written
            field = next((name for name, value in (body or {}).items() if not _sendable(value)), "?")
            raise RejectError(f"field {field}: the value cannot be sent as JSON", code="not_sendable", stage="write") from exc


def _sendable(value: Any) -> bool:
    try:
        json.dumps(value, ensure_ascii=False, allow_nan=False).encode()
    except (ValueError, TypeError):
        return False
    return True


def records(answer: Mapping[str, Any], place: str) -> list[dict[str, Any]]:
    """Those of one page of the collection at `place` (campaign.md §3.1). Raises RetryError for an answer that is no such page."""
    found = answer.get("content")
    if not isinstance(found, list) or not all(isinstance(each, dict) for each in found):
        raise RetryError(f"Campaign: {place}: the answer is no page of records", code="bad_answer", attempts=BAD_ANSWER_TRIES)
    return found


def _done(response: httpx.Response) -> None:
    """Raises RetryError for a good status that is not Campaign's answer to what was asked (campaign.md §4.1): a gateway's page, no body at
    all. A record would count as written that is not."""
    method, status, body = response.request.method, response.status_code, response.content.strip()
    if status not in DONE[method]:
        raise bad_answer(response, "not a status of Campaign's", "Campaign")
    if method != "GET" and (body or (method, status) not in EMPTY):  # who asks for one reads it
        parse_object(response)
