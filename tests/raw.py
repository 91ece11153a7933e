"""A server that answers with whatever bytes it is given: what HTTP libraries do not let a server say."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

LENGTH = re.compile(rb"content-length: *([0-9]+)", re.IGNORECASE)
TOKEN = b'{"access_token": "t-1", "expires_in": 3600}'
Headers = dict[str, str]


def http(status: int, body: bytes = b"", kind: str = "application/json", headers: Headers | None = None) -> bytes:
    """A whole answer, with its length."""
    lines = [f"HTTP/1.1 {status} Any", f"Content-Type: {kind}", f"Content-Length: {len(body)}", "Connection: close"]
    lines += [f"{name}: {value}" for name, value in (headers or {}).items()]
    return ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1") + body


class RawServer:
    """`answer`: to every request but those for `/token`, which get one unless `tokens` is False. The connection is closed after it."""

    def __init__(self) -> None:
        self.answer, self.tokens = b"", True

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(OSError, asyncio.IncompleteReadError):
            head = await reader.readuntil(b"\r\n\r\n")
            length = LENGTH.search(head)
            await reader.readexactly(int(length[1]) if length else 0)
            if b"transfer-encoding: chunked" in head.lower():
                await reader.readuntil(b"0\r\n\r\n")
            writer.write(http(200, TOKEN) if self.tokens and b"/token" in head.split(b"\r\n")[0] else self.answer)
            await writer.drain()
        writer.close()


@asynccontextmanager
async def raw_server() -> AsyncIterator[tuple[RawServer, str]]:
    """The server and its address."""
    raw = RawServer()
    server = await asyncio.start_server(raw.serve, "127.0.0.1", 0)
    try:
        yield raw, f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    finally:
        server.close()
