"""Authenticated calls to one Dynamics environment, within its limits."""

from __future__ import annotations

from typing import Any

import httpx

from bridge.auth import TokenCache
from bridge.clock import Clock
from bridge.dynamics.errors import NO_SUCH_ROW, error_code, error_for
from bridge.http import Gate, ahead_s, build_client, parse_json, retry_after_s, same_origin, send
from bridge.rooms import DynamicsSettings

API = "/api/data/v9.2/"
HEADERS = {"Accept": "application/json", "OData-MaxVersion": "4.0", "OData-Version": "4.0", "If-None-Match": "null"}


class DynamicsClient:
    """One per process: its gate and its token are shared by all tables."""

    def __init__(self, settings: DynamicsSettings, clock: Clock, client: httpx.AsyncClient | None = None) -> None:
        self._settings, self._clock = settings, clock
        self._http = client or build_client(settings.request_timeout_s, settings.concurrency)
        self.ahead_s: float | None = None  # by how much our clock was ahead at the last answer
        self._gate = Gate(settings.concurrency, clock)
        form = {
            "grant_type": "client_credentials",
            "client_id": settings.client_id,
            "scope": f"{settings.url}/.default",
        }
        self._token = TokenCache(self._http, settings.token_url, form, settings.client_secret, "source", clock)

    @property
    def calls(self) -> int:
        return self._gate.calls

    async def close(self) -> None:
        await self._http.aclose()

    async def authenticate(self, anew: bool = False) -> None:
        """Makes sure of a token, or of a new one. Raises RetryError or HaltError."""
        if anew:
            self._token.forget()
        await self._token.get()

    async def get(self, path: str, prefer: str = "") -> Any:
        """The JSON of `path` (below /api/data/v9.2/) or of an absolute link that the server gave.

        Raises RetryError, HaltError, TrackingExpired or QueryRefused.
        """
        response = await self._ask(path, prefer)
        if response.status_code != 200:
            raise self._error(response)
        return parse_json(response)

    async def row(self, path: str) -> dict[str, Any] | None:
        """One row, None if there is none. Raises as `get` does."""
        response = await self._ask(path, "")
        if response.status_code == 404 and error_code(response) in NO_SUCH_ROW:
            return None
        if response.status_code != 200:
            raise self._error(response)
        found: dict[str, Any] = parse_json(response)
        return found

    async def _ask(self, path: str, prefer: str) -> httpx.Response:
        url = same_origin(path, self._settings.url + API, "source")
        headers = HEADERS | ({"Prefer": prefer} if prefer else {})
        response = await self._send(url, headers)
        if response.status_code == 401:  # expired early, revoked or rotated: once more with a fresh token (§1.4)
            self._token.drop(response.request.headers["authorization"].removeprefix("Bearer "))
            response = await self._send(url, headers)
        return response

    async def _send(self, url: str, headers: dict[str, str]) -> httpx.Response:
        authorization = {"Authorization": f"Bearer {await self._token.get()}"}
        async with self._gate.call():
            response = await send(self._http, self._http.build_request("GET", url, headers=headers | authorization))
            self.ahead_s = ahead_s(response, self._clock.now())
            if response.status_code in (429, 503) and (wait := retry_after_s(response, self._clock.now())):
                self._gate.close_for(wait)
        return response

    def _error(self, response: httpx.Response) -> Exception:
        return error_for(response, retry_after_s(response, self._clock.now()))
