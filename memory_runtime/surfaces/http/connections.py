"""A connection of the HTTP server: uvicorn's own protocol, with an end to every wait and a bound on their number.

uvicorn waits for ever for a first request, for the rest of one whose headers have begun, and for a client that does
not read its answer. Here each state of a connection has its time; and when there are too many connections, the one
that has been silent for longest makes room, so that whoever comes with a request (a probe, too) is served.
"""

from __future__ import annotations

import asyncio
import enum
import logging
import sys
from collections.abc import Callable
from typing import Any, ClassVar, Final, cast

import h11
from uvicorn.protocols.http.h11_impl import STATUS_PHRASES, H11Protocol

from memory_runtime.model.errors import SomaError, Unavailable
from memory_runtime.surfaces.http import wire

MOST_CONNECTIONS: Final = 2048
HEADER_SECONDS: Final = 10.0
"""From the connection, or a request's first byte, to the end of its headers."""
IDLE_SECONDS: Final = 75
"""Between two requests."""
LINGER_SECONDS: Final = 5.0
"""How long the rest of a request is taken in and thrown away after it was answered: a close would lose the answer."""
READING_SECONDS: Final = 10.0
"""How long a client may take to read anything at all of its answer."""

_log = logging.getLogger("memory_runtime.http.connection")
# uvicorn would log each malformed request as a warning: anybody could fill the log
_log.setLevel(logging.ERROR)


class State(enum.IntEnum):
    """What a connection does, in the order in which connections make room for others."""

    OPENING = 0
    """No whole request yet, or what is left of one that was answered."""
    IDLE = 1
    BUSY = 2


class TimedProtocol(H11Protocol):
    """One connection. `refused` hears of the status of each refusal that no application sees."""

    refused: ClassVar[Callable[[int], None]] = staticmethod(lambda _: None)
    most: ClassVar[int] = MOST_CONNECTIONS

    def __init__(self, *arguments: Any, **named: Any) -> None:
        super().__init__(*arguments, **named)
        self.logger = _log
        self.state = State.OPENING
        self.since = 0.0
        self._timer: asyncio.TimerHandle | None = None
        self._ended = False
        self._unread = 0

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Takes the connection in, and lets another go where there are too many."""
        super().connection_made(transport)
        self._enter(State.OPENING, HEADER_SECONDS)
        if len(self.connections) > self.most:
            self._make_room()

    def connection_lost(self, exc: Exception | None) -> None:
        """Ends the timer with the connection."""
        self._stop_timer()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Feeds the parser; a first byte starts the time for a request's headers."""
        if self._ended:
            return
        if self.state is State.IDLE:
            self._enter(State.OPENING, HEADER_SECONDS)
        try:
            super().data_received(data)
        except h11.LocalProtocolError:
            # a malformed rest of a request whose answer has begun: nothing can be said any more
            self.transport.abort()
            return
        self._look()

    def on_response_complete(self) -> None:
        """The next request's time begins; that of who has not read the answer, or not sent it all, goes on."""
        whole = self.conn.their_state is not h11.SEND_BODY
        super().on_response_complete()
        if self.cycle.response_complete:
            if self.transport.is_closing():
                self._enter(State.OPENING, READING_SECONDS)
            else:
                self._enter(*((State.IDLE, IDLE_SECONDS) if whole else (State.OPENING, LINGER_SECONDS)))
        self._look()

    def send_400_response(self, msg: str) -> None:
        """Answers what the parser refused, in the one error body; called while its error is handled."""
        error = sys.exc_info()[1]
        hint = getattr(error, "error_status_hint", 400)
        line_only = b"\n" not in self.conn.trailing_data[0].lstrip(b"\r\n")
        self.refuse(wire.malformed(hint, str(error) or msg, line_only=line_only))

    def refuse(self, error: SomaError) -> None:
        """Answers with the error, where nothing was answered yet, and ends the connection.

        What the client is still sending is read for a while: a close would reset the connection, and lose the answer.
        """
        if self._ended or self.transport.is_closing():
            return
        self._ended = True
        status, headers, body = wire.raw_response(error)
        if error.retry_after is not None:
            headers.append((b"retry-after", b"1"))
        try:
            response = h11.Response(status_code=status, headers=headers, reason=STATUS_PHRASES[status])
            output = self.conn.send(response) or b""
            output += self.conn.send(h11.Data(data=body)) or b""
            output += self.conn.send(h11.EndOfMessage()) or b""
        except h11.LocalProtocolError:
            self.transport.abort()
            return
        type(self).refused(status)
        self.transport.write(output)
        self._enter(State.OPENING, LINGER_SECONDS)
        if self.transport.can_write_eof():
            self.transport.write_eof()
        self.flow.resume_reading()
        if self.cycle is not None and not self.cycle.response_complete:
            self.cycle.disconnected = True
            self.cycle.message_event.set()

    def shutdown(self) -> None:
        """Ends the connection at the server's end."""
        if self._ended:
            self.transport.close()
            return
        super().shutdown()

    def _look(self) -> None:
        """Whether a request is being served now."""
        if self._ended or self.transport.is_closing() or self.cycle is None or self.cycle.response_complete:
            return
        if self.state is not State.BUSY:
            self._enter(State.BUSY, READING_SECONDS)

    def _enter(self, state: State, seconds: float) -> None:
        self._stop_timer()
        self.state, self.since, self._unread = state, self.loop.time(), 0
        self._timer = self.loop.call_later(seconds, self._expired)

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _expired(self) -> None:
        self._timer = None
        waiting = self.transport.get_write_buffer_size()
        if self.state is State.BUSY:
            # the request itself ends at its deadline: here only one who does not read its answer is sent away
            if self.transport.is_closing() or (waiting and waiting == self._unread):
                self.transport.abort()
                return
            self._unread = waiting
            self._timer = self.loop.call_later(READING_SECONDS, self._expired)
        elif self.transport.is_closing() or self._ended or waiting:
            self.transport.abort()
        elif self.state is State.OPENING and self.conn.trailing_data[0]:
            self.refuse(
                wire.RequestTimeout(
                    f"the headers did not arrive within {HEADER_SECONDS:g} s", remedy="send the request at once"
                )
            )
        else:
            self.transport.close()

    def _make_room(self) -> None:
        """Closes the connection that has been silent for longest; this one itself where all are being served."""
        silent = [
            one
            for one in cast("set[TimedProtocol]", self.connections)
            if one is not self and one.state is not State.BUSY
        ]
        if not silent:
            error = Unavailable(
                "too many connections", remedy="try again a little later, over fewer connections", retry_after=1.0
            )
            self.refuse(error)
            return
        oldest = min(silent, key=lambda one: (one.state, one.since))
        self.connections.discard(oldest)
        oldest.transport.abort()


def timed_protocol(refused: Callable[[int], None], most: int = MOST_CONNECTIONS) -> type[TimedProtocol]:
    """A protocol class for one server; `refused` is called with the status of each refusal."""
    return type("TimedProtocol", (TimedProtocol,), {"refused": staticmethod(refused), "most": most})
