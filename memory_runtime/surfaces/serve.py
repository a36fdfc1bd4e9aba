"""`soma serve`: both servers in one event loop, from the first probe to the last answer.

The ports are taken before the engine loads, so that probes are answered while it does; on SIGTERM readiness goes
first, requests in flight finish, and the engine closes last.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import signal
import socket
from collections.abc import Iterator

import uvicorn

from memory_runtime.access import laptop_token_file
from memory_runtime.engine import build_engine
from memory_runtime.engine.ingesting import Ingestor
from memory_runtime.events import Pipeline, Sink
from memory_runtime.events.brokers import brokers, without_the_extra
from memory_runtime.model import failpoints
from memory_runtime.model.threads import in_thread
from memory_runtime.settings import SettingsError, SMFSettings
from memory_runtime.surfaces.collector import keep_what_is_there
from memory_runtime.surfaces.flagging import FlagWatch, Reread, Stamp
from memory_runtime.surfaces.grpc.server import GrpcServer
from memory_runtime.surfaces.http import wire
from memory_runtime.surfaces.http.app import build_app
from memory_runtime.surfaces.http.connections import IDLE_SECONDS, timed_protocol
from memory_runtime.surfaces.service import Phase, Service
from memory_runtime.surfaces.version import product_version
from memory_runtime.telemetry.heartbeat import Heartbeat
from memory_runtime.telemetry.supervision import stop_all
from memory_runtime.telemetry.tracing import start_exporting

log = logging.getLogger(__name__)

ENDPOINTS_SETTLE_SECONDS = 1.0
"""How long a draining process goes on answering, not ready: what routes to it must notice first."""


def with_token(settings: SMFSettings) -> tuple[SMFSettings, str | None]:
    """The settings, with the data directory's own token file where none was configured, and a line that says where.

    Raises SettingsError when that file cannot be kept safe.
    """
    if settings.auth_disabled or settings.api_token is not None or settings.api_token_file is not None:
        return settings, None
    path = laptop_token_file(settings.data_dir).absolute()
    return settings.model_copy(update={"api_token_file": path}), f"bearer token: in {path}"


class _HttpServer(uvicorn.Server):
    """uvicorn without its own signal handling: a signal drains both servers, not one of them."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Leaves the signals alone."""
        yield


def _listen(settings: SMFSettings) -> socket.socket:
    """The bound HTTP socket. Raises SettingsError when the address cannot be had."""
    host, port = settings.http_host, settings.http_port
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    # The protocol is named so that asyncio sets TCP_NODELAY: without it each answer waits 40 ms for an ACK.
    listener = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((host, port))
        listener.listen(1024)
    except OSError as error:
        listener.close()
        raise SettingsError(
            f"http_port: cannot listen on {host}:{port}: {error.strerror}",
            setting="http_port",
            remedy="stop what uses it, or choose another with --http-port or SOMA_HTTP_PORT",
        ) from None
    listener.setblocking(False)
    return listener


def _http_server(service: Service) -> _HttpServer:
    def refused(status: int) -> None:
        service.engine.metrics.answered("other", "other", str(status), 0.0)

    config = uvicorn.Config(
        build_app(service),
        http=timed_protocol(refused),
        loop="asyncio",
        lifespan="off",
        ws="none",
        access_log=False,
        log_level="warning",
        log_config=None,
        server_header=False,
        date_header=True,
        proxy_headers=False,
        timeout_keep_alive=IDLE_SECONDS,
        h11_max_incomplete_event_size=wire.LONGEST_LINE + wire.LARGEST_HEADERS,
        timeout_graceful_shutdown=max(1, round(service.settings.drain_seconds)),
    )
    return _HttpServer(config)


async def serve(settings: SMFSettings, reread: Reread | None = None, stamp: Stamp | None = None) -> None:
    """Serves until SIGTERM or SIGINT; `reread` gives fresh settings at SIGHUP, at a configuration update, and when
    `stamp`, which tells the state of the settings' files, changes.

    Raises SettingsError where it cannot start.
    """
    if settings.failpoints:
        log.warning("failpoints are armed: this process will end without warning", extra={"armed": settings.failpoints})
    failpoints.arm(settings.failpoints)
    service = Service(settings, build_engine(settings))
    traces = start_exporting(settings.otel_exporter_otlp_endpoint, settings.otel_service_name, product_version())
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    engine = service.engine
    sinks: list[Sink] = [*engine.graphs.sinks, *engine.vectors.sinks]
    pipeline = Pipeline(settings, engine.ledger, engine.metrics, engine.clock, also=sinks)
    watch = FlagWatch(settings, service.flags, reread, engine.metrics.tasks, stamp)
    loop.add_signal_handler(signal.SIGHUP, watch.reload)
    listener = _listen(settings)
    grpc_server = GrpcServer(service)
    http_server = _http_server(service)
    heartbeat = Heartbeat()
    service.engine.metrics.heartbeat_lag.set_function(lambda: heartbeat.lag)
    heartbeat.start()
    try:
        await grpc_server.start()
        http_task = asyncio.create_task(http_server.serve(sockets=[listener]), name="http")
        try:
            await _run(service, grpc_server, http_task, stop, listener.getsockname()[1], pipeline, watch)
            await _drain(service, grpc_server)
        finally:
            http_server.should_exit = True
            http_server.config.timeout_graceful_shutdown = max(1, round(service.settings.drain_seconds))
            grace = service.settings.drain_seconds if service.phase is Phase.DRAINING else 0.0
            await asyncio.gather(grpc_server.stop(grace), http_task, return_exceptions=True)
    finally:
        listener.close()
        await stop_all(watch.stop, pipeline.stop, service.close)
        await service.engine.close()
        await heartbeat.stop()
        if traces is not None:
            await in_thread(traces.shutdown)
        log.info("stopped")


async def _run(
    service: Service,
    grpc_server: GrpcServer,
    http_task: asyncio.Task[None],
    stop: asyncio.Event,
    http_port: int,
    pipeline: Pipeline,
    watch: FlagWatch,
) -> None:
    starting = asyncio.create_task(service.engine.start(), name="engine-start")
    stopping = asyncio.create_task(stop.wait(), name="stop")
    await asyncio.wait({starting, stopping, http_task}, return_when=asyncio.FIRST_COMPLETED)
    if not starting.done():
        starting.cancel()
        (outcome,) = await asyncio.gather(starting, return_exceptions=True)
        if outcome is not None and not isinstance(outcome, asyncio.CancelledError):
            # nobody waits for the start any more: what kept it back is news, not a failure
            log.info("the start was given up: %s", outcome)
    else:
        starting.result()
        await watch.start()
        pipeline.start()
        consuming = _consuming(service, stop)
        keep_what_is_there()
        service.phase = Phase.SERVING
        await grpc_server.refresh_health()
        where = {"http_port": http_port, "grpc_port": grpc_server.port, "data_dir": str(service.settings.data_dir)}
        log.info("serving HTTP on port %d and gRPC on port %d", http_port, grpc_server.port, extra=where)
        await asyncio.wait({stopping, http_task, *consuming}, return_when=asyncio.FIRST_COMPLETED)
        await _end(consuming, stop)
    stopping.cancel()
    if http_task.done():
        http_task.result()


def _consuming(service: Service, stop: asyncio.Event) -> set[asyncio.Task[None]]:
    """The consumer in this process, where the settings want one."""
    engine = service.engine
    if not engine.settings.consumer_in_serve:
        return set()
    brokers(engine.settings)
    try:
        from memory_runtime.engine.identity import identity_of
        from memory_runtime.events.consumer import Consumer
        from memory_runtime.events.gaps import Positions
    except ImportError:
        raise without_the_extra("consumer_in_serve") from None
    ingestor = Ingestor(engine.ledger, engine.provider, engine.settings, engine.clock)
    group, topic = engine.settings.kafka_consumer_group, engine.settings.kafka_memory_events_topic
    positions = Positions(engine.ledger, group, topic)
    consumer = Consumer(engine.settings, ingestor, engine.metrics, lambda: identity_of(engine.ledger), positions)
    return {asyncio.create_task(consumer.run(stop), name="consumer")}


async def _end(consuming: set[asyncio.Task[None]], stop: asyncio.Event) -> None:
    """Finishes the batch in hand. Raises what ended the consumer, if anything but the stop did."""
    stop.set()
    if consuming:
        await asyncio.wait(consuming)
        for task in consuming:
            task.result()


async def _drain(service: Service, grpc_server: GrpcServer) -> None:
    drain = service.settings.drain_seconds
    log.info("draining", extra={"seconds": drain, "in_flight": service.admission.in_flight})
    service.phase = Phase.DRAINING
    await grpc_server.refresh_health()
    await asyncio.sleep(min(ENDPOINTS_SETTLE_SECONDS, drain / 4))
