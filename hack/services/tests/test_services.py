"""The back ends are real, answer, and find their data and port again after a kill."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from hack.cluster.errors import ClusterError
from hack.requirement import unavailable
from hack.services import Service, start_kafka, start_postgres, start_redis

pytestmark = pytest.mark.integration


@pytest.fixture
def open_directory(tmp_path: Path) -> Path:
    """PostgreSQL's own account must reach its data below pytest's private folders."""
    for folder in [tmp_path, *tmp_path.parents[:2]]:
        folder.chmod(0o755)
    return tmp_path


def psql(service: Service, sql: str) -> str:
    done = subprocess.run(["psql", service.url, "-Atc", sql], capture_output=True, text=True, check=True)
    return done.stdout.strip()


def test_postgres_keeps_what_was_committed_before_it_was_killed(open_directory: Path) -> None:
    try:
        service = start_postgres(open_directory)
    except ClusterError as error:
        unavailable(str(error))
    try:
        psql(service, "create table kept (n int)")
        psql(service, "insert into kept values (7)")
        service.kill()
        service.start()
        assert psql(service, "select n from kept") == "7"
    finally:
        service.stop()


def test_redis_keeps_what_it_was_told(tmp_path: Path) -> None:
    try:
        service = start_redis(tmp_path, "--appendfsync", "always")
    except ClusterError as error:
        unavailable(str(error))
    try:
        assert subprocess.run(["redis-cli", "-u", service.url, "set", "k", "v"], capture_output=True, check=True)
        service.kill()
        service.start()
        got = subprocess.run(["redis-cli", "-u", service.url, "get", "k"], capture_output=True, text=True, check=True)
        assert got.stdout.strip() == "v"
    finally:
        service.stop()


def test_a_kafka_broker_starts_again_on_its_port(tmp_path: Path) -> None:
    try:
        (broker,) = start_kafka(tmp_path)
    except ClusterError as error:
        unavailable(str(error))
    try:
        address = broker.url
        broker.kill()
        broker.log.write_text("")
        broker.start(timeout=60)
        assert broker.url == address
    finally:
        broker.stop()
