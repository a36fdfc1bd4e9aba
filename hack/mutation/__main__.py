"""Breaks our own safety rules, one at a time in a copy of the tree, and runs the test that must notice.

`hack/mutants` runs all (about twenty minutes), `hack/mutants NAME …` some, `hack/mutants --list` shows them.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from hack.mutation.catalogue import MUTANTS
from hack.mutation.mutant import Mutant
from hack.mutation.patching import AnchorLost, applied, copy_tree

ROOT = Path(__file__).resolve().parents[2]
PATIENCE_SECONDS = 300
_FAILED = 1
"""Of pytest: some tests failed. Anything else than this and 0 says nothing about the rule."""


def main(argv: list[str] | None = None) -> int:
    """0: every mutant was killed; 1: one survived; 2: wrong arguments; 3: a test could not be run."""
    parser = argparse.ArgumentParser(prog="hack/mutants", description=__doc__.split("\n")[0] if __doc__ else None)
    parser.add_argument("names", nargs="*", metavar="NAME", help="the mutants (default: all)")
    parser.add_argument("--list", action="store_true", help="show the mutants, their rules and their tests")
    parser.add_argument("--json", action="store_true", help="one JSON object a mutant on standard output")
    arguments = parser.parse_args(argv)
    known = {one.name: one for one in MUTANTS}
    for name in arguments.names:
        if name not in known:
            parser.error(f"{name!r} is no mutant: choose of {', '.join(known)}")
    chosen = [known[name] for name in arguments.names] or list(MUTANTS)
    if arguments.list:
        for one in chosen:
            print(f"{one.name}: {one.rule}\n    {one.path}\n    killed by {one.killer}")
        return 0
    with tempfile.TemporaryDirectory(prefix="soma-mutants-") as folder:
        tree = Path(folder)
        copy_tree(ROOT, tree)
        _python(tree, ["hack.kernel", "--optional"])
        return _run(tree, chosen, as_json=arguments.json)


def _run(tree: Path, mutants: Sequence[Mutant], *, as_json: bool) -> int:
    status, what = _pytest(tree, sorted({one.killer for one in mutants}))
    if status != 0:
        print(f"hack/mutants: without any mutant the tests fail already (status {status}):\n{what}", file=sys.stderr)
        return 3
    survivors = 0
    for one in mutants:
        started = time.monotonic()
        try:
            with applied(tree, one):
                status, what = _pytest(tree, [one.killer])
        except AnchorLost as lost:
            print(f"hack/mutants: {lost}", file=sys.stderr)
            return 3
        if status not in (0, _FAILED):
            print(f"hack/mutants: {one.name}: the test did not run (status {status}):\n{what}", file=sys.stderr)
            return 3
        survivors += status == 0
        _tell(one, time.monotonic() - started, killed=status == _FAILED, as_json=as_json)
    return 1 if survivors else 0


def _tell(one: Mutant, seconds: float, *, killed: bool, as_json: bool) -> None:
    if as_json:
        shown = {"mutant": one.name, "killed": killed, "by": one.killer, "seconds": round(seconds, 1)}
        print(json.dumps(shown), flush=True)
    else:
        print(f"{'killed  ' if killed else 'SURVIVED'} {one.name} ({one.killer.rpartition('::')[2]})", flush=True)


def _pytest(tree: Path, tests: Sequence[str]) -> tuple[int, str]:
    try:
        return _python(tree, ["pytest", "-q", "-x", "-p", "no:cacheprovider", *tests])
    except subprocess.TimeoutExpired:
        return _FAILED, "it did not end"  # a hang is noticed too


def _python(tree: Path, arguments: Sequence[str]) -> tuple[int, str]:
    environ = {**os.environ, "PYTHONPATH": f"{tree}:{tree / 'operator'}", "PYTHONDONTWRITEBYTECODE": "1"}
    command = [sys.executable, "-m", *arguments]
    done = subprocess.run(
        command, cwd=tree, env=environ, capture_output=True, text=True, timeout=PATIENCE_SECONDS, check=False
    )
    return done.returncode, (done.stdout + done.stderr)[-3000:]


if __name__ == "__main__":
    raise SystemExit(main())
