"""The watch streams: the session that they run in, and whether each of them is alive.

The session rewrites what is asked for: of kinds whose values are not ours to read only metadata is streamed. It also
sees every stream open and end, which is the only way to notice one that died while the process lives.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import aiohttp
from aiohttp.client_middlewares import ClientHandlerType
from kubernetes.aio.client.configuration import Configuration
from kubernetes.aio.client.rest import RESTClientObject

from soma_operator.catalog.kinds import Kind
from soma_operator.cluster.client import accept
from soma_operator.telemetry import metrics

SERVER_TIMEOUT = 240
"""Seconds after which the server ends a stream, so that a live one is seen to open again."""
GRACE = 90.0


@dataclass(slots=True)
class Stream:
    """Last thing known of one kind's stream. Times are of the monotonic clock."""

    opened: float | None = None
    listed: float | None = None
    status: int = 0


class Streams:
    """What the middleware saw of the streams of `kinds`."""

    def __init__(self, kinds: Iterable[Kind], *, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._started = clock()
        self._changed = asyncio.Event()
        self._by_path = {kind.path(): kind for kind in kinds}
        self._streams: dict[Kind, Stream] = {kind: Stream() for kind in self._by_path.values()}

    async def middleware(self, request: aiohttp.ClientRequest, handler: ClientHandlerType) -> aiohttp.ClientResponse:
        """Ask for metadata only where that is all we may read, and note how the request went."""
        kind = self._by_path.get(request.url.path)
        watching = "watch" in request.url.query
        if kind is not None:
            request.headers["Accept"] = accept(kind, many=not watching)
        response = await handler(request)
        if kind is not None:
            self.saw(kind, response.status, watching=watching)
            metrics.API_REQUESTS.labels("WATCH" if watching else "LIST", kind.name, str(response.status)).inc()
        return response

    def saw(self, kind: Kind, status: int, *, watching: bool) -> None:
        """Note the answer to a list or watch request."""
        stream = self._streams[kind]
        stream.status = status
        if status == 200 and watching:
            stream.opened = self._clock()
        elif status == 200:
            stream.listed = self._clock()
        self._changed.set()

    async def wait_synced(self) -> None:
        """Until every stream was listed and opened once, or refused for lack of rights."""
        while self.unready():
            self._changed.clear()
            await self._changed.wait()

    def unready(self) -> list[str]:
        """Kinds that were not listed yet."""
        waiting = [k.name for k, stream in self._streams.items() if stream.opened is None and stream.status != 403]
        return sorted(waiting)

    def dead(self, served: Mapping[Kind, bool]) -> list[str]:
        """Kinds whose stream did not open for two of its lives although `served` (a list of our own) says that it
        could."""
        limit = self._clock() - 2 * SERVER_TIMEOUT - GRACE
        return sorted(
            kind.name
            for kind, stream in self._streams.items()
            if (stream.opened if stream.opened is not None else self._started) < limit and served.get(kind, False)
        )


class ListResponse(aiohttp.ClientResponse):
    """An empty list of metadata comes as `items: null`, which kopf does not expect."""

    async def json(self, **options: Any) -> Any:
        """The document, with a list where one belongs."""
        document = await super().json(**options)
        if isinstance(document, dict) and document.get("items", ()) is None:
            document["items"] = []
        return document


def session(configuration: Configuration, streams: Streams, agent: str) -> aiohttp.ClientSession:
    """The session for the watches: same trust and same token as the other requests."""

    async def authorize(request: aiohttp.ClientRequest, handler: ClientHandlerType) -> aiohttp.ClientResponse:
        # Asked each time, because ServiceAccount tokens rotate while a session lives.
        key = await configuration.get_api_key_with_prefix("BearerToken")
        if key:
            request.headers["Authorization"] = key
        return await handler(request)

    trust = RESTClientObject(configuration).ssl_context
    return aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(limit=0, ssl=trust),
        headers={"User-Agent": agent},
        middlewares=(streams.middleware, authorize),
        response_class=ListResponse,
    )
