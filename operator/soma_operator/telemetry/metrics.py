"""The metrics, in one registry of our own. Labels are closed sets: never names of resources."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from prometheus_client.gc_collector import GCCollector
from prometheus_client.platform_collector import PlatformCollector
from prometheus_client.process_collector import ProcessCollector

REGISTRY = CollectorRegistry()
ProcessCollector(registry=REGISTRY)
PlatformCollector(registry=REGISTRY)
GCCollector(registry=REGISTRY)

RECONCILE_SECONDS = Histogram(
    "soma_operator_reconcile_duration_seconds",
    "Time of one reconcile, by kind and result.",
    ["kind", "result"],
    buckets=(0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30),
    registry=REGISTRY,
)
RECONCILE_ERRORS = Counter(
    "soma_operator_reconcile_errors_total",
    "Reconciles that met an error, by its reason.",
    ["reason"],
    registry=REGISTRY,
)
QUEUE_DEPTH = Gauge("soma_operator_queue_depth", "Resources waiting for a reconcile.", registry=REGISTRY)
DRIFT = Counter(
    "soma_operator_drift_total",
    "Fields of children that others changed, by kind and action.",
    ["kind", "action"],
    registry=REGISTRY,
)
API_REQUESTS = Counter(
    "soma_operator_api_requests_total",
    "Requests to the API server, by verb, kind and status (none: no answer).",
    ["verb", "kind", "status"],
    registry=REGISTRY,
)
LEADER = Gauge("soma_operator_leader", "1 on the replica that reconciles.", registry=REGISTRY)
RESOURCES = Gauge("soma_operator_resources", "Resources by kind.", ["kind"], registry=REGISTRY)
STATUS_WRITES = Counter("soma_operator_status_writes_total", "Statuses written, by kind.", ["kind"], registry=REGISTRY)
EVENTS = Counter(
    "soma_operator_events_total", "Kubernetes Events, by what became of them.", ["outcome"], registry=REGISTRY
)
RESYNCS = Counter("soma_operator_resyncs_total", "Lists of everything, by result.", ["result"], registry=REGISTRY)
