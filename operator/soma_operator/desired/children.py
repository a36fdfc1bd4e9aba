"""Which child objects one SomaMemory has, in which order they are applied, and what each template is given."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import IntEnum
from typing import Any

from soma_operator.api import Mode, SomaMemorySpec
from soma_operator.api.workload import ApiWorkload, ConsumerWorkload, Workload
from soma_operator.catalog.kinds import (
    AUTOSCALER,
    CONFIG_MAP,
    DEPLOYMENT,
    DISRUPTION_BUDGET,
    GROUP,
    JOB,
    NETWORK_POLICY,
    SECRET,
    SERVICE,
    SERVICE_ACCOUNT,
    SOMA_MEMORY,
    VOLUME_CLAIM,
    Kind,
    Ref,
)
from soma_operator.catalog.names import (
    CREDENTIALS_DIGEST,
    FIELD_MANAGER,
    MANAGED_BY_LABEL,
    MEMORY_LABEL,
    SETTINGS_HASH,
    TOKEN_DIGEST,
    migration_name,
    settings_name,
    token_name,
)
from soma_operator.desired.connections import Connection, connections
from soma_operator.desired.environment import environment
from soma_operator.desired.images import resolve
from soma_operator.desired.inputs import Inputs
from soma_operator.desired.network import allowed, reachable
from soma_operator.desired.render import Child, Stage, canonical_hash, make_child
from soma_operator.desired.resources import JOB_RESOURCES, resources
from soma_operator.desired.runtime_settings import DATA_DIR, GRPC_PORT, HTTP_PORT, ledger_settings, settings_text

__all__ = ["Child", "Stage", "children", "instance_labels"]


class Component(IntEnum):
    """Roles of pods, in the order in which they are rolled out."""

    API = 0
    CONSUMER = 1
    MIGRATION = 2

    @property
    def label(self) -> str:
        """Value of app.kubernetes.io/component."""
        return self.name.lower()


@dataclass(frozen=True, slots=True)
class Role:
    """Pods of one component."""

    component: Component
    object_name: str
    workload: Workload
    replicas: int | None
    """None: an autoscaler decides, and we do not own the field."""


def instance_labels(name: str) -> dict[str, str]:
    """Labels of everything that belongs to one SomaMemory. An allow-list: the parent's own labels are never copied."""
    return {
        "app.kubernetes.io/name": "soma-memory",
        "app.kubernetes.io/instance": name,
        "app.kubernetes.io/part-of": "soma-memory-operator",
        MANAGED_BY_LABEL: FIELD_MANAGER,
        MEMORY_LABEL: name,
    }


def selector(name: str, component: Component) -> dict[str, str]:
    """Labels that select the pods of one role; a Deployment's selector is immutable, so these never change."""
    return {
        "app.kubernetes.io/name": "soma-memory",
        "app.kubernetes.io/instance": name,
        "app.kubernetes.io/component": component.label,
    }


def roles(name: str, spec: SomaMemorySpec) -> list[Role]:
    """The pods that should run: one writer in embedded mode, else the API and, with events, consumers."""
    if spec.mode is Mode.EMBEDDED:
        return [Role(Component.API, name, spec.api, 1)]
    found = [Role(Component.API, f"{name}-api", spec.api, _replicas(spec.api))]
    if spec.events.enabled:
        found.append(Role(Component.CONSUMER, f"{name}-consumer", spec.consumer, _replicas(spec.consumer)))
    return found


def _replicas(workload: ApiWorkload | ConsumerWorkload) -> int | None:
    return None if workload.autoscaling else workload.replicas or 2


def children(inputs: Inputs) -> list[Child]:
    """All children in the order of their stages. The volume's claim is among them unless an existing one is used."""
    spec, name = inputs.memory.spec, inputs.name
    context = _context(inputs)
    found = [
        _child(inputs, SERVICE_ACCOUNT, name, Stage.IDENTITY, "serviceaccount", context),
        _child(inputs, CONFIG_MAP, settings_name(name), Stage.CONFIGURATION, "configmap", context),
        _child(inputs, SERVICE, name, Stage.SERVICES, "service", {**context, **_port("http", HTTP_PORT)}),
        _child(inputs, SERVICE, f"{name}-grpc", Stage.SERVICES, "service", {**context, **_port("grpc", GRPC_PORT)}),
    ]
    if spec.network_policy.enabled:
        policies = {**context, "ingress": allowed(spec), "egress": reachable(spec)}
        found += [
            _child(inputs, NETWORK_POLICY, f"{name}-deny", Stage.IDENTITY, "networkpolicy-deny", context),
            _child(inputs, NETWORK_POLICY, f"{name}-allow", Stage.IDENTITY, "networkpolicy-allow", policies),
        ]
    if inputs.generates_token:
        found.append(_child(inputs, SECRET, token_name(name), Stage.CONFIGURATION, "secret", context))
    if spec.mode is Mode.EMBEDDED and spec.persistence.existing_claim is None:
        found.append(_child(inputs, VOLUME_CLAIM, inputs.claim, Stage.CONFIGURATION, "persistentvolumeclaim", context))
    if spec.mode is Mode.DISTRIBUTED:
        found.append(_migration(inputs, context))
    for role in roles(name, spec):
        found += _workload(inputs, role, context)
    return sorted(found, key=lambda child: (child.stage, child.ref.kind.name, child.ref.name))


def _workload(inputs: Inputs, role: Role, context: Mapping[str, Any]) -> list[Child]:
    spec = inputs.memory.spec
    labels = selector(inputs.name, role.component)
    given = {**context, "role": role.component.label, "selector": labels, "replicas": role.replicas, **_pod(role, spec)}
    found = [
        _child(inputs, DEPLOYMENT, role.object_name, Stage.WORKLOADS, "deployment", given),
        _child(inputs, DISRUPTION_BUDGET, role.object_name, Stage.AVAILABILITY, "poddisruptionbudget", given),
    ]
    if role.workload.autoscaling:
        scaling = {**given, "target": role.object_name, "autoscaling": role.workload.autoscaling.to_manifest()}
        found.append(
            _child(inputs, AUTOSCALER, role.object_name, Stage.AVAILABILITY, "horizontalpodautoscaler", scaling)
        )
    return found


def _migration(inputs: Inputs, context: Mapping[str, Any]) -> Child:
    spec = inputs.memory.spec
    labels = selector(inputs.name, Component.MIGRATION)
    # Only what the migration depends on: another log level must not migrate again.
    ledger = {"digests": {SETTINGS_HASH: canonical_hash(ledger_settings(spec))}}
    credentials = [c for c in connections(spec) if c.name == "postgres"]
    given = {
        **context, **ledger, **_certificates(credentials), "role": Component.MIGRATION.label, "selector": labels,
        "args": ["migrate"], "once": True, "resources": JOB_RESOURCES, "topology_spread": [],
        "scheduling": _scheduling(spec.api)[0], "grace_period": spec.pod_template.termination_grace_period_seconds,
    }  # fmt: skip
    draft = _child(inputs, JOB, migration_name(inputs.name, ""), Stage.MIGRATION, "job", given)
    return _child(inputs, JOB, migration_name(inputs.name, draft.hash), Stage.MIGRATION, "job", given)


def _certificates(found: Sequence[Connection]) -> dict[str, Any]:
    """Variables and volumes of connections, as the pod template takes them."""
    volumes = [(connection, connection.volume()) for connection in found]
    return {
        "credentials": [variable for connection in found for variable in connection.environment()],
        "tls_volumes": [
            {"name": manifest["name"], "path": connection.folder, "manifest": manifest}
            for connection, manifest in volumes
            if manifest is not None
        ],
    }


def _child(inputs: Inputs, kind: Kind, name: str, stage: Stage, template: str, context: Mapping[str, Any]) -> Child:
    return make_child(Ref(kind, inputs.namespace, name), stage, template, {**context, "object_name": name})


def _context(inputs: Inputs) -> dict[str, Any]:
    spec = inputs.memory.spec
    settings = settings_text(spec)
    secret, key = inputs.token_secret
    digests = {SETTINGS_HASH: _short(settings), TOKEN_DIGEST: inputs.token_digest or "absent"}
    if spec.mode is Mode.DISTRIBUTED:
        digests[CREDENTIALS_DIGEST] = inputs.credentials_digest or "absent"
    return {
        "name": inputs.name,
        "namespace": inputs.namespace,
        "labels": instance_labels(inputs.name),
        "owner": _owner(inputs),
        "keeps_volume": spec.deletion_policy.value == "Retain",
        "embedded": spec.mode is Mode.EMBEDDED,
        "settings": settings,
        "image": resolve(spec, inputs.defaults),
        "token_secret": secret,
        "token_key": key,
        "digests": digests,
        "once": False,
        "environment": environment,
        **_certificates(connections(spec)),
        # A mount within a mount that is read-only cannot be made: certificates lie beside the settings.
        "config_dir": "/etc/soma" if spec.mode is Mode.EMBEDDED else "/etc/soma/config",
        "claim": inputs.claim,
        "persistence": spec.persistence.to_manifest(),
        "pod_template": spec.pod_template.to_manifest(),
        "ports": {"http": HTTP_PORT, "grpc": GRPC_PORT},
        "data_dir": DATA_DIR,
        "progress_deadline": inputs.defaults.progress_deadline_seconds,
        "selector": selector(inputs.name, Component.API),
    }


def _short(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _owner(inputs: Inputs) -> dict[str, Any]:
    # blockOwnerDeletion would need rights on the owner's finalizers and could only ever make a deletion hang.
    return {
        "apiVersion": f"{GROUP}/{SOMA_MEMORY.version}",
        "kind": SOMA_MEMORY.name,
        "name": inputs.name,
        "uid": inputs.memory.metadata.uid,
        "controller": True,
        "blockOwnerDeletion": False,
    }


def _port(name: str, number: int) -> dict[str, Any]:
    return {"port_name": name, "port": number}


def _scheduling(workload: Workload) -> tuple[dict[str, Any], Sequence[Mapping[str, Any]]]:
    """Where pods may run, and how they are spread."""
    scheduling = workload.scheduling.to_manifest()
    spread: Sequence[Mapping[str, Any]] = scheduling.pop("topologySpread", ())
    return scheduling, spread


def _pod(role: Role, spec: SomaMemorySpec) -> dict[str, Any]:
    workload = role.workload
    scheduling, spread = _scheduling(workload)
    if not spread and role.replicas != 1:
        spread = [{"maxSkew": 1, "topologyKey": "kubernetes.io/hostname", "whenUnsatisfiable": "ScheduleAnyway"}]
    keeps_snapshots = spec.mode is Mode.DISTRIBUTED and role.component is Component.API
    return {
        "args": ["serve"] if role.component is Component.API else ["consume"],
        "resources": resources(workload.resources, snapshots=keeps_snapshots),
        "scheduling": scheduling,
        "topology_spread": list(spread),
        "grace_period": spec.pod_template.termination_grace_period_seconds,
    }
