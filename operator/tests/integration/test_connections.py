"""The probe and metrics ports against clients that hold connections: they are closed in time, and lock nobody out."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import aiohttp
from aiohttp import web

from soma_operator.telemetry.connections import Connections

REQUEST = b"GET /livez HTTP/1.1\r\nHost: a\r\n\r\n"


@asynccontextmanager
async def serving(**bounds: float) -> AsyncIterator[tuple[Connections, int]]:
    async def answer(_: web.Request) -> web.Response:
        return web.Response(text="ok" * 100)

    application = web.Application()
    application.add_routes([web.get("/livez", answer)])
    runner = web.AppRunner(application, access_log=None, shutdown_timeout=0.1, lingering_time=0.1)
    await runner.setup()
    assert runner.server is not None
    connections = Connections(runner.server, **bounds)  # type: ignore[arg-type]
    server = await asyncio.get_running_loop().create_server(connections, "127.0.0.1", 0)
    try:
        yield connections, server.sockets[0].getsockname()[1]
    finally:
        server.close()
        await runner.cleanup()


async def closed(reader: asyncio.StreamReader) -> None:
    """Until the server has closed; what it says before does not matter."""
    async with asyncio.timeout(5):
        try:
            while await reader.read(1024):
                pass
        except ConnectionError:
            return


async def drip(writer: asyncio.StreamWriter, text: bytes) -> None:
    for byte in text * 1000:
        writer.write(bytes([byte]))
        await writer.drain()
        await asyncio.sleep(0.02)


async def test_who_sends_no_complete_request_is_closed() -> None:
    async with serving(request_seconds=0.2, idle_seconds=5) as (connections, port):
        for text in (b"", b"GET /livez HT", b"GET /livez HTTP/1.1\r\nX: " + b"a" * 100):
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(text)
            await closed(reader)
            writer.close()
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        dripping = asyncio.create_task(drip(writer, b"X-Slow: loris\r\n"))
        await closed(reader)
        dripping.cancel()
        await asyncio.sleep(0.05)
        assert len(connections) == 0


async def test_who_was_served_and_asks_no_more_or_half_is_closed() -> None:
    async with serving(request_seconds=0.2, idle_seconds=0.4) as (connections, port):
        for rest in (b"", REQUEST[:20]):
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(REQUEST + rest)
            assert b"200 OK" in await reader.readline()
            await closed(reader)
            writer.close()
        await asyncio.sleep(0.05)
        assert len(connections) == 0


async def test_a_thousand_silent_connections_lock_nobody_out() -> None:
    async with serving(most=16, request_seconds=60, idle_seconds=60) as (connections, port):
        held = [await asyncio.open_connection("127.0.0.1", port) for _ in range(200)]
        async with aiohttp.ClientSession() as session:
            for _ in range(3):
                async with session.get(f"http://127.0.0.1:{port}/livez") as answer:
                    assert answer.status == 200
            more = [await asyncio.open_connection("127.0.0.1", port) for _ in range(200)]
            # A connection that asks is kept before silent ones.
            async with session.get(f"http://127.0.0.1:{port}/livez") as answer:
                assert answer.status == 200
            assert session.connector is not None
        assert len(connections) <= 16
        for _, writer in (*held, *more):
            writer.transport.abort()
