"""Calls to Kafka in the metrics and spans of all back ends.

They do not go through `stores.resilience.Guard`: the client repeats by itself, and the relay and the consumer have a
breaker, a backoff and no caller who waits. A poll is no call: it waits for what may never come.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from aiokafka.errors import KafkaError

from memory_runtime.model.errors import Unavailable
from memory_runtime.settings import SettingsError
from memory_runtime.stores.resilience.tracing import call_span
from memory_runtime.telemetry.metrics import Metrics

ADAPTER: Final = "kafka"


@contextmanager
def counted(metrics: Metrics, operation: str) -> Iterator[None]:
    """Counts what happens inside as one call; `operation` is a fixed word: connect, publish, letters, commit."""
    began = time.perf_counter()
    outcome, heard = "ok", None
    with call_span(ADAPTER, operation) as span:
        try:
            yield
        except BaseException as error:
            outcome, heard = _outcome(error), error
            raise
        finally:
            span.end(outcome, 1, heard)
            metrics.backends.record(ADAPTER, operation, outcome, time.perf_counter() - began)


def _outcome(error: BaseException) -> str:
    if isinstance(error, asyncio.CancelledError):
        return "cancelled"
    if isinstance(error, SettingsError) or (isinstance(error, KafkaError) and not error.retriable):
        return "refused"
    return "away" if isinstance(error, KafkaError | Unavailable | OSError) else "error"
