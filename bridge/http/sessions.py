"""HTTP to the two systems: the client, the wait all workers of a process share, and Retry-After (decision D9)."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from contextvars import ContextVar
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from functools import lru_cache
from urllib.parse import urljoin

import httpx
from aiohttp import ClientSession, DummyCookieJar
from httpx_aiohttp import AiohttpTransport

from bridge.http.answers import BAD_ANSWER_TRIES
from bridge.model.clock import Clock
from bridge.model.errors import HaltError, Origin, RetryError
from bridge.observe.metrics import UNMETERED, Meter, Result

call_guard: ContextVar[Callable[[], None]] = ContextVar("call_guard", default=lambda: None)
"""Asked last before each call of the current task; raises to prevent it (the writer: "is this partition still ours?")."""

REGAIN = 50  # calls that were not refused, until one more may be under way
LOOK_EVERY_S = 0.5  # a task that waits for its turn asks its guard so often
SHORTEST_WAIT_S, LONGEST_WAIT_S = 1.0, 3600.0  # a Retry-After outside of these is a fault of the gateway, and counts as missing
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


def retry_after_s(response: httpx.Response, now: datetime) -> float | None:
    """Seconds asked for by Retry-After, given in seconds or as an HTTP date; None if absent or not to be believed.

    A date is measured against the answer's own Date header where there is one: our clock may be off.
    """
    return asked_wait_s(response.headers.get("retry-after", ""), _http_date(response.headers.get("date", "")) or now)


def asked_wait_s(value: str, sent: datetime) -> float | None:
    """What a Retry-After of an answer of `sent` asks for. None, so that the caller's own back-off counts, for what is neither seconds nor a
    date, and for a wait of nothing, into the past or of many hours: with no wait at all the same refusal would come at once, for ever."""
    try:
        seconds = float(value)
    except ValueError:
        until = _http_date(value)
        if until is None:
            return None
        seconds = (until - sent).total_seconds()
    return seconds if SHORTEST_WAIT_S <= seconds <= LONGEST_WAIT_S else None  # NaN compares false, too


def ahead_s(response: httpx.Response, now: datetime, asked: datetime | None = None) -> float | None:
    """By how many seconds our clock is ahead of the server's; None if the answer has no date. `asked`: when the call began. An answer dated
    between then and now shows no difference, however long it took."""
    sent = _http_date(response.headers.get("date", ""))
    if sent is None:
        return None
    return max(0.0, ((asked or now) - sent).total_seconds()) + min(0.0, (now - sent).total_seconds())


def _http_date(text: str) -> datetime | None:
    try:
        parsed = parsedate_to_datetime(text)
    except (TypeError, ValueError, OverflowError):
        return None
    return parsed if parsed.tzinfo else parsed.replace(tzinfo=UTC)


def same_origin(link: str, base: str, origin: Origin) -> str:
    """`link`, made absolute, if it leads to the origin of `base`. Raises HaltError: a token must not go elsewhere; RetryError for a link
    that leads nowhere."""
    home = _parsed(base)
    try:
        target = httpx.URL(urljoin(base, link))
        there = (target.scheme, target.host, _port(target))
    except (httpx.InvalidURL, ValueError):
        raise RetryError(f"{home.host}: a link that cannot be read", code="bad_answer", attempts=BAD_ANSWER_TRIES) from None
    if there != (home.scheme, home.host, _port(home)):
        raise _foreign(f"to another host ({target.host})", home, origin)
    return str(target)


@lru_cache(maxsize=16)
def _parsed(base: str) -> httpx.URL:
    """There are few of these, and each call asks for one: parsing costs more than sending."""
    return httpx.URL(base)


def _foreign(where_to: str, home: httpx.URL, origin: Origin) -> HaltError:
    return HaltError(
        f"a link of the server leads {where_to}, not to the configured {home.host}",
        code="foreign_link",
        hint="Check the configured URL; a proxy in between may rewrite links.",
        origin=origin,
    )


def _port(url: httpx.URL) -> int | None:
    return url.port or {"http": 80, "https": 443}.get(url.scheme)


class Pause:
    """Until when a system asked the process to wait. Made once per process and system, so that the next run knows of it; with the
    meter of its calls."""

    def __init__(self, meter: Meter = UNMETERED) -> None:
        self.meter = meter
        meter.waits(lambda: max(0.0, self.until - meter.now()))
        self.until = 0.0
        self.refusals = 0  # 429s in a row that did not say how long


class Gate:
    """Lets calls of one process to one system through: at most `concurrency` at once, at most `per_second` (0: any
    number), and none before the end of a wait that the system asked one of them for.

    A 429 halves how many may be under way at once, every fifty calls that were not refused add one again: a system at its limit would
    otherwise get, with each wait, all those that were on the wire when it refused the first one.
    """

    def __init__(self, concurrency: int, clock: Clock, per_second: float = 0, pause: Pause | None = None) -> None:
        self._most = self._limit = float(concurrency)
        self._active = 0
        self._queue: deque[asyncio.Future[None]] = deque()
        self._clock = clock
        self._interval = 1 / per_second if per_second else 0.0
        self._next = 0.0
        self._pause = pause or Pause()
        self.meter = self._pause.meter
        self.calls = 0

    @property
    def wait_left_s(self) -> float:
        return max(0.0, self._pause.until - self._clock.monotonic())

    def close_for(self, seconds: float) -> None:
        """No call starts for so long; a longer wait that is running stays."""
        self._pause.until = max(self._pause.until, self._clock.monotonic() + seconds)
        if self.wait_left_s:
            self._wake(len(self._queue))  # they wait for the end of the pause now, where their guards are asked

    def heed(self, response: httpx.Response, now: datetime) -> None:
        """Closes for as long as a 429 or 503 asks for. A 429 that does not say how long: 1, 2, 4, … 32 s, until a call is not refused."""
        wait = retry_after_s(response, now) if response.status_code in (429, 503) else None
        if response.status_code != 429:
            self._pause.refusals = 0
            self._limit = min(self._most, self._limit + 1 / REGAIN)
        elif not self.wait_left_s:  # else a call that was under way when another one was refused
            self._limit = max(1.0, self._limit // 2)
            if wait is None:
                wait = 2.0 ** min(self._pause.refusals, 5)
                self._pause.refusals += 1
        self.close_for(wait or 0.0)

    @asynccontextmanager
    async def call(self) -> AsyncIterator[None]:
        """Holds a slot for one call. Raises what the task's `call_guard` raises."""
        guard = call_guard.get()
        await self._enter(guard)
        try:
            self._next = max(self._next, self._clock.monotonic()) + self._interval
            guard()
            self.calls += 1
            yield
        finally:
            self._leave()

    async def _enter(self, guard: Callable[[], None]) -> None:
        """A slot, at a time when a call may begin: nobody holds one while waiting, so that guards go on being asked."""
        try:
            while True:
                while (wait := max(self.wait_left_s, self._turn())) > 0:
                    await self._clock.sleep(min(wait, LOOK_EVERY_S))
                    guard()
                if self._active < int(self._limit):
                    self._active += 1
                    return
                turn = asyncio.get_running_loop().create_future()
                self._queue.append(turn)
                await turn
        except BaseException:
            self._wake(int(self._limit) - self._active)  # the turn may have been ours: it is somebody else's now
            raise

    def _leave(self) -> None:
        self._active -= 1
        self._wake(int(self._limit) - self._active)

    def _wake(self, number: int) -> None:
        """So many of those that wait for a slot look again, in their order."""
        while number > 0 and self._queue:
            turn = self._queue.popleft()
            if not turn.done():
                turn.set_result(None)
                number -= 1

    def _turn(self) -> float:
        return self._next - self._clock.monotonic() if self._interval else 0.0


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
