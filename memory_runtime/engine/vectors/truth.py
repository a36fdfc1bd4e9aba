"""The truth for approximate answers: the float64 oracle over every memory of the ledger, in memory that does not grow.

The ledger may have gone on since the answer: what was stored in between counts as missed, so the measured recall errs
on the low side.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Final

from memory_runtime.engine.following import Follower
from memory_runtime.scoring import ScoredRow
from memory_runtime.scoring.oracle import brute_force
from memory_runtime.stores.sessions import Ledger

if TYPE_CHECKING:
    from memory_runtime.engine.sampling import Asked

RUN: Final = 4096


def ledger_truth(
    ledger: Ledger, follower: Follower, asked: Asked, *, k: int, breathe: Callable[[], None]
) -> list[ScoredRow]:
    """The true top k of a query over the whole ledger. Blocking; `breathe` is called between runs of rows."""
    best: list[ScoredRow] = []
    for rows in ledger.scan(follower.index.dim, batch=RUN):
        (found,) = brute_force(
            follower.batch(rows),
            asked.vector,
            params=follower.params,
            k=k,
            partition=asked.partition,
            now=asked.now,
            as_of=asked.as_of,
            types=asked.types,
            half_life=asked.half_life,
        )
        best = sorted([*best, *found], key=lambda one: (-one.log2_score, one.id))[:k]
        breathe()
    return best
