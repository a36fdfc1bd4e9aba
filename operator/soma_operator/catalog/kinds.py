"""The kinds that the operator watches and writes, with the paths that the API server serves them under."""

from __future__ import annotations

from dataclasses import dataclass

GROUP = "memory.somatech.dev"
VERSION = "v1alpha1"


@dataclass(frozen=True, slots=True)
class Kind:
    """One served kind. `bodies` is False for kinds of which only metadata is ever requested, because their values are
    not ours to read."""

    group: str
    version: str
    name: str
    plural: str
    bodies: bool = True

    @property
    def api_version(self) -> str:
        """`apps/v1`, or `v1` for the core group."""
        return f"{self.group}/{self.version}" if self.group else self.version

    def path(self, namespace: str | None = None, name: str | None = None, subresource: str | None = None) -> str:
        """Path below the API server's root; without a namespace that of all namespaces."""
        parts = ["apis", self.group] if self.group else ["api"]
        parts.append(self.version)
        if namespace is not None:
            parts += ["namespaces", namespace]
        parts.append(self.plural)
        parts += [part for part in (name, subresource) if part is not None]
        return "/" + "/".join(parts)

    def __str__(self) -> str:
        return self.name


@dataclass(frozen=True, slots=True)
class Ref:
    """One object."""

    kind: Kind
    namespace: str
    name: str

    def __str__(self) -> str:
        return f"{self.kind.name}/{self.name}"


SOMA_MEMORY = Kind(GROUP, VERSION, "SomaMemory", "somamemories")
SOMA_MEMORY_BACKUP = Kind(GROUP, VERSION, "SomaMemoryBackup", "somamemorybackups")

SERVICE_ACCOUNT = Kind("", "v1", "ServiceAccount", "serviceaccounts", bodies=False)
CONFIG_MAP = Kind("", "v1", "ConfigMap", "configmaps", bodies=False)
SECRET = Kind("", "v1", "Secret", "secrets", bodies=False)
VOLUME_CLAIM = Kind("", "v1", "PersistentVolumeClaim", "persistentvolumeclaims")
SERVICE = Kind("", "v1", "Service", "services", bodies=False)
DEPLOYMENT = Kind("apps", "v1", "Deployment", "deployments")
JOB = Kind("batch", "v1", "Job", "jobs")
DISRUPTION_BUDGET = Kind("policy", "v1", "PodDisruptionBudget", "poddisruptionbudgets", bodies=False)
NETWORK_POLICY = Kind("networking.k8s.io", "v1", "NetworkPolicy", "networkpolicies", bodies=False)
AUTOSCALER = Kind("autoscaling", "v2", "HorizontalPodAutoscaler", "horizontalpodautoscalers")

PARENT_KINDS = (SOMA_MEMORY, SOMA_MEMORY_BACKUP)
CHILD_KINDS = (
    SERVICE_ACCOUNT,
    CONFIG_MAP,
    SECRET,
    VOLUME_CLAIM,
    SERVICE,
    DEPLOYMENT,
    JOB,
    DISRUPTION_BUDGET,
    NETWORK_POLICY,
    AUTOSCALER,
)
WATCHED_KINDS = PARENT_KINDS + CHILD_KINDS
EVENT = Kind("events.k8s.io", "v1", "Event", "events")
LEASE = Kind("coordination.k8s.io", "v1", "Lease", "leases")


def kind_named(name: str) -> Kind | None:
    """The watched kind of that name."""
    return next((kind for kind in WATCHED_KINDS if kind.name == name), None)
