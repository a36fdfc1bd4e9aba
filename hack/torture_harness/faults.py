"""The harm of one run: when and how the server is hurt. A list of names; each is drawn by the seed."""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import resource
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from hack.torture_harness.fleet import Fleet
from hack.torture_harness.target import HostTarget, Target, TargetError

COMMIT_PLACES: Final = ("mid-group", "pre-commit", "post-commit", "pre-ack")
HARMS: Final = {
    "kill": 6,
    "failpoint": 6,
    "slow": 2,
    "start": 2,
    "merge": 1,
    "snapshot": 2,
    "pause": 1,
    "term": 1,
    "files": 1,
    "disk": 1,
    "replica": 3,
    "postgres": 3,
    "partition": 2,
    "drop": 2,
    "silence": 2,
    "link": 1,
    "relay": 3,
    "consumer": 3,
    "broker": 2,
}
"""Every harm, and how often it is drawn beside the others."""
HOST: Final = ("kill", "failpoint", "slow", "start", "merge", "snapshot", "pause", "term", "files", "disk")
FLEET: Final = ("kill", "failpoint", "slow", "pause", "replica", "postgres", "partition", "drop", "silence", "link")
STREAM: Final = ("relay", "consumer", "broker", "kill", "replica", "postgres")
AT_ANY_TIME: Final = ("merge", "snapshot", "relay")
"""Traps that no request springs: they may go off while the run before is still being checked."""
REMOTE: Final = ("kill",)
"""What can be done to a service that is not ours."""
VOLUME_MIB: Final = 384
"""Below 256 MiB of free space the server saves no snapshots, and those are to be harmed too."""
PATIENCE_SECONDS: Final = 3.0
LEASE_SECONDS: Final = 20.0
"""A relay that was killed keeps its lease for a while: so long a trap in the next one may take."""
SETTLING_COMMITS: Final = 24
"""Commits that the check of the run before may need: a trap should not spring before them."""


@dataclass(frozen=True, slots=True)
class Harm:
    """One run's harm. `delay` is seconds from the first answer; `failpoints` are armed from the start on."""

    name: str
    delay: float
    failpoints: str = ""

    @property
    def label(self) -> str:
        """For the report: the place, where there is one."""
        return f"{self.name}:{self.failpoints.partition('=')[0]}" if self.failpoints else self.name


def draw(dice: random.Random, names: Sequence[str], longest: float, first: int = SETTLING_COMMITS) -> Harm:
    """The next harm of the seed, among these names; a trap for commits springs at the `first` or a later one."""
    name = dice.choices(names, [HARMS[one] for one in names])[0]
    delay = dice.uniform(0.02, longest)
    if name == "failpoint":
        return Harm(name, delay, f"{dice.choice(COMMIT_PLACES)}=kill@{dice.randrange(first, first + 48)}")
    if name == "slow":
        return Harm(name, delay, f"{dice.choice(COMMIT_PLACES)}=sleep:{dice.choice((0.002, 0.02))}")
    if name == "merge":
        return Harm(name, delay, f"mid-merge=kill@{dice.choice((1, 1, 2))}")
    if name == "relay":
        return Harm(name, delay, f"mid-relay=kill@{dice.randrange(1, 6)}")
    if name == "snapshot":
        return Harm(name, delay, f"mid-snapshot=kill@{dice.randrange(1, 6)}")
    return Harm(name, delay)


async def inflict(harm: Harm, target: Target) -> bool:
    """Does it while clients work; the server is gone when this returns. True where a trap sprang by itself."""
    if isinstance(target, Fleet):
        waits = harm.name in ("failpoint", "relay")
        patience = LEASE_SECONDS if harm.name == "relay" else PATIENCE_SECONDS
        sprung = await _await_trap(target, patience) if waits else False
        await asyncio.sleep(harm.delay)
        if not sprung:
            await asyncio.to_thread(target.suffer, "kill" if waits else harm.name)
        await asyncio.to_thread(target.kill)
        return sprung
    if not isinstance(target, HostTarget):
        await asyncio.sleep(harm.delay)
        await asyncio.to_thread(target.kill)
        return False
    if harm.name in ("failpoint", "snapshot"):
        sprung = await _await_trap(target, PATIENCE_SECONDS)
        await asyncio.to_thread(target.kill)
        return sprung
    await asyncio.sleep(harm.delay)
    await asyncio.to_thread(_BY_HAND.get(harm.name, _nothing), target)
    if harm.name == "term":
        await asyncio.to_thread(target.stop)
    elif target.alive():
        await asyncio.to_thread(target.kill)
    return False


async def _await_trap(target: Target, seconds: float) -> bool:
    """Whether it went off in time."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if not target.alive():
            return True
        await asyncio.sleep(0.02)
    return False


def _nothing(_: HostTarget) -> None:
    """The kill that follows is the harm."""


def _pause(target: HostTarget) -> None:
    """Stopped and let go on: every request in flight waits, none may be lost."""
    os.kill(target.pid, signal.SIGSTOP)
    time.sleep(0.3)
    os.kill(target.pid, signal.SIGCONT)
    time.sleep(0.1)


def _files(target: HostTarget) -> None:
    """No further file or connection can be opened for a moment."""
    before = resource.prlimit(target.pid, resource.RLIMIT_NOFILE)
    used = sum(1 for _ in Path(f"/proc/{target.pid}/fd").iterdir())
    resource.prlimit(target.pid, resource.RLIMIT_NOFILE, (used, before[1]))
    time.sleep(0.2)
    resource.prlimit(target.pid, resource.RLIMIT_NOFILE, before)
    time.sleep(0.1)


def _disk(target: HostTarget) -> None:
    """The volume is full for a moment. The data directory lies on a small one, see `small_volume`."""
    ballast = target.data.parent / "ballast"
    with ballast.open("wb", buffering=0) as file, contextlib.suppress(OSError):
        os.posix_fallocate(file.fileno(), 0, shutil.disk_usage(target.data).free)
    with ballast.open("ab", buffering=0) as file, contextlib.suppress(OSError):
        while True:  # to the last block, whatever was freed or taken meanwhile
            file.write(b"\0" * 4096)
    time.sleep(0.2)
    ballast.unlink()
    time.sleep(0.1)


_BY_HAND: Final[dict[str, Callable[[HostTarget], None]]] = {"pause": _pause, "files": _files, "disk": _disk}


def kill_while_starting(target: HostTarget, dice: random.Random) -> None:
    """A kill before the server is ready: in migration, recovery of the log or the filling of the index."""
    target.begin()
    time.sleep(dice.uniform(0.0, 0.5))
    target.kill()


@contextmanager
def small_volume(directory: Path) -> Iterator[Path]:
    """A tmpfs of `VOLUME_MIB` below the directory. Raises TargetError where none can be mounted."""
    volume = directory / "volume"
    volume.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", f"size={VOLUME_MIB}m", "tmpfs", str(volume)]
    done = subprocess.run(mount, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise TargetError(f"no tmpfs can be mounted ({done.stderr.strip()}): run as root, or leave out --faults disk")
    try:
        yield volume
    finally:
        subprocess.run(["umount", "-l", str(volume)], check=False)
