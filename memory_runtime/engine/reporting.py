"""What the engine says of itself: statistics and readiness, from memory alone: they answer when nothing else does."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING

from memory_runtime.engine.types import CoordinateHit, Readiness, Stats
from memory_runtime.model.records import Scope
from memory_runtime.stores.contracts import Collection
from memory_runtime.stores.sessions import LedgerView

if TYPE_CHECKING:
    from memory_runtime.engine.engine import MemoryEngine


def stats(engine: MemoryEngine, scope: Scope | None) -> Stats:
    """The counts of a scope, or of everything."""
    by_type: Counter[str] = Counter()
    namespaces: Counter[str] = Counter()
    coordinates = 0
    for (tenant, namespace, memory_type, kind), count in dict(engine.follower.counts).items():
        if count == 0 or (scope is not None and (tenant, namespace) != (scope.tenant, scope.namespace)):
            continue
        if kind == Collection.COORDINATES:
            coordinates += count
        else:
            by_type[memory_type] += count
            namespaces[namespace] += count
    total = sum(by_type.values())
    return Stats(
        total_memories=total,
        by_type=dict(by_type),
        namespaces=dict(namespaces),
        coordinates=coordinates,
        vector_count=len(engine.follower.index) if scope is None else total,
        vector_dim=engine.settings.vector_dim,
        embedding_provider=engine.provider.name,
        model_revision=engine.provider.revision,
        head_seq=engine.ledger.head_seq,
        applied_seq=engine.follower.applied_seq,
        half_life=engine.follower.params.default.half_life,
        mode=engine.settings.mode,
        stale=not (engine.ledger.healthy and engine.follower.in_step),
        graph=engine.graphs.state(),
        tasks=engine.metrics.tasks.told(),
        notes=(
            *engine.notes,
            *engine.gates.notes,
            *engine.vectors.notes,
            *filter(None, (engine.reembedder.note,)),
            *engine.metrics.tasks.notes,
        ),
    )


def readiness(engine: MemoryEngine, *, started: bool, closing: bool) -> Readiness:
    """Ready when started, the ledger whole, and the index in step with it."""
    ledger = started and engine.ledger.healthy
    index = started and engine.follower.in_step and engine.follower.applied_seq >= engine.ledger.head_seq
    reasons = []
    if closing:
        reasons.append("stopping")
    if not started:
        reasons.append("starting: the index is being built")
    elif not ledger:
        reasons.append(engine.ledger.ailment or "the ledger is not ready")
    elif not index:
        reasons.append("the index is behind the ledger: it is being built anew")
    return Readiness(
        ready=not reasons,
        started=started,
        ledger=ledger,
        index=index,
        embedding=True,
        applied_seq=engine.follower.applied_seq,
        head_seq=engine.ledger.head_seq,
        reasons=tuple(reasons),
    )


def follow(engine: MemoryEngine) -> None:
    """Lets the gauges read the engine when they are scraped."""
    metrics, follower, ledger = engine.metrics, engine.follower, engine.ledger
    follower.index.set_hot_tier(engine.settings.hot_tier_mb * 2**20)
    metrics.total_vectors.set_function(lambda: len(follower.index))
    metrics.memories.set_function(lambda: sum(dict(follower.counts).values()))
    metrics.head_seq.set_function(lambda: ledger.head_seq)
    metrics.applied_seq.set_function(lambda: follower.applied_seq)
    metrics.commits.set_function(lambda: ledger.commits)
    metrics.heartbeat_lag.set_function(lambda: engine.heartbeat.lag)
    metrics.index_load.set(follower.load_seconds)
    metrics.build.info({"mode": engine.settings.mode, "embedding": engine.provider.name})


def coordinate_hits(view: LedgerView, found: Sequence[tuple[bytes, float]]) -> list[CoordinateHit]:
    """The records behind a search of the coordinate collections, in its order."""
    records = view.by_ids([identity for identity, _ in found])
    return [CoordinateHit(records[identity], cosine) for identity, cosine in found if identity in records]
