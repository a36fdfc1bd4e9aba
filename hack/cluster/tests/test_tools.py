"""Tools are built once, by one caller, and appear whole."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest

from hack.cluster.errors import ClusterError
from hack.cluster.tools import ensure, golang, program
from hack.cluster.tools.recipes import RECIPES, Recipe, all_programs, named

ROOT = Path(__file__).resolve().parents[3]
_WANT = "import sys; sys.path.insert(0, sys.argv[1]); from hack.cluster.tools import program; print(program('pki'))"


def test_every_program_has_exactly_one_recipe() -> None:
    programs = [name for recipe in RECIPES for name in recipe.programs]
    assert sorted(programs) == all_programs()


def test_program_names_are_those_that_go_installs() -> None:
    assert {"kubectl", "etcd", "helm", "opa", "ctr", "runc", "coredns", "metrics-server", "kwok"} <= set(all_programs())
    assert Recipe("tool", "2.0.0", ("example.org/tool/v2",), 1).programs == ("tool",)


def test_the_key_changes_with_the_version_and_the_flags() -> None:
    recipe = named("runc")[0]
    assert recipe.key() != replace(recipe, version="0.0.1").key()
    assert recipe.key() != replace(recipe, tags=()).key()
    assert recipe.key() == named("runc")[0].key()


def test_callers_that_come_together_get_one_whole_build(own_cache: Path) -> None:
    environment = {**os.environ, "SOMA_CACHE": str(own_cache)}
    command = [sys.executable, "-c", _WANT, str(ROOT)]
    callers = [
        subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        for _ in range(3)
    ]
    answers = [caller.communicate(timeout=120) for caller in callers]
    assert [caller.returncode for caller in callers] == [0, 0, 0], answers
    assert len({path for path, _ in answers}) == 1
    assert sum("Building groundwork" in said for _, said in answers) == 1
    assert os.access(answers[0][0].strip(), os.X_OK)
    assert [path.name for path in (own_cache / "tools").iterdir() if path.name.startswith(".")] == []


def test_a_build_that_fails_says_why_and_leaves_nothing(own_cache: Path) -> None:
    broken = replace(named("groundwork")[0], name="broken", packages=("./absent",))
    with pytest.raises(ClusterError, match=r"building broken 1 failed \(status 1\)"):
        ensure(broken)
    assert [path.name for path in (own_cache / "tools").iterdir()] == ["broken.lock"]


def test_an_unknown_tool_is_answered_with_those_that_there_are() -> None:
    with pytest.raises(ClusterError, match=r"no tool is called 'kubeclt': there are .*kubectl"):
        program("kubeclt")


def test_a_full_disk_is_told_before_the_build(own_cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("hack.cluster.tools.build._DISK_GIGABYTES", 1e9)
    with pytest.raises(ClusterError, match=r"needs 1e\+09 GB of free disk .* SOMA_CACHE"):
        ensure(named("groundwork")[0])


@pytest.mark.parametrize(
    ("told", "is_enough"),
    [
        ("go1.26.5", False),
        ("go1.25.9", False),
        ("go1.26", False),
        ("go1.26.6", True),
        ("go1.27", True),
        ("devel", False),
    ],
)
def test_a_go_that_is_too_old_for_our_modules_is_not_used(told: str, is_enough: bool, tmp_path: Path) -> None:
    go = tmp_path / "go"
    go.write_text(f"#!/bin/sh\necho {told}\n")
    go.chmod(0o755)
    assert (golang._version(str(go)) >= golang._NEEDED) == is_enough
    for module in ("kubernetes", "node", "groundwork"):
        asked = next(
            line for line in (ROOT / "hack/gomod" / module / "go.mod").read_text().splitlines() if line[:3] == "go "
        )
        assert tuple(int(part) for part in asked[3:].split(".")) <= golang._NEEDED


def test_a_terminated_build_takes_its_compilers_along(own_cache: Path) -> None:
    (own_cache / "go").unlink()  # an empty build cache: the compiler is busy for a while
    environment = {**os.environ, "SOMA_CACHE": str(own_cache)}
    command = [sys.executable, "-m", "hack.cluster", "tool", "pki"]
    caller = subprocess.Popen(command, cwd=ROOT, env=environment, stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 60
    while not _mentioning(str(own_cache)) and time.monotonic() < deadline:
        time.sleep(0.05)
    caller.terminate()
    assert caller.wait(timeout=30) == 130
    deadline = time.monotonic() + 10
    while _mentioning(str(own_cache)) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert _mentioning(str(own_cache)) == []
    assert [path.name for path in (own_cache / "tools").iterdir()] == ["groundwork.lock"]


def _mentioning(text: str) -> list[str]:
    """Command lines of processes that name a path."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):
            found.append(path.read_bytes().replace(b"\0", b" ").decode(errors="replace"))
    return [line for line in found if text in line]
