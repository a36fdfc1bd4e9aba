"""The command line: what cannot be had is one sentence and status 2, never a traceback."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from hack.cluster.cli import main
from hack.cluster.node import machine

ROOT = Path(__file__).resolve().parents[3]


def _told(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    assert main(list(arguments)) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert "Traceback" not in captured.err
    assert len(captured.err.strip().splitlines()) == 1
    return captured.err


def test_a_name_that_could_be_no_folder_is_refused(own_cache: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name in ("../x", "A", "x-", "x" * 33, ""):
        assert "is no cluster name" in _told(capsys, "down", "--name", name)


def test_an_absent_cluster_is_answered_with_how_to_start_one(
    own_cache: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert "start one with" in _told(capsys, "kubeconfig", "--name", "nobody")
    assert "start one with" in _told(capsys, "load-image", "image.tar", "--name", "nobody")


def test_a_number_of_nodes_that_cannot_be_is_refused(own_cache: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert "--nodes 0 is out of range" in _told(capsys, "up", "--profile", "kwok", "--nodes", "0")


def test_a_node_without_root_is_refused_with_what_works_instead(
    own_cache: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SOMA_CLUSTER_PROVIDER", "native")
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    assert "--profile api" in _told(capsys, "up", "--profile", "node")
    assert not (own_cache / "clusters" / "node").exists()


@pytest.mark.parametrize(
    ("status", "said"),
    [(10, "mount file systems"), (11, "veth"), (12, "nat table"), (13, "/proc/sys"), (1, "namespaces")],
)
def test_what_the_kernel_refuses_is_named(
    status: int, said: str, own_cache: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SOMA_CLUSTER_PROVIDER", "native")
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    monkeypatch.setattr(machine.debian, "require", lambda *_: None)
    monkeypatch.setattr(machine, "cni_plugins", lambda: Path("/cni"))
    monkeypatch.setattr(machine.subprocess, "run", lambda *_, **__: subprocess.CompletedProcess([], status))
    told = _told(capsys, "up", "--profile", "node")
    assert "this machine cannot run a node" in told
    assert said in told


def test_a_cache_that_a_node_would_hide_is_refused(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    with pytest.raises(machine.ClusterError, match="name another folder in SOMA_CACHE"):
        machine.need(Path("/var/lib/soma"))


def test_an_unwritable_cache_is_one_sentence(tmp_path: Path) -> None:
    blocked = tmp_path / "file"
    blocked.write_text("")
    done = subprocess.run(
        [sys.executable, "-m", "hack.cluster", "status"],
        env={**os.environ, "SOMA_CACHE": str(blocked / "cache")},
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 2
    assert "name a writable folder in SOMA_CACHE" in done.stderr
    assert "Traceback" not in done.stderr


def test_status_of_nothing_says_how_to_start(own_cache: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["status"]) == 0
    assert "make cluster-up" in capsys.readouterr().out
    assert main(["status", "--json"]) == 0
    assert capsys.readouterr().out == "[]\n"
