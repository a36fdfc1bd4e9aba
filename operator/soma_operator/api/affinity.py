"""Attraction to nodes and pods, and repulsion: the Kubernetes types, as far as a pod template takes them."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

from pydantic import Field

from soma_operator.api.base import ApiModel
from soma_operator.api.labels import LabelSelector
from soma_operator.api.values import DnsLabel, LabelKey, LabelValue

Weight = Annotated[int, Field(ge=1, le=100)]


class NodeOperator(StrEnum):
    IN = "In"
    NOT_IN = "NotIn"
    EXISTS = "Exists"
    DOES_NOT_EXIST = "DoesNotExist"
    GREATER = "Gt"
    LESS = "Lt"


class NodeRequirement(ApiModel):
    """One expression about a node."""

    key: LabelKey
    """Label, or field, that the expression looks at."""

    operator: NodeOperator
    """How it is compared with `values`; Gt and Lt take one whole number."""

    values: Annotated[tuple[LabelValue, ...], Field(max_length=32)] | None = None
    """Values to compare with; left out for Exists and DoesNotExist."""


class NodeTerm(ApiModel):
    """Nodes for which all expressions hold."""

    match_expressions: Annotated[tuple[NodeRequirement, ...], Field(max_length=16)] | None = None
    """Expressions about the node's labels."""

    match_fields: Annotated[tuple[NodeRequirement, ...], Field(max_length=4)] | None = None
    """Expressions about the node's fields; only metadata.name is known."""


class RequiredNodes(ApiModel):
    """Nodes that the pods must run on."""

    node_selector_terms: Annotated[tuple[NodeTerm, ...], Field(min_length=1, max_length=16)]
    """Alternatives: one of them must hold."""


class PreferredNodes(ApiModel):
    """Nodes that the pods would rather run on."""

    weight: Weight
    """How much it counts, 1 to 100, when nodes are compared."""

    preference: NodeTerm
    """Which nodes."""


class NodeAffinity(ApiModel):
    """Attraction to nodes."""

    required: RequiredNodes | None = Field(default=None, alias="requiredDuringSchedulingIgnoredDuringExecution")
    """Must hold when a pod is placed; nodes that cannot be had leave the pod Pending."""

    preferred: Annotated[tuple[PreferredNodes, ...], Field(max_length=16)] | None = Field(
        default=None, alias="preferredDuringSchedulingIgnoredDuringExecution"
    )
    """Should hold when a pod is placed."""


class PodTerm(ApiModel):
    """Domains (nodes, zones) in which selected pods run."""

    topology_key: LabelKey
    """Node label that names the domain, such as kubernetes.io/hostname."""

    label_selector: LabelSelector | None = None
    """Which pods; left out: none."""

    namespaces: Annotated[tuple[DnsLabel, ...], Field(max_length=16)] | None = None
    """Namespaces of those pods. Left out with namespaceSelector: the pod's own."""

    namespace_selector: LabelSelector | None = None
    """Namespaces of those pods, by label."""


class WeightedPodTerm(ApiModel):
    """A preference for domains."""

    weight: Weight
    """How much it counts, 1 to 100, when nodes are compared."""

    pod_affinity_term: PodTerm
    """Which domains."""


class PodAffinity(ApiModel):
    """Attraction to, or repulsion from, domains in which other pods run."""

    required: Annotated[tuple[PodTerm, ...], Field(max_length=16)] | None = Field(
        default=None, alias="requiredDuringSchedulingIgnoredDuringExecution"
    )
    """Must hold when a pod is placed; otherwise it stays Pending."""

    preferred: Annotated[tuple[WeightedPodTerm, ...], Field(max_length=16)] | None = Field(
        default=None, alias="preferredDuringSchedulingIgnoredDuringExecution"
    )
    """Should hold when a pod is placed."""


class Affinity(ApiModel):
    """Attraction to nodes and pods, and repulsion."""

    node_affinity: NodeAffinity | None = None
    """Attraction to nodes."""

    pod_affinity: PodAffinity | None = None
    """Attraction to domains in which other pods run."""

    pod_anti_affinity: PodAffinity | None = None
    """Repulsion from domains in which other pods run."""
