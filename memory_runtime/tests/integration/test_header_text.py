"""A tenant, a namespace and an idempotency key mean the same at every door, whatever their characters."""

from __future__ import annotations

import json
import socket
import urllib.parse
from typing import Any

import grpc
import pytest

from memory_runtime.surfaces.grpc.generated.soma.memory.v2 import memory_pb2, memory_pb2_grpc
from memory_runtime.tests.integration.conftest import Server

pytestmark = pytest.mark.integration

NAMES = [
    "caf\u00e9",
    "cafe\u0301",
    "\u00c3\u00a9",
    "\u6771\u4eac",
    "\u043c\u0438\u0440",
    "\U0001f9e0",
    "a'b%41",
    "plain",
]


def extended(name: str) -> bytes:
    return b"UTF-8''" + urllib.parse.quote(name, safe="").encode()


def raw(server: Server, headers: bytes, method: str = "GET /stats", body: bytes = b"") -> tuple[int, Any]:
    """What raw bytes on a socket are answered with."""
    head = f"{method} HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer {server.token}\r\nConnection: close\r\n".encode()
    head += b"Content-Type: application/json\r\nContent-Length: " + str(len(body)).encode() + b"\r\n"
    with socket.create_connection(("127.0.0.1", server.http_port), timeout=20) as one:
        one.sendall(head + headers + b"\r\n" + body)
        answer = b""
        while part := one.recv(65536):
            answer += part
    top, _, rest = answer.partition(b"\r\n\r\n")
    return int(top.split()[1]), json.loads(rest)


@pytest.mark.parametrize("name", NAMES, ids=ascii)
@pytest.mark.parametrize("header", ["X-Soma-Tenant", "X-Soma-Namespace"])
def test_every_door_reaches_the_same_scope(server: Server, name: str, header: str) -> None:
    option = "--tenant" if header == "X-Soma-Tenant" else "--namespace"
    stored = server.soma("store", option, name, "--coord", "1,2", "--text", "hello", SOMA_API_TOKEN=server.token)
    assert stored.returncode == 0, stored.stderr
    found = [
        raw(server, f"{header}: ".encode() + value + b"\r\n")[1]["total_memories"]
        for value in (name.encode(), extended(name))
    ]
    with server.client() as client:
        client.headers.pop("X-Soma-Tenant")
        found.append(client.get("/stats", headers={header.encode(): name.encode()}).json()["total_memories"])
    key = header.lower()
    with server.channel() as channel:
        stub = memory_pb2_grpc.MemoryServiceStub(channel)
        for pair in ((f"{key}-bin", name.encode()), (key, extended(name).decode())):
            stats = stub.Stats(memory_pb2.StatsRequest(), metadata=(*server.metadata, pair), timeout=20)
            found.append(stats.total_memories)
    assert found == [1] * 5


@pytest.mark.parametrize("header", [b"X-Soma-Tenant", b"X-Soma-Namespace", b"Idempotency-Key", b"X-API-Key"])
@pytest.mark.parametrize("value", [b"caf\xe9", b"\xff", b"UTF-8''caf%E9"])
def test_other_bytes_are_refused_and_not_guessed(server: Server, header: bytes, value: bytes) -> None:
    status, body = raw(server, header + b": " + value + b"\r\n", "POST /store", b'{"coord": "1", "payload": {}}')
    assert (status, body["field"]) == (400, header.decode())
    assert "UTF-8" in body["remedy"]


def test_a_header_that_is_there_twice_must_say_one_thing(server: Server) -> None:
    assert raw(server, b"X-Soma-Tenant: a\r\nX-Soma-Tenant: a\r\n")[0] == 200
    status, body = raw(server, b"X-Soma-Tenant: a\r\nx-soma-tenant: b\r\n")
    assert (status, body["field"]) == (400, "X-Soma-Tenant")


def test_metadata_that_says_two_things_or_is_not_utf8_is_refused(server: Server) -> None:
    with server.channel() as channel:
        stub = memory_pb2_grpc.MemoryServiceStub(channel)
        for more in (
            (("x-soma-tenant", "a"), ("x-soma-tenant-bin", b"b")),
            (("x-soma-tenant-bin", b"\xff"),),
        ):
            with pytest.raises(grpc.RpcError) as caught:
                stub.Stats(memory_pb2.StatsRequest(), metadata=(*server.metadata, *more), timeout=20)
            assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT


def test_an_idempotency_key_is_one_key_in_both_ways_to_write_it(server: Server) -> None:
    body = json.dumps({"coord": "5", "payload": {"n": 1}}).encode()
    for value in ("sch\u00f6n".encode(), extended("sch\u00f6n")):
        status, _ = raw(server, b"X-Soma-Tenant: keys\r\nIdempotency-Key: " + value + b"\r\n", "POST /store", body)
        assert status == 200
    other = json.dumps({"coord": "5", "payload": {"n": 2}}).encode()
    assert (
        raw(
            server, b"X-Soma-Tenant: keys\r\nIdempotency-Key: " + extended("sch\u00f6n") + b"\r\n", "POST /store", other
        )[0]
        == 409
    )


@pytest.mark.parametrize("target", ["/keys?pattern=%ff", "/memories/%ff", "/neighbors?coord=1&link_type=caf%e9"])
def test_a_path_or_query_that_is_not_utf8_is_refused(server: Server, target: str) -> None:
    status, body = raw(server, b"", f"GET {target}")
    assert (status, body["code"]) == (400, "INVALID_ARGUMENT")
