"""What is counted of the vector store and of the answers that came through it."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge


class VectorMetrics:
    """Registered once, with everything else; where no vector store is named only the routes and the budget move."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.routes = Counter(
            "soma_memory_recall_route", "Queries by the route of their answer.", ("route",), registry=registry
        )
        self.failures = Counter(
            "soma_memory_approximate_failures", "Answers that the vector store could not complete.", registry=registry
        )
        self.recall_at_k = Gauge(
            "soma_approximate_recall_at_k",
            "Recall of the last 100 sampled approximate answers against the float64 oracle over the ledger.",
            ("k",),
            registry=registry,
        )
        self.beyond = Gauge(
            "soma_memory_index_rows_given_up", "Live memories that are not in the index.", registry=registry
        )
        self.over_budget = Gauge(
            "soma_memory_index_over_budget_bytes", "Bytes of rows beyond index_budget_mb in memory.", registry=registry
        )
        self.points = Gauge("soma_vector_store_points", "Points in the store, tombstones too.", registry=registry)
        self.indexed = Gauge("soma_vector_store_indexed", "Points that are in the store's graph.", registry=registry)
        self.queued = Gauge("soma_vector_store_queued", "Updates that the store has yet to apply.", registry=registry)
        self.behind = Gauge(
            "soma_vector_store_behind",
            "Live memories of the ledger less living points of the store.",
            registry=registry,
        )
        self.reachable = Gauge("soma_vector_store_reachable", "Whether the store answered last.", registry=registry)
        self.reconciled = Gauge(
            "soma_vector_reconcile_equal",
            "1 where the last comparison found store and ledger equal.",
            registry=registry,
        )
        self.differences = Counter(
            "soma_vector_reconcile_differences", "Rows that comparisons found to differ.", ("kind",), registry=registry
        )
