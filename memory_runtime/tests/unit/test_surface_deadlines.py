"""Each surface tells what it calls by when its caller wants the answer."""

from __future__ import annotations

import contextlib
from types import SimpleNamespace
from typing import Any

import pytest

from memory_runtime.model.records import Scope
from memory_runtime.stores.resilience import remaining
from memory_runtime.surfaces.grpc.guard import Guard as GrpcGuard
from memory_runtime.surfaces.http.guard import Guard as HttpGuard


async def admit(*_: object, **__: object) -> Scope:
    return Scope("acme", "notes")


def service(seconds: float) -> Any:
    return SimpleNamespace(
        settings=SimpleNamespace(request_timeout_seconds=seconds),
        admission=SimpleNamespace(enter=contextlib.nullcontext),
        admit=admit,
        body_limit=100,
        bodies=SimpleNamespace(take=lambda _: None, give_back=lambda _: None),
    )


async def test_http_hands_on_the_request_time_out() -> None:
    heard: list[float | None] = []

    async def app(*_: object) -> None:
        heard.append(remaining())

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": b""}

    asked = {"method": "POST", "path": "/recall", "state": {}, "client": None, "headers": []}
    exchange = SimpleNamespace(scope=asked, headers={}, send=None)
    await HttpGuard(app, service(7.0))._serve(exchange, receive)  # type: ignore[arg-type]
    assert heard[0] is not None
    assert 6.0 < heard[0] <= 7.0
    assert remaining() is None


@pytest.mark.parametrize(("asked", "most"), [(2.0, 2.0), (60.0, 7.0), (None, 7.0)])
async def test_grpc_hands_on_the_sooner_of_the_callers_deadline_and_ours(asked: float | None, most: float) -> None:
    heard: list[float | None] = []

    async def behave(*_: object) -> None:
        heard.append(remaining())

    async def read() -> bytes:
        return b""

    context = SimpleNamespace(
        invocation_metadata=dict, peer=lambda: "ipv4:127.0.0.1:1", time_remaining=lambda: asked, read=read
    )
    handler = SimpleNamespace(request_deserializer=bytes, unary_unary=behave)
    await GrpcGuard(service(7.0))._serve(handler, "/soma/Recall", context)
    assert heard[0] is not None
    assert most - 1.0 < heard[0] <= most
