"""Feature flags against a real etcd and a real Redis: followed without a restart, and safe when both are away."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from hack.cluster.errors import ClusterError
from hack.requirement import unavailable
from hack.services import Authority, Service, ServiceError, start_etcd, start_redis
from memory_runtime.flags import Flags, Source, build_flags
from memory_runtime.flags.etcd import Etcd
from memory_runtime.model.errors import InvalidArgument, NotFound, SomaError, Unavailable, Unprocessable
from memory_runtime.settings import SettingsError, SMFSettings
from memory_runtime.stores.resilience import BreakerState
from memory_runtime.tests.integration.conftest import Serve

pytestmark = pytest.mark.integration

Opener = Callable[..., Awaitable[tuple[Flags, list[SMFSettings]]]]


@pytest.fixture(scope="module")
def etcd_authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("etcd-pki"))


@pytest.fixture(scope="module")
def etcd_server(tmp_path_factory: pytest.TempPathFactory, etcd_authority: Authority) -> Iterator[Service]:
    try:
        service = start_etcd(tmp_path_factory.mktemp("etcd"), authority=etcd_authority)
    except (ClusterError, ServiceError) as error:
        unavailable(str(error))
    yield service
    service.kill()


@pytest.fixture(scope="module")
def etcd_settings(etcd_server: Service, etcd_authority: Authority) -> dict[str, Any]:
    client = etcd_authority.issue("soma")
    return {
        "etcd_endpoints": [etcd_server.url],
        "etcd_ca_cert": etcd_authority.certificate,
        "etcd_cert": client.certificate,
        "etcd_key": client.key,
    }


@pytest.fixture(scope="module")
def redis_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    try:
        service = start_redis(tmp_path_factory.mktemp("redis"))
    except (ClusterError, ServiceError) as error:
        unavailable(str(error))
    yield service
    service.kill()


@pytest.fixture
async def etcd(etcd_settings: dict[str, Any]) -> AsyncIterator[Etcd]:
    """A client that puts keys in as an operator would; every flag is removed before and after."""
    client = Etcd(SMFSettings(**etcd_settings))
    for name in (await client.read("/soma/")).values:
        await client.delete(f"/soma/{name}")
    yield client
    for name in (await client.read("/soma/")).values:
        await client.delete(f"/soma/{name}")
    await client.close()


@pytest.fixture
async def open_flags() -> AsyncIterator[Opener]:
    """Started flags, and the settings that they put in force, in order."""
    opened: list[Flags] = []

    async def opener(clock: Callable[[], float] = time.time, **settings: Any) -> tuple[Flags, list[SMFSettings]]:
        applied: list[SMFSettings] = []
        flags = build_flags(SMFSettings(**settings), applied.append)
        flags._clock = clock
        opened.append(flags)
        await flags.start()
        return flags, applied

    yield opener
    for flags in opened:
        await flags.stop()


async def until(true: Callable[[], bool]) -> None:
    for _ in range(1200):
        if true():
            return
        await asyncio.sleep(0.05)
    pytest.fail("it did not become true within a minute")


async def test_a_flag_that_changes_in_etcd_is_in_force_without_a_restart(
    etcd: Etcd, open_flags: Opener, etcd_settings: dict[str, Any]
) -> None:
    flags, applied = await open_flags(**etcd_settings)
    assert not applied
    await etcd.put("/soma/hybrid_recall_default", "true")
    await until(lambda: bool(applied))
    assert applied[-1].hybrid_recall_default
    state = flags.state("hybrid_recall_default")
    assert (state.value, state.default, state.source) == (True, False, Source.ETCD)
    assert state.age_seconds is not None
    assert state.age_seconds < 30
    await etcd.put("/soma/recall_sample_rate", "0.25")
    await etcd.delete("/soma/hybrid_recall_default")
    await until(lambda: flags.state("hybrid_recall_default").source is Source.DEFAULT)
    await until(lambda: applied[-1].recall_sample_rate == 0.25)
    assert not applied[-1].hybrid_recall_default


async def test_values_that_cannot_be_and_names_that_are_none_change_nothing(
    etcd: Etcd, open_flags: Opener, etcd_settings: dict[str, Any], caplog: pytest.LogCaptureFixture
) -> None:
    await etcd.put("/soma/recall_sample_rate", "7")
    await etcd.put("/soma/hybrid_recall_default", "perhaps")
    await etcd.put("/soma/log_level", "debug")
    await etcd.put("/soma/vector_dim", "3")
    flags, applied = await open_flags(**etcd_settings)
    assert [one.log_level for one in applied] == ["DEBUG"]
    assert applied[0].vector_dim == SMFSettings().vector_dim
    state = flags.state("recall_sample_rate")
    assert (state.source, state.value) == (Source.DEFAULT, state.default)
    assert "recall_sample_rate" in (state.problem or "")
    assert "vector_dim" in caplog.text
    with pytest.raises(InvalidArgument) as refused:
        await flags.set("recall_sample_rate", 7)
    assert refused.value.field == "recall_sample_rate"
    with pytest.raises(NotFound) as unknown:
        await flags.set("no_such_flag", True)
    assert "hybrid_recall_default" in (unknown.value.remedy or "")


async def test_redis_keeps_flags_for_five_minutes_and_then_the_defaults_count(
    etcd: Etcd, redis_server: Service, open_flags: Opener, etcd_settings: dict[str, Any]
) -> None:
    now = [1_000_000.0]
    await etcd.put("/soma/top_k_max", "7")
    await open_flags(lambda: now[0], **etcd_settings, redis_url=redis_server.url)
    away = etcd_settings | {"etcd_endpoints": ["https://127.0.0.1:1"], "redis_url": redis_server.url}
    now[0] += 200
    flags, applied = await open_flags(lambda: now[0], **away)
    assert [one.top_k_max for one in applied] == [7]
    state = flags.state("top_k_max")
    assert (state.source, state.age_seconds) == (Source.REDIS, 200.0)
    now[0] += 101
    await flags.refresh()
    assert flags.state("top_k_max").source is Source.DEFAULT
    assert applied[-1].top_k_max == SMFSettings().top_k_max
    later, none_applied = await open_flags(lambda: now[0], **away)
    assert not none_applied
    assert {state.source for state in later.states()} == {Source.DEFAULT}


async def test_with_etcd_and_redis_away_a_process_starts_in_time_with_its_settings(
    open_flags: Opener, etcd_settings: dict[str, Any]
) -> None:
    began = time.monotonic()
    away = etcd_settings | {"etcd_endpoints": ["https://127.0.0.1:1"], "redis_url": "redis://127.0.0.1:1/0"}
    flags, applied = await open_flags(**away, hybrid_boost=3.0)
    assert time.monotonic() - began < 5
    assert not applied
    assert flags.state("hybrid_boost").value == 3.0
    with pytest.raises(Unavailable):
        await flags.set("hybrid_boost", 4.0)


async def test_a_watch_that_broke_is_made_again_and_misses_nothing(tmp_path: Path, open_flags: Opener) -> None:
    try:
        service = start_etcd(tmp_path / "own")
    except (ClusterError, ServiceError) as error:
        unavailable(str(error))
    try:
        flags, applied = await open_flags(etcd_endpoints=[service.url], etcd_timeout_seconds=2.0)
        state = await flags.set("top_k_max", 9)
        assert (state.value, state.source) == (9, Source.ETCD)
        service.kill()
        await flags.refresh()
        assert flags.state("top_k_max").value == 9, "what etcd said a moment ago is still trusted"
        service.start()
        client = Etcd(SMFSettings(etcd_endpoints=[service.url], etcd_timeout_seconds=5.0))
        await client.put("/soma/top_k_max", "11")
        await client.close()
        for _ in range(700):
            if applied[-1].top_k_max == 11:
                break
            await asyncio.sleep(0.05)
        assert applied[-1].top_k_max == 11
    finally:
        service.stop()


async def test_a_change_that_was_told_while_the_circuit_was_open_is_read_when_it_closes(
    etcd: Etcd, open_flags: Opener, etcd_settings: dict[str, Any]
) -> None:
    flags, applied = await open_flags(**etcd_settings)
    assert flags._etcd is not None
    guard = flags._etcd._guard

    async def fail() -> None:
        raise ConnectionRefusedError

    for _ in range(50):
        with contextlib.suppress(SomaError):
            await guard.run("range", fail)
        if guard.breaker.state is BreakerState.OPEN:
            break
    assert guard.breaker.state is BreakerState.OPEN
    await etcd.put("/soma/top_k_max", "11")
    await until(lambda: bool(applied))
    assert applied[-1].top_k_max == 11


async def test_a_certificate_of_another_authority_is_refused(
    etcd_server: Service, etcd_settings: dict[str, Any], tmp_path: Path
) -> None:
    stranger = Authority(tmp_path / "stranger")
    client = Etcd(SMFSettings(**etcd_settings | {"etcd_ca_cert": stranger.certificate}))
    with pytest.raises(SomaError):
        await client.read("/soma/")
    await client.close()
    nameless = Etcd(SMFSettings(**etcd_settings | {"etcd_cert": None, "etcd_key": None}))
    with pytest.raises(SomaError):
        await nameless.read("/soma/")
    await nameless.close()


@pytest.mark.parametrize(
    ("values", "setting"),
    [
        ({"etcd_endpoints": ["etcd.example:2379"]}, "etcd_endpoints"),
        ({"etcd_endpoints": ["http://user:secret@etcd.example:2379"]}, "etcd_endpoints"),
        ({"etcd_endpoints": ["https://etcd.example"], "etcd_ca_cert": Path("absent.crt")}, "etcd_ca_cert"),
    ],
)
def test_a_bad_setting_is_named(values: dict[str, Any], setting: str) -> None:
    with pytest.raises(SettingsError) as refused:
        build_flags(SMFSettings(**values), lambda _: None)
    assert refused.value.setting == setting
    assert "secret" not in str(refused.value)


async def test_without_etcd_flags_are_the_settings_and_cannot_be_set(open_flags: Opener) -> None:
    flags, _ = await open_flags(top_k_max=5)
    assert flags.state("top_k_max").value == 5
    with pytest.raises(Unprocessable) as refused:
        await flags.set("top_k_max", 6)
    assert refused.value.field == "etcd_endpoints"


def test_a_running_server_follows_its_flags_and_shows_them(
    serve: Serve, etcd_settings: dict[str, Any], etcd_server: Service
) -> None:
    values = {f"SOMA_{name.upper()}": str(value) for name, value in etcd_settings.items()}
    server = serve(**values | {"SOMA_ETCD_ENDPOINTS": etcd_server.url, "SOMA_FLAGS_PREFIX": "/of-a-server/"})
    with server.client() as http:
        body = {"query": "anything", "top_k": 50}
        assert http.post("/memories/search", json=body).status_code == 200
        done = server.soma("flags", "set", "top_k_max", "20")
        assert done.returncode == 0, done.stderr
        assert "top_k_max = 20" in done.stdout
        bounded = http.post("/memories/search", json=body)
        assert (bounded.status_code, bounded.headers["X-Soma-Top-K"]) == (200, "20")
        shown = http.get("/stats").json()["flags"]
        assert shown["top_k_max"]["value"] == 20
        assert shown["top_k_max"]["source"] == "etcd"
        assert shown["hybrid_boost"] | {"value": 2.0, "source": "default"} == shown["hybrid_boost"]
        assert server.soma("flags", "unset", "top_k_max").returncode == 0
        assert http.post("/memories/search", json=body).status_code == 200
        unknown = http.get("/flags/no_such_flag")
        assert (unknown.status_code, unknown.json()["field"]) == (404, "flag")
        assert "top_k_max" in unknown.json()["remedy"]
        wrong = http.put("/flags/top_k_max", json={"value": 0})
        assert (wrong.status_code, wrong.json()["field"]) == (400, "top_k_max")
        limited = http.put("/flags/rate_limit_max", json={"value": 3})
        assert limited.status_code == 200
        assert 429 in {http.get("/flags").status_code for _ in range(8)}
    said = server.soma("flags", "set", "no_such_flag", "1")
    assert said.returncode == 2
    assert "top_k_max" in said.stderr
