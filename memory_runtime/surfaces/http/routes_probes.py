"""Probes, statistics, metrics and the banner: what is asked by machines that watch."""

from __future__ import annotations

from fastapi import APIRouter
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from starlette.requests import Request
from starlette.responses import Response

from memory_runtime.engine import Readiness
from memory_runtime.events.gaps import gaps_in
from memory_runtime.model.errors import NotFound, SomaError, Unavailable
from memory_runtime.surfaces.explanations import plain
from memory_runtime.surfaces.http import responses as answers
from memory_runtime.surfaces.http.context import engine, scope, service
from memory_runtime.surfaces.http.rendering import answer
from memory_runtime.surfaces.http.routes_flags import shown as shown_flag
from memory_runtime.surfaces.service import Phase

router = APIRouter(tags=["system"])


@router.get("/", include_in_schema=False)
async def banner() -> Response:
    """Says what answers here."""
    return answer({"message": "SomaFractalMemory API is running", "metrics": "/metrics"})


@router.get("/ping")
async def ping() -> Response:
    """Answers."""
    return answer({"ping": "pong"})


@router.get("/livez")
async def livez() -> Response:
    """Liveness: that the event loop answers at all. Never looks at a back end, whose outage no restart mends."""
    return answer({"status": "ok"})


@router.get("/startupz")
async def startupz(request: Request) -> Response:
    """Start-up: whether the index is loaded."""
    if service(request).phase is Phase.STARTING:
        raise Unavailable("still starting", remedy="wait: the index is being loaded", retry_after=1.0)
    return answer({"status": "started"})


def _parts(readiness: Readiness) -> answers.Json:
    return {
        "kv_store": readiness.ledger,
        "vector_store": readiness.index,
        "graph_store": readiness.ledger,
        "prediction_provider": readiness.embedding,
    }


@router.get("/readyz", response_model=answers.HealthAnswer)
async def readyz(request: Request) -> Response:
    """Readiness: whether the ledger answers and the index has caught up with it."""
    readiness = await service(request).readiness()
    if not readiness.ready:
        reason = "; ".join(readiness.reasons) or "not ready"
        raise Unavailable(reason, remedy="wait, or look at the server's log", retry_after=1.0)
    return answer(_parts(readiness))


@router.get("/healthz", response_model=answers.HealthAnswer)
async def healthz(request: Request) -> Response:
    """The parts of the service; 503 when one is down. For people and dashboards, never for a probe."""
    readiness = await service(request).readiness()
    parts = _parts(readiness)
    if not all(parts.values()):
        down = ", ".join(name for name, up in parts.items() if not up)
        raise Unavailable(f"One or more backend services unhealthy: {down}", remedy="see GET /readyz", retry_after=1.0)
    return answer(parts)


@router.get("/health/basic", response_model=answers.HealthAnswer)
async def basic_health(request: Request) -> Response:
    """The parts of the service, whatever their state."""
    return answer(_parts(await service(request).readiness()))


_OLD_NAMES = {"kv_store": "redis", "vector_store": "milvus", "graph_store": "postgresql"}
"""Under which names later clients look for the parts, whatever keeps them here."""


@router.get("/health", response_model=answers.DetailedHealth)
async def health(request: Request) -> Response:
    """The parts of the service, whatever their state, also in the words that later clients read."""
    parts = _parts(await service(request).readiness())
    up = sum(parts.values())
    status = "healthy" if up == len(parts) else "degraded" if up else "unhealthy"
    services = [{"name": name, "healthy": parts[part], "details": {"part": part}} for part, name in _OLD_NAMES.items()]
    return answer(parts | {"status": status, "healthy": status == "healthy", "services": services})


@router.get("/stats", response_model=answers.StatsAnswer)
async def stats(request: Request) -> Response:
    """Counts of the caller's scope, and what embeds its text; the last known, `stale`, while the ledger is away.

    Where SOMA_STATS_OPEN lets a caller in without a token, that caller sees the four counts of the old service only.
    """
    found = await engine(request).stats(scope(request))
    counts = {
        "total_memories": found.total_memories,
        "episodic": found.by_type.get("episodic", 0),
        "semantic": found.by_type.get("semantic", 0),
        "namespace": scope(request).namespace,
    }
    if service(request).anonymous(request.headers):
        return answer(counts)
    shown = plain(found)
    shown |= {
        **counts,
        "namespaces": {name: {"total": count} for name, count in found.namespaces.items()},
        "vector_collections": {scope(request).namespace: found.vector_count},
        "consumer_gaps": await _consumer_gaps(request),
        "flags": {state.name: shown_flag(state) for state in service(request).flags.states()},
    }
    return answer(shown)


async def _consumer_gaps(request: Request) -> list[answers.Json]:
    """Records that retention took before this ledger's consumers read them; none while the ledger is away."""
    try:
        return gaps_in(await engine(request).ledger.read(lambda view: view.facts()))
    except SomaError:
        return []


@router.get("/metrics", include_in_schema=False)
async def prometheus(request: Request) -> Response:
    """Measurements in Prometheus' text format."""
    if not service(request).settings.metrics_enabled:
        raise NotFound("Not Found", remedy="metrics are switched off: SOMA_METRICS_ENABLED=true")
    body = generate_latest(engine(request).metrics.registry)
    return Response(body, headers={"Content-Type": CONTENT_TYPE_LATEST})
