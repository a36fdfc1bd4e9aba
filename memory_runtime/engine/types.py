"""What callers of the engine send and get: requests, hits, explanations' place, statistics, readiness."""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple

from memory_runtime.model.coordinates import Coordinate
from memory_runtime.model.records import Edge, MemoryRecord, Vector
from memory_runtime.scoring import UNSET, Explanation, Unset
from memory_runtime.stores.contracts import Neighbor


@dataclass(frozen=True, slots=True, eq=False)
class RecallRequest:
    """What to recall. Exactly one of `query` (text) and `vector` (float32 [dim]) is given.

    `half_life` in seconds replaces the configured one for this request (None: no decay; UNSET: as configured);
    `as_of` in epoch seconds answers as the memory was then; `min_seq` is the sequence that the answer must include;
    `filters` are equalities on payload fields, applied before the top_k; `hybrid` None takes the configured default;
    hybrid recall multiplies the score of memories that hold any word of `terms` (None: of `query`) by `boost` (≥ 1).
    `exact` and `case_sensitive` say how the compat profile compares terms; without it they have no effect.
    """

    query: str | None = None
    vector: Vector | None = None
    top_k: int = 5
    memory_type: str | None = None
    filters: Mapping[str, Any] | None = None
    half_life: float | Unset | None = UNSET
    as_of: float | None = None
    min_seq: int | None = None
    explain: bool = False
    hybrid: bool | None = None
    terms: tuple[str, ...] | None = None
    boost: float | None = None
    exact: bool = True
    case_sensitive: bool = False


@dataclass(frozen=True, slots=True)
class Fusion:
    """Both parts of a hybrid hit's relevance, and what its surroundings added; all but `similarity` are in [0, 1].

    own = (1 - words_share)·vector + words_share·words; relevance = (own + around)/2.1, raised by `dates` (closeness to
    a date in the question). `similarity` is the cosine; `matched` splits `words` by the question's words.
    """

    relevance: float
    similarity: float
    vector: float
    words: float
    words_share: float
    around: float
    dates: float
    matched: dict[str, float]


@dataclass(frozen=True, slots=True)
class Hit:
    """One recalled memory; `score` is in (0, 1] (times the boost of a hybrid hit); `log2_score` never underflows.

    With `fusion`, the explanation's similarity is the fused relevance: decay and importance apply to that.
    `approximate` says that it was found through the vector store, and its score carries the residual penalty.
    """

    record: MemoryRecord
    score: float
    log2_score: float
    explanation: Explanation | None = None
    lexical: bool = False
    fusion: Fusion | None = None
    approximate: bool = False


@dataclass(frozen=True, slots=True)
class Suppressed:
    """A memory that would have been among the answers without decay, and was not because of its age."""

    id: uuid.UUID
    coordinate: Coordinate
    score_without_decay: float


@dataclass(frozen=True, slots=True)
class RecallResult:
    """The answer: hits in falling score, the sequence that it includes, and the moment it was computed for.

    `suppressed` is filled only with `explain` and a half-life in force.
    """

    hits: tuple[Hit, ...]
    seq: int
    as_of: float
    route: Literal["exact", "approximate"] = "exact"
    suppressed: tuple[Suppressed, ...] = ()


@dataclass(frozen=True, slots=True)
class CoordinateHit:
    """One answer of the old service's Recall: the similarity is the cosine between coordinates."""

    record: MemoryRecord
    similarity: float


class Page(NamedTuple):
    """Memories in the order of their ids; `more` says that there may be others after the last of them."""

    memories: list[MemoryRecord]
    more: bool


@dataclass(frozen=True, slots=True)
class GraphPath:
    """The shortest path between two coordinates, both included; empty and not `found` where there is none.

    A step has every edge between its two coordinates that was asked for, one of each type, the heaviest first.
    """

    coordinates: tuple[Coordinate, ...]
    steps: tuple[tuple[Edge, ...], ...]
    found: bool

    @property
    def edges(self) -> tuple[Edge, ...]:
        """The heaviest edge of each step."""
        return tuple(step[0] for step in self.steps)


@dataclass(frozen=True, slots=True)
class Stats:
    """Counts of live memories in a scope (of all, where none was named), and how the engine is made.

    `stale` says that the ledger is away and the counts are the last known ones.
    """

    total_memories: int
    by_type: dict[str, int]
    namespaces: dict[str, int]
    coordinates: int
    vector_count: int
    vector_dim: int
    embedding_provider: str
    model_revision: str
    head_seq: int
    applied_seq: int
    half_life: float | None
    mode: str
    stale: bool = False
    notes: tuple[str, ...] = ()
    graph: dict[str, Any] = field(default_factory=dict)
    tasks: dict[str, Any] = field(default_factory=dict)
    """Background tasks by name: state, failures so far, and the last of them."""


@dataclass(frozen=True, slots=True)
class Readiness:
    """Whether requests can be served, part by part; `reasons` says why not, and what to do."""

    ready: bool
    started: bool
    ledger: bool
    index: bool
    embedding: bool
    applied_seq: int
    head_seq: int
    reasons: tuple[str, ...] = field(default=())


__all__ = [
    "UNSET",
    "CoordinateHit",
    "Fusion",
    "Hit",
    "Neighbor",
    "GraphPath",
    "Readiness",
    "RecallRequest",
    "RecallResult",
    "Stats",
    "Suppressed",
    "Unset",
]
