"""The cache on disk: where it is, how two callers take turns, and how a finished thing appears in it all at once."""

from __future__ import annotations

import fcntl
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from hack.cluster.errors import ClusterError
from hack.cluster.tools.progress import say


def cache_root() -> Path:
    """The folder that everything is kept in: $SOMA_CACHE, else ~/.cache/soma."""
    named = os.environ.get("SOMA_CACHE")
    root = Path(named).expanduser() if named else Path.home() / ".cache" / "soma"
    try:
        root.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ClusterError(
            f"the cache {root} cannot be made ({error.strerror}): name a writable folder in SOMA_CACHE"
        ) from error
    return root.resolve()


@contextmanager
def exclusive(path: Path, waiting: str = "") -> Iterator[None]:
    """Holds the file lock `path` (made if absent).

    The kernel frees it when its holder dies, so no stale lock is left behind.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    # Close-on-exec (Python's default) keeps children that outlive us from holding the lock.
    with path.open("a") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if waiting:
                say(f"Waiting for {waiting} …")
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def write_atomically(path: Path, text: str, mode: int = 0o644) -> None:
    """Replaces a file so that a reader, or a crash, never sees half of it."""
    new = path.with_name(f".{path.name}.{os.getpid()}")
    descriptor = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, mode)
    with os.fdopen(descriptor, "w") as file:
        file.write(text)
    new.replace(path)


def need_free_space(where: Path, gigabytes: float, purpose: str) -> None:
    """Stops early where the disk is too full, instead of late with a compiler's error."""
    free = shutil.disk_usage(where).free / 1e9
    if free < gigabytes:
        raise ClusterError(
            f"{purpose} needs {gigabytes:g} GB of free disk under {where}, which has {free:.1f} GB: "
            "free some, or name a folder on a larger disk in SOMA_CACHE"
        )
