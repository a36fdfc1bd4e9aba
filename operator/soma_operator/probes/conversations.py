"""What is said to a back end, without credentials, to see that it is there: a few bytes of its own protocol.

Host and port are chosen by whoever may create a SomaMemory, so what is told must not make the operator a scanner of
ports: only the system that was asked for is recognised, by words that no other system says. A closed port, a firewall,
a silent server and another system are all SILENT. Time, bytes and connections of a look are bounded.
"""

from __future__ import annotations

import asyncio
import contextlib
import math
import re
import ssl
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from functools import cache

from soma_operator.catalog.back_ends import BackEnd, Endpoint
from soma_operator.observe.dependencies import Answer, Sight
from soma_operator.probes import kafka
from soma_operator.probes.names import Names

LANES = 4
"""Addresses of one endpoint that are tried at once."""
_STAGGER = 0.25  # before the next address is tried beside one that has not answered
_LINE = 4096  # bytes of a line, or of a short page
_FAREWELL = 0.5
_GREETING = 0.05
_OBJECTION = 0.25  # within which a server that missed a certificate says so: in TLS 1.3 after the handshake
_SSL_REQUEST = bytes.fromhex("0000000804d2162f")
_REDIS = re.compile(rb"\+PONG\b|-[A-Z]{3,} ")  # a refusal is an answer too: -NOAUTH, -NOPERM, -DENIED, -LOADING
_QDRANT = b"healthz check passed"
_WANTS_CERTIFICATE = re.compile("ALERT.*(CERTIFICATE|HANDSHAKE_FAILURE)")
_ANSWERS, _SILENT, _NO_TLS = Answer(Sight.ANSWERS), Answer(Sight.SILENT), Answer(Sight.NO_TLS)

Stream = tuple[asyncio.StreamReader, asyncio.StreamWriter]
Address = tuple[str, int]


async def ask(endpoint: Endpoint, seconds: float, names: Names | None = None) -> Answer:
    """What the endpoint's system says within `seconds`, however many addresses it has; never raises for what a network
    can do.

    A few addresses are tried beside one another, the others after them: a silent one takes no time from the next.
    """
    known = names or Names()
    waiting = deque(endpoint.addresses)
    lanes = min(LANES, len(waiting))
    stagger = min(_STAGGER, seconds / (2 * LANES))
    share = (seconds - stagger * (lanes - 1)) / math.ceil(len(waiting) / lanes)
    tasks = [asyncio.create_task(_lane(endpoint, waiting, n * stagger, share, known)) for n in range(lanes)]
    found = _SILENT
    try:
        async with asyncio.timeout(seconds):
            for task in asyncio.as_completed(tasks):
                answer = await task
                if answer.sight is Sight.ANSWERS:
                    return answer
                found = answer if answer.sight is Sight.NO_TLS else found
    except TimeoutError:
        pass
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
    return found


async def _lane(endpoint: Endpoint, waiting: deque[Address], after: float, share: float, names: Names) -> Answer:
    await asyncio.sleep(after)
    found = _SILENT
    while waiting:
        host, port = waiting.popleft()
        try:
            async with asyncio.timeout(share):
                answer = await _host(endpoint, host, port, names)
        except (OSError, TimeoutError, EOFError, ValueError):
            continue
        if answer.sight is Sight.ANSWERS:
            return answer
        found = answer if answer.sight is Sight.NO_TLS else found
    return found


async def _host(endpoint: Endpoint, host: str, port: int, names: Names) -> Answer:
    """The first address of the name that takes a connection decides; raises OSError where none does."""
    problem = OSError("no address")
    for address in await names.addresses(host):
        try:
            return await _address(endpoint, address, port, host)
        except OSError as error:
            problem = error
    raise problem


async def _address(endpoint: Endpoint, address: str, port: int, host: str) -> Answer:
    if endpoint.back_end is BackEnd.POSTGRESQL:
        async with _connected(address, port) as stream:
            return await _postgresql(stream, encrypted=endpoint.tls)
    try:
        async with _connected(address, port, host if endpoint.tls else None) as stream:
            if endpoint.shows_certificate and not await _waits(stream[0], _OBJECTION):
                return _SILENT
            return await _CONVERSATIONS[endpoint.back_end](stream, endpoint)
    except ssl.SSLError as error:
        if endpoint.shows_certificate and _WANTS_CERTIFICATE.search(error.reason or ""):
            return _ANSWERS  # it speaks TLS, and refuses whoever shows no certificate: as it should
    except (ConnectionResetError, BrokenPipeError):
        if not endpoint.tls:
            raise
    # Is it the right system, only not encrypted? A failed handshake alone would tell of any open port.
    async with _connected(address, port) as stream:
        answer = await _CONVERSATIONS[endpoint.back_end](stream, endpoint)
    return _NO_TLS if answer.sight is Sight.ANSWERS else _SILENT


@asynccontextmanager
async def _connected(address: str, port: int, tls_name: str | None = None) -> AsyncIterator[Stream]:
    reader, writer = await asyncio.open_connection(
        address, port, limit=_LINE, ssl=_unverified() if tls_name else None, server_hostname=tls_name
    )
    try:
        yield reader, writer
        writer.close()
        with contextlib.suppress(OSError, TimeoutError):
            async with asyncio.timeout(_FAREWELL):
                await writer.wait_closed()
    finally:
        # Whoever did not answer in time would not answer a farewell either.
        writer.transport.abort()


@cache
def _unverified() -> ssl.SSLContext:
    """Nothing secret is said, and the authorities to trust stand in Secrets: the pods verify, the probe only looks."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


async def _postgresql(stream: Stream, *, encrypted: bool) -> Answer:
    reader, writer = stream
    writer.write(_SSL_REQUEST)
    willing = await reader.readexactly(1)
    if willing == b"S":
        # To the end of the handshake, where a client may leave without a line in the server's log.
        await writer.start_tls(_unverified())
        return _ANSWERS
    # PostgreSQL now waits for the client; a server that greets with a word of its own goes on.
    if willing != b"N" or not await _waits(reader, _GREETING):
        return _SILENT
    return _NO_TLS if encrypted else _ANSWERS


async def _waits(reader: asyncio.StreamReader, seconds: float) -> bool:
    """Whether nothing comes for so long."""
    try:
        async with asyncio.timeout(seconds):
            await reader.read(1)
    except TimeoutError:
        return True
    return False


async def _redis(stream: Stream, _: Endpoint) -> Answer:
    reader, writer = stream
    writer.write(b"PING\r\n")
    return _ANSWERS if _REDIS.match(await reader.readline()) else _SILENT


async def _qdrant(stream: Stream, endpoint: Endpoint) -> Answer:
    reader, writer = stream
    host = endpoint.addresses[0][0]
    writer.write(f"GET /healthz HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n".encode())
    page = b""
    while len(page) < _LINE and (more := await reader.read(_LINE)):
        page += more
        if _QDRANT in page:
            return _ANSWERS if page.startswith(b"HTTP/1.") else _SILENT
    return _SILENT


async def _kafka(stream: Stream, endpoint: Endpoint) -> Answer:
    reader, writer = stream

    async def exchange(request: bytes, largest: int) -> bytes:
        writer.write(request)
        size = int.from_bytes(await reader.readexactly(4), "big")
        if not 8 <= size <= largest:
            raise ValueError("not Kafka")
        return await reader.readexactly(size)

    kafka.check_versions(await exchange(kafka.versions_request(), kafka.LARGEST_VERSIONS))
    if not endpoint.topics:
        return _ANSWERS
    answer = await exchange(kafka.metadata_request(endpoint.topics), kafka.LARGEST_METADATA)
    reading = kafka.TopicReader(answer, endpoint.topics)
    for _ in reading.steps():
        await asyncio.sleep(0)
    return Answer(Sight.ANSWERS, tuple(topic for topic in endpoint.topics if topic not in reading.present))


_CONVERSATIONS: dict[BackEnd, Callable[[Stream, Endpoint], Awaitable[Answer]]] = {
    BackEnd.REDIS: _redis,
    BackEnd.QDRANT: _qdrant,
    BackEnd.KAFKA: _kafka,
}
