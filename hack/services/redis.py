"""Redis from Debian, on loopback: alone, over TLS with an ACL user, behind Sentinels, and as a cluster."""

from __future__ import annotations

import secrets
import socket
import ssl
import subprocess
import time
from collections.abc import Callable
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path

from hack.cluster.tools.debian import require
from hack.services.certificates import Authority
from hack.services.service import Service, ServiceError, free_port

MASTER = "memory"
"""The name that the Sentinels know the primary by."""
ACL_USER = "soma"


def _pongs(port: int, password: str | None, context: ssl.SSLContext | None = None, user: str = "") -> bool:
    login = f"AUTH {user} {password}\r\n" if password else ""
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=0.5) as plain:
            connection = plain if context is None else context.wrap_socket(plain, server_hostname="localhost")
            connection.sendall(f"{login}PING\r\n".encode())
            lines = connection.makefile("rb")
            return any(b"PONG" in lines.readline() for _ in range(2 if login else 1))
    except OSError:
        return False


def start_redis(directory: Path, *arguments: str) -> Service:
    """Start a fresh Redis below `directory`; `arguments` are added to its command line.

    Raises:
        ServiceError: when it does not start.
    """
    password = secrets.token_hex(16)
    return _server(directory, password, "--appendonly", "yes", *arguments).start()


def _server(directory: Path, password: str, *arguments: str, name: str = "redis") -> Service:
    require(("redis-server",), "the Redis tests")
    port = free_port()
    directory.mkdir(parents=True, exist_ok=True)
    options = ["--bind", "127.0.0.1", "--port", str(port), "--requirepass", password, "--masterauth", password]
    return Service(
        name=name,
        url=f"redis://default:{password}@127.0.0.1:{port}/0",
        command=["redis-server", *options, "--dir", str(directory), "--dbfilename", f"{name}.rdb", *arguments],
        log=directory / f"{name}.log",
        ready=lambda: _pongs(port, password),
    )


def start_redis_tls(directory: Path, authority: Authority, *, rules: str = "~soma:* +@all -@admin") -> Service:
    """Start a Redis that speaks TLS only, to holders of the authority's certificates, and knows one user, `soma`.

    `rules` are the user's ACL rules. The url is ``rediss://soma:…@localhost``.

    Raises:
        ServiceError: when it does not start.
    """
    require(("redis-server",), "the Redis tests")
    port, password = free_port(), secrets.token_hex(16)
    served = authority.issue("redis")
    directory.mkdir(parents=True, exist_ok=True)
    users = directory / "users.acl"
    users.write_text(f"user default off\nuser {ACL_USER} on >{password} {rules}\n")
    command = ["redis-server", "--bind", "127.0.0.1", "--port", "0", "--tls-port", str(port), "--dir", str(directory)]
    command += ["--tls-cert-file", str(served.certificate), "--tls-key-file", str(served.key)]
    command += ["--tls-ca-cert-file", str(authority.certificate), "--tls-auth-clients", "yes", "--aclfile", str(users)]
    context = ssl.create_default_context(cafile=str(authority.certificate))
    context.load_cert_chain(served.certificate, served.key)
    return Service(
        name="redis-tls",
        url=f"rediss://{ACL_USER}:{password}@localhost:{port}/0",
        command=command,
        log=directory / "redis-tls.log",
        ready=lambda: _pongs(port, password, context, ACL_USER),
    ).start()


@dataclass(frozen=True, slots=True)
class RedisSentinels:
    """A primary and its replica, watched by three Sentinels; `nodes` are the Sentinels' host:port."""

    primary: Service
    replica: Service
    sentinels: tuple[Service, ...]
    password: str

    @property
    def nodes(self) -> list[str]:
        """Where the Sentinels listen."""
        return [sentinel.url for sentinel in self.sentinels]

    def stop(self) -> None:
        """Stop them all."""
        for service in (*self.sentinels, self.replica, self.primary):
            service.stop()


def start_redis_sentinels(directory: Path, *, down_after_ms: int = 300) -> RedisSentinels:
    """Start the three of them below `directory`; a primary that is killed is replaced in about two seconds.

    Raises:
        ServiceError: when one does not start, or the Sentinels do not find the replica.
    """
    with ExitStack() as undo:
        started = _sentinels(directory, down_after_ms, undo)
        if not _becomes(lambda: all(_sees_all(sentinel) for sentinel in started.sentinels)):
            raise ServiceError("the Sentinels did not meet")
        undo.pop_all()
    return started


def _sentinels(directory: Path, down_after_ms: int, undo: ExitStack) -> RedisSentinels:
    password = secrets.token_hex(16)
    primary = _server(directory, password, name="redis-primary").start()
    undo.callback(primary.stop)
    port = primary.url.rpartition(":")[2].partition("/")[0]
    replica = _server(directory, password, "--replicaof", "127.0.0.1", port, name="redis-replica").start()
    undo.callback(replica.stop)
    sentinels: list[Service] = []
    for number in (1, 2, 3):
        listening = free_port()
        configuration = directory / f"sentinel-{number}.conf"
        configuration.write_text(
            f"bind 127.0.0.1\nport {listening}\ndir {directory}\n"
            f"sentinel monitor {MASTER} 127.0.0.1 {port} 2\nsentinel auth-pass {MASTER} {password}\n"
            f"sentinel down-after-milliseconds {MASTER} {down_after_ms}\nsentinel failover-timeout {MASTER} 1000\n"
        )
        sentinels.append(
            Service(
                name=f"sentinel-{number}",
                url=f"127.0.0.1:{listening}",
                command=["redis-server", str(configuration), "--sentinel"],
                log=directory / f"sentinel-{number}.log",
                ready=lambda listening=listening: _pongs(listening, None),  # type: ignore[misc]
            ).start()
        )
        undo.callback(sentinels[-1].stop)
    return RedisSentinels(primary, replica, tuple(sentinels), password)


def _sees_all(sentinel: Service) -> bool:
    port = sentinel.url.rpartition(":")[2]
    lines = _cli("-p", port, "sentinel", "master", MASTER).splitlines()
    told = dict(zip(lines[::2], lines[1::2], strict=False))
    return (told.get("num-slaves"), told.get("num-other-sentinels")) == ("1", "2")


@dataclass(frozen=True, slots=True)
class RedisCluster:
    """Primaries that share the slots evenly, without replicas; `nodes` are their host:port."""

    members: tuple[Service, ...]
    password: str

    @property
    def nodes(self) -> list[str]:
        """Where the members listen."""
        return [member.url.rpartition("@")[2].removesuffix("/0") for member in self.members]

    def stop(self) -> None:
        """Stop them all."""
        for member in self.members:
            member.stop()


def start_redis_cluster(directory: Path, *, members: int = 3) -> RedisCluster:
    """Start a cluster of so many primaries below `directory`.

    Raises:
        ServiceError: when a member does not start or the cluster does not form.
    """
    password = secrets.token_hex(16)
    options = ("--cluster-enabled", "yes", "--cluster-node-timeout", "1500", "--save", "")
    started: list[Service] = []
    with ExitStack() as undo:
        for number in range(1, members + 1):
            name = f"redis-{number}"
            bus = ("--cluster-port", str(free_port()), "--cluster-config-file", f"{name}.nodes")
            started.append(_server(directory, password, *options, *bus, name=name).start())
            undo.callback(started[-1].stop)
        cluster = RedisCluster(tuple(started), password)
        login = ("-a", password, "--no-auth-warning")
        said = _cli(*login, "--cluster", "create", *cluster.nodes, "--cluster-yes")
        ports = [node.rpartition(":")[2] for node in cluster.nodes]
        if not _becomes(
            lambda: all("cluster_state:ok" in _cli(*login, "-p", port, "cluster", "info") for port in ports)
        ):
            raise ServiceError(f"the cluster did not form: {said[-300:]}")
        undo.pop_all()
    return cluster


def _cli(*arguments: str) -> str:
    with suppress(subprocess.TimeoutExpired):
        done = subprocess.run(["redis-cli", *arguments], capture_output=True, text=True, check=False, timeout=30)
        return done.stdout
    return ""


def _becomes(true: Callable[[], bool]) -> bool:
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        if true():
            return True
        time.sleep(0.1)
    return False
