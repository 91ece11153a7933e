"""Authenticated calls to one Campaign instance: records by business key, metadata, resource lists."""

from __future__ import annotations

import json
from typing import Any
from urllib.parse import quote

import httpx

from bridge.auth import TokenCache
from bridge.campaign.errors import Meaning, NotFound, delete_error_for, error_for
from bridge.clock import Clock
from bridge.errors import Origin, RejectError, RetryError
from bridge.http import Gate, Pause, ahead_s, build_client, parse_json, result_of, retry_after_s, same_origin, send, where
from bridge.metrics import Result
from bridge.rooms import CampaignSettings


def token_cache(settings: CampaignSettings, client: httpx.AsyncClient, origin: Origin, clock: Clock) -> TokenCache:
    """Tokens of the Adobe credential (campaign.md §1.1). `origin`: what Adobe is to the workflow."""
    form = {"grant_type": "client_credentials", "client_id": settings.client_id, "scope": settings.scopes}
    return TokenCache(client, settings.token_url, form, settings.client_secret, origin, clock)


def counts_as(response: httpx.Response) -> Result:
    """Campaign says 500 for most refusals; its text tells them from faults."""
    result = result_of(response)
    return "refused" if result == "failed" and not isinstance(error_for(response, None), RetryError) else result


class CampaignClient:
    """One per process: gate and token are shared by all workers. Every method raises RetryError, HaltError or RejectError."""

    def __init__(
        self, settings: CampaignSettings, clock: Clock, client: httpx.AsyncClient | None = None, *, pause: Pause | None = None
    ) -> None:
        self._settings, self._clock = settings, clock
        self._http = client or build_client(settings.request_timeout_s, settings.concurrency)
        self.ahead_s: float | None = None  # by how much our clock was ahead at the last answer
        self._gate = Gate(settings.concurrency, clock, settings.calls_per_second, pause)
        self._token = token_cache(settings, self._http, "target", clock)

    @property
    def calls(self) -> int:
        """Calls made so far."""
        return self._gate.calls

    async def close(self) -> None:
        await self._http.aclose()

    async def authenticate(self, again: bool = False) -> None:
        """Makes sure of a token, or of a new one. Raises RetryError or HaltError."""
        if again:
            self._token.forget()
        await self._token.get()

    async def create(self, path: str, body: dict[str, Any]) -> int:
        """POST of a new record; the status. Raises Duplicate if the key is taken."""
        return (await self._call("POST", path, body)).status_code

    async def update(self, path: str, key: str, body: dict[str, Any]) -> int:
        """PATCH by business key; the status. Raises NotFound."""
        return (await self._call("PATCH", f"{path}/{quote(key, safe='')}", body)).status_code

    async def delete(self, path: str, key: str) -> int:
        """DELETE by business key; the status. Raises NotFound."""
        return (await self._call("DELETE", f"{path}/{quote(key, safe='')}", error=delete_error_for)).status_code

    async def read(self, path: str, key: str) -> dict[str, Any]:
        """GET by business key. Raises NotFound."""
        answer = parse_json(await self._call("GET", f"{path}/{quote(key, safe='')}"))
        content: Any = answer.get("content", answer)  # one page of the documentation wraps it
        if content == []:
            raise NotFound("Campaign: the key was not found", code="not_found", status=404)
        record: dict[str, Any] = content[0] if isinstance(content, list) else content
        return record

    async def first(self, path: str) -> dict[str, Any] | None:
        """A record of this resource, any that Campaign shows; None if it shows none."""
        content: Any = (await self.get(f"{path}?_lineCount=1")).get("content")
        return content[0] if content else None

    async def get(self, path: str) -> dict[str, Any]:
        """Any other JSON object, by path below /campaign/ or by an absolute link that Campaign gave."""
        answer: dict[str, Any] = parse_json(await self._call("GET", path))
        return answer

    async def _call(self, method: str, path: str, body: dict[str, Any] | None = None, error: Meaning = error_for) -> httpx.Response:
        url = same_origin(path, f"{self._settings.url}/campaign/", "target")
        response = await self._send(method, url, body)
        if response.status_code == 401:  # expired, revoked, or transient (G9): once more with a fresh token
            self._token.drop(response.request.headers["authorization"].removeprefix("Bearer "))
            response = await self._send(method, url, body)
        if not response.is_success:
            raise error(response, retry_after_s(response, self._clock.now()))
        if response.content.lstrip().startswith(b"<"):  # a gateway's page with status 200 says nothing of what was asked
            raise RetryError(f"Campaign: {where(response)}: a page, no answer", code="bad_answer", status=response.status_code, attempts=20)
        return response

    async def _send(self, method: str, url: str, body: dict[str, Any] | None) -> httpx.Response:
        token = await self._token.get()  # before the gate, which asks last whether the call may still be made
        async with self._gate.call():
            headers = {
                "Authorization": f"Bearer {token}",
                "X-Api-Key": self._settings.client_id,
                "Cache-Control": "no-cache",
                "Content-Type": "application/json",
            }
            request = self._request(method, url, body, headers)
            response = await send(self._http, request, self._gate.meter, counts_as)
            self.ahead_s = ahead_s(response, self._clock.now())
            self._gate.heed(response, self._clock.now())
        return response

    def _request(self, method: str, url: str, body: dict[str, Any] | None, headers: dict[str, str]) -> httpx.Request:
        try:
            return self._http.build_request(method, url, json=body, headers=headers)
        except (ValueError, TypeError) as exc:  # half a character, a number that is none: of an event that others have written
            field = next((name for name, value in (body or {}).items() if not _sendable(value)), "?")
            raise RejectError(f"field {field}: the value cannot be sent as JSON", code="not_sendable", stage="write") from exc


def _sendable(value: Any) -> bool:
    try:
        json.dumps(value, ensure_ascii=False, allow_nan=False).encode()
    except (ValueError, TypeError):
        return False
    return True
