"""The HTTP client, and one exchange with it: whatever goes wrong is one of our errors."""

from __future__ import annotations

from collections.abc import Callable

import httpx
from aiohttp import ClientSession, DummyCookieJar
from httpx_aiohttp import AiohttpTransport

from bridge.model.errors import RetryError
from bridge.observe.metrics import UNMETERED, Meter, Result

LARGEST_ANSWER = 256 * 1024 * 1024  # bytes, unpacked: twice the largest page of rows


class _Transport(AiohttpTransport):
    """Without aiohttp's own second try of a GET or DELETE whose connection broke: a repeat is ours to decide, past gate and guard, and
    the answer to a repeated DELETE means something else than that to the first. And without its cookies."""

    def get_client(self) -> ClientSession:
        session = super().get_client()
        session._retry_connection = False
        session._cookie_jar = DummyCookieJar()
        return session


class _NoCookies(httpx.Cookies):
    """Takes none from an answer, which is where their cost is."""

    def extract_cookies(self, response: httpx.Response) -> None:
        return


_NO_COOKIES = _NoCookies()


class _Client(httpx.AsyncClient):
    """Sends no cookie back: Dynamics' affinity cookies pin one server."""

    @property  # type: ignore[misc]  # nobody sets them
    def cookies(self) -> httpx.Cookies:
        return _NO_COOKIES


def build_client(timeout_s: float, connections: int) -> httpx.AsyncClient:
    """A client that follows no redirect and keeps no cookie."""
    return _Client(
        transport=_Transport(limits=httpx.Limits(max_connections=connections, max_keepalive_connections=connections)),
        timeout=httpx.Timeout(timeout_s, connect=min(timeout_s, 10.0), pool=None),
        follow_redirects=False,
        trust_env=False,
    )


def result_of(response: httpx.Response) -> Result:
    """How the answer counts, by its status."""
    status = response.status_code
    if status in (429, 503):
        return "busy"
    if status >= 500 or status == 408:
        return "failed"
    return "ok" if status < 400 else "refused"


class _TooLarge(Exception): ...


async def send(
    client: httpx.AsyncClient,
    request: httpx.Request,
    meter: Meter = UNMETERED,
    counts_as: Callable[[httpx.Response], Result] = result_of,
) -> httpx.Response:
    """One exchange. Raises RetryError for whatever a network, a proxy or a server can do wrong: `network` where no answer came,
    `bad_answer` where it is not to be read; either way the request may have been applied."""
    began = meter.now()
    try:
        response = await _exchanged(client, request)
    except Exception as exc:  # whatever bytes lead httpx, aiohttp and their parsers to: ClientError, DecodingError, ValueError, …
        meter.called("failed", meter.now() - began)
        raise no_answer(request, exc) from exc
    meter.called(counts_as(response), meter.now() - began)
    return response


def no_answer(request: httpx.Request, exc: Exception) -> RetryError:
    """What became of an exchange, without the text of its error, which can hold bytes of the answer."""
    place = f"{request.method} {request.url.path}"
    cause = exc.__cause__ or exc  # the transport's own error: httpx-aiohttp calls a lost connection ConnectTimeout
    if isinstance(cause, _TooLarge):
        return RetryError(f"{place}: an answer of more than {LARGEST_ANSWER // 1024**2} MB; smaller pages may help", code="bad_answer")
    if isinstance(exc, httpx.TransportError | httpx.StreamError | OSError):
        return RetryError(f"{place}: {type(cause).__name__}", code="network")
    return RetryError(f"{place}: the answer cannot be read ({type(cause).__name__})", code="bad_answer")


async def _exchanged(client: httpx.AsyncClient, request: httpx.Request) -> httpx.Response:
    """The answer with its body, of which no more is unpacked than we are ready to hold."""
    response = await client.send(request, stream=True)
    try:
        parts, size = [], 0
        async for part in response.aiter_bytes():
            size += len(part)
            if size > LARGEST_ANSWER:
                raise _TooLarge
            parts.append(part)
    finally:
        await response.aclose()
    response._content = b"".join(parts)  # as `aread` does, which knows no limit
    return response
