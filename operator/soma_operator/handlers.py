"""The only file that knows kopf: start-up, login, watching and shutdown. Nothing here may write to a resource.

Handlers are of the kinds that cost no write: on.startup, on.cleanup, on.login and on.event. The changing kinds
(create, update, field, daemon, timer) would annotate resources or add finalizers.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any

import kopf

from soma_operator.catalog.kinds import CHILD_KINDS, WATCHED_KINDS, Kind
from soma_operator.catalog.names import CHILD_SELECTOR
from soma_operator.cluster.connection import NoClusterError
from soma_operator.cluster.streams import SERVER_TIMEOUT
from soma_operator.process import OperatorProcess


class Backoffs:
    """Endless: a watch that gave up after some minutes of 403 would die while the process lives."""

    def __iter__(self) -> Iterator[float]:
        yield from (0.5, 1.0, 2.0, 5.0, 10.0)
        while True:
            yield 20.0


def registry_for(process: OperatorProcess) -> kopf.OperatorRegistry:
    """The handlers, bound to one process."""
    registry = kopf.OperatorRegistry()

    @kopf.on.startup(registry=registry)
    async def start(settings: kopf.OperatorSettings, **_: Any) -> None:
        configure(settings)
        try:
            await process.open()
        except NoClusterError as error:
            process.failure = error
            raise kopf.PermanentError(str(error)) from None
        await process.start()

    @kopf.on.login(registry=registry)
    async def login(**_: Any) -> kopf.AiohttpSession:
        server, session = process.watch_session()
        return kopf.AiohttpSession(server=server, aiohttp_session=session)

    @kopf.on.cleanup(registry=registry)
    async def stop(**_: Any) -> None:
        await process.stop()

    for kind in WATCHED_KINDS:
        _watch(registry, process, kind)
    return registry


def _watch(registry: kopf.OperatorRegistry, process: OperatorProcess, kind: Kind) -> None:
    async def saw(event: kopf.RawEvent, **_: Any) -> None:
        process.saw(kind, event["type"], event["object"])

    kopf.on.event(kind.group, kind.version, kind.plural, id=f"saw-{kind.plural}", registry=registry)(saw)


def configure(settings: kopf.OperatorSettings) -> None:
    """Quiet and persistent: no peering, no events, no annotations; streams that end now and then and are opened
    again."""
    settings.peering.standalone = True
    settings.posting.enabled = False
    settings.networking.error_backoffs = Backoffs()
    settings.networking.request_timeout = 60.0
    settings.watching.server_timeout = SERVER_TIMEOUT
    settings.watching.client_timeout = SERVER_TIMEOUT + 30.0
    settings.watching.connect_timeout = 10.0
    settings.watching.chunk_size = 250
    settings.queueing.idle_timeout = 1.0
    settings.process.ultimate_exiting_timeout = 30.0
    for kind in CHILD_KINDS:
        settings.watching.label_selectors[kind.group, kind.version, kind.plural] = CHILD_SELECTOR


def run(process: OperatorProcess) -> None:
    """Run until SIGTERM or SIGINT; raises NoClusterError when there is no cluster to run against."""
    operator = kopf.operator(
        registry=registry_for(process), settings=kopf.OperatorSettings(), clusterwide=True, standalone=True
    )
    try:
        asyncio.run(operator)
    except Exception:
        # kopf says only that a handler failed; what failed is what people need to read.
        if process.failure is not None:
            raise process.failure from None
        raise
