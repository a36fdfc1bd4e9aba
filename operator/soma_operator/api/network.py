"""From where the service can be reached, and what it may reach."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

from pydantic import Field

from soma_operator.api.base import ApiModel, Rule
from soma_operator.api.labels import LabelSelector
from soma_operator.api.values import Port, PortOrName

Cidr = Annotated[str, Field(pattern=r"^[0-9a-fA-F.:]+/[0-9]{1,3}$", max_length=64)]


class Protocol(StrEnum):
    TCP = "TCP"
    UDP = "UDP"


class IpBlock(ApiModel):
    """Addresses outside of the cluster."""

    cidr: Cidr
    """Range of addresses, such as 10.20.0.0/16."""

    exclude: Annotated[tuple[Cidr, ...], Field(max_length=16)] | None = Field(default=None, alias="except")
    """Ranges within cidr that are left out."""


class Peer(ApiModel):
    """Pods, namespaces or addresses. Pod and namespace selector together select pods in those namespaces."""

    pod_selector: LabelSelector | None = None
    """Pods; without namespaceSelector those of the same namespace."""

    namespace_selector: LabelSelector | None = None
    """Namespaces by their labels."""

    ip_block: IpBlock | None = None
    """Addresses; not together with the selectors."""

    rules = (
        Rule(
            "has(self.ipBlock) != (has(self.podSelector) || has(self.namespaceSelector))",
            "a peer is either an ipBlock or selectors of pods and namespaces: set exactly one kind",
            "",
            lambda peer: (
                (peer.ip_block is not None) != (peer.pod_selector is not None or peer.namespace_selector is not None)
            ),
        ),
    )


class PolicyPort(ApiModel):
    """Ports of a rule."""

    port: PortOrName | None = None
    """Number or name of the port. Left out: all ports."""

    protocol: Protocol = Protocol.TCP
    """Transport protocol."""

    end_port: Port | None = None
    """Last port of a range that begins with port."""


class Egress(ApiModel):
    """One more thing that the pods may reach."""

    to: Annotated[tuple[Peer, ...], Field(min_length=1, max_length=16)]
    """Where to; any of these."""

    ports: Annotated[tuple[PolicyPort, ...], Field(max_length=16)] | None = None
    """Ports there. Left out: all ports."""


class NetworkPolicy(ApiModel):
    """Denies by default, then allows what is needed: callers on the two ports, DNS, the endpoints."""

    enabled: bool = True
    """Whether NetworkPolicies are made. They bite only where the cluster's network enforces them."""

    allow_from: Annotated[tuple[Peer, ...], Field(max_length=32)] = Field(default=(), alias="from")
    """Who may call HTTP and gRPC. Left out: every pod of this namespace, and nobody else."""

    metrics_from: Annotated[tuple[Peer, ...], Field(max_length=16)] = ()
    """Who else may reach the HTTP port in order to scrape /metrics, such as Prometheus in its own namespace."""

    extra_egress: Annotated[tuple[Egress, ...], Field(max_length=32)] = ()
    """What the pods may reach besides DNS and the endpoints."""
