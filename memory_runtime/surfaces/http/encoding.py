"""JSON answers made piece by piece: small ones at once, large ones in a thread, none larger than the bound.

One call of the encoder holds the interpreter until it is done. 300 MiB in one go stopped the event loop, and with it
every probe, for two seconds.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Final

from starlette.background import BackgroundTask
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from memory_runtime.model.threads import in_thread
from memory_runtime.stores.answer_size import too_large
from memory_runtime.surfaces.explanations import plain

AT_ONCE: Final = 256 * 1024
"""Bytes that are encoded on the event loop: about a millisecond."""
_CHUNK: Final = 1 << 20
_ENCODER: Final = json.JSONEncoder(ensure_ascii=False, allow_nan=False, separators=(",", ":"))


def pieces(value: Any) -> Iterator[bytes]:
    """The JSON of a value: a mapping or an iterable member by member, two levels deep; anything else in one piece."""
    return _pieces(value, 3)


def _pieces(value: Any, depth: int) -> Iterator[bytes]:
    if depth and isinstance(value, Mapping):
        yield from _members(
            b"{}", ((_ENCODER.encode(str(key)).encode() + b":", one) for key, one in value.items()), depth
        )
    elif depth and isinstance(value, list | tuple | Iterator):
        yield from _members(b"[]", ((b"", one) for one in value), depth)
    else:
        yield _encoded(value)


def _encoded(value: Any) -> bytes:
    try:
        return _ENCODER.encode(value).encode()
    except ValueError:
        # a ledger of before non-finite numbers were refused may hold one: it is shown as null, and answers go on
        return _ENCODER.encode(plain(value)).encode()


def _members(brackets: bytes, members: Iterable[tuple[bytes, Any]], depth: int) -> Iterator[bytes]:
    yield brackets[:1]
    comma = b""
    for head, value in members:
        yield comma + head
        # a list's own mappings are its members: records, which are small enough for one piece each
        yield from _pieces(value, 0 if brackets == b"[]" and isinstance(value, Mapping) else depth - 1)
        comma = b","
    yield brackets[1:]


class _Bounded:
    """Pieces, of at most `most` bytes together."""

    def __init__(self, made: Iterator[bytes], most: int) -> None:
        self._made, self._most = made, most
        self.parts: list[bytes] = []
        self.length = 0

    def take(self, until: float) -> bool:
        """Takes pieces until there are so many bytes, or all: then True. Raises PayloadTooLarge."""
        for piece in self._made:
            self.parts.append(piece)
            self.length += len(piece)
            if self.length > self._most:
                raise too_large(self._most)
            if self.length >= until:
                return False
        return True


def encoded(body: Any, headers: Mapping[str, str] | None, most: int) -> Response:
    """The response; what is not small is encoded when it is sent. Raises PayloadTooLarge, then or now."""
    bounded = _Bounded(pieces(body), most)
    if bounded.take(AT_ONCE):
        return Response(b"".join(bounded.parts), headers=headers, media_type="application/json")
    return _Large(bounded, headers)


class _Large(Response):
    """Encoded beside the event loop, and sent in chunks that the client must have taken before the next."""

    media_type = "application/json"

    def __init__(self, bounded: _Bounded, headers: Mapping[str, str] | None) -> None:
        self._bounded = bounded
        self.status_code = 200
        self.background: BackgroundTask | None = None
        self.body = b""
        self.init_headers(headers)
        del self.headers["content-length"]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await in_thread(self._bounded.take, float("inf"))
        body = memoryview(await in_thread(b"".join, self._bounded.parts))
        self._bounded.parts.clear()
        self.headers["content-length"] = str(len(body))
        await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
        for start in range(0, len(body), _CHUNK):
            more = start + _CHUNK < len(body)
            await send({"type": "http.response.body", "body": bytes(body[start : start + _CHUNK]), "more_body": more})
