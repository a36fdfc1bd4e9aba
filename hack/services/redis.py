"""Redis from Debian, on loopback, with a password and an append-only file."""

from __future__ import annotations

import secrets
import socket
from pathlib import Path

from hack.cluster.tools.debian import require
from hack.services.service import Service, free_port


def _pongs(port: int, password: str) -> bool:
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=0.5) as connection:
            connection.sendall(f"AUTH {password}\r\nPING\r\nQUIT\r\n".encode())
            return b"PONG" in connection.makefile("rb").read()  # QUIT closes it
    except OSError:
        return False


def start_redis(directory: Path, *arguments: str) -> Service:
    """Start a fresh Redis below `directory`; `arguments` are added to its command line.

    Raises:
        ServiceError: when it does not start.
    """
    require(("redis-server",), "the Redis tests")
    port, password = free_port(), secrets.token_hex(16)
    directory.mkdir(parents=True, exist_ok=True)
    options = ["--bind", "127.0.0.1", "--port", str(port), "--requirepass", password, "--appendonly", "yes"]
    return Service(
        name="redis",
        url=f"redis://default:{password}@127.0.0.1:{port}/0",
        command=["redis-server", *options, "--dir", str(directory), *arguments],
        log=directory / "redis.log",
        ready=lambda: _pongs(port, password),
    ).start()
