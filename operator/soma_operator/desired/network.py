"""Rules of the NetworkPolicy: who may call, and what the pods may reach."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from soma_operator.api import Mode, SomaMemorySpec
from soma_operator.api.network import Egress, Peer
from soma_operator.desired.runtime_settings import GRPC_PORT, HTTP_PORT

_DNS = {
    "to": [{"namespaceSelector": {}, "podSelector": {"matchLabels": {"k8s-app": "kube-dns"}}}],
    "ports": [{"port": 53, "protocol": "UDP"}, {"port": 53, "protocol": "TCP"}],
}


def allowed(spec: SomaMemorySpec) -> list[dict[str, Any]]:
    """Ingress: callers on both ports, scrapers on HTTP only. Without callers named, the pods of the same namespace."""
    policy = spec.network_policy
    callers = _peers(policy.allow_from) or [{"podSelector": {}}]
    rules = [{"from": callers, "ports": [_tcp(HTTP_PORT), _tcp(GRPC_PORT)]}]
    if policy.metrics_from:
        rules.append({"from": _peers(policy.metrics_from), "ports": [_tcp(HTTP_PORT)]})
    return rules


def reachable(spec: SomaMemorySpec) -> list[dict[str, Any]]:
    """Egress: nothing in embedded mode; the endpoints in distributed mode; what is named beside; DNS where anything
    may be reached."""
    rules = [_extra(egress) for egress in spec.network_policy.extra_egress]
    ports = _endpoint_ports(spec) if spec.mode is Mode.DISTRIBUTED else []
    if ports:
        # Endpoints are DNS names, and a NetworkPolicy knows addresses only: their ports are all that can be said.
        rules.insert(0, {"ports": [_tcp(port) for port in ports]})
    return [_DNS, *rules] if rules else []


def _endpoint_ports(spec: SomaMemorySpec) -> list[int]:
    endpoints = spec.endpoints
    ports = {
        server.port for server in (endpoints.postgresql, endpoints.redis, endpoints.qdrant, endpoints.graph) if server
    }
    if endpoints.qdrant:
        ports.add(endpoints.qdrant.grpc_port)
    if endpoints.kafka:
        ports |= {int(server.rpartition(":")[2]) for server in endpoints.kafka.bootstrap_servers}
    return sorted(ports)


def _extra(egress: Egress) -> dict[str, Any]:
    rule: dict[str, Any] = {"to": _peers(egress.to)}
    if egress.ports:
        rule["ports"] = [_numbered(port.to_manifest()) for port in egress.ports]
    return rule


def _numbered(port: Mapping[str, Any]) -> dict[str, Any]:
    # The model keeps number and name as text; Kubernetes takes text for a name.
    number = str(port.get("port", ""))
    return {**port, "port": int(number)} if number.isdigit() else dict(port)


def _peers(peers: Iterable[Peer]) -> list[dict[str, Any]]:
    return [peer.to_manifest() for peer in peers]


def _tcp(port: int) -> dict[str, Any]:
    return {"port": port, "protocol": "TCP"}
