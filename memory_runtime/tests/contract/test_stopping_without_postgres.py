"""SIGTERM while PostgreSQL is down: the process ends in time, with 0, and nothing in its log looks like a defect."""

from __future__ import annotations

import contextlib
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from hack.cluster.errors import ClusterError
from hack.requirement import unavailable
from hack.services import Service, start_postgres
from memory_runtime.stores.postgres import migrating
from memory_runtime.tests.contract.conftest import ask, named, open_directory, settings_for
from memory_runtime.tests.contract.test_replicas import TOKEN, settings
from memory_runtime.tests.integration.conftest import COMMAND, Server, clean_environment, start

pytestmark = pytest.mark.integration


@pytest.fixture
def postgres_of_its_own() -> Iterator[Service]:
    with open_directory() as directory:
        try:
            service = start_postgres(directory)
        except ClusterError as error:
            unavailable(str(error))
        ask(service.url, "CREATE DATABASE soma")
        migrating.migrate(settings_for(named(service.url, "soma")))
        yield service
        service.stop()


@pytest.fixture
def replicas(tmp_path: Path, postgres_of_its_own: Service) -> Iterator[list[Server]]:
    running = []
    for name in ("one", "two", "three"):
        (tmp_path / name).mkdir()
        dsn = named(postgres_of_its_own.url, "soma")
        running.append(start(tmp_path / name, [], settings(dsn, SOMA_DRAIN_SECONDS="2")))
    yield running
    for one in running:
        one.crash()


def store(server: Server) -> None:
    """A store whose answer does not matter."""
    with contextlib.suppress(httpx.HTTPError), server.client(token=TOKEN) as client:
        client.post("/store", json={"coord": "1,0", "payload": {}, "vector": [1, 0, 0]}, timeout=10)


def test_a_process_without_its_ledger_stops_without_an_error(
    replicas: list[Server], postgres_of_its_own: Service
) -> None:
    idle, asked, at_once = replicas
    for server in replicas:
        store(server)
    postgres_of_its_own.kill()
    codes = [at_once.stop()]
    for _ in range(3):
        store(asked)
    in_flight = threading.Thread(target=store, args=(asked,))
    in_flight.start()
    codes.extend((asked.stop(), idle.stop()))
    in_flight.join()
    assert codes == [0, 0, 0]
    for server in replicas:
        clean(server.log_path.read_text())


def clean(log: str) -> None:
    assert "never retrieved" not in log, log[-4000:]
    assert "was destroyed but it is pending" not in log
    assert "Traceback" not in log, log[-4000:]


@pytest.mark.parametrize("silent", [False, True])
def test_a_start_that_waits_for_postgresql_is_given_up_without_an_error(tmp_path: Path, silent: bool) -> None:
    """Nobody listens where PostgreSQL should be; or somebody does, and says nothing."""
    with socket.socket() as postgres, socket.socket() as free:
        for one in (postgres, free):
            one.bind(("127.0.0.1", 0))
        if silent:
            postgres.listen(50)
        port = free.getsockname()[1]
        free.close()
        dsn = f"postgresql://soma:secret@127.0.0.1:{postgres.getsockname()[1]}/soma"
        command = [*COMMAND, "serve", "--http-host", "127.0.0.1", "--http-port", str(port), "--grpc-port", "0"]
        environment = clean_environment(**settings(dsn, SOMA_DATA_DIR=str(tmp_path / "data")))
        process = subprocess.Popen(
            command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )
        deadline = time.monotonic() + 60
        while not answers(port):
            assert time.monotonic() < deadline
            time.sleep(0.05)
        process.send_signal(signal.SIGTERM)
        log, _ = process.communicate(timeout=60)
    assert process.returncode == 0
    clean(log)


def answers(port: int) -> bool:
    """Whether the process answers probes: it waits for its ledger then."""
    try:
        return httpx.get(f"http://127.0.0.1:{port}/livez", trust_env=False).status_code == 200
    except httpx.HTTPError:
        return False
