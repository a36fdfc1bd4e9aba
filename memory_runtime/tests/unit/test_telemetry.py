"""Log lines, metric names, the heartbeat."""

from __future__ import annotations

import asyncio
import io
import json
import logging
import time
from collections.abc import Iterator
from typing import Any
from unittest.mock import AsyncMock

import numpy as np
import pytest
from prometheus_client import generate_latest

from memory_runtime.engine import MemoryEngine, RecallRequest
from memory_runtime.model.errors import Unavailable
from memory_runtime.model.records import Scope, StoreItem
from memory_runtime.telemetry.heartbeat import Heartbeat
from memory_runtime.telemetry.logs import configure_logging
from memory_runtime.telemetry.metrics import Metrics


@pytest.fixture
def root_logger() -> Iterator[logging.Logger]:
    """The root logger, put back as it was."""
    root = logging.getLogger()
    handlers, level = list(root.handlers), root.level
    yield root
    root.handlers[:] = handlers
    root.setLevel(level)


def test_a_log_line_is_one_json_object_with_what_extra_gave(root_logger: logging.Logger) -> None:
    stream = io.StringIO()
    configure_logging("INFO", "json", stream=stream)
    root_logger.info("stored %d\nlines", 3, extra={"seq": 7, "odd": object()})
    try:
        raise ValueError("why")
    except ValueError:
        logging.getLogger("x").exception("failed")
    first, second = (json.loads(line) for line in stream.getvalue().splitlines())
    assert (first["message"], first["level"], first["seq"]) == ("stored 3\nlines", "INFO", 7)
    assert first["time"].endswith("Z")
    assert "ValueError: why" in second["exception"]


def test_the_level_holds_and_text_is_for_people(root_logger: logging.Logger) -> None:
    stream = io.StringIO()
    configure_logging("WARNING", "text", stream=stream)
    configure_logging("WARNING", "text", stream=stream)
    root_logger.info("quiet")
    root_logger.warning("loud")
    assert stream.getvalue().count("loud") == 1
    assert "quiet" not in stream.getvalue()


def test_the_metrics_of_the_old_service_and_of_the_scoring_document_are_there() -> None:
    metrics = Metrics()
    metrics.naming = True
    metrics.api_requests.labels("/store", "POST").inc()
    metrics.api_latency.labels("/store", "POST").observe(0.1)
    metrics.api_responses.labels("/store", "POST", "200").inc()
    with metrics.storing("ns", 2):
        pass
    metrics.graph_links.labels("t", "related", "ok").inc()
    text = generate_latest(metrics.registry).decode()
    for name in (
        'api_requests_total{endpoint="/store",method="POST"} 1.0',
        "api_request_latency_seconds_bucket",
        'api_responses_total{endpoint="/store",method="POST",status="200"} 1.0',
        "http_404_requests_total",
        'soma_memory_store_total{namespace="ns"} 2.0',
        "soma_memory_store_latency_seconds_count",
        "api_delete_success_total",
        'sfm_graph_link_total{link_type="related",status="ok",tenant="t"} 1.0',
        "soma_memory_total_vectors",
        "soma_memory_norm_error_max",
        "soma_memory_decay_active_ratio",
    ):
        assert name in text, name


def test_two_engines_do_not_share_a_registry() -> None:
    first, second = Metrics(), Metrics()
    first.http_404.inc()
    assert second.registry.get_sample_value("http_404_requests_total") == 0.0


async def test_the_engine_counts_what_it_did_and_what_it_refused(
    open_engine: Any, scope: Scope, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("memory_runtime.engine.engine.MIN_SEQ_WAIT_SECONDS", 0.05)
    engine: MemoryEngine = await open_engine(vector_dim=3, metrics_names=True)
    read = engine.metrics.registry.get_sample_value
    for n in range(3):
        await engine.store(scope, StoreItem((float(n),), {}, vector=np.ones(3, np.float32), importance=float(n)))
    await engine.recall(scope, RecallRequest(vector=np.ones(3, np.float32)))
    with pytest.raises(Unavailable):
        await engine.recall(scope, RecallRequest(vector=np.ones(3, np.float32), min_seq=99))
    await engine._housekeeper.measure()
    assert read("soma_memory_store_total", {"namespace": scope.namespace}) == 3
    assert read("soma_memory_recall_total") == 1
    assert read("soma_memory_recall_errors_total", {"code": "UNAVAILABLE"}) == 1
    assert read("soma_memory_total_vectors") == 3
    assert read("soma_memory_ledger_head_seq") == read("soma_memory_index_applied_seq") == 3
    assert read("soma_memory_importance_quantile", {"quantile": "0.99"}) == pytest.approx(1.0, abs=0.01)


async def test_the_heart_stalls_only_when_the_loop_does(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("memory_runtime.telemetry.heartbeat.INTERVAL_SECONDS", 0.02)
    monkeypatch.setattr("memory_runtime.telemetry.heartbeat.STALLED_SECONDS", 0.2)
    heart = Heartbeat()
    heart.start()
    await asyncio.sleep(0.1)
    assert not heart.stalled
    time.sleep(0.3)  # noqa: ASYNC251 -- the stall itself
    assert heart.stalled
    await asyncio.sleep(0.1)
    assert not heart.stalled
    await heart.stop()


def test_names_that_callers_choose_do_not_grow_the_metrics_without_bound() -> None:
    metrics = Metrics()
    metrics.naming = True
    for number in range(300):
        with metrics.storing(f"namespace-{number}", 1), metrics.linking(f"tenant-{number}", f"type-{number}"):
            pass
    with metrics.storing("namespace-7", 2):
        pass
    text = generate_latest(metrics.registry).decode()
    series = [line for line in text.splitlines() if line.startswith("soma_memory_store_total{")]
    assert len(series) == 101
    assert 'soma_memory_store_total{namespace="namespace-7"} 3.0' in series
    assert 'soma_memory_store_total{namespace="other"} 200.0' in series
    links = [line for line in text.splitlines() if line.startswith("sfm_graph_link_total{")]
    assert 'sfm_graph_link_total{link_type="other",status="ok",tenant="other"} 200.0' in links
    assert len(links) <= 102


def test_names_are_told_to_nobody_unless_a_setting_says_so() -> None:
    """Thousands of tenants, namespaces and link types, stores and failures: not one more series, and no name."""
    metrics = Metrics()
    with metrics.storing("first", 1), metrics.linking("first", "first"):
        pass
    before = len(generate_latest(metrics.registry).splitlines())
    for number in range(3000):
        with metrics.storing(f"secret-{number}", 1), metrics.linking(f"secret-{number}", f"secret-{number}"):
            pass
    text = generate_latest(metrics.registry).decode()
    assert len(text.splitlines()) == before
    assert "secret" not in text
    assert "first" not in text
    assert 'soma_memory_store_total{namespace="all"} 3001.0' in text


async def test_links_are_counted_by_what_became_of_them(open_engine: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    engine = await open_engine(vector_dim=3, metrics_names=True)
    scope = Scope("acme", "notes")
    await engine.store_bulk(scope, [StoreItem((one,), {}, vector=np.ones(3, np.float32)) for one in (1.0, 2.0)])
    await engine.link(scope, (1.0,), (2.0,), link_type="cites")
    monkeypatch.setattr(engine.ledger, "commit", AsyncMock(side_effect=Unavailable("the disk is full")))
    with pytest.raises(Unavailable):
        await engine.link(scope, (1.0,), (9.0,), link_type="cites")
    text = generate_latest(engine.metrics.registry).decode()
    assert 'sfm_graph_link_total{link_type="cites",status="ok",tenant="acme"} 1.0' in text
    assert 'sfm_graph_link_total{link_type="cites",status="UNAVAILABLE",tenant="acme"} 1.0' in text
