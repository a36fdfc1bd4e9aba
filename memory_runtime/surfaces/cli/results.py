"""Exit codes, failures, and how results and progress are shown."""

from __future__ import annotations

import json
import sys
import time
from typing import Any

EXIT_OK = 0
EXIT_FAILED = 1
EXIT_USAGE = 2
EXIT_UNREACHABLE = 3
EXIT_INTERRUPTED = 130
EXIT_CODES = """exit codes:
  0  done
  1  the server refused or failed, or the check is negative
  2  wrong usage or configuration
  3  the server could not be reached
  130  interrupted"""


class CommandFailed(Exception):  # noqa: N818 -- what happened, as the user reads it
    """A failure as one sentence for the user, and the exit code that goes with it."""

    def __init__(self, message: str, exit_code: int = EXIT_FAILED) -> None:
        super().__init__(message)
        self.exit_code = exit_code


def show(value: Any, text: str, *, as_json: bool) -> int:
    """Prints the result as JSON or as text. The exit code is 0."""
    # JSON is JSON in any encoding: what a terminal cannot show is written as \\u…
    ascii_only = (sys.stdout.encoding or "").lower().replace("-", "") != "utf8"
    print(json.dumps(value, ensure_ascii=ascii_only) if as_json else text)
    return EXIT_OK


class Progress:
    """A count on standard error while something long runs: moving on a terminal, else a line every 5 seconds."""

    def __init__(self, what: str, total: int | None = None) -> None:
        self._what = what
        self._total = total
        self._moving = sys.stderr.isatty()
        self._shown = time.monotonic()
        self._lines = 0

    def at(self, count: int) -> None:
        """Shows the count, now and then."""
        now = time.monotonic()
        if now - self._shown < (0.1 if self._moving else 5.0):
            return
        self._shown = now
        self._print(count, "\r" if self._moving else "\n")

    def done(self, count: int) -> None:
        """Shows the last count, if any was shown."""
        if self._lines:
            self._print(count, "\n")

    def _print(self, count: int, end: str) -> None:
        self._lines += 1
        of = f" of {self._total:,}" if self._total else ""
        print(f"{self._what} {count:,}{of}", end=end, file=sys.stderr, flush=True)
