"""A consumer's probes: alive by its event loop alone, ready once its ledger is open."""

from __future__ import annotations

import urllib.error
import urllib.request
from collections.abc import Iterator

import pytest
from prometheus_client import CollectorRegistry, Counter

from memory_runtime.surfaces.consumer_probes import Vitals, serve_probes
from memory_runtime.telemetry.heartbeat import STALLED_SECONDS, Heartbeat


def status(port: int, path: str) -> tuple[int, str]:
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(f"http://127.0.0.1:{port}{path}", timeout=5) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()


@pytest.fixture
def now() -> list[float]:
    """The clock that the heartbeat goes by."""
    return [0.0]


@pytest.fixture
def vitals(now: list[float]) -> Vitals:
    return Vitals(Heartbeat(lambda: now[0]))


@pytest.fixture
def port(vitals: Vitals) -> Iterator[int]:
    registry = CollectorRegistry()
    Counter("taken", "What was taken.", registry=registry).inc()
    server = serve_probes(0, vitals, registry)
    yield int(server.server_port)
    server.shutdown()
    server.server_close()


def test_it_is_ready_once_its_ledger_is_open(vitals: Vitals, port: int) -> None:
    assert (status(port, "/livez")[0], status(port, "/readyz")[0], status(port, "/startupz")[0]) == (200, 503, 503)
    vitals.ready = True
    assert (status(port, "/readyz")[0], status(port, "/startupz")[0]) == (200, 200)


def test_an_event_loop_that_stands_still_is_dead(vitals: Vitals, port: int, now: list[float]) -> None:
    vitals.ready = True
    now[0] = STALLED_SECONDS + 1
    assert status(port, "/livez")[0] == 503
    assert status(port, "/readyz")[0] == 200


def test_metrics_are_told_where_they_are_wanted(vitals: Vitals, port: int) -> None:
    assert "taken_total 1.0" in status(port, "/metrics")[1]
    silent = serve_probes(0, vitals, None)
    try:
        assert status(int(silent.server_port), "/metrics")[0] == 404
        assert status(int(silent.server_port), "/livez")[0] == 200
    finally:
        silent.shutdown()
        silent.server_close()
