"""What a caller without a token can do to gRPC: nothing is read for it, and nobody is kept out by it."""

from __future__ import annotations

import socket
import threading
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from memory_runtime.surfaces.grpc.generated.soma.memory.v2 import memory_pb2, memory_pb2_grpc
from memory_runtime.tests.integration.conftest import Serve, Server

pytestmark = pytest.mark.integration

STREAMS, SIZE, CHANNELS = 250, 4_900_000, 5
"""1.2 GB in all: without the mend the process grew by 1,400 to 1,900 MiB, and kept it."""
STORE = "/soma.memory.v2.MemoryService/Store"


def peak_mib(server: Server) -> float:
    """The most memory that the process has ever had resident."""
    lines = Path(f"/proc/{server.process.pid}/status").read_text().splitlines()
    return int(next(line for line in lines if line.startswith("VmHWM")).split()[1]) / 1024


def flood(server: Server, method: str, metadata: Any = None) -> Counter[str]:
    """How often each status was answered to messages of almost the largest size, sent at once."""
    body = b"\x0a" + b"x" * SIZE
    channels = [
        grpc.insecure_channel(
            f"127.0.0.1:{server.grpc_port}",
            [("grpc.use_local_subchannel_pool", 1), ("grpc.max_send_message_length", -1)],
        )
        for _ in range(CHANNELS)
    ]
    calls = [
        channels[number % CHANNELS].unary_unary(method).future(body, metadata=metadata, timeout=60)
        for number in range(STREAMS)
    ]
    found = Counter(call.exception().code().name for call in calls)
    for channel in channels:
        channel.close()
    return found


@pytest.mark.parametrize(
    ("method", "most"),
    [
        (STORE, 100),
        ("/somafractalmemory.MemoryService/Store", 100),
        ("/no.such.Service/Method", 100),
        ("/somafractalmemory.MemoryService/Health", 300),
        ("/grpc.health.v1.Health/Check", 300),
        ("/grpc.health.v1.Health/Watch", 300),
        ("/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo", 300),
    ],
)
def test_a_flood_without_a_token_costs_no_memory(serve: Serve, method: str, most: float) -> None:
    server = serve()
    before = peak_mib(server)
    found = flood(server, method)
    assert peak_mib(server) - before < most, found
    if method == STORE:
        assert found == {"UNAUTHENTICATED": STREAMS}
    assert found["OK"] == 0
    assert server.stop() == 0


def test_a_flood_with_a_token_is_bounded_too(serve: Serve) -> None:
    server = serve()
    before = peak_mib(server)
    found = flood(server, STORE, server.metadata)
    assert peak_mib(server) - before < 600, found
    assert server.stop() == 0


@pytest.fixture
def crowded(serve: Serve) -> Iterator[Server]:
    """A server with 200 open calls of health, of which none ever sends its request."""
    server, over = serve(), threading.Event()
    channel = server.channel()

    def never() -> Iterator[bytes]:
        over.wait(60)
        yield from ()

    calls = [channel.stream_stream("/grpc.health.v1.Health/Check")(never(), timeout=60) for _ in range(200)]
    yield server
    over.set()
    for call in calls:
        call.cancel()
    channel.close()


def test_health_answers_while_others_send_nothing(crowded: Server) -> None:
    with crowded.channel() as channel:
        for _ in range(20):
            began = time.monotonic()
            answer = health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest(), timeout=10)
            assert answer.status == health_pb2.HealthCheckResponse.SERVING
            assert time.monotonic() - began < 5.0
        stub = memory_pb2_grpc.MemoryServiceStub(channel)
        stub.Stats(memory_pb2.StatsRequest(), metadata=crowded.metadata, timeout=10)


def test_connections_that_speak_no_http2_are_closed(serve: Serve) -> None:
    server = serve()
    silent = [socket.create_connection(("127.0.0.1", server.grpc_port), timeout=30) for _ in range(50)]
    for number, one in enumerate(silent):
        one.sendall(b"PRI * HTTP/2.0\r\n\r\n"[: number % 18])
    for one in silent:
        while True:
            try:
                if not one.recv(4096):  # a timeout here would be the failure
                    break
            except ConnectionError:
                break
        one.close()
