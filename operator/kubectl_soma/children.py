"""What one SomaMemory consists of: its objects by the label that the operator puts on them, and their pods."""

from __future__ import annotations

from kubectl_soma import health
from kubectl_soma.cluster import GROUP, MEMORY_LABEL, Body, Cluster
from kubectl_soma.screen import Node

KINDS = (
    "deployments.apps,jobs.batch,persistentvolumeclaims,services,configmaps,serviceaccounts,networkpolicies.networking.k8s.io,"
    "poddisruptionbudgets.policy,horizontalpodautoscalers.autoscaling"
)
OPTIONAL_KINDS = (
    "externalsecrets.external-secrets.io",
    "kafkatopics.kafka.strimzi.io",
    "servicemonitors.monitoring.coreos.com",
    "podmonitors.monitoring.coreos.com",
    "prometheusrules.monitoring.coreos.com",
)
_OWN_ORDER = ("Deployment", "Job", "PersistentVolumeClaim", "HorizontalPodAutoscaler", "Service")


def selector(memory: str) -> str:
    """The label selector of everything that belongs to a memory."""
    return f"--selector={MEMORY_LABEL}={memory}"


def pods(cluster: Cluster, memory: str) -> list[Body]:
    """The memory's pods, by name."""
    return sorted(cluster.items("pods", selector(memory)), key=_name)


def objects(cluster: Cluster, memory: str) -> list[Body]:
    """The memory's objects but its pods; of Secrets the metadata only. The weightier kinds first."""
    found = cluster.items(KINDS, selector(memory))
    for kind in OPTIONAL_KINDS:
        found += cluster.items(kind, selector(memory))
    found += secrets(cluster, memory)
    return sorted(found, key=lambda one: (_rank(str(one["kind"])), str(one["kind"]), _name(one)))


def secrets(cluster: Cluster, memory: str) -> list[Body]:
    """Secrets without their values: those never leave the API server."""
    columns = "custom-columns=NAME:.metadata.name,TYPE:.type"
    text = cluster.run("get", "secrets", selector(memory), f"--output={columns}", "--no-headers", "--ignore-not-found")
    rows = [line.split() for line in text.splitlines() if line.strip()]
    return [{"kind": "Secret", "metadata": {"name": row[0]}, "type": row[1]} for row in rows]


def tree(memory: Body, found: list[Body], running: list[Body]) -> Node:
    """The memory, its objects below it, and pods below the Deployment or Job that they are of."""
    left = list(running)
    below: list[Node] = []
    for one in found:
        mine = [pod for pod in left if _is_of(pod, one)]
        left = [pod for pod in left if pod not in mine]
        below.append(Node(_title(one), health.of(one), tuple(_pod(pod) for pod in mine)))
    below += [_pod(pod) for pod in left]
    return Node(_title(memory), health.of(memory), tuple(below))


def _pod(pod: Body) -> Node:
    return Node(_title(pod), health.of(pod))


def _is_of(pod: Body, owner: Body) -> bool:
    name = _name(owner)
    if owner["kind"] == "Job":
        return any(one["kind"] == "Job" and one["name"] == name for one in pod["metadata"].get("ownerReferences") or ())
    wanted: Body = owner.get("spec", {}).get("selector", {}).get("matchLabels") or {}
    return (
        owner["kind"] == "Deployment"
        and bool(wanted)
        and wanted.items() <= (pod["metadata"].get("labels") or {}).items()
    )


def _title(body: Body) -> str:
    return f"{body['kind']}/{_name(body)}"


def _name(body: Body) -> str:
    return str(body["metadata"]["name"])


def _rank(kind: str) -> int:
    return _OWN_ORDER.index(kind) if kind in _OWN_ORDER else len(_OWN_ORDER)


def is_owned_by_gitops(memory: Body) -> str | None:
    """The field manager of a GitOps tool that applies this spec; what we change there, it will change back."""
    for entry in memory["metadata"].get("managedFields") or ():
        manager = str(entry.get("manager", ""))
        if manager.startswith(("argocd", "kustomize-controller", "helm-controller")) and not entry.get("subresource"):
            return manager
    return None


RECONCILE_AT = f"{GROUP}/reconcile-at"
