"""Connections to the probe and metrics ports, bounded in number and time: whoever reaches the port may hold few of
them, and none for long."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import cast

MOST = 64
REQUEST_SECONDS = 5.0
IDLE_SECONDS = 30.0
_END = b"\r\n\r\n"


class Connections:
    """Makes the protocol of each connection to one port. One that sends no complete request within `request_seconds`,
    or no other one within `idle_seconds`, is closed. Beyond `most` the one that has asked for nothing for longest is
    closed, never the newest: so whoever fills the port locks nobody out."""

    def __init__(
        self,
        inner: Callable[[], asyncio.BaseProtocol],
        *,
        most: int = MOST,
        request_seconds: float = REQUEST_SECONDS,
        idle_seconds: float = IDLE_SECONDS,
    ) -> None:
        self._inner = inner
        self._most = most
        self.request_seconds = request_seconds
        self.idle_seconds = idle_seconds
        # In the order of their last complete request, those that never sent one first.
        self._silent: dict[_Connection, None] = {}
        self._served: dict[_Connection, None] = {}

    def __call__(self) -> asyncio.Protocol:
        """The protocol of one more connection."""
        return _Connection(self, cast(asyncio.Protocol, self._inner()))

    def __len__(self) -> int:
        return len(self._silent) + len(self._served)

    def opened(self, connection: _Connection) -> None:
        """It is there; another may have to go."""
        if len(self) >= self._most:
            oldest = next(iter(self._silent or self._served))
            self.closed(oldest)
            oldest.abort()
        self._silent[connection] = None

    def asked(self, connection: _Connection) -> None:
        """It has sent a complete request."""
        self.closed(connection)
        self._served[connection] = None

    def has_served(self, connection: _Connection) -> bool:
        """Whether it has sent a complete request before."""
        return connection in self._served

    def closed(self, connection: _Connection) -> None:
        """It counts no more."""
        self._silent.pop(connection, None)
        self._served.pop(connection, None)


class _Connection(asyncio.Protocol):
    """Passes everything on, and watches the time."""

    def __init__(self, connections: Connections, inner: asyncio.Protocol) -> None:
        self._connections = connections
        self._inner = inner
        self._transport: asyncio.Transport | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._tail = b""
        self._waiting = True

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self._connections.opened(self)
        self._arm(self._connections.request_seconds)
        self._inner.connection_made(transport)

    def data_received(self, data: bytes) -> None:
        text = self._tail + data
        self._tail = text[-3:]
        if _END in text:
            self._tail, self._waiting = b"", True
            self._connections.asked(self)
            self._arm(self._connections.idle_seconds)
        elif self._waiting and self._connections.has_served(self):
            # The first bytes of another request on a connection that is kept.
            self._waiting = False
            self._arm(self._connections.request_seconds)
        self._inner.data_received(data)

    def eof_received(self) -> bool | None:
        return self._inner.eof_received()

    def connection_lost(self, exc: Exception | None) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._connections.closed(self)
        self._inner.connection_lost(exc)

    def pause_writing(self) -> None:
        self._inner.pause_writing()

    def resume_writing(self) -> None:
        self._inner.resume_writing()

    def abort(self) -> None:
        """Close at once, whatever is still to be written."""
        if self._transport is not None:
            self._transport.abort()

    def _arm(self, seconds: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer = asyncio.get_running_loop().call_later(seconds, self.abort)
