"""The event pipeline: schema and codec, the relay of the outbox, consumer, dead letters, `config.updates`.

May import engine, stores, settings, model, telemetry. `sinks` says what the relay can feed; `codec`, `dead_letters` and
`schema` are functions of values; all else talks to a ledger or to Kafka. Only what needs no Kafka client is exported
here: the client is in the extra `distributed`.
"""

from memory_runtime.events.lease import Lease
from memory_runtime.events.pipeline import Pipeline
from memory_runtime.events.relay import Relay
from memory_runtime.events.sinks import Sink, SinkLedger

__all__ = ["Lease", "Pipeline", "Relay", "Sink", "SinkLedger"]
