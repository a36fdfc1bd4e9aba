"""All metrics of the runtime, in one registry. Names: wire-compat.md section 7, source document 002 section 9."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from typing import Final

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, Info

from memory_runtime.model.errors import SomaError
from memory_runtime.telemetry.backends import BackendMetrics
from memory_runtime.telemetry.caching import CacheMetrics
from memory_runtime.telemetry.cardinality import ALL, OTHER, FirstValues
from memory_runtime.telemetry.supervision import Supervisor
from memory_runtime.telemetry.vectors import VectorMetrics

_LATENCY: Final = (
    0.0005,
    0.001,
    0.002,
    0.003,
    0.005,
    0.0075,
    0.01,
    0.025,
    0.05,
    0.1,
    0.25,
    0.5,
    0.75,
    1.0,
    2.5,
    5.0,
    10.0,
)


class Metrics:
    """The registry and what is counted in it. Surfaces count requests, the engine counts memories."""

    def __init__(self, registry: CollectorRegistry | None = None) -> None:
        self.registry = registry or CollectorRegistry()
        self.naming = False
        """Whether tenants, namespaces and link types are told by name: /metrics asks for no token."""
        self._namespaces: FirstValues[str] = FirstValues(OTHER)
        self._links: FirstValues[tuple[str, str]] = FirstValues((OTHER, OTHER))
        self.api_requests = self._counter("api_requests_total", "Requests received.", "endpoint", "method")
        self.api_latency = self._histogram("api_request_latency_seconds", "Time to answer.", "endpoint", "method")
        self.api_responses = self._counter("api_responses_total", "Responses sent.", "endpoint", "method", "status")
        self.http_404 = self._counter("http_404_requests_total", "Requests for routes that do not exist.")
        self.refused = self._counter(
            "soma_requests_refused_total", "Requests that were not let in, by what they met.", "reason"
        )
        for reason in ("token", "rate_limit", "starting", "in_flight", "bytes"):
            self.refused.labels(reason)
        self.rate_decisions = self._counter(
            "soma_rate_limit_decisions_total",
            "Requests under a rate limit, by who decided: local, shared, alone (Redis did not answer).",
            "decided_by",
        )
        self.api_deletes = self._counter("api_delete_success_total", "Memories deleted by request.")
        self.graph_links = self._counter("sfm_graph_link_total", "Links requested.", "tenant", "link_type", "status")
        self.graph_walks = self._counter(
            "soma_graph_walks_total", "Walks over links, by what answered and why.", "answered_by", "why"
        )
        self.stores = self._counter("soma_memory_store_total", "Memories stored.", "namespace")
        self.store_latency = self._histogram(
            "soma_memory_store_latency_seconds", "Time from request to durable acknowledgement.", "namespace"
        )
        self.store_errors = self._counter("soma_memory_store_errors_total", "Stores refused or failed.", "code")
        self.recalls = self._counter("soma_memory_recall_total", "Queries answered.")
        self.recall_latency = self._histogram("soma_memory_recall_latency_seconds", "Time from query to answer.")
        self.recall_errors = self._counter("soma_memory_recall_errors_total", "Recalls refused or failed.", "code")
        self.total_vectors = self._gauge("soma_memory_total_vectors", "Vectors in the index.")
        self.memories = self._gauge("soma_memory_records", "Live memories in the ledger.")
        self.head_seq = self._gauge("soma_memory_ledger_head_seq", "Sequence of the newest durable change.")
        self.applied_seq = self._gauge("soma_memory_index_applied_seq", "Sequence that the index has followed to.")
        self.commits = self._gauge("soma_memory_ledger_commits", "Groups flushed since the start.")
        self.decay_active = self._gauge(
            "soma_memory_decay_active_ratio", "Share of the index under a half-life; set once a minute."
        )
        self.norm_error_max = self._gauge("soma_memory_norm_error_max", "Largest distance of a vector's norm from 1.")
        self.importance = self._gauge(
            "soma_memory_importance_quantile", "Normalised importance of the last 2,000 memories.", "quantile"
        )
        self.fraction_scanned = self._gauge(
            "soma_memory_index_fraction_scanned_ratio", "Rows scanned over rows held, over all queries."
        )
        self.index_bytes = self._gauge("soma_memory_index_resident_bytes", "Memory that the index holds.")
        self.index_segments = self._gauge("soma_memory_index_segments", "Sorted segments of the index.")
        self.index_tombstones = self._gauge("soma_memory_index_tombstones", "Dead rows that no merge has dropped yet.")
        self.index_load = self._gauge(
            "soma_memory_index_load_seconds", "Time that filling the index took at the start."
        )
        self.heartbeat_lag = self._gauge("soma_event_loop_lag_seconds", "Delay of the event loop's last heartbeat.")
        self.hot_tier = self._gauge(
            "soma_memory_hot_tier_hit_ratio", "Share of queries answered within the rows that fit hot_tier_mb."
        )
        self.recall_at_k = self._gauge(
            "soma_recall_at_k", "Recall of the last 100 sampled answers against the float64 oracle.", "k"
        )
        self.recall_samples = self._counter("soma_recall_samples", "Answers compared with the oracle.", "route")
        self.evictions = self._counter(
            "soma_memory_eviction_count", "Memories archived and purged by retention, by the bound.", "reason"
        )
        for reason in ("ttl", "rows", "bytes"):
            self.evictions.labels(reason)
        self.archive_bytes = self._gauge("soma_memory_archive_bytes", "Bytes of the archives on disk.")
        self.sink_lag = self._gauge("soma_memory_sink_lag", "Changes that the sink does not hold yet.", "sink")
        self.sink_delivered = self._counter("soma_memory_sink_delivered", "Changes that the sink has taken.", "sink")
        self.sink_failures = self._counter("soma_memory_sink_failures", "Deliveries to the sink that failed.", "sink")
        self.sink_breaker_open = self._gauge(
            "soma_memory_sink_breaker_open", "1 while the sink is only tried one change at a time.", "sink"
        )
        self.backends = BackendMetrics(self.registry)
        self.cache = CacheMetrics(self.registry)
        self.dead_letters = self._counter(
            "soma_memory_dead_letters", "Events put on the dead-letter topic.", "source", "reason"
        )
        self.consumed = self._counter("consumer_messages_consumed_total", "Records read from the topic.", "topic")
        self.consumer_success = self._counter("consumer_process_success_total", "Events processed.", "component")
        self.consumer_failure = self._counter(
            "consumer_process_failure_total", "Events refused, and batches put off.", "component"
        )
        self.consumer_latency = self._histogram(
            "consumer_processing_latency_seconds", "Time from a batch being read to its offsets being committed."
        )
        self.consumer_events = self._counter("soma_consumer_events", "Events by what became of them.", "outcome")
        self.consumer_missed = self._counter(
            "soma_consumer_missed_records",
            "Records that retention took from the topic before the group read them.",
            "topic",
            "partition",
        )
        self.consumer_lag = self._gauge(
            "soma_consumer_lag", "Records of the partition that the group has not committed.", "topic", "partition"
        )
        self.dlq_letters = self._counter(
            "soma_memory_dlq_letters", "Dead letters that were tried again, by what became of them.", "outcome"
        )
        self.vectors = VectorMetrics(self.registry)
        self.tasks = Supervisor(self.registry)
        self._stored: dict[str, tuple[Counter, Histogram]] = {}
        self._answered: dict[tuple[str, str, str], tuple[Counter, Histogram, Counter]] = {}
        self.build = Info("soma_memory_build", "How the runtime is made.", registry=self.registry)

    def _counter(self, name: str, text: str, *labels: str) -> Counter:
        return Counter(name, text, labels, registry=self.registry)

    def _gauge(self, name: str, text: str, *labels: str) -> Gauge:
        return Gauge(name, text, labels, registry=self.registry)

    def _histogram(self, name: str, text: str, *labels: str) -> Histogram:
        return Histogram(name, text, labels, registry=self.registry, buckets=_LATENCY)

    def answered(self, endpoint: str, method: str, status: str, seconds: float) -> None:
        """Counts and times one answer; `endpoint` is a route or an RPC, never a path with a value in it."""
        key = (endpoint, method, status)
        kept = self._answered.get(key)
        if kept is None:
            # looking three children up by their labels takes as long as a small answer does
            kept = self._answered[key] = (
                self.api_requests.labels(endpoint, method),
                self.api_latency.labels(endpoint, method),
                self.api_responses.labels(endpoint, method, status),
            )
        requests, latency, responses = kept
        requests.inc()
        latency.observe(seconds)
        responses.inc()

    @contextlib.contextmanager
    def storing(self, namespace: str, count: int) -> Iterator[None]:
        """Counts and times the stores inside; errors by their code."""
        start = time.perf_counter()
        try:
            yield
        except SomaError as error:
            self.store_errors.labels(error.code).inc()
            raise
        label = self._namespaces(namespace) if self.naming else ALL
        kept = self._stored.get(label)
        if kept is None:
            kept = self._stored[label] = (self.stores.labels(label), self.store_latency.labels(label))
        kept[0].inc(count)
        kept[1].observe(time.perf_counter() - start)

    @contextlib.contextmanager
    def linking(self, tenant: str, link_type: str) -> Iterator[None]:
        """Counts the link made inside: `ok`, or its error's code."""
        status = "INTERNAL"
        try:
            yield
            status = "ok"
        except SomaError as error:
            status = error.code
            raise
        finally:
            named = self._links((tenant, link_type)) if self.naming else (ALL, ALL)
            self.graph_links.labels(*named, status).inc()

    @contextlib.contextmanager
    def recalling(self, count: int) -> Iterator[None]:
        """Counts and times the queries inside; errors by their code."""
        start = time.perf_counter()
        try:
            yield
        except SomaError as error:
            self.recall_errors.labels(error.code).inc()
            raise
        self.recalls.inc(count)
        self.recall_latency.observe(time.perf_counter() - start)
