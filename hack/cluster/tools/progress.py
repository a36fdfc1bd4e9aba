"""What a person sees while something takes minutes: which step of how many, and how long it has been."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

_EVERY_SECONDS = 15.0  # between two lines where the output is no terminal: a CI log should show life, not fill


def say(message: str) -> None:
    """One line to standard error: standard output belongs to results (a path, JSON)."""
    print(message, file=sys.stderr, flush=True)


@contextmanager
def step(label: str, number: int, count: int, detail: Callable[[], str]) -> Iterator[None]:
    """Shows "[number/count] label … detail, elapsed" until the block ends; `detail` is asked anew each time."""
    started = time.monotonic()
    ended = threading.Event()
    on_terminal = sys.stderr.isatty()

    def line() -> str:
        said = detail()
        return f"[{number}/{count}] {label}: {said + ', ' if said else ''}{time.monotonic() - started:.0f} s"

    def watch() -> None:
        while not ended.wait(1.0 if on_terminal else _EVERY_SECONDS):
            if on_terminal:
                print(f"\r\033[K{line()}", end="", file=sys.stderr, flush=True)
            else:
                say(line())

    say(f"[{number}/{count}] {label}")
    watcher = threading.Thread(target=watch, daemon=True)
    watcher.start()
    try:
        yield
    finally:
        ended.set()
        watcher.join()
        clear = "\r\033[K" if on_terminal else ""
        say(f"{clear}[{number}/{count}] {label}: took {time.monotonic() - started:.0f} s")
