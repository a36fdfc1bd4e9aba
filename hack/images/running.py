"""Runs other programs for this room: output kept for the error message, one line said before anything that takes
long."""

from __future__ import annotations

import hashlib
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from hack.images.errors import ImageError


def say(text: str) -> None:
    print(f"images: {text}", file=sys.stderr, flush=True)


def run(
    command: Sequence[str | Path], why: str, *, env: Mapping[str, str] | None = None, cwd: Path | None = None
) -> str:
    """Standard output of `command`. Raises ImageError with `why` and the last lines of what it printed if it
    fails."""
    try:
        done = subprocess.run(
            [str(part) for part in command], capture_output=True, text=True, env=env, cwd=cwd, check=False
        )
    except FileNotFoundError:
        raise ImageError(f"{why}: the program '{command[0]}' is not installed") from None
    if done.returncode:
        tail = "\n  ".join((done.stderr or done.stdout).strip().splitlines()[-12:])
        raise ImageError(f"{why}: '{Path(str(command[0])).name}' ended with {done.returncode}:\n  {tail}")
    return done.stdout


def digest(*parts: str | bytes | Path) -> str:
    """SHA-256 over files' contents and texts, in order, each with its length before it so that parts cannot run
    together."""
    total = hashlib.sha256()
    for part in parts:
        content = part.read_bytes() if isinstance(part, Path) else part.encode() if isinstance(part, str) else part
        total.update(str(len(content)).encode() + b":" + content)
    return total.hexdigest()
