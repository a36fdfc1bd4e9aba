"""Five times more than is let in: each is answered within its deadline or refused, and nothing leaks (R20)."""

from __future__ import annotations

import asyncio
import json
import time
from collections import Counter
from pathlib import Path

import httpx
import pytest

from memory_runtime.access.admission import MOST_IN_FLIGHT
from memory_runtime.tests.integration.conftest import Serve, Server

pytestmark = pytest.mark.integration

AT_ONCE = 5 * MOST_IN_FLIGHT
TEXT = "x" * 50_000
MOST_GROWTH_MIB = 400
"""The budget for buffered bodies is 64 MiB; the rest is 1,280 connections, parsed JSON and what malloc keeps."""


def resident_mib(server: Server) -> float:
    line = next(one for one in Path(f"/proc/{server.process.pid}/status").read_text().splitlines() if "VmRSS" in one)
    return int(line.split()[1]) / 1024


def open_files(server: Server) -> int:
    return sum(1 for _ in Path(f"/proc/{server.process.pid}/fd").iterdir())


async def flood(server: Server) -> Counter[int]:
    """How often each status was answered. Plain sockets: a client library would be the slower of the two."""

    async def one(number: int) -> int:
        body = {"coord": f"{number},1", "payload": {"text": TEXT, "n": number}, "vector": [1.0, float(number), 0.0]}
        sent = json.dumps(body).encode()
        head = (
            f"POST /memories HTTP/1.1\r\nHost: soma\r\nAuthorization: Bearer {server.token}\r\n"
            f"Content-Type: application/json\r\nContent-Length: {len(sent)}\r\nConnection: close\r\n\r\n"
        )
        reader, writer = await asyncio.open_connection("127.0.0.1", server.http_port)
        writer.write(head.encode() + sent)
        answer = (await reader.read()).decode()
        writer.close()
        status = int(answer.split(" ", 2)[1])
        assert status in (200, 503), answer
        assert status == 200 or "retry-after" in answer.lower(), "a refusal says when to come again"
        return status

    return Counter(await asyncio.gather(*(one(number) for number in range(AT_ONCE))))


async def test_five_times_too_much_is_refused_at_once_and_leaves_nothing_behind(serve: Serve) -> None:
    server = serve(SOMA_VECTOR_DIM="3", SOMA_REQUEST_TIMEOUT_SECONDS="20")
    with server.client() as http:
        http.post("/memories", json={"coord": "0,0", "payload": {}, "vector": [1.0, 0.0, 0.0]}).raise_for_status()
        memory, files = resident_mib(server), open_files(server)
        statuses = await flood(server)
        # a deadline that passed would be a 504: there is none
        assert statuses[200] + statuses[503] == AT_ONCE
        assert statuses[503] > 0, "this was no overload"
        assert statuses[200] > 0, "overload must not starve everybody"
        assert resident_mib(server) - memory < MOST_GROWTH_MIB
        stats = http.get("/stats", headers={"X-Soma-Tenant": "default"}).json()
        assert stats["total_memories"] == statuses[200], "a refused store was stored, or an answered one was not"
        for _ in range(50):
            if open_files(server) <= files + 8:
                break
            await asyncio.sleep(0.1)
        assert open_files(server) <= files + 8, "connections were not given back"
        assert http.get("/readyz").status_code == 200
    assert server.stop() == 0


async def test_a_hostile_tenant_takes_nothing_from_a_polite_one(serve: Serve) -> None:
    """Thousands of types that all tie, batches of large answers, and a tenant beside them that is always answered."""
    server = serve(
        SOMA_VECTOR_DIM="3",
        SOMA_REQUEST_TIMEOUT_SECONDS="30",
        SOMA_MAX_MEMORY_TYPES="6000",
        SOMA_RATE_LIMIT_MAX="0",
        SOMA_MAX_RESPONSE_BODY_MB="16",
    )
    hostile_items = [
        {
            "coord": f"{n},1",
            "payload": {"text": "cake", "blob": "x" * 5000},
            "type": f"type-{n}",
            "timestamp": 1.7e9,
        }
        for n in range(5500)
    ]
    batch = {"queries": ["cake"] * 16, "top_k": 1000}
    with server.client(tenant="hostile") as http, server.client(tenant="polite") as polite:
        for start in range(0, len(hostile_items), 500):
            http.post("/store_bulk", json={"items": hostile_items[start : start + 500]}).raise_for_status()
        polite.post(
            "/memories", json={"coord": "1,1", "payload": {"text": "tea"}, "vector": [1.0, 0.0, 0.0]}
        ).raise_for_status()
        refused = http.post("/recall_batch", json=batch)
        assert refused.status_code == 413, refused.text[:200]
        assert "top_k" in refused.json()["remedy"]
    hostile = {"X-Soma-Tenant": "hostile", "Authorization": f"Bearer {server.token}"}
    kind = {"X-Soma-Tenant": "polite", "Authorization": f"Bearer {server.token}"}
    statuses: Counter[int] = Counter()
    limits = httpx.Limits(max_connections=None)
    async with httpx.AsyncClient(base_url=server.url, timeout=60.0, trust_env=False, limits=limits) as http_of_both:

        async def attack() -> None:
            for number in range(3):
                body = batch if number % 2 else {"query": "cake", "top_k": 1000}
                path = "/recall_batch" if number % 2 else "/memories/search"
                statuses[(await http_of_both.post(path, json=body, headers=hostile)).status_code] += 1

        attacks = [asyncio.create_task(attack()) for _ in range(16)]
        answered = 0
        while not all(one.done() for one in attacks):
            search = await http_of_both.post(
                "/memories/search", json={"vector": [1.0, 0.0, 0.0], "top_k": 10}, headers=kind
            )
            got = await http_of_both.get("/memories/1,1", headers=kind)
            alive = await http_of_both.get("/livez")
            assert (search.status_code, got.status_code, alive.status_code) == (200, 200, 200)
            assert [one["payload"]["text"] for one in search.json()["memories"]] == ["tea"]
            answered += 1
        await asyncio.gather(*attacks)
    assert answered > 0
    assert statuses[413] > 0
    assert set(statuses) <= {200, 413, 503, 504}, statuses
    assert server.stop() == 0


async def test_who_goes_away_leaves_no_work_behind(serve: Serve) -> None:
    server = serve(SOMA_VECTOR_DIM="3")
    headers = {"Authorization": f"Bearer {server.token}"}
    body = {"vector": [1.0, 0.0, 0.0], "top_k": 10}
    async with httpx.AsyncClient(base_url=server.url, headers=headers, timeout=20.0, trust_env=False) as http:
        for _ in range(5):
            calls = [asyncio.create_task(http.post("/memories/search", json=body)) for _ in range(40)]
            await asyncio.sleep(0.01)
            for call in calls:
                call.cancel()
            await asyncio.gather(*calls, return_exceptions=True)
    began = time.monotonic()
    with server.client() as http_again:
        http_again.post("/memories/search", json=body).raise_for_status()
    assert time.monotonic() - began < 5.0
    assert server.stop() == 0, "a drain waited for requests that nobody waits for"
