"""Trims an installed tree of Python packages and compiles it. Run by the Dockerfiles; arguments: the tree, then
scripts and packages to drop.

What goes: folders of tests, type stubs, C and Cython sources and headers. What stays: every module, all data, all
licences and metadata. Only the standard library may be used here.
"""

from __future__ import annotations

import compileall
import py_compile
import shutil
import sys
from pathlib import Path

SOURCES = frozenset((".c", ".cc", ".cpp", ".h", ".hpp", ".pxd", ".pyi", ".pyx", ".a", ".f90", ".exe"))


def main(tree: Path, dropped: list[str]) -> None:
    for packages in tree.glob("lib/python3*/site-packages"):
        for name in dropped:
            shutil.rmtree(packages / name, ignore_errors=True)
        for folder in [path for path in packages.rglob("tests") if is_tests(path)]:
            shutil.rmtree(folder, ignore_errors=True)
        for path in [path for path in packages.rglob("*") if path.suffix in SOURCES and path.is_file()]:
            path.unlink()
        # Unchecked bytecode: times of files change between layers, and a read-only root file system cannot mend a
        # stale one.
        if not compileall.compile_dir(
            packages, quiet=1, force=True, invalidation_mode=py_compile.PycInvalidationMode.UNCHECKED_HASH
        ):
            sys.exit(f"tidy.py: {packages} could not be compiled")
    for name in (*dropped, "activate", "activate.csh", "activate.fish", "Activate.ps1"):
        (tree / "bin" / name).unlink(missing_ok=True)


def is_tests(folder: Path) -> bool:
    """A folder of tests, and not a module that happens to be called tests."""
    return folder.is_dir() and any(folder.glob("test_*.py"))


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2:])
