"""One process that a test started, and may stop, kill and start again on the same port."""

from __future__ import annotations

import contextlib
import itertools
import os
import pwd
import random
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from hack.cluster.processes import children, identify, stop


class ServiceError(Exception):
    """A back end that cannot be had or does not answer; the message names the remedy or the log's last line."""


def _candidates() -> Iterator[int]:
    """Ports in a random order, each once, then again. The processes of one pytest run have no port in common, and all
    are below the kernel's range for outgoing connections (32768 on) and those of clusters (20000 on): nobody takes one
    between our look and a server's bind, which may be seconds later.
    """
    width = 2500
    worker = os.environ.get("PYTEST_XDIST_WORKER", "").removeprefix("gw")
    first = 10_000 + width * (int(worker) if worker.isdigit() else random.randrange(4)) % 10_000
    while True:
        yield from random.sample(range(first, first + width), width)


_PORTS: Final = _candidates()
_CHOOSING: Final = threading.Lock()


def free_port() -> int:
    """A loopback port that nobody listens on at this moment, and that this process has not been given lately."""
    with _CHOOSING:
        for port in itertools.islice(_PORTS, 2500):
            with socket.socket() as probe, contextlib.suppress(OSError):
                probe.bind(("127.0.0.1", port))
                return port
    raise ServiceError("no loopback port is free: stop some servers")


def answers(port: int) -> bool:
    """Whether something accepts connections on that loopback port."""
    with socket.socket() as probe:
        probe.settimeout(0.5)
        return probe.connect_ex(("127.0.0.1", port)) == 0


@dataclass
class Service:
    """A back end on loopback.

    Attributes:
        name: for messages, such as ``postgres``.
        url: what a client connects to.
        command: the program with its arguments; starting it again finds the same data and port.
        log: the file that its output goes to.
        ready: whether it answers; asked until it does.
        user: the account it runs as, where it refuses root.
    """

    name: str
    url: str
    command: list[str]
    log: Path
    ready: Callable[[], bool]
    user: str | None = None
    environment: Mapping[str, str] = field(default_factory=dict)
    _process: subprocess.Popen[bytes] | None = None

    def start(self, *, timeout: float = 60.0) -> Service:
        """Start it and wait until it is ready.

        Raises:
            ServiceError: when it ends, or is not ready after `timeout` seconds; with the last lines of its log.
        """
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                self.command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
                env={**os.environ, **self.environment},
                **_account(self.user),  # type: ignore[call-overload]
            )
        return self.await_ready(timeout=timeout)

    def await_ready(self, *, timeout: float = 60.0) -> Service:
        """Wait until it is ready; raises as `start` does."""
        assert self._process is not None
        deadline = time.monotonic() + timeout
        while time.monotonic() < deadline:
            if self._process.poll() is not None:
                raise ServiceError(f"{self.name} ended with {self._process.returncode}: {self.last_words()}")
            if self.ready():
                return self
            time.sleep(0.1)
        self.stop()
        raise ServiceError(f"{self.name} was not ready after {timeout:.0f} s: {self.last_words()}")

    def last_words(self) -> str:
        """The end of its log."""
        lines = self.log.read_text(errors="replace").splitlines()
        return " / ".join(lines[-3:]) or "its log is empty"

    def kill(self) -> None:
        """SIGKILL, as a power cut would: nothing is flushed, nobody is told, and no child answers once more.

        PostgreSQL's back ends are in sessions of their own: alone, they go on until they notice that nobody leads them.
        """
        if self._process is not None:
            left = [found for pid in children(self._process.pid) if (found := identify(pid)) is not None]
            os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()
            self._process = None
            for one in left:
                one.signal(signal.SIGKILL)
            while any(one.alive() for one in left):
                time.sleep(0.005)

    def stop(self, *, grace: float = 10.0) -> None:
        """SIGTERM, and SIGKILL after `grace` seconds. Does nothing where it does not run."""
        if self._process is None:
            return
        identity = identify(self._process.pid)
        if identity is not None:
            stop([identity], grace=grace)
        self._process.wait()
        self._process = None


def _account(user: str | None) -> dict[str, object]:
    if user is None or os.geteuid() != 0:
        return {}
    account = pwd.getpwnam(user)
    return {"user": account.pw_uid, "group": account.pw_gid, "extra_groups": []}
