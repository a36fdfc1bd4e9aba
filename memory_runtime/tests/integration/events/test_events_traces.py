"""One store is one trace: from the request over Kafka to the commit of the ledger that consumed it."""

from __future__ import annotations

import signal
from pathlib import Path
from typing import Any

import pytest

from memory_runtime.settings import SMFSettings
from memory_runtime.tests.integration.conftest import Serve
from memory_runtime.tests.integration.events.conftest import eventually, publish
from memory_runtime.tests.integration.events.test_events_faults import consume, ended, environment_of
from memory_runtime.tests.integration.events.test_events_pipeline import event, raw
from memory_runtime.tests.integration.test_traces import PARENT, TRACE, Collector, collector

__all__ = ["collector"]
pytestmark = pytest.mark.integration


async def test_a_store_is_one_trace_up_to_the_consumers_commit(
    topics: dict[str, Any], serve: Serve, tmp_path: Path, collector: Collector
) -> None:
    exporting = {"OTEL_EXPORTER_OTLP_ENDPOINT": f"http://127.0.0.1:{collector.server_port}"}
    server = serve(**environment_of(topics), **exporting)
    with server.client() as client:
        body = {"coord": "1,2,3", "payload": {"text": "Ann moved to Lisbon"}}
        assert client.post("/store", json=body, headers={"traceparent": PARENT}).is_success
    folder = tmp_path / "consumer"
    folder.mkdir()
    consumer = consume(folder, topics, **exporting)
    try:
        name = f"process {topics['kafka_memory_events_topic']}"
        # an event whose trace is none is applied, and makes no span
        await publish(SMFSettings(**topics), raw(event(1)), headers=[("traceparent", b"nonsense")])
        await eventually(lambda: (name, TRACE) in collector.names, seconds=60)
        consumer.send_signal(signal.SIGTERM)
        assert await ended(consumer) == 0, (folder / "consume.jsonl").read_text()
    finally:
        consumer.kill()
    assert server.stop() == 0
    assert ("POST /store", TRACE) in collector.names
    assert [one for one in collector.names if one[0] == name] == [(name, TRACE)]
