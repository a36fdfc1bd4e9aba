"""What is harmed: a `soma serve` that we start ourselves, or a service that somebody else starts again."""

from __future__ import annotations

import http.client
import os
import shlex
import signal
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Final, Protocol

from hack.services.service import free_port
from hack.torture_harness.history import DIM, Kind
from hack.torture_harness.processes import Launcher, Running
from hack.torture_harness.witness import FileWitness, Witness

READY_SECONDS: Final = 60.0


class TargetError(Exception):
    """The target did not come up, or could not be killed: the run says nothing about durability."""


class Target(Protocol):
    """Something that serves the runtime's HTTP at `url`."""

    urls: list[str]
    witness: Witness | None
    """Who can look into the ledger; None where nobody can."""
    ways: Sequence[Kind]
    """The ways of reading that must be linearizable by themselves."""

    def start(self, failpoints: str = "") -> None:
        """Brings it up, or waits until it is; returns once it is ready. Raises TargetError."""

    def alive(self) -> bool:
        """Whether what has the failpoints runs; True where that cannot be known."""

    def kill(self) -> None:
        """Ends it without warning."""

    def stop(self) -> None:
        """Ends it for good."""


def answers_ready(host: str, port: int, timeout: float = 2.0) -> str | None:
    """None where /readyz answers 200, else what it answered."""
    connection = http.client.HTTPConnection(host, port, timeout=timeout)
    try:
        connection.request("GET", "/readyz")
        answer = connection.getresponse()
        return None if answer.status == 200 else f"{answer.status} {answer.read(200).decode(errors='replace')}"
    except (OSError, http.client.HTTPException) as error:
        return type(error).__name__
    finally:
        connection.close()


def wait_ready(host: str, port: int, seconds: float, ended: Callable[[], str | None]) -> None:
    """Returns once it is ready. Raises TargetError when `ended` says so, or after `seconds`."""
    deadline = time.monotonic() + seconds
    last: str | None = "no answer"
    while time.monotonic() < deadline:
        if (why := ended()) is not None:
            raise TargetError(why)
        if (last := answers_ready(host, port)) is None:
            return
        time.sleep(0.01)
    raise TargetError(f"{host}:{port} was not ready within {seconds:g} s: {last}")


class HostTarget:
    """A `soma serve` of this checkout on a directory of its own, on loopback."""

    ways: Sequence[Kind] = (Kind.GET, Kind.RECALL)

    def __init__(
        self, directory: Path, token: str, launcher: Launcher, settings: Mapping[str, str] | None = None
    ) -> None:
        """`settings` are environment variables for the server, such as `{"SOMA_VECTOR_DIM": "16"}`."""
        self.directory = directory
        self.token = token
        self.log = directory / "server.log"
        self.data = directory / "data"
        self.witness: Witness | None = FileWitness(self.data / "ledger.sqlite3")
        self._launcher = launcher
        self._settings = dict(settings or {})
        self._running: Running | None = None
        self._http, self._grpc = free_port(), free_port()
        self.urls = [f"http://127.0.0.1:{self._http}"]

    @property
    def pid(self) -> int:
        """The server's process."""
        if self._running is None:
            raise TargetError("nothing is running")
        return self._running.pid

    @property
    def started(self) -> bool:
        """Whether there was a start."""
        return self._running is not None

    def settle(self, data: Path) -> None:
        """Uses another data directory from the next start on."""
        self.data = data
        self.witness = FileWitness(data / "ledger.sqlite3")

    def start(self, failpoints: str = "") -> None:
        """Starts the server on the directory, whatever state the last kill left it in."""
        self.begin(failpoints)
        self.await_ready(READY_SECONDS)

    def await_ready(self, seconds: float) -> None:
        """Returns once it is ready. Raises TargetError."""
        wait_ready("127.0.0.1", self._http, seconds, self._ended)

    def begin(self, failpoints: str = "") -> None:
        """`start`, without waiting."""
        kept = {name: value for name, value in os.environ.items() if not name.startswith("SOMA_")}
        environ = kept | {
            "SOMA_API_TOKEN": self.token,
            "SOMA_DATA_DIR": str(self.data),
            "SOMA_HTTP_HOST": "127.0.0.1",
            "SOMA_GRPC_HOST": "127.0.0.1",
            "SOMA_HTTP_PORT": str(self._http),
            "SOMA_GRPC_PORT": str(self._grpc),
            "SOMA_EMBEDDING_PROVIDER": "hash",
            "SOMA_VECTOR_DIM": str(DIM),
            "SOMA_LOG_LEVEL": "WARNING",
            "SOMA_DRAIN_SECONDS": "1",
            # so that a short life has snapshots too, and starts from them
            "SOMA_INDEX_SNAPSHOT_SECONDS": "0.2",
            "SOMA_INDEX_SNAPSHOT_MIN_ROWS": "1",
        }
        if failpoints:
            environ |= {"SOMA_DEBUG_FAULTS": "true", "SOMA_FAILPOINTS": failpoints}
        self._running = self._launcher.launch(["serve"], environ | self._settings, self.log)

    def _ended(self) -> str | None:
        status = None if self._running is None else self._running.status()
        return None if status is None else f"the server ended with {status}: {self.last_words()}"

    def last_words(self) -> str:
        """The end of the server's log."""
        return self.log.read_text(errors="replace")[-1500:] if self.log.exists() else ""

    def alive(self) -> bool:
        """Whether the process runs."""
        return self._running is not None and self._running.status() is None

    def kill(self) -> None:
        """SIGKILL, unless it is gone already, and waits until it is."""
        self._end(signal.SIGKILL)

    def stop(self) -> None:
        """SIGTERM; SIGKILL for what does not listen."""
        if self.alive() and self._end(signal.SIGTERM, patience=15.0) is None:
            self.kill()

    def _end(self, number: signal.Signals, patience: float = 30.0) -> int | None:
        if self._running is None:
            raise TargetError("nothing is running")
        if self._running.status() is None:
            os.kill(self._running.pid, number)
        return self._running.status(patience)


class RemoteTarget:
    """A service behind a URL; `kill_command` kills it, and somebody (the kubelet) starts it again."""

    ways: Sequence[Kind] = (Kind.GET, Kind.RECALL)

    def __init__(self, url: str, kill_command: str, ready_seconds: float) -> None:
        self.urls = [url.rstrip("/")]
        self.witness: Witness | None = None
        self._host, _, port = self.urls[0].removeprefix("http://").partition(":")
        self._port = int(port or 80)
        self._command = shlex.split(kill_command)
        self._seconds = ready_seconds

    def start(self, failpoints: str = "") -> None:
        """Waits until it is ready; failpoints cannot be armed from outside."""
        if failpoints:
            raise TargetError("failpoints cannot be armed in a service that is up: leave them out of --faults")
        wait_ready(self._host, self._port, self._seconds, lambda: None)

    def alive(self) -> bool:
        """It has no failpoints."""
        return True

    def kill(self) -> None:
        """Runs the command, and waits until the service is away: the old one must not be taken for the new."""
        done = subprocess.run(self._command, capture_output=True, text=True, timeout=60, check=False)
        if done.returncode != 0:
            raise TargetError(f"the kill command failed with {done.returncode}: {done.stderr.strip()[-500:]}")
        deadline = time.monotonic() + 15
        while time.monotonic() < deadline and answers_ready(self._host, self._port, 0.5) is None:
            time.sleep(0.02)

    def stop(self) -> None:
        """It is not ours to stop."""
