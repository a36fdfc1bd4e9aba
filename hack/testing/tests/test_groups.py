"""Tests that share a cluster or a service share a process; the others are spread."""

import subprocess
import sys
from pathlib import Path, PurePosixPath

import pytest

from hack.testing.groups import place_of


@pytest.mark.parametrize(
    ("path", "fixtures", "group"),
    [
        ("e2e/test_crash.py", ("cluster",), "clusters"),
        ("operator/tests/integration/engine/test_drift.py", (), "clusters"),
        ("operator/tests/integration/test_crds.py", (), "clusters"),
        ("hack/cluster/tests/test_node_profile.py", (), "clusters"),
        ("memory_runtime/tests/integration/test_relay.py", ("tmp_path", "kafka_broker"), "kafka"),
        (
            "memory_runtime/tests/integration/test_http_wire.py",
            ("server",),
            "memory_runtime/tests/integration/test_http_wire.py",
        ),
    ],
)
def test_what_shares_a_service_shares_a_process(path: str, fixtures: tuple[str, ...], group: str) -> None:
    assert place_of(PurePosixPath(path), fixtures, integration=True)[1] == group


def test_a_unit_test_is_in_no_group_and_comes_last() -> None:
    order, group = place_of(PurePosixPath("memory_runtime/tests/unit/test_model.py"), ("tmp_path",), integration=False)
    assert group is None
    assert order > place_of(PurePosixPath("e2e/test_crash.py"), (), integration=False)[0]


def test_xdist_keeps_a_group_in_one_process_and_spreads_the_rest(tmp_path: Path) -> None:
    body = """
import os, pathlib, pytest, time

@pytest.mark.parametrize("number", range(12))
def test_it(number):
    time.sleep(0.05)
    pathlib.Path(__file__).with_name(str(os.getpid())).touch()
"""
    for folder in ("e2e", "unit"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / f"test_{folder}.py").write_text(body)
    command = [sys.executable, "-m", "pytest", "-p", "hack.testing.groups", "-n", "2", "--dist", "loadgroup", "-q"]
    done = subprocess.run(
        [*command, f"--rootdir={tmp_path}", str(tmp_path)], capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stdout + done.stderr

    def processes(folder: str) -> int:
        return sum(path.name.isdecimal() for path in (tmp_path / folder).iterdir())

    assert processes("e2e") == 1
    assert processes("unit") >= 1
