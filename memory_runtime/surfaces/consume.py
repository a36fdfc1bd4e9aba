"""`soma consume`: events from Kafka into the ledger, until told to stop; metrics on a port of their own."""

from __future__ import annotations

import asyncio
import logging
import signal

from memory_runtime.engine import Intake, build_intake
from memory_runtime.engine.identity import identity_of
from memory_runtime.events.brokers import brokers
from memory_runtime.events.consumer import Consumer
from memory_runtime.events.dlq_consumer import DlqConsumer
from memory_runtime.events.gaps import Positions
from memory_runtime.model import failpoints
from memory_runtime.model.threads import in_thread
from memory_runtime.settings import SettingsError, SMFSettings
from memory_runtime.surfaces.collector import keep_what_is_there
from memory_runtime.surfaces.consumer_probes import ProbeServer, Vitals, serve_probes
from memory_runtime.surfaces.version import product_version
from memory_runtime.telemetry.metrics import Metrics
from memory_runtime.telemetry.tracing import start_exporting

log = logging.getLogger(__name__)


async def consume(settings: SMFSettings, *, dead_letters: bool = False) -> None:
    """Consumes the events' topic, or the dead letters that may be tried again, until SIGTERM or SIGINT.

    Raises SettingsError where it cannot start, Unavailable where the ledger cannot be opened.
    """
    brokers(settings)
    failpoints.arm(settings.failpoints)
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    # the signal's own effect would end the process
    loop.add_signal_handler(signal.SIGHUP, log.warning, "SIGHUP: a consumer reads its settings only when it starts")
    metrics, vitals = Metrics(), Vitals()
    traces = start_exporting(settings.otel_exporter_otlp_endpoint, settings.otel_service_name, product_version())
    server = _probes(settings, metrics, vitals)
    port = int(server.server_port)
    vitals.heartbeat.start()
    intake = build_intake(settings)
    await in_thread(intake.open)
    keep_what_is_there()
    vitals.ready = True
    role = "dead letters" if dead_letters else "events"
    log.info("consuming %s, metrics on port %d", role, port, extra={"metrics_port": port})
    try:
        await _consumer(settings, intake, metrics, dead_letters=dead_letters).run(stop)
    finally:
        await vitals.heartbeat.stop()
        await in_thread(intake.close)
        server.shutdown()
        server.server_close()
        if traces is not None:
            await in_thread(traces.shutdown)
        log.info("stopped")


def _consumer(settings: SMFSettings, intake: Intake, metrics: Metrics, *, dead_letters: bool) -> Consumer | DlqConsumer:
    if dead_letters:
        return DlqConsumer(settings, intake.ingestor, metrics)

    async def identity() -> str:
        return await identity_of(intake.ledger)

    positions = Positions(intake.ledger, settings.kafka_consumer_group, settings.kafka_memory_events_topic)
    return Consumer(settings, intake.ingestor, metrics, identity, positions)


def _probes(settings: SMFSettings, metrics: Metrics, vitals: Vitals) -> ProbeServer:
    try:
        registry = metrics.registry if settings.metrics_enabled else None
        return serve_probes(settings.consumer_metrics_port, vitals, registry)
    except OSError as error:
        raise SettingsError(
            f"consumer_metrics_port: cannot listen on {settings.consumer_metrics_port}: {error.strerror}",
            setting="consumer_metrics_port",
            remedy="stop what uses it, or choose another with CONSUMER_METRICS_PORT",
        ) from None
