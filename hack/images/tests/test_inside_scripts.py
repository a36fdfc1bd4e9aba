"""The scripts that run within a build stage, on small trees."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import ModuleType

Script = Callable[[str], ModuleType]


def test_tidy_removes_tests_and_sources_and_keeps_modules_data_and_licences(tmp_path: Path, script: Script) -> None:
    packages = tmp_path / "lib/python3.11/site-packages"
    kept = [
        "numeric/__init__.py",
        "numeric/testing/__init__.py",
        "numeric/data.npy",
        "numeric-1.dist-info/LICENSE",
        "odd/tests.py",
    ]
    gone = ["numeric/tests/test_one.py", "numeric/core/tests/test_two.py", "numeric/core.pyi", "numeric/include/core.h"]
    # A package may call a folder of its own code `tests`: without test modules in it, it is none.
    kept.append("odd/tests/__init__.py")
    for name in kept + gone:
        path = packages / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("")
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin/soma").touch()
    (tmp_path / "bin/other").touch()
    (packages / "dropped").mkdir()
    script("tidy").main(tmp_path, ["other", "dropped"])
    assert not (packages / "dropped").exists()
    assert all((packages / name).exists() for name in kept)
    assert not any((packages / name).exists() for name in gone)
    assert (packages / "numeric/__pycache__").is_dir()
    assert [path.name for path in (tmp_path / "bin").iterdir()] == ["soma"]


def test_closure_follows_dependencies_but_not_into_what_must_go(script: Script) -> None:
    stanzas = {
        "libssl3": "Package: libssl3\nDepends: libc6 (>= 2.34), debconf (>= 0.5) | debconf-2.0",
        "libc6": "Package: libc6\nDepends: libgcc-s1, libcrypt1 (>= 1:4.4)",
        "libcrypt1": "Package: libcrypt1",
        "libgcc-s1": "Package: libgcc-s1\nDepends: gcc-12-base",
        "gcc-12-base": "Package: gcc-12-base",
        "debconf": "Package: debconf\nPre-Depends: perl-base",
        "perl-base": "Package: perl-base",
        "apt": "Package: apt\nDepends: libc6",
    }
    assert script("harden").closure(stanzas) == {"libssl3", "libc6", "libcrypt1", "libgcc-s1", "gcc-12-base"}


def test_folders_left_empty_go_and_top_level_ones_stay(tmp_path: Path, script: Script) -> None:
    (tmp_path / "a/b/c").mkdir(parents=True)
    (tmp_path / "a/full").mkdir()
    (tmp_path / "a/full/file").touch()
    script("harden").drop_empty_folders([tmp_path / "a/b", tmp_path / "a/b/c", tmp_path / "a/full"])
    assert not (tmp_path / "a/b").exists()
    assert (tmp_path / "a/full/file").exists()
