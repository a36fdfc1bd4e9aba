"""One rate limit for all replicas, against a real Redis: its exact count, its bounds, and what it does without one."""

from __future__ import annotations

import asyncio
import hashlib
import uuid
from collections import Counter
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from redis import Redis

from hack.services import Service, start_redis
from memory_runtime.access import FleetLimiter
from memory_runtime.model.errors import RateLimited, Unavailable
from memory_runtime.settings import SMFSettings
from memory_runtime.stores.redis.rate import SharedRate
from memory_runtime.surfaces import shared_rate
from memory_runtime.surfaces.shared_rate import build_shared_rate
from memory_runtime.telemetry.metrics import Metrics
from memory_runtime.tests.integration.conftest import Server, start
from memory_runtime.tests.stores.conftest import or_unavailable

pytestmark = pytest.mark.integration


@pytest.fixture(autouse=True)
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """A busy machine is no Redis that is away."""
    monkeypatch.setattr(shared_rate, "PATIENCE_SECONDS", 10.0)


def shared(url: str) -> SharedRate:
    found = build_shared_rate(SMFSettings(redis_url=url), Metrics().backends)
    assert found is not None
    return found


@pytest.fixture
async def two(redis_service: Service) -> AsyncIterator[tuple[SharedRate, SharedRate]]:
    """The shared rate as two replicas have it."""
    both = shared(redis_service.url), shared(redis_service.url)
    yield both
    for one in both:
        await one.close()


async def allowed(limiter: FleetLimiter, caller: str) -> bool:
    try:
        await limiter.spend((caller, "acme"))
    except RateLimited as refused:
        return not refused.retry_after
    return True


async def test_replicas_spend_from_one_limit(two: tuple[SharedRate, SharedRate]) -> None:
    who = Counter[str]()
    replicas = [FleetLimiter(20, 3600.0, one, lambda decided: who.update([decided])) for one in two]
    caller = uuid.uuid4().hex
    answers = await asyncio.gather(*(allowed(replicas[at % 2], caller) for at in range(60)))
    assert sum(answers) == 20, "the limit, not twice the limit"
    assert await allowed(replicas[0], uuid.uuid4().hex), "another caller has a limit of its own"
    assert who["alone"] == 0
    assert who["shared"] >= 40


async def test_the_wait_that_is_told_is_the_wait_that_it_takes(two: tuple[SharedRate, SharedRate]) -> None:
    caller = uuid.uuid4().hex
    assert await two[0].wait(caller, 2, 1.0) == 0.0
    assert await two[1].wait(caller, 2, 1.0) == 0.0
    wait = await two[0].wait(caller, 2, 1.0)
    assert 0.0 < wait <= 0.5
    await asyncio.sleep(wait + 0.01)
    assert await two[1].wait(caller, 2, 1.0) == 0.0


async def test_what_redis_keeps_names_nobody_and_goes_by_itself(
    redis_service: Service, two: tuple[SharedRate, SharedRate]
) -> None:
    name = uuid.uuid4().hex
    await two[0].wait(name, 10, 60.0)
    with Redis.from_url(redis_service.url, decode_responses=True) as redis:
        keys = [key for key in redis.scan_iter("soma:rate:*") if 0 < redis.pttl(key) <= 6_000]
        assert keys, "one request of ten in a minute is forgotten after six seconds"
        assert not any(name in key for key in redis.scan_iter("*"))


async def test_a_clock_that_is_set_back_locks_nobody_out(
    redis_service: Service, two: tuple[SharedRate, SharedRate]
) -> None:
    name = uuid.uuid4().hex
    await two[0].wait(name, 10, 60.0)
    with Redis.from_url(redis_service.url, decode_responses=True) as redis:
        key = "soma:rate:" + hashlib.sha256(name.encode()).hexdigest()[:32]
        redis.set(key, str(int(redis.get(key)) + 3600 * 1_000_000), px=3_600_000)  # type: ignore[arg-type]
    assert await two[1].wait(name, 10, 60.0) == pytest.approx(6.0, abs=0.1), "not an hour"


async def test_without_redis_each_replica_holds_the_limit_alone(tmp_path: Path) -> None:
    with or_unavailable():
        redis = start_redis(tmp_path, "--appendonly", "no", "--save", "")
    one, other = shared(redis.url), shared(redis.url)
    try:
        who = Counter[str]()
        replicas = [FleetLimiter(5, 3600.0, rate, lambda decided: who.update([decided])) for rate in (one, other)]
        redis.stop()
        with pytest.raises(Unavailable):
            await one.wait("somebody", 5, 3600.0)
        answers = [[await allowed(replica, "caller") for _ in range(9)] for replica in replicas]
        assert [sum(one) for one in answers] == [5, 5], "at most once the limit for each replica"
        assert who == {"alone": 10, "local": 8}
    finally:
        redis.stop()
        await one.close()
        await other.close()


def test_two_servers_answer_429_at_one_limit_and_count_it(redis_service: Service, tmp_path: Path) -> None:
    servers: list[Server] = []
    limit = 12
    settings = {"REDIS_URL": redis_service.url, "SOMA_RATE_LIMIT_MAX": str(limit), "SOMA_API_TOKEN": "secret"}
    settings |= {"SOMA_RATE_LIMIT_WINDOW_SECONDS": "3600"}
    try:
        for name in ("a", "b"):
            (tmp_path / name).mkdir()
            servers.append(start(tmp_path / name, [], settings))
        tenant = uuid.uuid4().hex
        statuses = Counter[int]()
        for at in range(3 * limit):
            with servers[at % 2].client(tenant=tenant) as http:
                answer = http.get("/stats")
            statuses[answer.status_code] += 1
            if answer.status_code == 429:
                assert answer.json()["code"] == "RATE_LIMITED"
                assert int(answer.headers["Retry-After"]) > 0
        counted = Counter[str]()
        for server in servers:
            with server.client() as http:
                for line in http.get("/metrics").text.splitlines():
                    name, _, value = line.rpartition(" ")
                    if name.startswith(("soma_requests_refused_total", "soma_rate_limit_decisions_total")):
                        counted[name] += round(float(value))
        # on a machine that is too busy for Redis to answer in time, a replica decides alone, and says so
        alone = counted['soma_rate_limit_decisions_total{decided_by="alone"}']
        assert limit <= statuses[200] <= limit + alone
        assert counted['soma_requests_refused_total{reason="rate_limit"}'] == statuses[429]
        assert sum(statuses.values()) == 3 * limit
    finally:
        for server in servers:
            server.crash()
