"""What both stand-ins share: serving, injected faults, and counting of every request.

A fault is a JSON object posted to `/_admin/faults`:

    {"method": "POST", "path": "^/campaign/", "kind": "status", "status": 503, "body": "", "headers": {"Retry-After": "2"},
     "times": 3, "skip": 0}

`method` and `path` (a regular expression, searched in the path with its query) choose the requests, all by default. `kind` is one of
`status` (answer so, without running the handler), `status_after` (run the handler, then answer so), `latency` (`seconds` before the
handler, which runs even if the client is gone by then), `cut_before` (close the connection, nothing was applied), `cut_after` (apply, then
close without an answer), `half` (apply, send the head and half of the body, then close), `stall` (apply, send half of the head, never the
rest for `seconds`) and `operation` (Dynamics: single operations of a batch are chosen instead of requests, by their method and the path
below the API; answered so without being run, `body` is the error's code). `times` limits how often it strikes (default: for ever), `skip`
lets that many matching requests pass first. Admin requests are never struck nor counted.
"""

from __future__ import annotations

import asyncio
import contextlib
import re
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any, Literal, get_args

from aiohttp import web

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]
Kind = Literal["status", "status_after", "latency", "cut_before", "cut_after", "half", "stall", "operation"]
KINDS: tuple[Kind, ...] = get_args(Kind)


@dataclass
class Fault:
    """One injected fault; see the module's docstring for its members."""

    kind: Kind
    method: str = ""
    path: str = ""
    status: int = 503
    body: str = ""
    content_type: str = "text/plain"
    headers: dict[str, str] = field(default_factory=dict)
    seconds: float = 0.0
    times: int | None = None
    skip: int = 0
    struck: int = 0

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise ValueError(f"kind must be one of {', '.join(KINDS)}")
        re.compile(self.path)

    def strikes(self, method: str, path: str) -> bool:
        """True when this request (or operation) is hit; counts it."""
        if (self.method and self.method != method) or not re.search(self.path, path):
            return False
        if self.skip > 0:
            self.skip -= 1
            return False
        if self.times is not None and self.struck >= self.times:
            return False
        self.struck += 1
        return True


class Ledger:
    """Faults to inject and what was asked of the server so far."""

    def __init__(self) -> None:
        self.faults: list[Fault] = []
        self.requests: Counter[str] = Counter()
        self.statuses: Counter[int] = Counter()
        self.unknown_routes: list[str] = []
        self.last_request_at = 0.0
        self.in_flight = 0
        self.most_in_flight = 0

    def struck(self, method: str, path: str, operation: bool = False) -> Fault | None:
        """The first fault that hits this request, or this operation of a batch."""
        chosen = [fault for fault in self.faults if (fault.kind == "operation") == operation]
        return next((fault for fault in chosen if fault.strikes(method, path)), None)

    def clear(self) -> None:
        self.__init__()  # type: ignore[misc]

    def summary(self) -> dict[str, Any]:
        return {
            "requests": dict(self.requests),
            "total": sum(self.requests.values()),
            "statuses": {str(status): n for status, n in self.statuses.items()},
            "unknown_routes": self.unknown_routes,
            "last_request_at": self.last_request_at,
            "most_in_flight": self.most_in_flight,
        }


def _answer(fault: Fault) -> web.Response:
    return web.Response(status=fault.status, text=fault.body, content_type=fault.content_type, headers=fault.headers)


def _cut(request: web.Request) -> web.Response:
    if request.transport is not None:
        request.transport.abort()
    return web.Response(status=500)


def _half(request: web.Request, answer: web.StreamResponse) -> web.Response:
    """The head promises a body that does not come to its end."""
    body = bytes(answer.body) if isinstance(answer, web.Response) and isinstance(answer.body, bytes) else b""
    head = f"HTTP/1.1 {answer.status} OK\r\nContent-Type: {answer.content_type}\r\nContent-Length: {max(len(body), 2)}\r\n\r\n"
    if request.transport is not None:
        request.transport.write(head.encode() + body[: len(body) // 2])
        request.transport.close()
    return web.Response(status=500)


async def _struck(fault: Fault, request: web.Request, handler: Handler) -> web.StreamResponse:
    match fault.kind:
        case "status":
            return _answer(fault)
        case "status_after":
            await handler(request)
            return _answer(fault)
        case "latency":
            await request.read()  # it has come in whole: it is run, whatever becomes of the connection meanwhile
            await asyncio.sleep(fault.seconds)
            return await handler(request)
        case "cut_before":
            return _cut(request)
        case "cut_after":
            await handler(request)
            return _cut(request)
        case "half":
            return _half(request, await handler(request))
        case "stall":
            await handler(request)
            if request.transport is not None:
                request.transport.write(b"HTTP/1.1 200 OK\r\nContent-Type: applica")
            await asyncio.sleep(fault.seconds)
            return _cut(request)
        case "operation":  # is none of requests: see Ledger.struck
            return await handler(request)


def counted(ledger: Ledger, group: Callable[[web.Request], str]) -> Any:
    """Middleware: counts requests under `group(request)` and strikes the faults of `ledger`."""

    @web.middleware
    async def middleware(request: web.Request, handler: Handler) -> web.StreamResponse:
        if request.path.startswith("/_admin/"):
            return await handler(request)
        ledger.requests[group(request)] += 1
        ledger.last_request_at = asyncio.get_running_loop().time()
        ledger.in_flight += 1
        ledger.most_in_flight = max(ledger.most_in_flight, ledger.in_flight)
        try:
            fault = ledger.struck(request.method, request.path_qs)
            response = await (handler(request) if fault is None else _struck(fault, request, handler))
        finally:
            ledger.in_flight -= 1
        ledger.statuses[response.status] += 1
        return response

    return middleware


def fault_routes(ledger: Ledger) -> list[web.RouteDef]:
    """`GET`, `POST` and `DELETE /_admin/faults`, and `GET /_admin/health`."""

    async def listed(_: web.Request) -> web.Response:
        return web.json_response({"faults": [vars(fault) for fault in ledger.faults]})

    async def added(request: web.Request) -> web.Response:
        try:
            ledger.faults.append(Fault(**await request.json()))
        except (TypeError, ValueError, re.error) as exc:
            return web.json_response({"error": str(exc)}, status=400)
        return web.json_response({"faults": len(ledger.faults)}, status=201)

    async def removed(_: web.Request) -> web.Response:
        ledger.faults.clear()
        return web.Response(status=204)

    async def health(_: web.Request) -> web.Response:
        return web.json_response({"ok": True})

    return [
        web.get("/_admin/faults", listed),
        web.post("/_admin/faults", added),
        web.delete("/_admin/faults", removed),
        web.get("/_admin/health", health),
    ]


@contextlib.asynccontextmanager
async def serving(app: web.Application, port: int = 0, host: str = "127.0.0.1") -> AsyncIterator[str]:
    """Serves on `host` (a free port for 0) while the block runs; gives the base URL, without a slash at the end."""
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.5)
    await runner.setup()
    site = web.TCPSite(runner, host, port)
    await site.start()
    try:
        host, bound = runner.addresses[0][:2]
        yield f"http://{host}:{bound}"
    finally:
        await runner.cleanup()
