"""A torture that is terminated ends what it had started, on the disk too."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

pytestmark = pytest.mark.integration


def processes_with(mark: str) -> list[int]:
    """Who has the mark in its environment, which children inherit."""
    found = []
    for environ in Path("/proc").glob("[0-9]*/environ"):
        try:
            if mark.encode() in environ.read_bytes():
                found.append(int(environ.parent.name))
        except OSError:
            continue
    return found


def test_a_terminated_torture_leaves_neither_processes_nor_files(tmp_path: Path) -> None:
    mark = f"SOMA_TEST_MARK={tmp_path}"
    name, _, value = mark.partition("=")
    command = [sys.executable, "-m", "hack.torture_harness", "--runs", "100000", "--faults", "pause"]
    torture = subprocess.Popen(
        command, env={**os.environ, name: value, "TMPDIR": str(tmp_path)}, stderr=subprocess.PIPE, text=True
    )
    try:
        assert torture.stderr is not None
        assert torture.stderr.readline(), "it ended before its first run"
        assert len(processes_with(mark)) > 1
        torture.send_signal(signal.SIGTERM)
        said = torture.communicate(timeout=60)[1]
    finally:
        torture.kill()
    assert torture.returncode == 130
    assert "Traceback" not in said
    assert said.rstrip().endswith("hack/torture: interrupted; what it had started is stopped")
    deadline = time.monotonic() + 10
    while processes_with(mark) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert processes_with(mark) == []
    assert list(tmp_path.iterdir()) == []
