"""What is said to a back end, without credentials, to see that it is there: a few bytes of its own protocol."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

from soma_operator.catalog.back_ends import BackEnd, Endpoint
from soma_operator.observe.dependencies import Answer, Sight
from soma_operator.probes import kafka

_SSL_REQUEST = bytes.fromhex("0000000804d2162f")
_ANSWERS, _SILENT, _NO_TLS = Answer(Sight.ANSWERS), Answer(Sight.SILENT), Answer(Sight.NO_TLS)

Stream = tuple[asyncio.StreamReader, asyncio.StreamWriter]


class NoTLSError(Exception):
    """It answers, and does not speak TLS."""


async def ask(endpoint: Endpoint, seconds: float) -> Answer:
    """The first address that answers, within `seconds` for each; never raises for what a network can do."""
    found = _SILENT
    for host, port in endpoint.addresses:
        try:
            async with asyncio.timeout(seconds):
                return await _ask(endpoint, host, port)
        except NoTLSError:
            found = _NO_TLS
        except ssl.SSLError as error:
            if endpoint.shows_certificate and "ALERT" in (error.reason or ""):
                return _ANSWERS  # it speaks TLS, and refuses whoever shows no certificate: as it should
            found = _NO_TLS
        except (OSError, TimeoutError, EOFError, ValueError):
            continue
    return found


async def _ask(endpoint: Endpoint, host: str, port: int) -> Answer:
    if endpoint.back_end is BackEnd.POSTGRESQL:
        async with _connected(host, port, tls=False) as stream:
            return await _postgresql(stream, encrypted=endpoint.tls)
    async with _connected(host, port, tls=endpoint.tls) as stream:
        if endpoint.tls and endpoint.shows_certificate:
            return _ANSWERS
        return await _CONVERSATIONS[endpoint.back_end](stream, endpoint)


@asynccontextmanager
async def _connected(host: str, port: int, *, tls: bool) -> AsyncIterator[Stream]:
    reader, writer = await asyncio.open_connection(host, port, ssl=_unverified() if tls else None)
    try:
        yield reader, writer
    except BaseException:
        # Whoever did not answer in time would not answer a farewell either.
        writer.transport.abort()
        raise
    writer.close()
    with contextlib.suppress(OSError):
        await writer.wait_closed()


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
    if willing != b"N":
        return _SILENT
    if encrypted:
        raise NoTLSError
    return _ANSWERS


async def _redis(stream: Stream, _: Endpoint) -> Answer:
    reader, writer = stream
    writer.write(b"PING\r\n")
    # Whoever asks for a password answers too: -NOAUTH, -NOPERM.
    return _ANSWERS if (await reader.readline())[:1] in (b"+", b"-") else _SILENT


async def _qdrant(stream: Stream, endpoint: Endpoint) -> Answer:
    reader, writer = stream
    host = endpoint.addresses[0][0]
    writer.write(f"GET /healthz HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n".encode())
    return _ANSWERS if (await reader.readline()).startswith(b"HTTP/1.") else _SILENT


async def _kafka(stream: Stream, endpoint: Endpoint) -> Answer:
    reader, writer = stream

    async def exchange(request: bytes) -> bytes:
        writer.write(request)
        size = int.from_bytes(await reader.readexactly(4), "big")
        if not 8 <= size <= kafka.LARGEST_ANSWER:
            raise ValueError("not Kafka")
        return await reader.readexactly(size)

    kafka.check_versions(await exchange(kafka.versions_request()))
    if not endpoint.topics:
        return _ANSWERS
    present = kafka.topics_present(await exchange(kafka.metadata_request(endpoint.topics)))
    return Answer(Sight.ANSWERS, tuple(topic for topic in endpoint.topics if topic not in present))


_CONVERSATIONS: dict[BackEnd, Callable[[Stream, Endpoint], Awaitable[Answer]]] = {
    BackEnd.REDIS: _redis,
    BackEnd.QDRANT: _qdrant,
    BackEnd.KAFKA: _kafka,
}
