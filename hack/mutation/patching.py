"""Changes in a copy of the tree: by an anchor that must occur once, and undone afterwards."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from hack.mutation.mutant import Mutant


class AnchorLost(Exception):  # noqa: N818 -- what happened, not a class of errors
    """The source has changed: the mutant's anchor is not there once."""


def patched(source: str, mutant: Mutant) -> str:
    """The source with the mutant in it. Raises AnchorLost."""
    times = source.count(mutant.anchor)
    if times != 1:
        raise AnchorLost(
            f"{mutant.name}: its anchor occurs {times} times in {mutant.path}; give it one that occurs once, or, where "
            "the rule has moved, the file where it is now"
        )
    return source.replace(mutant.anchor, mutant.instead)


def copy_tree(root: Path, target: Path) -> None:
    """Copies what git tracks or would track."""
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z"],
        cwd=root,
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    for name in filter(None, listed.split("\0")):
        if (root / name).is_file():
            (target / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(root / name, target / name)


@contextmanager
def applied(tree: Path, mutant: Mutant) -> Iterator[None]:
    """The mutant in the tree while the context lasts. Raises AnchorLost."""
    path = tree / mutant.path
    before = path.read_text(encoding="utf-8")
    path.write_text(patched(before, mutant), encoding="utf-8")
    try:
        yield
    finally:
        path.write_text(before, encoding="utf-8")
