"""What every request passes before it reaches a route: size, time, origin, token, rate; and what every answer carries."""

from __future__ import annotations

import asyncio
import time
import traceback
from collections.abc import Awaitable, Callable

from starlette.datastructures import MutableHeaders
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from bridge.observe.log import log
from services.control.api.access import Access, Principal
from services.control.api.problems import Refused, answer, refusal

LARGEST_BODY = 1024 * 1024
LONGEST_S = 60.0
LONGEST_PATH = 200
TELL_EVERY_S = 10.0
API, EVENTS = "/api/v1", "/api/v1/events"
PUBLIC = ("/healthz", "/readyz", "/metrics", "/login", "/static/", "/openapi.json", "/favicon.ico")
UNLIMITED = ("/healthz", "/readyz", "/metrics", "/static/", "/favicon.ico")
SAFE = ("GET", "HEAD", "OPTIONS")
SECURITY = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
    "form-action 'self'; base-uri 'none'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=()",
}

TOO_LARGE = (413, "body_too_large", "Send a body of 1 MiB at most.")
TOO_SLOW = (503, "took_too_long", f"It took longer than {LONGEST_S:.0f} s; ask for less, or again later.")
BROKEN_OFF = (400, "body_broken_off", "The body has no end.")

Audited = Callable[[str, str | None, str, str], Awaitable[None]]  # by, address, what, code


class Door:
    """An ASGI middleware. `audit` is told of every refusal of a command and of every request without the rights."""

    def __init__(self, app: ASGIApp, access: Access, audit: Audited, https: bool) -> None:
        self._app, self._access, self._audit = app, access, audit
        self._headers = SECURITY | ({"Strict-Transport-Security": "max-age=31536000; includeSubDomains"} if https else {})
        self._told: dict[str, float] = {}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        request = Request(scope)
        status = [0]
        sending = self._sending(send, scope["path"], status)
        turned_away = self._turned_away(request)
        if turned_away is None and request.headers.get("transfer-encoding"):
            receive, turned_away = await _whole(request, receive)
        if turned_away is not None:
            await turned_away(scope, receive, sending)
        else:
            await self._through(request, receive, sending, status)
        await self._note(request, status[0])

    async def _through(self, request: Request, receive: Receive, send: Send, status: list[int]) -> None:
        """`status`: 0 until an answer has begun; what goes wrong after that is only logged, and the connection ends."""
        try:
            async with asyncio.timeout(None if request.url.path == EVENTS else LONGEST_S):
                await self._app(request.scope, receive, send)
        except TimeoutError:
            slow = _refused(request, Refused(*TOO_SLOW))
            if not status[0]:
                await slow(request.scope, receive, send)
        except Exception as exc:  # a fault of ours: no text of it in the answer or the log, it may hold values
            request.state.refusal = "internal_error"
            where = "".join(traceback.format_tb(exc.__traceback__)[-3:])
            log("request_failed", "error", reason=type(exc).__name__, where=where)
            broken = answer(500, "internal_error", f"Control met a fault of its own ({type(exc).__name__}); see its log.")
            if not status[0]:
                await broken(request.scope, receive, send)

    def _turned_away(self, request: Request) -> Response | None:
        """The answer for a request that goes no further; else who asks is noted in its state."""
        path, method = request.url.path, request.method
        request.state.who = None
        try:
            who = self._access.who(request)
            request.state.who = who
            if not path.startswith(UNLIMITED):  # first of all: what is refused costs an audit entry
                self._access.limit(who.name if who else f"address {_address(request)}")
            length = request.headers.get("content-length", "0")
            ambiguous = "content-length" in request.headers and "transfer-encoding" in request.headers
            if ambiguous or not length.isdigit() or int(length[:20]) > LARGEST_BODY:
                raise Refused(*TOO_LARGE)
            self._access.check_origin(request, method)
            if who is None and not path.startswith(PUBLIC):
                return self._sign_in(request)
            if who is not None:
                self._access.check_header(who, request, method)
        except Refused as exc:
            return _refused(request, exc)
        return None

    def _sign_in(self, request: Request) -> Response:
        if not request.url.path.startswith(API):
            return RedirectResponse("/login", 303)
        detail = "Send Authorization: Bearer <token>; an administrator makes tokens."
        return _refused(request, Refused(401, "not_signed_in", detail, headers={"WWW-Authenticate": "Bearer"}))

    def _sending(self, send: Send, path: str, status: list[int]) -> Send:
        async def sending(message: Message) -> None:
            if message["type"] == "http.response.start":
                status[0] = message["status"]
                headers = MutableHeaders(scope=message)
                for name, value in self._headers.items():
                    headers[name] = value
                if not path.startswith("/static/"):
                    headers["Cache-Control"] = "no-store"
            await send(message)

        return sending

    async def _note(self, request: Request, status: int) -> None:
        """Sign-ins, refused commands, and requests without the rights; of too many requests only the first in ten seconds."""
        signed_in = (request.method, request.url.path, status) == ("POST", "/login", 303)
        if not signed_in and (status < 400 or (request.method in SAFE and status not in (401, 403, 429))):
            return
        who: Principal | None = request.state.who
        name, state = who.name if who else "unknown", request.state
        if status == 429 and not self._first_of_many(f"{name} {_address(request)}"):
            return
        code = "done" if signed_in else getattr(state, "refusal", f"http_{status}")
        await self._audit(name, _address(request), f"{request.method} {request.url.path[:LONGEST_PATH]}", code)

    def _first_of_many(self, name: str) -> bool:
        now = time.monotonic()
        if now - self._told.get(name, float("-inf")) < TELL_EVERY_S:
            return False
        if len(self._told) > 1000:
            self._told.clear()
        self._told[name] = now
        return True


def _refused(request: Request, why: Refused) -> Response:
    request.state.refusal = why.code
    return refusal(why)


async def _whole(request: Request, receive: Receive) -> tuple[Receive, Response | None]:
    """A body that comes in chunks, read to its end; or the refusal of one that is too large, too slow or has no end."""
    try:
        async with asyncio.timeout(LONGEST_S):
            body = await _joined(receive)
    except TimeoutError:
        return receive, _refused(request, Refused(*TOO_SLOW))
    except Refused as exc:
        return receive, _refused(request, exc)
    read: list[Message] = [{"type": "http.request", "body": body, "more_body": False}]

    async def again() -> Message:
        return read.pop() if read else await receive()

    return again, None


async def _joined(receive: Receive) -> bytes:
    parts, size, more = [], 0, True
    while more:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise Refused(*BROKEN_OFF)
        parts.append(message.get("body", b""))
        size, more = size + len(parts[-1]), bool(message.get("more_body"))
        if size > LARGEST_BODY:
            raise Refused(*TOO_LARGE)
    return b"".join(parts)


def _address(request: Request) -> str | None:
    return request.client.host if request.client else None
