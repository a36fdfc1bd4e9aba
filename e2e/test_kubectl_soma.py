"""`kubectl soma` where pods run: logs, a connection that answers, and a bundle with logs but without the token."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tarfile
from collections.abc import Callable
from pathlib import Path

import httpx

from e2e.harness import Memory
from hack.services.service import free_port

ROOT = Path(__file__).resolve().parent.parent


def _command(memory: Memory, *arguments: str) -> tuple[list[str], dict[str, str]]:
    kubectl = memory.kubectl
    environment = os.environ | {
        "PATH": f"{kubectl.program.parent}:{os.environ['PATH']}",
        "PYTHONPATH": str(ROOT / "operator"),
        "KUBECONFIG": str(kubectl.kubeconfig),
    }
    return [sys.executable, "-m", "kubectl_soma", f"--namespace={kubectl.namespace}", *arguments], environment


def _soma(memory: Memory, *arguments: str) -> subprocess.CompletedProcess[str]:
    command, environment = _command(memory, *arguments)
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120)


def test_a_memory_is_reached_by_connect_and_collected_by_bundle(memory: Callable[..., Memory], tmp_path: Path) -> None:
    agents = memory()
    agents.await_condition("Ready", "True")
    port = free_port()
    command, environment = _command(agents, "connect", agents.name, f"--port={port}", "--json")
    process = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        told = json.loads(process.stdout.readline())
        assert told == {"url": f"http://127.0.0.1:{port}", "token": agents.token()}
        headers = {"Authorization": f"Bearer {told['token']}"}
        assert httpx.get(f"{told['url']}/stats", headers=headers, trust_env=False).json()["total_memories"] == 0
    finally:
        process.terminate()
        process.wait(30)
    assert '"level"' in _soma(agents, "logs", agents.name).stdout
    file = tmp_path / "bundle.tar.gz"
    assert _soma(agents, "bundle", agents.name, f"--output={file}").returncode == 0
    with tarfile.open(file) as archive:
        parts = {entry.name: archive.extractfile(entry).read() for entry in archive if entry.isfile()}
    logs = [name for name in parts if name.startswith("soma-bundle/logs/")]
    assert logs
    assert parts[logs[0]]
    assert parts["soma-bundle/operator/log.txt"]
    assert agents.token().encode() not in b"".join(parts.values())
