"""Servers as processes: forked from a warm one, or started as a user starts them."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol


class Running(Protocol):
    """One server process."""

    pid: int

    def status(self, seconds: float = 0.0) -> int | None:
        """The exit status, negative for a signal, as soon as it has one; None where it runs on after `seconds`."""


class Launcher(Protocol):
    """Starts `soma` with arguments, an environment and a file for its output."""

    def launch(self, arguments: Sequence[str], environ: Mapping[str, str], log: Path) -> Running:
        """The process, which may not be ready yet."""

    def close(self) -> None:
        """Ends what the launcher itself keeps running."""


class Executed:
    """A server with an interpreter of its own, as in production; its start takes about two seconds."""

    def __init__(self, process: subprocess.Popen[bytes]) -> None:
        self.pid = process.pid
        self._process = process

    def status(self, seconds: float = 0.0) -> int | None:
        """As of `Running`."""
        try:
            return self._process.wait(seconds) if seconds else self._process.poll()
        except subprocess.TimeoutExpired:
            return None


class Executor:
    """Starts servers as users do. `preload` is a library that each loads first."""

    def __init__(self, preload: Path | None = None) -> None:
        self._preload = preload

    def launch(self, arguments: Sequence[str], environ: Mapping[str, str], log: Path) -> Running:
        """As of `Launcher`."""
        more = {"LD_PRELOAD": str(self._preload)} if self._preload else {}
        command = [sys.executable, "-m", "memory_runtime.surfaces.cli", *arguments]
        with log.open("ab") as file:
            return Executed(
                subprocess.Popen(command, env={**environ, **more}, stdin=subprocess.DEVNULL, stdout=file, stderr=file)
            )

    def close(self) -> None:
        """There is nothing to end."""


class Forked:
    """A server that the warm process forked."""

    def __init__(self, zygote: Zygote, pid: int) -> None:
        self.pid = pid
        self._zygote = zygote

    def status(self, seconds: float = 0.0) -> int | None:
        """As of `Running`."""
        status = self._zygote.ask({"do": "status", "pid": self.pid, "seconds": seconds})["status"]
        return None if status is None else int(status)


class Zygote:
    """The warm process, and the pipe to it."""

    def __init__(self, preload: Path | None = None) -> None:
        environ = {**os.environ, **({"LD_PRELOAD": str(preload)} if preload else {})}
        self._process = subprocess.Popen(
            [sys.executable, "-m", "hack.torture_harness.zygote"],
            env=environ,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self._lock = threading.Lock()
        self._answer()

    def launch(self, arguments: Sequence[str], environ: Mapping[str, str], log: Path) -> Running:
        """As of `Launcher`."""
        order = {"do": "start", "arguments": list(arguments), "environ": dict(environ), "log": str(log)}
        return Forked(self, int(self.ask(order)["pid"]))

    def ask(self, order: Mapping[str, Any]) -> dict[str, Any]:
        """Sends one order and waits for its answer."""
        with self._lock:
            assert self._process.stdin is not None
            self._process.stdin.write(json.dumps(order) + "\n")
            self._process.stdin.flush()
            return self._answer()

    def _answer(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise ChildProcessError(f"the warm process ended with {self._process.wait(10)}")
        return dict(json.loads(line))

    def close(self) -> None:
        """Ends it, and what it forked."""
        if self._process.stdin is not None:
            self._process.stdin.close()
        try:
            self._process.wait(15)
        except subprocess.TimeoutExpired:
            self._process.send_signal(signal.SIGKILL)
            self._process.wait(15)
        if self._process.stdout is not None:
            self._process.stdout.close()
