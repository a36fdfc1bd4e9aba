"""Which line of history a change is of, and whether a ledger still holds what someone builds on: functions of values.

A ledger's lineages form one chain, oldest first: what a restore or a lossy fail-over abandoned is in no ledger. So a
line that the chain lacks was abandoned whole, and of one that it has, what came after a later line's fork.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from memory_runtime.stores.contracts import Lineage

ROOT = Lineage("", 0, 0)
"""The line of changes from before lineages were kept."""


def lineage_of(chain: Sequence[Lineage], seq: int) -> Lineage:
    """The line that the change of that seq is of; `chain` is in order of epoch."""
    return next((one for one in reversed(chain) if one.forked < seq), ROOT)


def holds(chain: Sequence[Lineage], lineage: str, seq: int, generation: int = 0) -> bool:
    """Whether a ledger with that chain holds what was at `seq`, and at that generation, in that line."""
    mine = ROOT if not lineage else next((one for one in chain if one.id == lineage), None)
    if mine is None:
        return False
    return all(seq <= one.forked and generation <= one.generation for one in chain if one.epoch > mine.epoch)


def abandoned(lines: Iterable[tuple[int, int]], epoch: int, seq: int) -> bool:
    """Whether a change of that line and sequence is of a future that was abandoned, as far as the lines tell.

    `lines` are epochs and the sequences that they were forked at, in any order: all that are known of a ledger.
    """
    return any(newer > epoch and forked < seq for newer, forked in lines)


def next_epoch(newest: int, now: float, least: int = 0) -> int:
    """The epoch of a line that begins now: above the newest, and above whatever an abandoned line is known to have."""
    return max(newest + 1, least + 1, int(now * 1e6))
