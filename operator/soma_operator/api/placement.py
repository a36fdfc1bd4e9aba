"""Where pods may run: selectors, tolerations and spreading, as far as a pod template takes them."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

from pydantic import Field

from soma_operator.api.affinity import Affinity
from soma_operator.api.base import ApiModel, OneEach, Rule
from soma_operator.api.values import DnsName, LabelKey, LabelValue, ShortText


class TolerationOperator(StrEnum):
    EQUAL = "Equal"
    EXISTS = "Exists"


class TaintEffect(StrEnum):
    NO_SCHEDULE = "NoSchedule"
    PREFER_NO_SCHEDULE = "PreferNoSchedule"
    NO_EXECUTE = "NoExecute"


class Toleration(ApiModel):
    """Lets pods run on nodes with a matching taint."""

    key: LabelKey | None = None
    """Taint that is tolerated; left out with Exists: every taint."""

    operator: TolerationOperator | None = None
    """Equal compares `value`, Exists takes any. Absent: Equal."""

    value: LabelValue | None = None
    """Value of the taint, with operator Equal."""

    effect: TaintEffect | None = None
    """Effect of the taint; left out: every effect."""

    toleration_seconds: Annotated[int, Field(ge=0)] | None = None
    """Seconds a pod stays after a NoExecute taint appears; left out: for ever."""

    rules = (
        Rule(
            "has(self.key) || (has(self.operator) && self.operator == 'Exists')",
            "a toleration without key tolerates every taint, which only Exists can: set operator to Exists, or a key",
            ".operator",
            lambda one: one.key is not None or one.operator is TolerationOperator.EXISTS,
        ),
        Rule(
            "!has(self.value) || self.value == '' || !has(self.operator) || self.operator == 'Equal'",
            "Exists takes any value: remove value, or set operator to Equal",
            ".value",
            lambda one: not one.value or one.operator is not TolerationOperator.EXISTS,
        ),
        Rule(
            "!has(self.tolerationSeconds) || (has(self.effect) && self.effect == 'NoExecute')",
            "tolerationSeconds counts from an eviction: set effect to NoExecute, or remove it",
            ".effect",
            lambda one: one.toleration_seconds is None or one.effect is TaintEffect.NO_EXECUTE,
        ),
    )


class Unsatisfiable(StrEnum):
    DO_NOT_SCHEDULE = "DoNotSchedule"
    SCHEDULE_ANYWAY = "ScheduleAnyway"


class TopologySpreadConstraint(ApiModel):
    """Spreads the pods of this role over zones, nodes or other domains; the operator fills in the label selector."""

    max_skew: Annotated[int, Field(ge=1, le=100)]
    """Greatest difference in the number of pods between two domains."""

    topology_key: LabelKey
    """Node label that names the domain, such as topology.kubernetes.io/zone."""

    when_unsatisfiable: Unsatisfiable
    """DoNotSchedule leaves a pod Pending rather than break the rule; ScheduleAnyway only prefers it."""

    min_domains: Annotated[int, Field(ge=1, le=100)] | None = None
    """Domains that must exist before the skew counts; only with DoNotSchedule."""


class Scheduling(ApiModel):
    """Which nodes the pods of a role may run on."""

    node_selector: Annotated[dict[LabelKey, LabelValue], Field(max_length=32)] | None = None
    """Labels a node must have. A selector that no node fulfils leaves the pods Pending."""

    tolerations: Annotated[tuple[Toleration, ...], Field(max_length=32)] | None = None
    """Taints that the pods tolerate."""

    affinity: Affinity | None = None
    """Attraction to and repulsion from nodes and pods."""

    topology_spread: (
        Annotated[
            tuple[TopologySpreadConstraint, ...],
            Field(max_length=8),
            OneEach("topologyKey", "whenUnsatisfiable"),
        ]
        | None
    ) = None
    """How the replicas spread over zones and nodes. Left out: over nodes, preferred, with more than one replica."""

    priority_class_name: DnsName | None = None
    """PriorityClass of the pods: who is evicted first when a node is full. It must exist."""

    runtime_class_name: DnsName | None = None
    """RuntimeClass of the pods, such as gvisor. It must exist."""

    scheduler_name: ShortText | None = None
    """Scheduler that places the pods. Left out: the cluster's default."""
