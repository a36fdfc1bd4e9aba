"""Real `soma serve` processes on free ports, one shared by a module's tests, others where a test needs its own."""

from __future__ import annotations

import dataclasses
import json
import os
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import grpc
import httpx
import pytest

from hack.cluster.errors import ClusterError
from hack.cluster.tools.debian import require
from hack.requirement import unavailable
from hack.services.qdrant_rest import start_qdrant_rest

COMMAND = [sys.executable, "-m", "memory_runtime.surfaces.cli"]
START_SECONDS = 60.0


def clean_environment(**settings: str | None) -> dict[str, str]:
    """This process's environment without settings of ours, with the hash embedding, which needs no weights.

    A setting that is None is left out, even where it is one of those set here.
    """
    kept = {name: value for name, value in os.environ.items() if not name.startswith("SOMA_") or name == "SOMA_CACHE"}
    wanted = kept | {"SOMA_EMBEDDING_PROVIDER": "hash", "SOMA_DRAIN_SECONDS": "5"} | settings
    return {name: value for name, value in wanted.items() if value is not None}


@dataclasses.dataclass
class Server:
    """A running `soma serve`."""

    process: subprocess.Popen[bytes]
    data_dir: Path
    log_path: Path
    http_port: int
    grpc_port: int
    token: str

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.http_port}"

    @property
    def metadata(self) -> tuple[tuple[str, str], ...]:
        return (("authorization", f"Bearer {self.token}"),)

    def client(self, *, tenant: str | None = None, token: str | None = "", **options: Any) -> httpx.Client:
        """An HTTP client of a tenant of its own, unless one is named, so that tests do not meet."""
        headers = {"X-Soma-Tenant": tenant or uuid.uuid4().hex}
        if token is not None:
            headers["Authorization"] = f"Bearer {token or self.token}"
        return httpx.Client(base_url=self.url, headers=headers, timeout=30.0, **options)

    def channel(self) -> grpc.Channel:
        return grpc.insecure_channel(f"127.0.0.1:{self.grpc_port}", [("grpc.use_local_subchannel_pool", 1)])

    def log_lines(self) -> list[dict[str, Any]]:
        """What the server has logged so far; a line that it is still writing waits for the next call."""
        whole, _, _ = self.log_path.read_text().rpartition("\n")
        return [json.loads(line) for line in whole.splitlines() if line.startswith("{")]

    def soma(self, *arguments: str, stdin: str | None = None, **settings: str) -> subprocess.CompletedProcess[str]:
        """Runs a command of `soma` against this server."""
        environment = clean_environment(SOMA_URL=self.url, SOMA_DATA_DIR=str(self.data_dir)) | settings
        return subprocess.run(
            [*COMMAND, *arguments], env=environment, input=stdin, capture_output=True, text=True, timeout=60
        )

    def stop(self) -> int:
        """Asks the server to stop, and gives its exit status."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        return self.process.wait(30)

    def crash(self) -> None:
        self.process.kill()
        self.process.wait(30)


Serve = Callable[..., Server]


def faketime_library() -> Path:
    """Debian's libfaketime, the variant for threads, to be preloaded; skips or fails where it cannot be had."""
    try:
        require(("faketime",), "the tests of clocks")
    except ClusterError as error:
        unavailable(str(error))
    found = sorted(Path("/usr/lib").glob("*/faketime/libfaketimeMT.so.1"))
    if not found:
        unavailable("libfaketimeMT.so.1 is not where Debian's faketime puts it")
    return found[0]


def start(folder: Path, arguments: list[str], settings: Mapping[str, str | None]) -> Server:
    data_dir, log_path = folder / "data", folder / f"log-{uuid.uuid4().hex}.jsonl"
    command = [*COMMAND, "serve", "--http-host", "127.0.0.1", "--grpc-host", "127.0.0.1", "--http-port", "0"]
    command += ["--grpc-port", "0", "--data-dir", str(data_dir), *arguments]
    with log_path.open("wb") as log:
        process = subprocess.Popen(command, env=clean_environment(**settings), stdout=log, stderr=log)
    server = Server(process, data_dir, log_path, 0, 0, "")
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline:
        found = [line for line in server.log_lines() if "http_port" in line]
        if found:
            token_file = data_dir / "api-token"
            kept = token_file.read_text().strip() if token_file.exists() else "none"
            token = settings.get("SOMA_API_TOKEN") or kept
            return dataclasses.replace(
                server, http_port=found[0]["http_port"], grpc_port=found[0]["grpc_port"], token=token
            )
        if process.poll() is not None:
            break
        time.sleep(0.05)
    process.kill()
    pytest.fail(f"soma serve did not start:\n{log_path.read_text()[-3000:]}")


@pytest.fixture
def serve(tmp_path: Path) -> Iterator[Serve]:
    """Starts servers of the test's own: `serve("--half-life", "1d", SOMA_RATE_LIMIT_MAX="5")`."""
    running: list[Server] = []

    def starter(*arguments: str, **settings: str | None) -> Server:
        running.append(start(tmp_path, list(arguments), settings))
        return running[-1]

    yield starter
    for server in running:
        server.crash()


@pytest.fixture(scope="session")
def qdrant_rest(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The URL of the Qdrant client's own engine behind Qdrant's REST protocol."""
    service = start_qdrant_rest(tmp_path_factory.mktemp("qdrant-rest"))
    yield service.url
    service.stop()


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """One server for the tests of a module, each in a tenant of its own."""
    running = start(tmp_path_factory.mktemp("server"), [], {})
    yield running
    running.crash()


@pytest.fixture
def http(server: Server) -> Iterator[httpx.Client]:
    """A client of the shared server in a fresh tenant."""
    with server.client() as client:
        yield client
