"""What is killed: a `soma serve` that we start ourselves, or a service that somebody else starts again."""

from __future__ import annotations

import os
import shlex
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Protocol

import httpx


class TargetError(Exception):
    """The target did not come up, or could not be killed: the run says nothing about durability."""


class Target(Protocol):
    """Something that serves the runtime's HTTP at `url`."""

    url: str
    ledger: Path | None

    def start(self) -> None:
        """Brings it up, or waits until it is; returns once it is ready. Raises TargetError."""

    def kill(self) -> None:
        """Ends it without warning."""

    def stop(self) -> None:
        """Ends it for good."""


def wait_ready(url: str, seconds: float, alive: subprocess.Popen[bytes] | None = None, log: Path | None = None) -> None:
    """Returns once /readyz answers 200. Raises TargetError when the process ended, or after `seconds`."""
    deadline = time.monotonic() + seconds
    last = "no answer"
    while time.monotonic() < deadline:
        if alive is not None and alive.poll() is not None:
            raise TargetError(f"the server ended with {alive.returncode}: {_tail(log)}")
        try:
            answer = httpx.get(f"{url}/readyz", timeout=2.0, trust_env=False)
        except httpx.HTTPError as error:
            last = type(error).__name__
        else:
            if answer.status_code == 200:
                return
            last = f"{answer.status_code} {answer.text[:200]}"
        time.sleep(0.05)
    raise TargetError(f"{url} was not ready within {seconds:g} s: {last}; {_tail(log)}")


def _tail(log: Path | None) -> str:
    return "" if log is None or not log.exists() else log.read_text(errors="replace")[-1500:]


def free_port() -> int:
    """A port that nothing listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class HostTarget:
    """A `soma serve` of this checkout on a directory of its own, on loopback."""

    def __init__(self, directory: Path, token: str) -> None:
        self._directory = directory
        self._log = directory / "server.log"
        self.token = token
        self._process: subprocess.Popen[bytes] | None = None
        self._http, self._grpc = free_port(), free_port()
        self.url = f"http://127.0.0.1:{self._http}"
        self.ledger: Path | None = directory / "data" / "ledger.sqlite3"

    def start(self) -> None:
        """Starts the server on the directory, whatever state the last kill left it in."""
        environ = {
            key: value for key, value in os.environ.items() if not key.startswith("SOMA_") or key == "SOMA_CACHE"
        }
        environ |= {
            "SOMA_API_TOKEN": self.token,
            "SOMA_DATA_DIR": str(self._directory / "data"),
            "SOMA_HTTP_HOST": "127.0.0.1",
            "SOMA_GRPC_HOST": "127.0.0.1",
            "SOMA_HTTP_PORT": str(self._http),
            "SOMA_GRPC_PORT": str(self._grpc),
            "SOMA_EMBEDDING_PROVIDER": "hash",
            "SOMA_LOG_LEVEL": "WARNING",
        }
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "memory_runtime.surfaces.cli", "serve"], env=environ, stdout=log, stderr=log
            )
        wait_ready(self.url, 60.0, self._process, self._log)

    def kill(self) -> None:
        """SIGKILL, and waits until the process is gone."""
        if self._process is None:
            raise TargetError("nothing is running")
        self._process.send_signal(signal.SIGKILL)
        self._process.wait(30)

    def stop(self) -> None:
        """SIGTERM; SIGKILL for what does not listen."""
        if self._process is None or self._process.poll() is not None:
            return
        self._process.terminate()
        try:
            self._process.wait(30)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait(30)


class RemoteTarget:
    """A service behind a URL; `kill_command` kills it, and somebody (the kubelet) starts it again."""

    def __init__(self, url: str, kill_command: str, ready_seconds: float) -> None:
        self.url = url.rstrip("/")
        self.ledger: Path | None = None
        self._command = shlex.split(kill_command)
        self._seconds = ready_seconds

    def start(self) -> None:
        """Waits until it is ready."""
        wait_ready(self.url, self._seconds)

    def kill(self) -> None:
        """Runs the command, and waits until the service is away: the old one must not be taken for the new."""
        done = subprocess.run(self._command, capture_output=True, text=True, timeout=60, check=False)
        if done.returncode != 0:
            raise TargetError(f"the kill command failed with {done.returncode}: {done.stderr.strip()[-500:]}")
        deadline = time.monotonic() + 15
        while time.monotonic() < deadline:
            try:
                httpx.get(f"{self.url}/livez", timeout=0.5, trust_env=False)
            except httpx.HTTPError:
                return
            time.sleep(0.02)

    def stop(self) -> None:
        """It is not ours to stop."""
