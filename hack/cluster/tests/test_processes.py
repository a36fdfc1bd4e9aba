"""Processes are signalled by identity, never by a number alone."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from hack.cluster.processes import MARK, Process, identify, marked, stop


@pytest.fixture
def sleeper() -> Iterator[subprocess.Popen[bytes]]:
    process = subprocess.Popen(["sleep", "60"], env={**os.environ, MARK: "/nowhere/cluster-a"})
    yield process
    process.kill()
    process.wait()


def test_a_process_with_another_start_time_is_a_stranger_and_is_never_signalled(
    sleeper: subprocess.Popen[bytes],
) -> None:
    stranger = Process(sleeper.pid, "1")
    assert not stranger.alive()
    assert stop([stranger], grace=0) == []
    assert sleeper.poll() is None


def test_a_recorded_process_is_stopped(sleeper: subprocess.Popen[bytes]) -> None:
    found = identify(sleeper.pid)
    assert found is not None
    assert found.alive()
    assert stop([found], grace=5) == []
    assert sleeper.wait(timeout=5) != 0


def test_a_process_that_ignores_sigterm_is_killed() -> None:
    stubborn = subprocess.Popen(
        ["sh", "-c", "trap '' TERM; echo ready; while :; do sleep 0.1; done"], stdout=subprocess.PIPE
    )
    assert stubborn.stdout is not None
    stubborn.stdout.readline()
    found = identify(stubborn.pid)
    assert found is not None
    started = time.monotonic()
    assert stop([found], grace=0.3) == []
    assert time.monotonic() - started < 5
    assert stubborn.wait(timeout=5) == -9


def test_a_zombie_does_not_count_as_alive(sleeper: subprocess.Popen[bytes]) -> None:
    found = identify(sleeper.pid)
    assert found is not None
    sleeper.kill()
    deadline = time.monotonic() + 5
    while found.alive() and time.monotonic() < deadline:
        time.sleep(0.01)
    assert not found.alive()


def test_the_mark_finds_a_clusters_processes_and_no_other_clusters(sleeper: subprocess.Popen[bytes]) -> None:
    assert [process.pid for process in marked(Path("/nowhere/cluster-a"))] == [sleeper.pid]
    assert marked(Path("/nowhere/cluster")) == []
