"""The back ends are real, answer, and find their data and port again after a kill."""

from __future__ import annotations

import contextlib
import http.client
import ssl
import subprocess
from pathlib import Path

import pytest

from hack.cluster.errors import ClusterError
from hack.requirement import unavailable
from hack.services import (
    Authority,
    Service,
    start_etcd,
    start_kafka,
    start_postgres,
    start_redis,
    start_redis_cluster,
    start_redis_tls,
)

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


def test_etcd_with_tls_answers_only_to_a_certificate_of_its_authority(tmp_path: Path) -> None:
    authority = Authority(tmp_path / "pki")
    client = authority.issue("client")
    try:
        service = start_etcd(tmp_path / "etcd", authority=authority)
    except ClusterError as error:
        unavailable(str(error))
    try:
        trusting = ssl.create_default_context(cafile=str(authority.certificate))
        with pytest.raises(OSError):
            status(service, trusting)
        trusting.load_cert_chain(client.certificate, client.key)
        assert status(service, trusting) == 200
    finally:
        service.stop()


def status(service: Service, context: ssl.SSLContext) -> int:
    connection = http.client.HTTPSConnection(service.url.removeprefix("https://"), context=context, timeout=5)
    with contextlib.closing(connection):
        connection.request("GET", "/version")
        return connection.getresponse().status


def test_a_redis_cluster_and_sentinels_answer_for_the_whole(tmp_path: Path) -> None:
    try:
        cluster = start_redis_cluster(tmp_path / "cluster")
    except ClusterError as error:
        unavailable(str(error))
    try:
        port = cluster.nodes[0].rpartition(":")[2]
        cli = ["redis-cli", "-c", "-p", port, "-a", cluster.password, "--no-auth-warning"]
        for key in ("a", "b", "c"):  # of three members
            subprocess.run([*cli, "set", key, key], capture_output=True, check=True)
            got = subprocess.run([*cli, "get", key], capture_output=True, text=True, check=True)
            assert got.stdout.strip() == key
    finally:
        cluster.stop()


def test_redis_over_tls_knows_nobody_without_a_certificate_and_no_default_user(tmp_path: Path) -> None:
    authority = Authority(tmp_path / "ca")
    try:
        service = start_redis_tls(tmp_path, authority)
    except ClusterError as error:
        unavailable(str(error))
    try:
        pair = authority.issue("client")
        trust = ["--cacert", str(authority.certificate)]
        shown = ["--cert", str(pair.certificate), "--key", str(pair.key)]
        port = service.url.rpartition(":")[2].partition("/")[0]

        def ping(*options: str) -> str:
            done = subprocess.run(["redis-cli", *options, "ping"], capture_output=True, text=True, check=False)
            return done.stdout + done.stderr

        assert "PONG" in ping("-u", service.url, *trust, *shown)
        assert "PONG" not in ping("-u", service.url, *trust)
        assert "NOAUTH" in ping("-p", port, "--tls", *trust, *shown)
    finally:
        service.stop()
