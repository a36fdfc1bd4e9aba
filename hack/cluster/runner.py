"""Running other people's programs (docker, kind, kubectl): one function that tests replace to see what would be run."""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a program answered."""

    status: int
    output: str = ""
    error: str = ""


Run = Callable[[Sequence[str], str | None], Outcome]
"""Takes the command and its standard input (None for none)."""


def run(command: Sequence[str], given: str | None = None) -> Outcome:
    """Runs a program to its end. One that is absent answers as a shell does, with status 127."""
    try:
        done = subprocess.run(
            command,
            input=given,
            stdin=subprocess.DEVNULL if given is None else None,
            capture_output=True,
            text=True,
            check=False,
        )
    except FileNotFoundError as error:
        return Outcome(127, error=str(error))
    return Outcome(done.returncode, done.stdout, done.stderr)
