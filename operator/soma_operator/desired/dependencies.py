"""What is probed for one SomaMemory: its back ends, by names that resolve from where the operator runs."""

from __future__ import annotations

from soma_operator.api import Mode, SomaMemory
from soma_operator.api.events import TopicsMode
from soma_operator.api.references import ClientTLS, TLSMode
from soma_operator.catalog.back_ends import BackEnd, Endpoint


def dependencies(memory: SomaMemory) -> dict[BackEnd, Endpoint]:
    """Endpoints by back end; none in embedded mode."""
    spec, namespace = memory.spec, memory.metadata.namespace
    if spec.mode is Mode.EMBEDDED:
        return {}
    servers = spec.endpoints
    found: dict[BackEnd, Endpoint] = {}
    if servers.postgresql:
        address = (servers.postgresql.host, servers.postgresql.port)
        found[BackEnd.POSTGRESQL] = _endpoint(BackEnd.POSTGRESQL, namespace, (address,), servers.postgresql.tls)
    if servers.redis:
        address = (servers.redis.host, servers.redis.port)
        found[BackEnd.REDIS] = _endpoint(BackEnd.REDIS, namespace, (address,), servers.redis.tls)
    if servers.qdrant:
        address = (servers.qdrant.host, servers.qdrant.port)
        found[BackEnd.QDRANT] = _endpoint(BackEnd.QDRANT, namespace, (address,), servers.qdrant.tls)
    if servers.kafka and spec.events.enabled:
        brokers = tuple(
            (host, int(port)) for host, _, port in (b.rpartition(":") for b in servers.kafka.bootstrap_servers)
        )
        visible = servers.kafka.sasl is None and servers.kafka.tls.client_certificate_secret_name is None
        topics = topics_needed(memory) if visible else ()
        found[BackEnd.KAFKA] = _endpoint(BackEnd.KAFKA, namespace, brokers, servers.kafka.tls, topics)
    return found


def topics_needed(memory: SomaMemory) -> tuple[str, ...]:
    """The topics that events go to and come from."""
    events = memory.spec.events
    return tuple(sorted({events.topic, events.dead_letter_topic}))


def topics_are_given(memory: SomaMemory) -> bool:
    """Whether somebody else makes the topics."""
    return memory.spec.topics.mode is TopicsMode.EXTERNAL


def _endpoint(
    back_end: BackEnd,
    namespace: str,
    addresses: tuple[tuple[str, int], ...],
    tls: ClientTLS,
    topics: tuple[str, ...] = (),
) -> Endpoint:
    return Endpoint(
        back_end,
        tuple((qualified(host, namespace), port) for host, port in addresses),
        tls.mode is not TLSMode.DISABLED,
        tls.client_certificate_secret_name is not None,
        topics,
    )


def qualified(host: str, namespace: str) -> str:
    """A bare name is a Service beside the SomaMemory: to the operator, which runs elsewhere, it needs its namespace."""
    return host if "." in host else f"{host}.{namespace}.svc"
