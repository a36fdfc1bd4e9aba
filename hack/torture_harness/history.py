"""What clients asked and were told, with the times of both: the only evidence that the checks go by."""

from __future__ import annotations

import itertools
import json
import math
import time
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Final

DIM: Final = 16
"""Of the servers that are started here: what is tested does not depend on it."""
ABSENT: Final = ""
"""The content of a coordinate that holds no memory."""


class Kind(StrEnum):
    """What a call does. `GET` reads by coordinate, `RECALL` by vector: the ledger and the index answer them."""

    STORE = "store"
    DELETE = "delete"
    GET = "get"
    RECALL = "recall"


class Outcome(StrEnum):
    """`REFUSED` promises that nothing was done; `UNKNOWN` may have been done, or may yet be."""

    OK = "ok"
    REFUSED = "refused"
    UNKNOWN = "unknown"


@dataclass(slots=True)
class Call:
    """One request. `text` is what a store writes or what a read saw; a delete's is `ABSENT`. Times are monotonic."""

    number: int
    client: int
    kind: Kind
    key: str
    text: str = ABSENT
    start: float = 0.0
    end: float = math.inf
    outcome: Outcome = Outcome.UNKNOWN
    seq: int = 0
    version: int = 0
    found: bool | None = None
    """Of a delete: whether it says that there was something."""
    idempotency_key: str = ""
    group: str = ""
    """Calls of one bulk: all of them happened, or none."""
    after: bool = False
    """A read made after the harm, when nobody writes."""

    @property
    def writes(self) -> bool:
        """Whether the call changes its coordinate."""
        return self.kind in (Kind.STORE, Kind.DELETE)

    def close(self, outcome: Outcome, *, seq: int = 0, version: int = 0) -> None:
        """Notes the answer. What is `UNKNOWN` has no end: it may happen as long as its server lives."""
        self.outcome, self.seq, self.version = outcome, seq, version
        self.end = math.inf if outcome is Outcome.UNKNOWN else time.monotonic()


@dataclass(slots=True)
class History:
    """The calls of one run, and what every coordinate held before it."""

    initial: dict[str, str] = field(default_factory=dict)
    calls: list[Call] = field(default_factory=list)
    dim: int = DIM
    """The dimension of the server's vectors."""
    _numbers: Iterator[int] = field(default_factory=itertools.count)

    def begin(self, client: int, kind: Kind, key: str, text: str = ABSENT, *, group: str = "") -> Call:
        """A call that starts now."""
        call = Call(next(self._numbers), client, kind, key, text, start=time.monotonic(), group=group)
        self.calls.append(call)
        return call

    def by_key(self) -> dict[str, list[Call]]:
        """The calls of every coordinate that was written or read, in order of their start."""
        found: dict[str, list[Call]] = {}
        for call in self.calls:
            found.setdefault(call.key, []).append(call)
        return found

    @property
    def acknowledged(self) -> int:
        """Writes that were answered with success."""
        return sum(call.writes and call.outcome is Outcome.OK for call in self.calls)


def dump(path: Path, histories: Iterable[History]) -> None:
    """Writes histories as JSON lines, for whoever looks for the reason; a missing end is null."""
    with path.open("w", encoding="utf-8") as file:
        for run, history in enumerate(histories):
            for call in history.calls:
                line = asdict(call) | {"run": run, "end": None if math.isinf(call.end) else call.end}
                file.write(json.dumps(line) + "\n")
