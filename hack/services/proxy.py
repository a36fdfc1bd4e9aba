"""A TCP proxy for tests that does on demand what networks do at night: delay, trickle, partition, reset.

It runs on a thread of its own, so that blocking and asynchronous tests alike can turn its knobs while traffic flows.
"""

from __future__ import annotations

import asyncio
import socket
import struct
import threading
import time
from collections.abc import Coroutine, Sequence
from types import TracebackType
from typing import Any, Literal, TypeVar
from urllib.parse import urlsplit, urlunsplit

from hack.services.service import free_port

T = TypeVar("T")
Direction = Literal["requests", "replies"]
_CHUNK = 16_384
_HELD_CHUNKS = 64


class FaultProxy:
    """Forwards a loopback port to another address; everything passes until a fault is asked for.

    Attributes:
        port: where clients connect; kept across `cut` and `heal`.
        latency: seconds that every chunk is late, in each direction; order and throughput stay.
        bandwidth: bytes a second in each direction; None is no limit.
        connections: how many connections have been made.
    """

    def __init__(self, host: str, port: int) -> None:
        self._target = (host, port)
        self.port = free_port()
        self.latency = 0.0
        self.bandwidth: float | None = None
        self.connections = 0
        self._flowing: dict[Direction, asyncio.Event] = {"requests": asyncio.Event(), "replies": asyncio.Event()}
        self._writers: set[asyncio.StreamWriter] = set()
        self._passing: set[asyncio.Event] = set()
        self._server: asyncio.Server | None = None
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="fault-proxy", daemon=True)

    @classmethod
    def before(cls, url: str, default_port: int = 0) -> FaultProxy:
        """A proxy before the service of that URL; `url` gives the URL to use instead."""
        parts = urlsplit(url if "//" in url else f"//{url}")
        return cls(parts.hostname or "127.0.0.1", parts.port or default_port)

    def url(self, original: str) -> str:
        """The same URL (or host:port) by way of the proxy."""
        if "//" not in original:
            return f"127.0.0.1:{self.port}"
        parts = urlsplit(original)
        user, at, _ = parts.netloc.rpartition("@")
        return urlunsplit(parts._replace(netloc=f"{user}{at}127.0.0.1:{self.port}"))

    def lead_to(self, host: str, port: int) -> None:
        """Another server answers from here on, as behind a Service; connections to the one of before are reset."""
        self._target = (host, port)
        self.drop()

    def __enter__(self) -> FaultProxy:
        self._thread.start()
        self.heal()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._run(self._close())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(5)
        self._loop.close()

    def cut(self) -> None:
        """Resets every connection, and refuses new ones until `heal`: the process behind is gone."""
        self._run(self._cut())

    def drop(self) -> None:
        """Resets every connection; new ones pass."""
        self._run(self._reset())

    def stall(self, *directions: Direction) -> None:
        """Holds the bytes of these directions (of both, where none is named) and tells nobody: a partition.

        Connections are accepted and stay open. With "replies" alone the service does the work and the client waits.
        """
        self._run(self._flow(set(self._flowing) - set(directions or self._flowing)))

    def hold(self) -> None:
        """Holds what the connections of this moment send, until `heal`, also if the client closes; new ones pass."""
        self._run(self._set_passing(passing=False))

    def heal(self) -> None:
        """Ends every fault; what was held back arrives."""
        self.latency, self.bandwidth = 0.0, None
        self._run(self._flow(set(self._flowing)))
        self._run(self._set_passing(passing=True))
        self._run(self._listen())

    def _run(self, coroutine: Coroutine[Any, Any, T]) -> T:
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop).result(10)

    async def _flow(self, flowing: set[Direction]) -> None:
        for direction, event in self._flowing.items():
            if direction in flowing:
                event.set()
            else:
                event.clear()

    async def _set_passing(self, *, passing: bool) -> None:
        for event in self._passing:
            event.set() if passing else event.clear()

    async def _listen(self) -> None:
        if self._server is None:
            self._server = await asyncio.start_server(self._serve, "127.0.0.1", self.port)

    async def _cut(self) -> None:
        if self._server is not None:
            self._server.close()
            self._server = None
        await self._reset()

    async def _reset(self) -> None:
        for writer in list(self._writers):
            sock: socket.socket | None = writer.get_extra_info("socket")
            if sock is not None and sock.fileno() >= 0:
                # linger of zero seconds: the close is an RST, as from a host that has forgotten the connection
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            writer.transport.abort()
        await asyncio.sleep(0)

    async def _close(self) -> None:
        await self._cut()
        # until there is none: a connection may have been accepted a moment ago
        while others := asyncio.all_tasks() - {asyncio.current_task()}:
            for task in others:
                task.cancel()
            await asyncio.gather(*others, return_exceptions=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        self._writers.add(writer)
        upstream: asyncio.StreamWriter | None = None
        passing = asyncio.Event()
        passing.set()
        self._passing.add(passing)
        try:
            behind, upstream = await asyncio.open_connection(*self._target)
            self._writers.add(upstream)
            await asyncio.gather(
                self._pump(reader, upstream, self._flowing["requests"], passing),
                self._pump(behind, writer, self._flowing["replies"]),
            )
        except (OSError, asyncio.CancelledError):
            pass  # either side went away, or the proxy ends: so does the connection
        finally:
            self._passing.discard(passing)
            for one in (writer, upstream):
                if one is not None:
                    self._writers.discard(one)
                    one.transport.abort()

    async def _pump(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *gates: asyncio.Event) -> None:
        held: asyncio.Queue[tuple[float, bytes]] = asyncio.Queue(_HELD_CHUNKS)
        delivery = asyncio.create_task(self._deliver(held, writer, gates))
        try:
            while not delivery.done():
                chunk = await reader.read(_CHUNK)
                await held.put((time.monotonic() + self.latency, chunk))
                if not chunk:
                    break
            await delivery
        finally:
            delivery.cancel()

    async def _deliver(
        self, held: asyncio.Queue[tuple[float, bytes]], writer: asyncio.StreamWriter, gates: Sequence[asyncio.Event]
    ) -> None:
        while True:
            due, chunk = await held.get()
            await asyncio.sleep(max(0.0, due - time.monotonic()))
            for gate in gates:
                await gate.wait()
            if not chunk:
                if writer.can_write_eof():
                    writer.write_eof()
                return
            writer.write(chunk)
            await writer.drain()
            if self.bandwidth is not None:
                await asyncio.sleep(len(chunk) / self.bandwidth)
