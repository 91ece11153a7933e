"""Client-credentials tokens, cached per process and asked for once however many calls wait (Entra and IMS alike)."""

from __future__ import annotations

import asyncio
import math
from typing import Any, TypeGuard

import httpx

from bridge.http.answers import bad_answer, parse_object, refusal, where
from bridge.http.credentials import Credential
from bridge.http.retry_after import retry_after_s
from bridge.http.transport import send
from bridge.model.clock import Clock
from bridge.model.errors import HaltError, Origin, RetryError
from bridge.model.text import suspect

RENEW_BEFORE_S = 300.0
LONGEST_LIFE_S = 86_400.0  # of a token; Adobe's live a day, and one that is refused earlier is dropped
FIRST_WAIT_S, LONGEST_WAIT_S = 0.5, 8.0  # before an endpoint that failed and did not say how long is asked again


class TokenCache:
    """Gives a bearer token that is good for some time yet; `drop` it when a system refuses it.

    A 4xx answer that names its error is a HaltError (dataverse.md §1.3, campaign.md §1.2), after the credential was read again in case
    someone has just rotated it. Every other answer without a token is waited out: it is that of a proxy, or half of one.
    """

    def __init__(
        self,
        client: httpx.AsyncClient,
        url: str,
        credential: Credential,
        origin: Origin,
        clock: Clock,
    ) -> None:
        self._client = client
        self._url = url
        self._credential = credential
        self._origin: Origin = origin
        self._clock = clock
        self._lock = asyncio.Lock()
        self._token: str | None = None
        self._renew_at = 0.0
        self._failure: RetryError | None = None  # of the last question
        self._failures = 0  # in a row
        self._not_before = 0.0

    async def get(self) -> str:
        """A token. Raises RetryError (endpoint away: for all who ask until its wait is over) or HaltError (credentials refused)."""
        if self._token is not None and self._clock.monotonic() < self._renew_at:
            return self._token
        async with self._lock:
            if self._token is None or self._clock.monotonic() >= self._renew_at:
                await self._within_its_limits()
            assert self._token is not None
            return self._token

    def drop(self, token: str) -> None:
        """The system refused `token`: the next `get` asks for a new one, with the credential as it is now."""
        if token == self._token:
            self._token = None

    def forget(self) -> None:
        """The next `get` asks for a new one, with the credential as it is now, unless the endpoint bade to wait."""
        self._credential.reload()
        self._token = None
        if self._failure is not None and self._failure.retry_after_s is None:
            self._failure = None

    async def _within_its_limits(self) -> None:
        """One question, however many wait; none before the wait after a failure is over."""
        left = self._not_before - self._clock.monotonic()
        if self._failure is not None and left > 0:
            raise RetryError(str(self._failure), code=self._failure.code, status=self._failure.status, retry_after_s=left)
        try:
            await self._fetch()
        except RetryError as exc:
            wait = exc.retry_after_s
            if wait is None:
                wait = min(FIRST_WAIT_S * 2 ** min(self._failures, 10), LONGEST_WAIT_S)
            self._failure, self._failures, self._not_before = exc, self._failures + 1, self._clock.monotonic() + wait
            raise
        self._failure, self._failures = None, 0

    async def _fetch(self) -> None:
        response = await self._ask()
        if response.status_code in (400, 401) and self._credential.reload():
            response = await self._ask()
        if response.status_code in (408, 429) or response.status_code >= 500:
            wait = retry_after_s(response, self._clock.now())
            raise RetryError(where(response), code="token_endpoint", status=response.status_code, retry_after_s=wait)
        if response.status_code != 200 and (code := _error_code(response)):
            raise HaltError(
                f"{where(response)}: {code}",
                code="credentials_refused",
                hint="Check client id, client secret and scope of this system; secrets expire.",
                origin=self._origin,
                status=response.status_code,
            )
        self._token, lifetime = _granted(response)
        self._renew_at = self._clock.monotonic() + lifetime - min(RENEW_BEFORE_S, lifetime / 5)

    async def _ask(self) -> httpx.Response:
        request = self._client.build_request("POST", self._url, data=dict(self._credential.form()))
        return await send(self._client, request)


def _granted(response: httpx.Response) -> tuple[str, float]:
    """The token, and for how many seconds it is good. Raises RetryError for an answer that grants none; it is about no record, so that
    tries have no end."""
    try:
        if response.status_code != 200 or suspect(response.content):  # to mend a token would make another one of it
            raise bad_answer(response, "neither a token nor a refusal")
        answer = parse_object(response)
    except RetryError as exc:
        raise RetryError(str(exc), code="token_endpoint", status=exc.status) from exc
    token, told = answer.get("access_token"), answer.get("expires_in", 3600)
    if not _usable(token) or (lifetime := _seconds(told)) is None:
        raise RetryError(f"{where(response)}: no token in the answer", code="token_endpoint", status=200)
    return token, lifetime


def _usable(token: Any) -> TypeGuard[str]:
    """Whether it can be a header's."""
    return isinstance(token, str) and token != "" and token.isascii() and token.isprintable() and " " not in token


def _seconds(told: Any) -> float | None:
    try:
        lifetime = float(told)
    except (TypeError, ValueError, OverflowError):
        return None
    return min(lifetime, LONGEST_LIFE_S) if math.isfinite(lifetime) and lifetime > 0 else None


def _error_code(response: httpx.Response) -> str:
    """The machine part of a refusal: `invalid_client 7000215`, empty if it is none. Never the description, it can name people."""
    body = refusal(response)
    error = body.get("error") if isinstance(body, dict) else None
    if not isinstance(error, str):
        return ""
    numbers = body.get("error_codes")
    codes = [str(each) for each in numbers if isinstance(each, int)] if isinstance(numbers, list) else []
    return " ".join([error[:40], *codes[:5]])
