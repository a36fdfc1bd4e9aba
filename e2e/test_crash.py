"""Acknowledged means durable in a pod too: the container is killed during stores, and the kubelet starts it again."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from e2e.harness import Memory
from hack.services.service import free_port

RUNS = 5
ROOT = Path(__file__).resolve().parents[1]


@contextmanager
def steady_forward(agents: Memory) -> Iterator[int]:
    """A local port that leads to the Service across restarts: kubectl's forward ends with every container."""
    port, done = free_port(), threading.Event()
    command = agents.kubectl.command("port-forward", "--address=127.0.0.1", f"service/{agents.name}", f"{port}:9595")
    running: list[subprocess.Popen[bytes]] = []

    def keep() -> None:
        while not done.is_set():
            running[:] = [subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)]
            running[0].wait()
            done.wait(0.2)

    keeper = threading.Thread(target=keep, daemon=True)
    keeper.start()
    try:
        yield port
    finally:
        done.set()
        for process in running:
            process.kill()
        keeper.join(5)


@pytest.mark.slow
def test_nothing_acknowledged_is_lost_when_the_container_is_killed(
    memory: Callable[..., Memory], tmp_path: Path
) -> None:
    agents = memory(scoring={"embedding": {"provider": "hash"}})
    agents.await_condition("Ready", "True")
    pod = agents.pod()
    assert pod is not None
    token = tmp_path / "token"
    token.write_text(agents.token())
    kill = f"{sys.executable} -m e2e.kill_container {pod['metadata']['uid']}"
    with steady_forward(agents) as port:
        command = [sys.executable, "-m", "hack.torture_harness", "--json", "--runs", str(RUNS), "--longest", "0.5"]
        command += ["--url", f"http://127.0.0.1:{port}", "--kill-command", kill, "--token-file", str(token)]
        environment = {**os.environ, "PYTHONPATH": f"{ROOT}:{ROOT / 'operator'}"}
        done = subprocess.run(command, env=environment, cwd=ROOT, capture_output=True, text=True, timeout=280)
    assert done.returncode == 0, done.stderr[-3000:]
    outcome = json.loads(done.stdout)
    assert outcome["runs"] == RUNS
    assert outcome["acknowledged"] > 0
    assert (outcome["lost"], outcome["half_visible"], outcome["duplicates"]) == (0, 0, 0)
    restarts = agents.kubectl.get("pod", pod["metadata"]["name"])["status"]["containerStatuses"][0]["restartCount"]
    assert restarts >= RUNS
