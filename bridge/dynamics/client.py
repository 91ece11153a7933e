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
from bridge.http.answers import BAD_ANSWER_TRIES, bad_answer, parse_object, where
from bridge.http.credentials import ClientSecret
from bridge.http.gate import Gate, Pause
from bridge.http.retry_after import asked_wait_s
from bridge.http.session import Session
from bridge.http.transport import build_client
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
        self._clock = clock
        self._base = f"{settings.url}{API}"
        self._lag_waits_s = LAG_WAITS_S if patient else ()
        self._gate = Gate(settings.concurrency, clock, pause=pause)
        self._session = Session(
            client or build_client(settings.request_timeout_s, settings.concurrency),
            self._base,
            settings.token_url,
            ClientSecret(settings.client_id, settings.client_secret, f"{settings.url}/.default"),
            self._gate,
            clock,
            origin=origin,
            headers=HEADERS,
        )
        self.origin = origin
        self.close = self._session.close
        self.authenticate = self._session.authenticate

    @property
    def calls(self) -> int:
        return self._gate.calls

    @property
    def root(self) -> str:
        """Path of the Web API, with which operations of a batch begin."""
        return httpx.URL(self._base).path

    @property
    def ahead_s(self) -> float | None:
        """By how much our clock was ahead at the last answer."""
        return self._session.ahead_s

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
            self._session.url(link)
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
        url = self._session.url(path)
        headers = {"If-Match": etag, "Prefer": "return=representation"}
        return await self._call(lambda: self._session.request("PATCH", url, json=body, headers=headers))

    async def batch(self, operations: Callable[[], Sequence[Operation]]) -> list[BatchAnswer]:
        """Runs operations, each by itself (continue-on-error); the answers in their order. `operations` is asked last before the call.

        Raises as `get` does, and RetryError for an answer that cannot be told apart: then some may have been applied.
        """
        asked: Sequence[Operation] = ()

        def build() -> httpx.Request:
            nonlocal asked
            asked = operations()
            kind, body = encode(asked)
            headers = {"Content-Type": kind, "Prefer": CONTINUE}
            return self._session.request("POST", f"{self._base}$batch", content=body, headers=headers)

        response = await self._call(build)
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
            self._session.refused(response)
        if busy := [answer for answer in answers if answer.status == 429]:
            now = self._clock.now()
            self._gate.close_for(max(asked_wait_s(each.retry_after, now) or UNTOLD_WAIT_S for each in busy))

    async def _ask(self, path: str, prefer: str, strong: bool = False) -> httpx.Response:
        url = self._session.url(path)
        headers = FRESH | ({"Prefer": prefer} if prefer else {}) | (STRONG if strong else {})
        return await self._call(lambda: self._session.request("GET", url, headers=headers))

    async def _call(self, build: Callable[[], httpx.Request]) -> httpx.Response:
        response = await self._session.call(build)
        self._note_budget(response)
        return response

    def _note_budget(self, response: httpx.Response) -> None:
        """What is left on the server that answered (§8.1); it is told for people, nothing is steered by it."""
        for limit, header in BUDGET.items():
            amount = response.headers.get(header, "").replace(",", "")
            with suppress(ValueError):
                self._gate.meter.left(limit, float(amount))

    def _error(self, response: httpx.Response) -> Exception:
        return error_for(response, self._session.retry_after_s(response), self.origin)


def _are_rows(items: Any) -> TypeGuard[list[dict[str, Any]]]:
    return isinstance(items, list) and all(isinstance(item, dict) for item in items)
