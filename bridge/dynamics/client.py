"""Authenticated calls to one Dynamics environment, within its limits."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from typing import Any

import httpx

from bridge.auth import TokenCache
from bridge.clock import Clock
from bridge.dynamics.batch import CONTINUE, Answer, Operation, Unreadable, decode, encode
from bridge.dynamics.errors import NO_SUCH_ROW, NOT_CONDITIONAL, error_code, error_for
from bridge.errors import Origin, RetryError
from bridge.http import LONGEST_WAIT_S, Gate, Pause, ahead_s, build_client, parse_json, retry_after_s, same_origin, send, where
from bridge.metrics import Limit
from bridge.rooms import DynamicsSettings

API = "/api/data/v9.2/"
HEADERS = {"Accept": "application/json", "OData-MaxVersion": "4.0", "OData-Version": "4.0"}
LINKS = {"@odata.nextLink", "@odata.deltaLink"}
FRESH = {"If-None-Match": "null"}  # no cached metadata
STRONG = {"Consistency": "Strong"}  # nor those that the server itself has kept; slower
METADATA_TRIES = 20
LAG_WAITS_S = (3.0, 5.0)  # metadata right after a publication may be those of before it (§6.3)
LONGEST_METADATA_WAIT_S = 10.0  # a longer wait is told as the reason why the service does not start
BUDGET: dict[Limit, str] = {
    "requests": "x-ms-ratelimit-burst-remaining-xrm-requests",
    "seconds": "x-ms-ratelimit-time-remaining-xrm-requests",
}
Build = Callable[[], httpx.Request]


class DynamicsClient:
    """One per process: its gate and its token are shared by all that call. `origin`: what Dynamics is to the workflow, for its errors.
    `patient`: metadata that are refused are asked for again some seconds later, before it is believed that they are not there."""

    def __init__(
        self,
        settings: DynamicsSettings,
        clock: Clock,
        client: httpx.AsyncClient | None = None,
        *,
        origin: Origin = "source",
        pause: Pause | None = None,
        patient: bool = False,
    ) -> None:
        self._settings, self._clock, self.origin = settings, clock, origin
        self._lag_waits_s = LAG_WAITS_S if patient else ()
        self._http = client or build_client(settings.request_timeout_s, settings.concurrency)
        self.ahead_s: float | None = None  # by how much our clock was ahead at the last answer
        self._gate = Gate(settings.concurrency, clock, pause=pause)
        form = {
            "grant_type": "client_credentials",
            "client_id": settings.client_id,
            "scope": f"{settings.url}/.default",
        }
        self._token = TokenCache(self._http, settings.token_url, form, settings.client_secret, origin, clock)

    @property
    def calls(self) -> int:
        return self._gate.calls

    @property
    def root(self) -> str:
        """Path of the Web API, with which operations of a batch begin."""
        return httpx.URL(self._settings.url + API).path

    async def close(self) -> None:
        await self._http.aclose()

    async def authenticate(self, again: bool = False) -> None:
        """Makes sure of a token, or of a new one. Raises RetryError or HaltError."""
        if again:
            self._token.forget()
        await self._token.get()

    async def get(self, path: str, prefer: str = "", strong: bool = False) -> Any:
        """The JSON of `path` (below /api/data/v9.2/) or of an absolute link that the server gave. `strong`: metadata as they are now, past
        caches that are up to half a minute old.

        Raises RetryError, HaltError, TrackingExpired or QueryRefused. Metadata are asked for again when the limits are reached: they are
        many small questions, and a start that begins again after each refusal would never end.
        """
        response = await self._ask(path, prefer, strong)
        tries = METADATA_TRIES if path.startswith("EntityDefinitions") else 1
        while response.status_code == 429 and (tries := tries - 1) and self._gate.wait_left_s <= LONGEST_METADATA_WAIT_S:
            response = await self._ask(path, prefer, strong)
        for wait_s in self._lag_waits_s if path.startswith("EntityDefinitions") else ():
            if response.status_code not in (400, 404):
                break
            await self._clock.sleep(wait_s)
            response = await self._ask(path, prefer, strong)
        if response.status_code != 200:
            raise self._error(response)
        return parse_json(response)

    async def collection(self, path: str, prefer: str) -> Mapping[str, Any]:
        """One page of a set: the answer, with its rows under `value`. `{}` or no body at all, which is how Microsoft documents a delta
        without changes (dataverse.md §4.2), has none. Raises as `get` does, and RetryError for an answer of any other shape."""
        response = await self._ask(path, prefer)
        if response.status_code not in (200, 204):
            raise self._error(response)
        answer = parse_json(response) if response.content.strip() else {}
        if answer == {}:
            return {"value": []}
        items = answer.get("value") if isinstance(answer, dict) else None
        if not isinstance(items, list) or not all(isinstance(item, dict) for item in items):
            raise RetryError(f"Dynamics: {where(response)}: not a page of rows", code="bad_answer", status=response.status_code)
        for name in LINKS & answer.keys():  # before it is kept as a position, which would be followed for ever
            same_origin(str(answer[name]), self._settings.url + API, self.origin)
        found: dict[str, Any] = answer
        return found

    async def row(self, path: str) -> dict[str, Any] | None:
        """One row, None if there is none. Raises as `get` does."""
        response = await self._ask(path, "")
        if response.status_code == 404 and error_code(response) in NO_SUCH_ROW:
            return None
        if response.status_code != 200:
            raise self._error(response)
        found: dict[str, Any] = parse_json(response)
        return found

    async def patch(self, path: str, body: dict[str, Any], etag: str) -> dict[str, Any] | None:
        """Changes one row if it still has this etag; gives it as it is then, without members where the server does not tell. None if it is
        gone: it is not created again.

        A table without optimistic concurrency takes no etag (§7.4): there it is changed whatever it is now. Raises as `get` does, and
        RetryError `changed_meanwhile`.
        """
        response = await self._patch(path, body, etag)
        if response.status_code == 400 and error_code(response) == NOT_CONDITIONAL:
            response = await self._patch(path, body, "*")
        if response.status_code == 404 and error_code(response) in NO_SUCH_ROW:
            return None
        if response.status_code == 412:
            raise RetryError(f"Dynamics: {where(response)}: somebody was faster", code="changed_meanwhile", status=412)
        if response.status_code not in (200, 204):
            raise self._error(response)
        shown: dict[str, Any] = parse_json(response) if response.status_code == 200 else {}
        return shown

    async def _patch(self, path: str, body: dict[str, Any], etag: str) -> httpx.Response:
        url = same_origin(path, self._settings.url + API, self.origin)
        headers = HEADERS | {"If-Match": etag, "Prefer": "return=representation"}
        return await self._authorized(lambda: self._http.build_request("PATCH", url, json=body, headers=headers))

    async def batch(self, operations: Callable[[], Sequence[Operation]]) -> list[Answer]:
        """Runs operations, each by itself (continue-on-error); the answers in their order. `operations` is asked last before the call.

        Raises as `get` does, and RetryError for an answer that cannot be told apart: then some may have been applied.
        """
        asked: Sequence[Operation] = ()

        def build() -> httpx.Request:
            nonlocal asked
            asked = operations()
            kind, body = encode(asked)
            headers = HEADERS | {"Content-Type": kind, "Prefer": CONTINUE}
            return self._http.build_request("POST", f"{self._settings.url}{API}$batch", content=body, headers=headers)

        response = await self._authorized(build)
        kind = response.headers.get("content-type", "")
        if not response.is_success:
            raise self._error(response)
        try:
            answers = decode(kind, response.content, len(asked))
        except Unreadable as exc:
            raise RetryError(f"Dynamics: {where(response)}: {exc}", code="bad_answer", status=response.status_code) from exc
        self._heed(response, answers)
        return answers

    def _heed(self, response: httpx.Response, answers: Sequence[Answer]) -> None:
        """What single operations were told that concerns all calls."""
        if any(answer.status == 401 for answer in answers):
            self._token.drop(response.request.headers["authorization"].removeprefix("Bearer "))
        if busy := [answer for answer in answers if answer.status == 429]:
            self._gate.close_for(min(max(float(each.retry_after) if each.retry_after.isdigit() else 1.0 for each in busy), LONGEST_WAIT_S))

    async def _ask(self, path: str, prefer: str, strong: bool = False) -> httpx.Response:
        url = same_origin(path, self._settings.url + API, self.origin)
        headers = HEADERS | FRESH | ({"Prefer": prefer} if prefer else {}) | (STRONG if strong else {})
        return await self._authorized(lambda: self._http.build_request("GET", url, headers=headers))

    async def _authorized(self, build: Build) -> httpx.Response:
        """Once more with a fresh token if the first one is refused: expired early, revoked or rotated (§1.4)."""
        response = await self._send(build)
        if response.status_code == 401:
            self._token.drop(response.request.headers["authorization"].removeprefix("Bearer "))
            response = await self._send(build)
        return response

    async def _send(self, build: Build) -> httpx.Response:
        token = await self._token.get()  # before the gate, which asks last whether the call may still be made
        async with self._gate.call():
            request = build()
            request.headers["Authorization"] = f"Bearer {token}"
            asked = self._clock.now()
            response = await send(self._http, request, self._gate.meter)
            self._note_budget(response)
            self.ahead_s = ahead_s(response, self._clock.now(), asked)
            self._gate.heed(response, self._clock.now())
        return response

    def _note_budget(self, response: httpx.Response) -> None:
        """What is left on the server that answered (§8.1); it is told for people, nothing is steered by it."""
        for limit, header in BUDGET.items():
            amount = response.headers.get(header, "").replace(",", "")
            with suppress(ValueError):
                self._gate.meter.left(limit, float(amount))

    def _error(self, response: httpx.Response) -> Exception:
        return error_for(response, retry_after_s(response, self._clock.now()), self.origin)
