"""The proxy of the fault tests breaks connections as it says (tests/faults/proxy.py)."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator

import pytest

from tests.faults.proxy import Proxy, proxying

Streams = tuple[asyncio.StreamReader, asyncio.StreamWriter]


@pytest.fixture
async def through() -> AsyncIterator[tuple[Proxy, int]]:
    """A proxy before a server that says everything again."""

    async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while data := await reader.read(1000):
                writer.write(data)
        except OSError:
            pass
        writer.close()

    server = await asyncio.start_server(echo, "127.0.0.1", 0)
    async with proxying("127.0.0.1", server.sockets[0].getsockname()[1]) as made:
        yield made
    server.close()


async def connected(port: int) -> Streams:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    assert await said((reader, writer), b"hello") == b"hello"
    return reader, writer


async def said(streams: Streams, data: bytes, within_s: float = 2) -> bytes:
    streams[1].write(data)
    return await asyncio.wait_for(streams[0].read(1000), within_s)


async def test_a_reset_breaks_what_is_open_and_takes_what_is_new(through: tuple[Proxy, int]) -> None:
    proxy, port = through
    streams = await connected(port)
    proxy.reset()
    with pytest.raises(ConnectionResetError):
        await asyncio.wait_for(streams[0].read(1), 2)
    await connected(port)
    assert proxy.connections == 2


async def test_what_is_cut_refuses_until_it_is_healed(through: tuple[Proxy, int]) -> None:
    proxy, port = through
    await connected(port)
    proxy.cut()
    reader, _ = await asyncio.open_connection("127.0.0.1", port)
    with pytest.raises(ConnectionResetError):
        await asyncio.wait_for(reader.read(1), 2)
    proxy.heal()
    await connected(port)


async def test_half_closed_connections_come_to_their_end_without_a_reset(through: tuple[Proxy, int]) -> None:
    proxy, port = through
    reader, _ = await connected(port)
    proxy.half_close()
    assert await asyncio.wait_for(reader.read(1), 2) == b""


@pytest.mark.parametrize("direction", ["up", "down"])
async def test_a_silent_direction_carries_nothing_until_it_is_healed(through: tuple[Proxy, int], direction: str) -> None:
    proxy, port = through
    streams = await connected(port)
    proxy.silence("up" if direction == "up" else "down")
    with pytest.raises(TimeoutError):
        await said(streams, b"later", 0.3)
    proxy.heal()
    assert await asyncio.wait_for(streams[0].read(1000), 2) == b"later"


async def test_each_chunk_is_held_up_each_way(through: tuple[Proxy, int]) -> None:
    proxy, port = through
    streams = await connected(port)
    proxy.delay_s = 0.1
    began = time.monotonic()
    assert await said(streams, b"slow") == b"slow"
    assert time.monotonic() - began >= 0.2
