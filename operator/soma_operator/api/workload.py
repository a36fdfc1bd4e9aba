"""The pods of a role: how many, how large, where, and what people may add to their template."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from soma_operator.api.base import ApiModel, OneEach, Rule
from soma_operator.api.placement import Scheduling
from soma_operator.api.values import (
    DnsName,
    EnvName,
    LabelKey,
    LabelValue,
    Quantity,
    Replicas,
    ResourceName,
    SecretKey,
    amount,
)

Resources = Annotated[dict[ResourceName, Quantity], Field(max_length=16)]
Percentage = Annotated[int, Field(ge=1, le=1000)]
AnnotationValue = Annotated[str, Field(max_length=4096)]


class ResourceRequirements(ApiModel):
    """What one pod reserves and may use at most."""

    requests: Resources | None = None
    """Reserved for the pod: {cpu: 250m, memory: 512Mi}. The scheduler places by it, an HPA measures against it."""

    limits: Resources | None = None
    """At most this much: above its memory limit the pod is killed, above its CPU limit it is slowed."""

    rules = (
        Rule(
            "",
            "a limit is lower than the request of the same resource: raise the limit or lower the request",
            ".limits",
            lambda needs: all(
                amount(limit) >= amount((needs.requests or {}).get(name, "0"))
                for name, limit in (needs.limits or {}).items()
            ),
        ),
        Rule(
            "",
            "an extended resource is counted in whole units, and requested as it is limited: write the same in both",
            ".limits",
            lambda needs: all(
                (given := (needs.limits or {}).get(name)) is not None
                and amount(given) == amount((needs.requests or {}).get(name, given))
                and amount(given).denominator == 1
                for name in {*(needs.limits or {}), *(needs.requests or {})}
                if "/" in name
            ),
        ),
    )


class Autoscaling(ApiModel):
    """A HorizontalPodAutoscaler owns the number of replicas; the operator then never writes it."""

    min_replicas: Replicas = 2
    """Never fewer pods than this."""

    max_replicas: Replicas
    """Never more pods than this."""

    target_cpu_utilization_percentage: Percentage = Field(default=75, alias="targetCPUUtilizationPercentage")
    """Mean CPU use to aim for, in per cent of what is requested; needs resources.requests.cpu and metrics-server."""

    target_memory_utilization_percentage: Percentage | None = None
    """Mean memory use to aim for, in per cent of what is requested. Left out: memory does not count."""

    scale_down_stabilization_seconds: Annotated[int, Field(ge=0, le=3600)] = 300
    """How long the need must stay lower before pods are removed."""

    rules = (
        Rule(
            "(has(self.minReplicas) ? self.minReplicas : 2) <= self.maxReplicas",
            "minReplicas (2 if left out) is greater than maxReplicas: raise maxReplicas or lower minReplicas",
            ".maxReplicas",
            lambda scaling: scaling.min_replicas <= scaling.max_replicas,
        ),
    )


class Workload(ApiModel):
    """Pods of one role."""

    replicas: Replicas | None = None
    """Number of pods. Left out: 2, or what autoscaling decides."""

    autoscaling: Autoscaling | None = None
    """Let a HorizontalPodAutoscaler decide the number of pods; only in distributed mode, and not with replicas."""

    resources: ResourceRequirements | None = None
    """CPU, memory and disk of one pod. What is left out of it: requests of 250m and 512Mi, a memory limit of 2Gi; in
    distributed mode the API's pods also request 2Gi of ephemeral-storage, where they save their index."""

    scheduling: Scheduling = Field(default_factory=Scheduling)
    """Which nodes the pods may run on."""

    rules = (
        Rule(
            "!(has(self.replicas) && has(self.autoscaling))",
            "replicas and autoscaling exclude each other, no scaling by hand while an autoscaler decides: remove one",
            ".replicas",
            lambda role: role.replicas is None or role.autoscaling is None,
        ),
    )


class ApiWorkload(Workload):
    """The pods that serve HTTP and gRPC, and what one request may ask of them."""

    replicas: Replicas | None = None
    """Number of pods: exactly 1 in embedded mode. Left out: 1 in embedded mode, else 2, or what autoscaling decides.
    `kubectl scale` writes this field, and needs it to be set."""

    request_timeout_seconds: Annotated[int, Field(ge=1, le=3600)] = 30
    """Longest time a request may take; later it is answered with 504."""

    max_request_body_megabytes: Annotated[int, Field(ge=1, le=1024)] = 5
    """Largest request body; a larger one is answered with 413."""

    max_top_k: Annotated[int, Field(ge=1, le=10000)] = Field(default=1000, alias="maxTopK")
    """Most memories one recall may ask for."""


class ConsumerWorkload(Workload):
    """The pods that take events from Kafka; only with events.enabled in distributed mode."""


class EnvSecretKey(ApiModel):
    """One key of a Secret, as a pod template writes it."""

    name: DnsName
    """Name of the Secret, in the namespace of this resource."""

    key: SecretKey
    """Key within the Secret's data."""

    optional: bool | None = None
    """Whether the pod starts without it."""


class EnvSource(ApiModel):
    """Where the value of an environment variable comes from."""

    secret_key_ref: EnvSecretKey | None = None
    """Key of a Secret."""

    config_map_key_ref: EnvSecretKey | None = None
    """Key of a ConfigMap."""

    rules = (
        Rule(
            "has(self.secretKeyRef) != has(self.configMapKeyRef)",
            "valueFrom takes exactly one source: set secretKeyRef or configMapKeyRef",
            "",
            lambda source: (source.secret_key_ref is None) != (source.config_map_key_ref is None),
        ),
    )


class EnvVar(ApiModel):
    """One environment variable of the runtime's container."""

    name: EnvName
    """Name of the variable."""

    value: Annotated[str, Field(max_length=4096)] | None = None
    """Its value, readable by all who can read this resource: for secrets use valueFrom."""

    value_from: EnvSource | None = None
    """Take the value from a Secret or a ConfigMap."""

    rules = (
        Rule(
            "!(has(self.value) && has(self.valueFrom))",
            "value and valueFrom exclude each other: remove one",
            ".value",
            lambda env: env.value is None or env.value_from is None,
        ),
    )


OWNED_VARIABLES = (
    "SOMA_CONFIG_FILE",
    "SOMA_DATA_DIR",
    "SOMA_API_TOKEN",
    "SOMA_API_TOKEN_FILE",
    "SOMA_AUTH_DISABLED",
    "SOMA_MODE",
    "MEMORY_MODE",
)
_RESERVED_LABELS = ("app.kubernetes.io/", "memory.somatech.dev/")


class PodTemplate(ApiModel):
    """What is added to every pod of the runtime."""

    labels: Annotated[dict[LabelKey, LabelValue], Field(max_length=32)] = Field(default_factory=dict)
    """Labels added to the pods, for cost accounting and the like."""

    annotations: Annotated[dict[LabelKey, AnnotationValue], Field(max_length=64)] = Field(default_factory=dict)
    """Annotations added to the pods, such as those of Vault Agent or a service mesh."""

    env: Annotated[tuple[EnvVar, ...], Field(max_length=64), OneEach("name")] = ()
    """Environment variables added to the runtime's container; they win over the settings the operator writes."""

    termination_grace_period_seconds: Annotated[int, Field(ge=10, le=3600)] = 45
    """Time to drain and to save the index before a pod is killed; never less than the runtime needs."""

    service_account_annotations: Annotated[dict[LabelKey, AnnotationValue], Field(max_length=32)] = Field(
        default_factory=dict
    )
    """Annotations of the pods' ServiceAccount, such as those for a cloud's workload identity."""

    rules = (
        Rule(
            "!has(self.env) || !self.env.exists(e, e.name in ["
            + ", ".join(f"'{name}'" for name in OWNED_VARIABLES)
            + "])",
            "env sets a variable that the operator owns (configuration, data, mode, token): use the spec's fields",
            ".env",
            lambda pod: not any(env.name in OWNED_VARIABLES for env in pod.env),
        ),
        Rule(
            "!has(self.labels) || !self.labels.exists(key, "
            + " || ".join(f"key.startsWith('{p}')" for p in _RESERVED_LABELS)
            + ")",
            "labels sets one that the operator owns (app.kubernetes.io/, memory.somatech.dev/): choose another prefix",
            ".labels",
            lambda pod: not any(key.startswith(_RESERVED_LABELS) for key in pod.labels),
        ),
    )
