"""Named places in the write path where a test may end or delay the process. Off, `reach` costs one look at a dict.

Armed only by the setting `failpoints`, which is refused unless `debug_faults` says that this process may be harmed.
"""

from __future__ import annotations

import itertools
import os
import re
import signal
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Final

from memory_runtime.model.errors import InvalidArgument

NAMES: Final = (
    "mid-group",  # some units of a group have run, nothing is committed
    "pre-commit",  # the whole group has run, nothing is committed
    "post-commit",  # durable, and the index has not heard of it
    "pre-ack",  # durable and applied, and no writer has been told
    "mid-merge",  # segments are merged, and the index still has the old ones
    "mid-snapshot",  # a file of a snapshot is written and flushed, and has not got its name
    "mid-relay",  # events are with the broker, and the cursor has not moved
    "mid-consume",  # a batch is in the ledger, and its offsets are not committed
)
_FORM: Final = re.compile(r"(?P<name>[a-z-]+)=(?P<action>kill|sleep:(?P<seconds>\d+(\.\d+)?))(@(?P<turn>[1-9]\d*))?")


@dataclass(slots=True)
class Trap:
    """`turn`: the arrival, counted from one, that springs it; a `sleep` springs at every arrival from there on."""

    turn: int
    seconds: float | None
    arrivals: Iterator[int] = field(default_factory=lambda: itertools.count(1))


_armed: dict[str, Trap] = {}


def reach(name: str) -> None:
    """Marks the place. Does nothing unless a trap of this name is armed."""
    if _armed and name in _armed:
        _spring(_armed[name])


def arm(text: str) -> None:
    """Arms what the text says, in place of what was armed. Raises InvalidArgument, and then changes nothing."""
    traps = parse(text)
    _armed.clear()
    _armed.update(traps)


def parse(text: str) -> dict[str, Trap]:
    """Reads `NAME=kill@N` (SIGKILL to this process at the N-th arrival) and `NAME=sleep:SECONDS`, separated by commas.

    Raises InvalidArgument where a part is not known.
    """
    traps = {}
    for part in filter(None, (one.strip() for one in text.split(","))):
        found = _FORM.fullmatch(part)
        if found is None or found["name"] not in NAMES:
            raise InvalidArgument(
                f"failpoints: {part!r} is not known",
                field="failpoints",
                remedy=f"write NAME=kill@N or NAME=sleep:SECONDS, NAME one of {', '.join(NAMES)}",
            )
        seconds = float(found["seconds"]) if found["seconds"] else None
        traps[found["name"]] = Trap(int(found["turn"] or 1), seconds)
    return traps


def _spring(trap: Trap) -> None:
    if next(trap.arrivals) < trap.turn:
        return
    if trap.seconds is not None:
        time.sleep(trap.seconds)
        return
    os.kill(os.getpid(), signal.SIGKILL)
    while True:  # the signal may be a moment late, and nothing after this place may happen
        time.sleep(1)
