"""A TCP proxy that cuts, delays and resets connections at a word: what stands between a service and the systems it talks to."""

from __future__ import annotations

import asyncio
import socket
import struct
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Literal

Direction = Literal["up", "down"]  # up: from the service to the system
CHUNK = 65_536
RESET = struct.pack("ii", 1, 0)  # SO_LINGER of no time: close() sends RST


class _Connection:
    def __init__(self, client: asyncio.StreamWriter, server: asyncio.StreamWriter) -> None:
        self.client, self.server = client, server

    def reset(self) -> None:
        for writer in (self.client, self.server):
            transport = writer.transport
            if (raw := transport.get_extra_info("socket")) is not None:
                with suppress(OSError):
                    raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
            transport.abort()


class Proxy:
    """Use `async with proxying(host, port) as proxy`. What is switched counts at once, for open connections as well.

    `delay_s` holds up every chunk, each way. `silent` directions carry nothing until `heal`; what was sent meanwhile comes then.
    """

    def __init__(self, host: str, port: int) -> None:
        self._target = host, port
        self._open: set[_Connection] = set()
        self._refusing = False
        self._heard = {"up": asyncio.Event(), "down": asyncio.Event()}
        self.delay_s = 0.0
        self.connections = 0
        self.heal()

    def reset(self) -> None:
        """Every open connection breaks (RST); new ones are taken."""
        for connection in list(self._open):
            connection.reset()

    def cut(self) -> None:
        """As `reset`, and new ones are refused until `heal`."""
        self._refusing = True
        self.reset()

    def half_close(self) -> None:
        """Both systems say on every open connection that they have nothing more to tell (FIN), and go on listening."""
        for connection in list(self._open):
            for writer in (connection.client, connection.server):
                with suppress(OSError, RuntimeError):
                    writer.write_eof()

    def silence(self, direction: Direction) -> None:
        self._heard[direction].clear()

    def heal(self) -> None:
        self._refusing, self.delay_s = False, 0.0
        for each in self._heard.values():
            each.set()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        try:
            if self._refusing:
                raise ConnectionRefusedError
            far_reader, far_writer = await asyncio.open_connection(*self._target)
        except OSError:
            _Connection(writer, writer).reset()
            return
        connection = _Connection(writer, far_writer)
        self._open.add(connection)
        try:
            await asyncio.gather(self._carry(reader, far_writer, "up"), self._carry(far_reader, writer, "down"))
        except OSError:
            pass
        finally:
            self._open.discard(connection)
            connection.reset()

    async def _carry(self, source: asyncio.StreamReader, target: asyncio.StreamWriter, direction: Direction) -> None:
        while data := await source.read(CHUNK):
            await self._heard[direction].wait()
            if self.delay_s:
                await asyncio.sleep(self.delay_s)
            target.write(data)
            await target.drain()
        with suppress(OSError, RuntimeError):
            target.write_eof()


@asynccontextmanager
async def proxying(host: str, port: int, own_port: int = 0) -> AsyncIterator[tuple[Proxy, int]]:
    """A proxy to `host`:`port` and the port it listens on (`own_port`, or a free one)."""
    proxy = Proxy(host, port)
    tasks: set[asyncio.Task[None]] = set()

    def taken(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.create_task(proxy.serve(reader, writer))
        tasks.add(task)
        task.add_done_callback(tasks.discard)

    server = await asyncio.start_server(taken, "127.0.0.1", own_port)
    try:
        yield proxy, int(server.sockets[0].getsockname()[1])
    finally:
        server.close()
        for task in list(tasks):
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
