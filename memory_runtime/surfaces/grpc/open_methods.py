"""Health and reflection, which callers without a token may ask: their requests are tiny, and few are read at once."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any, Final

import grpc
import grpc.aio

from memory_runtime.access import ReadingPlaces
from memory_runtime.model.errors import PayloadTooLarge, SomaError
from memory_runtime.surfaces.grpc.failing import abort, bare, one_message, parsed

READERS: Final = 4
PATIENCE_SECONDS: Final = 0.05
"""How long one may hold up those who wait. What is sent whole, as these requests are, is read at once."""
LARGEST_REQUEST: Final = 64 << 10


def open_places() -> ReadingPlaces:
    """The places that the requests of all open methods share."""
    return ReadingPlaces(lambda: READERS, patience=PATIENCE_SECONDS, newest_first=True)


def open_handler(handler: Any, places: ReadingPlaces) -> Any:
    """The handler with each of its requests read in one of the places; otherwise as it is."""
    if handler.unary_unary is not None:
        behaviour = _unary(handler, places)
        return grpc.stream_unary_rpc_method_handler(behaviour, None, handler.response_serializer)
    watching = handler.unary_stream is not None
    behaviour = _watching(handler, places) if watching else _streaming(handler, places)
    return grpc.stream_stream_rpc_method_handler(behaviour, None, handler.response_serializer)


async def _request(handler: Any, places: ReadingPlaces, context: Any) -> Any:
    try:
        return parsed(handler, _small(one_message(await places.read(context.read))))
    except SomaError as error:
        failure = bare(error)
    return await abort(context, failure)


def _unary(handler: Any, places: ReadingPlaces) -> Any:
    async def call(_: Any, context: Any) -> Any:
        return await handler.unary_unary(await _request(handler, places, context), context)

    return call


def _watching(handler: Any, places: ReadingPlaces) -> Any:
    async def call(_: Any, context: Any) -> None:
        await handler.unary_stream(await _request(handler, places, context), context)

    return call


def _streaming(handler: Any, places: ReadingPlaces) -> Any:
    async def call(_: Any, context: Any) -> AsyncIterator[Any]:
        async def requests() -> AsyncIterator[Any]:
            while (raw := await places.read(context.read)) is not grpc.aio.EOF:
                yield parsed(handler, _small(raw))

        failure = None
        try:
            async for answer in handler.stream_stream(requests(), context):
                yield answer
        except SomaError as error:
            failure = bare(error)
        if failure is not None:
            await abort(context, failure)

    return call


def _small(raw: bytes) -> bytes:
    if len(raw) > LARGEST_REQUEST:
        message = f"the request is larger than {LARGEST_REQUEST} bytes"
        raise PayloadTooLarge(message, remedy="a request of this method is tiny")
    return raw
