"""The fault proxy does what it says to real sockets."""

from __future__ import annotations

import socket
import socketserver
import threading
import time
from collections.abc import Iterator

import pytest

from hack.services import FaultProxy


class Echo(socketserver.BaseRequestHandler):
    def handle(self) -> None:
        while data := self.request.recv(65_536):
            self.server.heard += len(data)  # type: ignore[attr-defined]
            self.request.sendall(data)


class Server(socketserver.ThreadingTCPServer):
    daemon_threads = True
    allow_reuse_address = True
    heard = 0


@pytest.fixture
def echo() -> Iterator[Server]:
    with Server(("127.0.0.1", 0), Echo) as server:
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
        yield server
        server.shutdown()


@pytest.fixture
def proxy(echo: Server) -> Iterator[FaultProxy]:
    with FaultProxy(*echo.server_address) as made:
        yield made


def connect(proxy: FaultProxy) -> socket.socket:
    return socket.create_connection(("127.0.0.1", proxy.port), timeout=5)


def ask(connection: socket.socket, data: bytes = b"hello") -> bytes:
    connection.sendall(data)
    got = b""
    while len(got) < len(data):
        chunk = connection.recv(65_536)
        if not chunk:
            break
        got += chunk
    return got


def test_bytes_pass_unchanged(proxy: FaultProxy) -> None:
    with connect(proxy) as connection:
        data = bytes(range(256)) * 1000
        assert ask(connection, data) == data


def test_latency_is_added_each_way(proxy: FaultProxy) -> None:
    with connect(proxy) as connection:
        ask(connection)
        proxy.latency = 0.05
        began = time.monotonic()
        assert ask(connection) == b"hello"
        assert 0.1 <= time.monotonic() - began < 1.0


def test_bandwidth_is_bounded(proxy: FaultProxy) -> None:
    with connect(proxy) as connection:
        proxy.bandwidth = 200_000
        began = time.monotonic()
        ask(connection, bytes(40_000))
        assert time.monotonic() - began >= 0.15


def test_a_cut_resets_and_refuses_until_healed(proxy: FaultProxy) -> None:
    with connect(proxy) as connection:
        ask(connection)
        proxy.cut()
        with pytest.raises(ConnectionError):
            ask(connection)
        with pytest.raises(ConnectionRefusedError):
            connect(proxy)
    proxy.heal()
    with connect(proxy) as connection:
        assert ask(connection) == b"hello"
    assert proxy.connections == 2


def test_a_partition_is_silent_and_what_was_held_arrives_after_it(proxy: FaultProxy) -> None:
    with connect(proxy) as connection:
        ask(connection)
        proxy.stall()
        connection.settimeout(0.1)
        with pytest.raises(TimeoutError):
            ask(connection)
        proxy.heal()
        connection.settimeout(5)
        assert connection.recv(5) == b"hello"


def test_with_replies_stalled_the_service_has_done_the_work(proxy: FaultProxy, echo: Server) -> None:
    with connect(proxy) as connection:
        proxy.stall("replies")
        connection.settimeout(0.2)
        with pytest.raises(TimeoutError):
            ask(connection)
        assert echo.heard == 5


def test_urls_keep_their_credentials_and_path() -> None:
    proxy = FaultProxy.before("redis://default:pw@127.0.0.1:7000/3")
    assert proxy.url("redis://default:pw@127.0.0.1:7000/3") == f"redis://default:pw@127.0.0.1:{proxy.port}/3"
    assert proxy.url("127.0.0.1:9092") == f"127.0.0.1:{proxy.port}"
