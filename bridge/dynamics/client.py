"""Authenticated calls to one Dynamics environment, within its limits."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from typing import Any, TypeGuard

import httpx

from bridge.dynamics.batch import CONTINUE, BatchAnswer, Operation, Unreadable, decode, encode
from bridge.dynamics.errors import NO_SUCH_ROW, NOT_CONDITIONAL, QueryRefused, error_code, error_for
from bridge.dynamics.settings import DynamicsSettings
from bridge.http.answers import BAD_ANSWER_TRIES, bad_answer, is_unauthorized, parse_object, where
from bridge.http.sessions import Gate, Pause, ahead_s, asked_wait_s, build_client, retry_after_s, same_origin, send
from bridge.http.tokens import TokenCache
from bridge.model.clock import Clock
from bridge.model.errors import Origin, RetryError
from bridge.observe.metrics import Limit

API = "/api/data/v9.2/"
HEADERS = {"Accept": "application/json", "OData-MaxVersion": "4.0", "OData-Version": "4.0"}
LINKS = {"@odata.nextLink", "@odata.deltaLink"}
FRESH = {"If-None-Match": "null"}  # no cached metadata
STRONG = {"Consistency": "Strong"}  # nor those that the server itself has kept; slower
DELTA = re.compile(r"[?&]\$?deltatoken=|%24deltatoken=", re.IGNORECASE)  # in the query of a link that leads to what has changed
UNTOLD_WAIT_S = 1.0  # after operations of a batch that were refused without a word on how long
QUESTION_TRIES = 20
LAG_WAITS_S = (3.0, 5.0)  # metadata right after a publication may be those of before it (§6.3)
LONGEST_QUESTION_WAIT_S = 10.0  # a longer wait is told as the reason why the service does not start
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

    async def get(self, path: str, prefer: str = "", strong: bool = False) -> dict[str, Any]:
        """The JSON object of `path` (below /api/data/v9.2/) or of an absolute link that the server gave. `strong`: metadata as they are
        now, past caches that are up to half a minute old.

        Raises RetryError, HaltError, TrackingExpired or QueryRefused. It asks again when the limits are reached: before a table is read
        there are many small questions (metadata, who we are, how many rows), and a start that begins again after each refusal would never
        end.
        """
        response = await self._ask(path, prefer, strong)
        tries = QUESTION_TRIES
        while response.status_code == 429 and (tries := tries - 1) and self._gate.wait_left_s <= LONGEST_QUESTION_WAIT_S:
            response = await self._ask(path, prefer, strong)
        for wait_s in self._lag_waits_s if path.startswith("EntityDefinitions") else ():
            if response.status_code not in (400, 404):
                break
            await self._clock.sleep(wait_s)
            response = await self._ask(path, prefer, strong)
        if response.status_code != 200:
            raise self._error(response)
        return parse_object(response)

    async def listed(self, path: str, strong: bool = False) -> list[dict[str, Any]]:
        """What the answer of `get` lists under `value`. Raises as `get` does."""
        items = (await self.get(path, strong=strong)).get("value")
        if not _are_rows(items):
            raise RetryError(f"Dynamics: {path.partition('?')[0]}: not a list", code="bad_answer", attempts=BAD_ANSWER_TRIES)
        return items

    async def collection(self, path: str, prefer: str) -> Mapping[str, Any]:
        """One page of a set: the answer, with its rows under `value`. `{}` or no body at all, which is how Microsoft documents a delta
        without changes (dataverse.md §4.2), has none; of any other page that is no answer: rows would be taken for gone. Raises as `get`
        does, and RetryError for an answer of any other shape."""
        response = await self._ask(path, prefer)
        delta = DELTA.search(path) is not None
        if response.status_code != 200 and not (delta and response.status_code == 204):
            raise self._error(response)
        answer = {} if delta and not response.content.strip() else parse_object(response)
        if delta and answer == {}:
            return {"value": []}
        links = [answer[name] for name in LINKS if answer.get(name) is not None]
        if not _are_rows(answer.get("value")) or not all(isinstance(link, str) and link for link in links):
            raise bad_answer(response, "not a page of rows", "Dynamics")
        for link in links:  # before it is kept as a position, which would be followed for ever
            same_origin(link, self._settings.url + API, self.origin)
        return answer

    async def row(self, path: str) -> dict[str, Any] | None:
        """One row, None if there is none. Raises as `get` does."""
        response = await self._ask(path, "")
        if response.status_code == 404 and error_code(response) in NO_SUCH_ROW:
            return None
        if response.status_code != 200:
            raise self._error(response)
        return parse_object(response)

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
        if response.status_code == 412 and error_code(response):
            raise RetryError(f"Dynamics: {where(response)}: somebody was faster", code="changed_meanwhile", status=412)
        if response.status_code not in (200, 204):
            raise self._error(response)
        return parse_object(response) if response.status_code == 200 else {}

    async def _patch(self, path: str, body: dict[str, Any], etag: str) -> httpx.Response:
        url = same_origin(path, self._settings.url + API, self.origin)
        headers = HEADERS | {"If-Match": etag, "Prefer": "return=representation"}
        return await self._authorized(lambda: self._http.build_request("PATCH", url, json=body, headers=headers))

    async def batch(self, operations: Callable[[], Sequence[Operation]]) -> list[BatchAnswer]:
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
        if response.status_code == 413 and len(asked) > 1:  # whoever says so: smaller ones may pass
            raise QueryRefused(f"Dynamics: {where(response)}", code="query_refused", status=413)
        if not response.is_success:
            raise self._error(response)
        try:
            answers = decode(kind, response.content, len(asked))
        except Unreadable as exc:
            raise bad_answer(response, str(exc), "Dynamics") from exc
        self._heed(response, answers)
        return answers

    def _heed(self, response: httpx.Response, answers: Sequence[BatchAnswer]) -> None:
        """What single operations were told that concerns all calls."""
        if any(answer.status == 401 for answer in answers):
            self._token.drop(response.request.headers["authorization"].removeprefix("Bearer "))
        if busy := [answer for answer in answers if answer.status == 429]:
            now = self._clock.now()
            self._gate.close_for(max(asked_wait_s(each.retry_after, now) or UNTOLD_WAIT_S for each in busy))

    async def _ask(self, path: str, prefer: str, strong: bool = False) -> httpx.Response:
        url = same_origin(path, self._settings.url + API, self.origin)
        headers = HEADERS | FRESH | ({"Prefer": prefer} if prefer else {}) | (STRONG if strong else {})
        return await self._authorized(lambda: self._http.build_request("GET", url, headers=headers))

    async def _authorized(self, build: Build) -> httpx.Response:
        """Once more with a fresh token if the first one is refused: expired early, revoked or rotated (§1.4)."""
        response = await self._send(build)
        if is_unauthorized(response):
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


def _are_rows(items: Any) -> TypeGuard[list[dict[str, Any]]]:
    return isinstance(items, list) and all(isinstance(item, dict) for item in items)
