"""The probes against servers that wish them ill: no look takes longer, keeps more or tells more than it may."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
import struct
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from hack.services.certificates import Authority
from hack.services.service import free_port
from soma_operator.catalog.back_ends import BackEnd, Endpoint
from soma_operator.observe.dependencies import Answer, Sight
from soma_operator.probes import kafka
from soma_operator.probes.conversations import LANES, ask

UP, DOWN, NO_TLS = Answer(Sight.ANSWERS), Answer(Sight.SILENT), Answer(Sight.NO_TLS)
SECONDS = 0.4
Behaviour = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


async def says_nothing(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while await reader.read(1024):
        pass


async def closes_at_once(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    return


async def resets(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await reader.read(1)
    writer.transport.abort()


async def drips(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while True:
        writer.write(b"\x00")
        await writer.drain()
        await asyncio.sleep(0.02)


async def never_ends(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while True:
        writer.write(b"HTTP/1.1 200 OK +PON" * 4096)
        await writer.drain()


async def promises_gigabytes(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.write(b"\x7f\xff\xff\xff")
    while True:
        writer.write(bytes(65536))
        await writer.drain()


async def stalls_the_handshake(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await reader.read(1)
    writer.write(b"S\x16\x03\x03\x40\x00")
    while await reader.read(1024):
        pass


def greets(word: bytes) -> Behaviour:
    async def greet(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(word)
        await writer.drain()
        await reader.read(1024)
        writer.write(word)
        await reader.read()

    return greet


HOSTILE = {
    "silent": says_nothing,
    "closing": closes_at_once,
    "resetting": resets,
    "dripping": drips,
    "endless": never_ends,
    "gigabytes": promises_gigabytes,
    "stalled handshake": stalls_the_handshake,
}
OTHERS = {
    "ssh": greets(b"SSH-2.0-OpenSSH_9.6\r\n"),
    "smtp": greets(b"220 mail ESMTP\r\n"),
    "pop3": greets(b"+OK ready\r\n"),
    "nntp": greets(b"NNTP ready\r\n"),
    "memcached": greets(b"ERROR\r\n"),
    "http": greets(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"),
    "http refusing": greets(b"HTTP/1.1 400 Bad Request\r\n\r\n"),
}


class Served:
    """A server on loopback; `open` counts the connections that are still open."""

    port = 0
    open = 0
    seen = 0


@asynccontextmanager
async def server(behave: Behaviour, tls: ssl.SSLContext | None = None) -> AsyncIterator[Served]:
    served = Served()

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        served.open += 1
        served.seen += 1
        try:
            with contextlib.suppress(OSError, asyncio.IncompleteReadError):
                await behave(reader, writer)
        finally:
            served.open -= 1
            writer.transport.abort()

    made = await asyncio.start_server(handle, "127.0.0.1", 0, ssl=tls)
    served.port = made.sockets[0].getsockname()[1]
    try:
        yield served
    finally:
        made.close()


async def settled(served: Served) -> None:
    for _ in range(100):
        if not served.open:
            return
        await asyncio.sleep(0.01)
    raise AssertionError(f"{served.open} connections are still open")


def at(back_end: BackEnd, *ports: int, tls: bool = False, certificate: bool = False) -> Endpoint:
    topics = ("memory.dlq", "memory.events") if back_end is BackEnd.KAFKA else ()
    return Endpoint(back_end, tuple(("127.0.0.1", port) for port in ports), tls, certificate, topics)


@pytest.mark.parametrize("name", HOSTILE)
async def test_a_hostile_server_costs_one_look_no_more_than_its_time(name: str) -> None:
    async with server(HOSTILE[name]) as served:
        for back_end in BackEnd:
            for tls in (False, True):
                async with asyncio.timeout(SECONDS + 1.5):
                    assert await ask(at(back_end, served.port, tls=tls), SECONDS) == DOWN, (back_end, tls)
        assert served.seen >= 2 * len(BackEnd)
        await settled(served)


@pytest.mark.parametrize("name", OTHERS)
async def test_another_system_is_told_as_a_closed_port_is(name: str) -> None:
    closed = free_port()
    async with server(OTHERS[name]) as served:
        for back_end in BackEnd:
            for tls in (False, True):
                for certificate in (False, tls):
                    there = await ask(at(back_end, served.port, tls=tls, certificate=certificate), SECONDS)
                    assert there == await ask(at(back_end, closed, tls=tls, certificate=certificate), SECONDS) == DOWN


def contexts(place: Path) -> tuple[ssl.SSLContext, ssl.SSLContext]:
    """A server that takes everybody, and one that demands a certificate."""
    authority = Authority(place)
    pair = authority.issue("server")
    found = []
    for demand in (ssl.CERT_NONE, ssl.CERT_REQUIRED):
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(pair.certificate, pair.key)
        context.load_verify_locations(authority.certificate)
        context.verify_mode = demand
        found.append(context)
    return found[0], found[1]


async def test_of_tls_servers_only_the_right_system_and_who_demands_a_certificate_are_recognised(
    tmp_path: Path,
) -> None:
    anybody, strict = contexts(tmp_path)
    async with server(greets(b"hello"), anybody) as other, server(greets(b"+PONG\r\n"), anybody) as redis:
        for back_end in BackEnd:
            for certificate in (False, True):
                assert await ask(at(back_end, other.port, tls=True, certificate=certificate), SECONDS) == DOWN
        assert await ask(at(BackEnd.REDIS, redis.port, tls=True), SECONDS) == UP
    with demanding(strict) as port:
        for back_end in (BackEnd.REDIS, BackEnd.QDRANT, BackEnd.KAFKA):
            assert await ask(at(back_end, port, tls=True, certificate=True), 2.0) == UP
            assert await ask(at(back_end, port, tls=True), SECONDS) == DOWN


@contextlib.contextmanager
def demanding(context: ssl.SSLContext) -> Iterator[int]:
    """A server of its own thread, as asyncio's closes without the alert that says which certificate was missed."""

    def serve() -> None:
        with contextlib.suppress(OSError):
            while True:
                connection, _ = listener.accept()
                with contextlib.suppress(OSError), context.wrap_socket(connection, server_side=True) as stream:
                    stream.recv(1024)

    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        yield listener.getsockname()[1]
        listener.shutdown(socket.SHUT_RDWR)
        thread.join(5)


async def test_the_right_system_in_the_clear_is_told_where_tls_is_wanted() -> None:
    async with server(greets(b"+PONG\r\n")) as served:
        assert await ask(at(BackEnd.REDIS, served.port, tls=True), SECONDS) == NO_TLS


async def test_silent_brokers_do_not_hide_the_one_that_answers() -> None:
    async def broker(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        for body in (struct.pack(">ihi", 18, 0, 1) + bytes(6), struct.pack(">iiihii", 3, 0, 0, -1, 1, 0)):
            await reader.readexactly(int.from_bytes(await reader.readexactly(4), "big"))
            writer.write(struct.pack(">i", len(body)) + body)

    async with server(says_nothing) as silent, server(broker) as real:
        answer = await ask(at(BackEnd.KAFKA, *[silent.port] * 15, real.port), 2.0)
        assert answer == Answer(Sight.ANSWERS, ("memory.dlq", "memory.events"))
        await settled(silent)


async def test_one_look_has_few_connections_open_however_many_brokers_are_named() -> None:
    most = 0
    async with server(says_nothing) as silent:
        look = asyncio.create_task(ask(at(BackEnd.KAFKA, *[silent.port] * 16), SECONDS))
        while not look.done():
            most = max(most, silent.open)
            await asyncio.sleep(0.005)
        assert await look == DOWN
        assert silent.seen == 16
        assert most <= LANES + 1  # one that is being closed counts still


async def test_a_large_answer_is_read_in_steps_that_leave_the_loop_to_others() -> None:
    entry = struct.pack(">hii", 0, 0, 1) + struct.pack(">ii", 0, -1)
    count = (kafka.LARGEST_METADATA - 64) // len(entry)
    topic = struct.pack(">hh", 0, 10) + b"memory.dlq" + b"\x00" + struct.pack(">i", count) + entry * count
    metadata = struct.pack(">iiihii", 3, 0, 0, -1, 1, 1) + topic

    async def broker(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        for body in (struct.pack(">ihi", 18, 0, 1) + bytes(6), metadata):
            await reader.readexactly(int.from_bytes(await reader.readexactly(4), "big"))
            writer.write(struct.pack(">i", len(body)) + body)

    turns = 0

    async def others() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    async with server(broker) as served:
        counting = asyncio.create_task(others())
        answer = await ask(at(BackEnd.KAFKA, served.port), 5.0)
        counting.cancel()
        assert answer == Answer(Sight.ANSWERS, ("memory.events",))
        assert turns >= count // kafka.STEP
