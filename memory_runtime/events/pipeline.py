"""What `serve` runs beside its servers: a relay for every sink that the settings name, and what listens to Kafka."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence

from memory_runtime.events.blame import SetAside, only_logged
from memory_runtime.events.brokers import publishes, without_the_extra
from memory_runtime.events.lease import Lease
from memory_runtime.events.relay import Relay
from memory_runtime.events.sinks import Sink, SinkLedger
from memory_runtime.settings import SMFSettings
from memory_runtime.stores.sessions import Ledger
from memory_runtime.telemetry.metrics import Metrics

log = logging.getLogger(__name__)


def sinks_of(settings: SMFSettings, ledger: Ledger, metrics: Metrics, clock: Callable[[], float]) -> list[Sink]:
    """The sinks that the settings name. Raises SettingsError, before anything is connected."""
    sinks: list[Sink] = []
    if publishes(settings):
        try:
            from memory_runtime.events.kafka_sink import KafkaSink
        except ImportError:
            raise without_the_extra("kafka_bootstrap_servers") from None
        sinks.append(KafkaSink(ledger, settings, metrics, clock))
    return sinks


class Pipeline:
    """The relays of one process; begun once the ledger is open, stopped before it closes."""

    def __init__(
        self,
        settings: SMFSettings,
        ledger: Ledger,
        metrics: Metrics,
        clock: Callable[[], float],
        sinks: Sequence[Sink] | None = None,
        *,
        also: Sequence[Sink] = (),
    ) -> None:
        """`sinks` replaces those that the settings name; `also` are the engine's own. Raises SettingsError."""
        feeds = [*(sinks_of(settings, ledger, metrics, clock) if sinks is None else sinks), *also]
        # an embedded ledger has one process: after a crash it need not wait for its own lease to run out
        holder = "embedded" if settings.mode == "embedded" else ""
        fed: list[tuple[SinkLedger, Sink]] = [(ledger, sink) for sink in feeds]
        if sinks is None and publishes(settings) and settings.kafka_audit_topic:
            from memory_runtime.events.audit_feed import AuditSink, AuditTail

            fed.append((AuditTail(ledger), AuditSink(ledger, settings)))
        set_aside: SetAside = only_logged
        if sinks is None and publishes(settings):
            from memory_runtime.events.kafka_sink import RelayLetters

            set_aside = RelayLetters(settings, clock).lay
        self.relays = tuple(
            Relay(
                source,
                sink,
                metrics,
                clock,
                lease=Lease(ledger, f"sink:{sink.name}", clock, holder=holder),
                set_aside=set_aside,
            )
            for source, sink in fed
        )

    def start(self) -> None:
        """Begins to relay; needs no sink to be there."""
        for relay in self.relays:
            relay.start()
        if self.relays:
            log.info("relaying changes to %s", ", ".join(relay.sink.name for relay in self.relays))

    async def stop(self, grace: float = 5.0) -> None:
        """Finishes the deliveries in flight; what was not delivered waits in the outbox."""
        for result in await asyncio.gather(*(relay.stop(grace) for relay in self.relays), return_exceptions=True):
            if isinstance(result, Exception):
                log.error("a relay did not stop as it should", exc_info=result)
