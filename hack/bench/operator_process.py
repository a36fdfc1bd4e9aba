"""An operator under measurement: our own, or the plain kopf one, as a process whose CPU and memory /proc tells."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Mapping
from pathlib import Path

from hack.services.service import free_port

ROOT = Path(__file__).resolve().parents[2]
_TICKS = os.sysconf("SC_CLK_TCK")
_LOCAL = urllib.request.build_opener(urllib.request.ProxyHandler({}))
_WRITE = re.compile(
    r'^(?:soma_operator_api_requests|plain_writes)_total\{.*?verb="(?:POST|PATCH|PUT|DELETE)".*\} (\S+)$', re.M
)


class OperatorUnderTest:
    """One process. `start`, then figures, then `stop`."""

    def __init__(self, module: str, kubeconfig: Path, log: Path, settings: Mapping[str, str]) -> None:
        """`module`: what `python -m` runs; it serves /readyz and /metrics on the ports that it is told."""
        self._module, self._kubeconfig, self._log, self._settings = module, kubeconfig, log, settings
        self._process: subprocess.Popen[bytes] | None = None
        self._health_port = self._metrics_port = 0

    def start(self) -> None:
        """Starts it and returns at once."""
        self._health_port, self._metrics_port = free_port(), free_port()
        environment = {key: value for key, value in os.environ.items() if not key.startswith("SOMA_")}
        environment |= {
            "KUBECONFIG": str(self._kubeconfig),
            "PYTHONPATH": f"{ROOT}:{ROOT / 'operator'}",
            "SOMA_OPERATOR_HEALTH_PORT": str(self._health_port),
            "SOMA_OPERATOR_METRICS_PORT": str(self._metrics_port),
            "SOMA_OPERATOR_LISTEN": "127.0.0.1",
            "SOMA_OPERATOR_RUNTIME_IMAGE": "docker.io/library/soma-memory-runtime:bench",
        }
        with self._log.open("ab") as sink:
            self._process = subprocess.Popen(
                [sys.executable, "-m", self._module],
                env={**environment, **self._settings},
                stdout=sink,
                stderr=sink,
                cwd="/",
            )

    def stop(self) -> None:
        """SIGTERM, and waits."""
        if self._process is not None and self._process.poll() is None:
            self._process.send_signal(signal.SIGTERM)
            try:
                self._process.wait(60)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()

    def await_ready(self, seconds: float = 300.0) -> None:
        """Until it leads and has listed everything."""
        end = time.monotonic() + seconds
        while self._get(self._health_port, "/readyz")[0] != 200:
            if time.monotonic() > end or (self._process and self._process.poll() is not None):
                raise TimeoutError(f"{self._module} is not ready after {seconds:.0f} s: see {self._log}")
            time.sleep(0.2)

    @property
    def cpu_seconds(self) -> float:
        """User and system time since its start."""
        fields = Path(f"/proc/{self._pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / _TICKS

    @property
    def resident_mebibytes(self) -> float:
        """Memory that it holds now."""
        status = Path(f"/proc/{self._pid}/status").read_text(encoding="ascii")
        return int(re.search(r"^VmRSS:\s+(\d+)", status, re.M)[1]) / 1024  # type: ignore[index]

    @property
    def writes(self) -> float:
        """Requests so far that may change something, but for the Lease's."""
        return sum(float(one) for one in _WRITE.findall(self._get(self._metrics_port, "/metrics")[1]))

    @property
    def _pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    def _get(self, port: int, path: str) -> tuple[int, str]:
        try:
            with _LOCAL.open(f"http://127.0.0.1:{port}{path}", timeout=10) as answer:
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as error:
            return error.code, error.read().decode()
        except OSError:
            return 0, ""
