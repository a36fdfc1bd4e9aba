"""The audit chain: each line's hash covers the line before, so that none can be changed or taken out unseen.

What the chain cannot show by itself is that its end was cut off, or all of it written anew: for that somebody must have
kept a line's number and hash elsewhere (`verify`'s anchor).
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from typing import NamedTuple


class AuditLine(NamedTuple):
    """One line as it is stored; `detail` is canonical JSON, `at` seconds of Unix time, hashes are hexadecimal."""

    number: int
    at: float
    tenant: str
    actor: str
    action: str
    subject: str
    detail: str
    previous_hash: str
    hash: str


class Anchor(NamedTuple):
    """A line of the chain as somebody noted it; number 0 is the beginning."""

    number: int
    hash: str


class BrokenChainError(Exception):
    """The chain is not whole; `number` is the first line of which it can be told."""

    def __init__(self, number: int, why: str) -> None:
        super().__init__(f"line {number}: {why}")
        self.number, self.why = number, why


def line_hash(previous: str, at: float, tenant: str, actor: str, action: str, subject: str, detail: str) -> str:
    """SHA-256 of the line before's hash and the line's own fields."""
    line = "\x1f".join((previous, repr(at), tenant, actor, action, subject, detail))
    return hashlib.sha256(line.encode()).hexdigest()


def verify(lines: Iterable[AuditLine], anchor: Anchor | None = None) -> Anchor:
    """Reads all lines, in order of their number, and returns the last one's number and hash; (0, "") if there is none.

    Raises BrokenChainError where a line was changed, is missing, or is not the one that `anchor` names.
    """
    last = Anchor(0, "")
    for line in lines:
        if line.number != last.number + 1:
            raise BrokenChainError(last.number + 1, "it is missing")
        if line.previous_hash != last.hash:
            raise BrokenChainError(line.number, "it does not follow the line before it")
        if line_hash(last.hash, *line[1:7]) != line.hash:
            raise BrokenChainError(line.number, "it was changed")
        last = Anchor(line.number, line.hash)
        if anchor is not None and anchor.number == last.number and anchor.hash != last.hash:
            raise BrokenChainError(line.number, "it is not the line that was noted: the chain was written anew")
    if anchor is not None and anchor.number > last.number:
        raise BrokenChainError(last.number + 1, f"it is missing: the chain went on to line {anchor.number} once")
    return last
