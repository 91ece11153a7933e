"""The one way to call a system: token, gate, guard, exchange, clock, and once more after a 401."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import httpx

from bridge.http.answers import is_unauthorized
from bridge.http.credentials import Credential
from bridge.http.gate import Gate
from bridge.http.links import same_origin
from bridge.http.retry_after import ahead_s, retry_after_s
from bridge.http.tokens import TokenCache
from bridge.http.transport import result_of, send
from bridge.model.clock import Clock
from bridge.model.errors import Origin
from bridge.observe.metrics import Result

Build = Callable[[], httpx.Request]


class Session:
    """One per process and system: all who call share its gate and its token. `base`: the address of the system, which links must not leave.
    `origin`: what the system is to the workflow, for its errors. `headers`: go with each call. `counts_as`: how an answer counts.

    `ahead_s`: by how many seconds our clock was ahead at the last answer; None before the first one that has a date.
    """

    def __init__(
        self,
        http: httpx.AsyncClient,
        base: str,
        token_url: str,
        credential: Credential,
        gate: Gate,
        clock: Clock,
        *,
        origin: Origin,
        headers: Mapping[str, str],
        counts_as: Callable[[httpx.Response], Result] = result_of,
    ) -> None:
        self._http, self._base, self._gate, self._clock = http, base, gate, clock
        self._headers, self._counts_as = dict(headers), counts_as
        self._token = TokenCache(http, token_url, credential, origin, clock)
        self.origin: Origin = origin
        self.ahead_s: float | None = None

    async def close(self) -> None:
        await self._http.aclose()

    async def authenticate(self, again: bool = False) -> None:
        """Makes sure of a token, or of a new one. Raises RetryError or HaltError."""
        if again:
            self._token.forget()
        await self._token.get()

    def url(self, link: str) -> str:
        """A path below `base`, or an absolute link of the server. Raises HaltError for one that leads to another host."""
        return same_origin(link, self._base, self.origin)

    def request(self, method: str, url: str, *, headers: Mapping[str, str] | None = None, **body: object) -> httpx.Request:
        """`body`: `json` or `content`, as httpx takes them."""
        return self._http.build_request(method, url, headers=self._headers | dict(headers or {}), **body)  # type: ignore[arg-type]

    async def call(self, build: Build) -> httpx.Response:
        """The answer, whatever its status. `build` is asked last before the call: again if the first token is refused, because it
        expired early, was revoked or rotated (dataverse.md §1.4, campaign.md G9). Raises RetryError or HaltError."""
        response = await self._once(build)
        if is_unauthorized(response):
            self.refused(response)
            response = await self._once(build)
        return response

    def refused(self, response: httpx.Response) -> None:
        """The token of this exchange is of no use any more."""
        self._token.drop(response.request.headers["authorization"].removeprefix("Bearer "))

    def retry_after_s(self, response: httpx.Response) -> float | None:
        return retry_after_s(response, self._clock.now())

    async def _once(self, build: Build) -> httpx.Response:
        with self._gate.asking():
            token = await self._token.get()  # before the gate, which asks last whether the call may still be made
        async with self._gate.call():
            request = build()
            request.headers["Authorization"] = f"Bearer {token}"
            asked = self._clock.now()
            response = await send(self._http, request, self._gate.meter, self._counts_as)
            answered = self._clock.now()
            self.ahead_s = ahead_s(response, answered, asked)
            self._gate.heed(response, answered)
        return response
