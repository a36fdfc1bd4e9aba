"""Our wheel and the narrowing of locks."""

from __future__ import annotations

import hashlib
import os
import subprocess
import zipfile
from pathlib import Path

import pytest

from hack.images import ImageError, wheels
from hack.images.layout import LOCKS, RECIPES, ROOT, Target
from hack.images.locks import narrowed, pinned
from hack.images.pipeline import inputs_hash
from hack.images.running import digest

LOCK = """\
# a comment
numpy==2.4.6 ; python_full_version < '3.12' \\
    --hash=sha256:aa \\
    --hash=sha256:bb
    # via nobody
numpy==2.5.5 ; python_full_version >= '3.12' \\
    --hash=sha256:cc
colorama==0.4.6 ; sys_platform == 'win32' \\
    --hash=sha256:dd
kopf==1.45.2 \\
    --hash=sha256:ee
"""


@pytest.fixture
def lock(tmp_path: Path) -> Path:
    path = tmp_path / "lock.txt"
    path.write_text(LOCK)
    return path


def test_markers_are_resolved_for_the_base_and_not_for_the_python_that_runs_this(lock: Path) -> None:
    assert pinned(lock, Target("3.11", "x86_64")) == {"numpy": "2.4.6", "kopf": "1.45.2"}
    assert pinned(lock, Target("3.12", "x86_64")) == {"numpy": "2.5.5", "kopf": "1.45.2"}


def test_every_hash_is_kept_and_no_marker(lock: Path) -> None:
    expected = "numpy==2.4.6 --hash=sha256:aa --hash=sha256:bb\nkopf==1.45.2 --hash=sha256:ee\n"
    assert narrowed(lock, Target("3.11", "x86_64")) == expected


@pytest.mark.parametrize("name", ["operator.txt", "runtime.txt", "model.txt", "pip.txt"])
def test_committed_locks_narrow_to_one_version_a_package_with_hashes(name: str) -> None:
    lines = narrowed(LOCKS / name, Target("3.11", "x86_64")).splitlines()
    assert len(lines) == len(pinned(LOCKS / name, Target("3.11", "x86_64"))) > 0
    assert all("==" in line and "--hash=sha256:" in line and ";" not in line for line in lines)


def test_same_source_gives_the_same_wheel_byte_for_byte(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    frozen = tmp_path / "tree"  # somebody may edit the tree while this runs
    for path in wheels._source_files():
        copy = frozen / path.relative_to(ROOT)
        copy.parent.mkdir(parents=True, exist_ok=True)
        copy.write_bytes(path.read_bytes())
    monkeypatch.setattr(wheels, "ROOT", frozen)
    sums = set()
    for name in ("first", "second"):
        monkeypatch.setenv("SOMA_CACHE", str(tmp_path / name))
        sums.add(hashlib.sha256(wheels.build_own().read_bytes()).hexdigest())
    assert len(sums) == 1


def test_change_of_one_package_leaves_the_image_of_the_other_unchanged(tmp_path: Path) -> None:
    for group in ("operator", "runtime"):
        (tmp_path / group).mkdir()
        (tmp_path / group / "requirements.txt").touch()
    (tmp_path / "own").mkdir()

    def hashes(runtime: str) -> tuple[str, str]:
        with zipfile.ZipFile(tmp_path / "own" / "soma_memory_operator-1-py3-none-any.whl", "w") as wheel:
            wheel.writestr("soma_operator/__init__.py", "")
            wheel.writestr("memory_runtime/__init__.py", runtime)
            wheel.writestr("soma_memory_operator-1.dist-info/RECORD", runtime)
        return (
            inputs_hash(RECIPES["soma-memory-operator"], "base", tmp_path),
            inputs_hash(RECIPES["soma-memory-runtime"], "base", tmp_path),
        )

    before, after = hashes("one"), hashes("two")
    assert before[0] == after[0]
    assert before[1] != after[1]


def test_own_wheel_holds_both_packages_without_tests_and_leaves_the_tree_clean(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SOMA_CACHE", str(tmp_path))
    wheel = wheels.build_own()
    names = zipfile.ZipFile(wheel).namelist()
    assert "memory_runtime/__init__.py" in names
    assert "soma_operator/__init__.py" in names
    assert not [name for name in names if "/tests/" in name or name.startswith(("hack/", "e2e/"))]
    assert any(name.endswith("entry_points.txt") for name in names)
    assert not [*ROOT.glob("*.egg-info"), *ROOT.glob("build"), *(ROOT / "operator").glob("*.egg-info")]


def test_data_files_of_both_packages_are_in_the_wheel(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A template or proto that setuptools leaves out works in the tree and fails in the pod."""
    monkeypatch.setenv("SOMA_CACHE", str(tmp_path))
    names = set(zipfile.ZipFile(wheels.build_own()).namelist())
    listed = ["git", "-C", str(ROOT), "ls-files", "memory_runtime", "operator/soma_operator"]
    tracked = subprocess.run(listed, capture_output=True, text=True, check=True).stdout.split()
    expected = {path.removeprefix("operator/") for path in tracked if "/tests/" not in path and (ROOT / path).exists()}
    ignored = (".md", ".gitkeep", ".gitignore", ".c", ".h", "setup.py")
    assert {name for name in expected - names if not name.endswith(ignored)} == set()


def test_digest_does_not_let_parts_run_together() -> None:
    assert digest("ab", "c") != digest("a", "bc")


def test_a_lock_that_names_what_no_index_has_is_a_sentence_and_leaves_nothing_behind(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    bad = tmp_path / "bad.txt"
    bad.write_text("soma-does-not-exist==1.0 \\\n    --hash=sha256:" + "0" * 64 + "\n")
    with pytest.raises(ImageError, match=r"the wheels of bad\.txt could not be collected"):
        wheels._download(bad, Target("3.11", "x86_64"), tmp_path / "out")


def test_only_the_last_folders_of_wheels_are_kept(tmp_path: Path) -> None:
    for age in range(wheels.KEPT + 3):
        (tmp_path / f"x-{age}").mkdir()
        os.utime(tmp_path / f"x-{age}", (1000 - age, 1000 - age))
    wheels._forget_old(tmp_path, "x-*")
    assert {path.name for path in tmp_path.iterdir()} == {f"x-{age}" for age in range(wheels.KEPT)}
