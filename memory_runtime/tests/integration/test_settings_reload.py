"""Each setting that is declared reloadable is changed at a running server, and the change is seen at a door.

The list is the declaration itself: a setting that is added there without a test here fails.
"""

from __future__ import annotations

import signal
import socket
import time
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

import grpc
import httpx
import pytest
import yaml

from hack import model_weights
from memory_runtime.settings import RELOADABLE
from memory_runtime.surfaces.grpc.generated.soma.memory.v2 import memory_pb2, memory_pb2_grpc
from memory_runtime.tests.integration.conftest import Serve, Server

pytestmark = pytest.mark.integration

SECONDS = 60.0


class Reloading:
    """A server whose settings are a file; `change` writes it and waits until the log says that it was taken over."""

    def __init__(self, serve: Serve, path: Path, **settings: Any) -> None:
        self.path = path
        self.values: dict[str, Any] = {
            "api_token": "first",
            "embedding_provider": "hash",
            "drain_seconds": 5,
        } | settings
        self._write()
        self.server = serve("--config", str(path), SOMA_EMBEDDING_PROVIDER=None, SOMA_DRAIN_SECONDS=None)
        self.token = "first"

    def _write(self) -> None:
        draft = self.path.with_suffix(".draft")
        draft.write_text(yaml.safe_dump(self.values))
        draft.replace(self.path)

    def change(self, **settings: Any) -> None:
        told = self.told()
        self.values |= settings
        self._write()
        self.wait(lambda: self.told() > told)

    def told(self) -> int:
        return sum(line["message"].startswith("settings changed") for line in self.server.log_lines())

    @staticmethod
    def wait(true: Callable[[], bool]) -> None:
        deadline = time.monotonic() + SECONDS
        while not true():
            assert time.monotonic() < deadline, "it did not become true in time"
            time.sleep(0.05)

    def client(self, token: str | None = None) -> httpx.Client:
        return self.server.client(token=token or self.token, tenant="reload")

    def post(self, path: str, body: Any, **headers: str) -> httpx.Response:
        with self.client() as client:
            return client.post(path, json=body, headers=headers)

    def get(self, path: str) -> httpx.Response:
        with self.client() as client:
            return client.get(path)

    def flag(self, name: str) -> Any:
        return self.get("/stats").json()["flags"][name]["value"]

    def store(self, coord: str, text: str) -> httpx.Response:
        return self.post("/store", {"coord": coord, "payload": {"text": text}})


@pytest.fixture
def reloading(serve: Serve, tmp_path: Path) -> Callable[..., Reloading]:
    def start(**settings: Any) -> Reloading:
        return Reloading(serve, tmp_path / "settings.yaml", **settings)

    return start


Start = Callable[..., Reloading]
EFFECTS: dict[str, Callable[[Start, Path], None]] = {}


def effect(check: Callable[[Start, Path], None]) -> Callable[[Start, Path], None]:
    EFFECTS[check.__name__] = check
    return check


@effect
def api_token(start: Start, _: Path) -> None:
    running = start()
    channel = running.server.channel()
    running.change(api_token="second")
    for token, status in (("first", 401), ("second", 200)):
        with running.client(token) as client:
            assert client.get("/stats").status_code in {status, 403 if status == 401 else status}
        stub = memory_pb2_grpc.MemoryServiceStub(channel)
        metadata = (("authorization", f"Bearer {token}"),)
        try:
            stub.Stats(memory_pb2.StatsRequest(), metadata=metadata, timeout=20)
            code = grpc.StatusCode.OK
        except grpc.RpcError as error:
            code = error.code()
        assert code is (grpc.StatusCode.OK if status == 200 else grpc.StatusCode.UNAUTHENTICATED)
    channel.close()


@effect
def api_token_file(start: Start, folder: Path) -> None:
    running = start()
    (folder / "token").write_text("from-a-file")
    running.change(api_token_file=str(folder / "token"))
    with running.client("from-a-file") as good, running.client("first") as old:
        assert (good.get("/stats").status_code, old.get("/stats").status_code) == (200, 403)


@effect
def cache_enabled(start: Start, _: Path) -> None:
    running = start(cache_enabled=False)
    running.change(cache_enabled=True)
    assert running.flag("cache_enabled") is True


@effect
def cors_origins(start: Start, _: Path) -> None:
    running = start()
    ask = {"Origin": "https://app.example", "Access-Control-Request-Method": "POST"}
    allowed = lambda: httpx.options(f"{running.server.url}/store", headers=ask).headers.get(  # noqa: E731
        "access-control-allow-origin"
    )
    assert allowed() is None
    running.change(cors_origins=["https://app.example"])
    assert allowed() == "https://app.example"
    running.change(cors_origins=[])
    assert allowed() is None


@effect
def drain_seconds(start: Start, _: Path) -> None:
    running = start(drain_seconds=60)
    running.change(drain_seconds=1)
    running.server.stop()
    (line,) = (line for line in running.server.log_lines() if line["message"] == "draining")
    assert line["seconds"] == 1


@effect
def embedding_timeout_seconds(start: Start, _: Path) -> None:
    model = str(model_weights.ensure())
    running = start(embedding_provider="transformer", model_dir=model)
    text = " ".join(f"word{number}" for number in range(300))
    assert running.store("1", text).status_code == 200
    running.change(embedding_timeout_seconds=0.0001)
    refused = running.store("2", text + " again")
    assert (refused.status_code, refused.json()["field"]) == (504, "embedding_timeout_seconds")


@effect
def graph_mirror_enabled(start: Start, _: Path) -> None:
    running = start()
    running.change(graph_mirror_enabled=False)
    assert running.flag("graph_mirror_enabled") is False


def _scores(running: Reloading, **more: Any) -> list[float]:
    found = running.post("/recall_with_scores", {"query": "zanzibar harbour", "top_k": 3, **more}).json()
    return [hit["score"] for hit in found["results"]]


def _with_memories(running: Reloading) -> None:
    for coord, text in (("1", "a quiet harbour at dawn"), ("2", "zanzibar"), ("3", "harbour lights, zanzibar nights")):
        running.store(coord, text).raise_for_status()


@effect
def hybrid_boost(start: Start, _: Path) -> None:
    running = start(hybrid_boost=1.0)
    _with_memories(running)
    before = _scores(running, hybrid=True)
    running.change(hybrid_boost=50.0)
    assert running.flag("hybrid_boost") == 50.0
    assert _scores(running, hybrid=True) != before


@effect
def hybrid_recall_default(start: Start, _: Path) -> None:
    running = start()
    _with_memories(running)
    plain, mixed = (
        running.post("/recall_with_scores", {"query": "zanzibar harbour", "explain": True, "hybrid": hybrid}).json()
        for hybrid in (False, True)
    )
    ask = lambda: running.post("/recall_with_scores", {"query": "zanzibar harbour", "explain": True}).json()  # noqa: E731
    assert [sorted(hit["explanation"]) for hit in plain["results"]] != [
        sorted(hit["explanation"]) for hit in mixed["results"]
    ] or [hit["score"] for hit in plain["results"]] != [hit["score"] for hit in mixed["results"]]
    assert _shape(ask()) == _shape(plain)
    running.change(hybrid_recall_default=True)
    assert _shape(ask()) == _shape(mixed)


def _shape(found: Any) -> list[tuple[float, list[str]]]:
    return [(round(hit["score"], 3), sorted(hit["explanation"])) for hit in found["results"]]


@effect
def log_level(start: Start, _: Path) -> None:
    running = start()
    debug = lambda: [line for line in running.server.log_lines() if line["level"] == "DEBUG"]  # noqa: E731
    running.get("/livez")
    assert not debug()
    running.change(log_level="DEBUG")
    running.get("/livez")
    running.wait(lambda: bool(debug()))


@effect
def max_memory_size(start: Start, _: Path) -> None:
    running = start()
    running.store("1", "one").raise_for_status()
    running.change(max_memory_size=1)
    assert running.store("2", "two").status_code >= 400
    running.change(max_memory_size=2)
    assert running.store("2", "two").status_code == 200


@effect
def max_request_body_mb(start: Start, _: Path) -> None:
    running = start(max_request_body_mb=1)

    def by_grpc(size: int) -> grpc.StatusCode:
        with running.server.channel() as channel:
            stub = memory_pb2_grpc.MemoryServiceStub(channel)
            item = memory_pb2.Item(coordinate=[1.0], payload_json='{"text": "' + "x" * size + '"}')
            metadata = (("authorization", f"Bearer {running.token}"),)
            try:
                stub.Store(memory_pb2.StoreRequest(item=item), metadata=metadata, timeout=20, wait_for_ready=True)
            except grpc.RpcError as error:
                return error.code()
            return grpc.StatusCode.OK

    def by_http(size: int) -> int:
        return running.store(uuid.uuid4().hex[:4].translate(str.maketrans("abcdef", "123456")), "x" * size).status_code

    big = 3 << 20
    assert by_http(big) == 413
    assert by_grpc(big) is grpc.StatusCode.RESOURCE_EXHAUSTED
    running.change(max_request_body_mb=8)
    assert by_http(big) == 200
    running.wait(lambda: by_grpc(big) is grpc.StatusCode.OK)
    running.change(max_request_body_mb=0.5)
    assert by_http(big) == 413
    assert by_grpc(1 << 20) is grpc.StatusCode.RESOURCE_EXHAUSTED


@effect
def rate_limit_max(start: Start, _: Path) -> None:
    running = start()
    assert {running.get("/stats").status_code for _ in range(5)} == {200}
    running.change(rate_limit_max=2)
    assert 429 in {running.get("/stats").status_code for _ in range(5)}


@effect
def rate_limit_window_seconds(start: Start, _: Path) -> None:
    running = start(rate_limit_max=1, rate_limit_window_seconds=3600)
    assert [running.get("/stats").status_code for _ in range(2)] == [200, 429]
    running.change(rate_limit_window_seconds=0.01)
    running.wait(lambda: running.get("/stats").status_code == 200)


@effect
def recall_sample_rate(start: Start, _: Path) -> None:
    running = start(recall_sample_rate=0)
    _with_memories(running)
    _scores(running)
    sampled = lambda: "soma_recall_samples_total{" in running.get("/metrics").text  # noqa: E731
    assert not sampled()
    running.change(recall_sample_rate=1)

    def seen() -> bool:
        _scores(running)
        return sampled()

    running.wait(seen)


@effect
def request_timeout_seconds(start: Start, _: Path) -> None:
    running = start()
    running.change(request_timeout_seconds=0.3)
    with socket.create_connection(("127.0.0.1", running.server.http_port), timeout=20) as slow:
        head = f"POST /store HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer {running.token}\r\nContent-Length: 9\r\n\r\n"
        slow.sendall(head.encode())
        assert slow.recv(65536).startswith(b"HTTP/1.1 504")


@effect
def top_k_max(start: Start, _: Path) -> None:
    running = start(hybrid_recall_default=False)
    _with_memories(running)
    assert len(_scores(running)) >= 2
    running.change(top_k_max=1)
    answer = running.post("/recall_with_scores", {"query": "zanzibar harbour", "top_k": 3})
    assert (len(answer.json()["results"]), answer.headers["X-Soma-Top-K"]) == (1, "1")


@pytest.mark.parametrize("name", sorted(RELOADABLE))
def test_a_reloadable_setting_takes_effect_at_a_running_server(name: str, reloading: Start, tmp_path: Path) -> None:
    EFFECTS[name](reloading, tmp_path)


def _hangup(server: Server) -> None:
    server.process.send_signal(signal.SIGHUP)


def test_a_hangup_reads_the_settings_again_and_a_bad_file_changes_nothing(reloading: Start) -> None:
    running = reloading()
    running.path.write_text("top_k_max: [\n")
    _hangup(running.server)
    running.wait(lambda: any("stay as they were" in line["message"] for line in running.server.log_lines()))
    assert running.flag("top_k_max") == 1000
    running.change(top_k_max=7)
    assert running.flag("top_k_max") == 7


def test_a_reload_that_would_leave_no_token_keeps_the_last_good_one(reloading: Start, tmp_path: Path) -> None:
    running = reloading()
    running.change(api_token_file=str(tmp_path / "absent"))
    assert running.get("/stats").status_code == 200
    assert any("last good token" in line["message"] for line in running.server.log_lines())


def test_a_mounted_secret_that_is_renewed_is_read_again(serve: Serve, tmp_path: Path) -> None:
    """The kubelet replaces the directory that the files' links lead through."""
    secrets = tmp_path / "secrets"
    secrets.mkdir()
    for generation, token in (("one", "first"), ("two", "second")):
        (secrets / generation).mkdir()
        (secrets / generation / "api_token").write_text(token)
    (secrets / "..data").symlink_to("one")
    (secrets / "api_token").symlink_to("..data/api_token")
    server = serve(SOMA_SECRETS_DIR=str(secrets))
    with server.client(token="first") as old, server.client(token="second") as new:
        assert (old.get("/stats").status_code, new.get("/stats").status_code) == (200, 403)
        (secrets / "..tmp").symlink_to("two")
        (secrets / "..tmp").replace(secrets / "..data")
        Reloading.wait(lambda: new.get("/stats").status_code == 200)
        assert old.get("/stats").status_code == 403
