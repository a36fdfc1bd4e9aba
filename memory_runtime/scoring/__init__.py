"""The scoring core: the formula, its float64 oracle, the importance normaliser, retention, gates, and the exact index.

What lives here: arithmetic over arrays and the structures that make it fast. No I/O but the index's own snapshot
files, no event loop, no settings object, no ledger. May import `memory_runtime.model` and NumPy; nothing else of ours.
The method and its proof are in docs/scoring.md.
"""

from memory_runtime.scoring.formula import Explanation
from memory_runtime.scoring.importance import ImportanceNormaliser
from memory_runtime.scoring.index import ExactIndex
from memory_runtime.scoring.params import PINNED, UNSET, Profile, ScoringParams, Unset
from memory_runtime.scoring.rows import Partition, RowBatch, ScoredRow
from memory_runtime.scoring.search import Cancelled
from memory_runtime.scoring.snapshot import SnapshotUnusable

__all__ = [
    "PINNED",
    "UNSET",
    "Cancelled",
    "ExactIndex",
    "Explanation",
    "ImportanceNormaliser",
    "Partition",
    "Profile",
    "RowBatch",
    "ScoredRow",
    "ScoringParams",
    "SnapshotUnusable",
    "Unset",
]
