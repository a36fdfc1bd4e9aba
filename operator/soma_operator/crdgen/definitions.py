"""The CustomResourceDefinitions of both resources."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel

from soma_operator.api.backup import SomaMemoryBackupSpec, SomaMemoryBackupStatus
from soma_operator.api.resources import GROUP, NAME_LIMIT, NAME_MESSAGE, NAME_PATTERN, VERSION
from soma_operator.api.spec import SomaMemorySpec
from soma_operator.api.status import SomaMemoryStatus
from soma_operator.crdgen.schema import Schema, structural_schema

Manifest = dict[str, Any]

MEMORY_ABOUT = (
    "A deployment of the memory service: what it runs as, how it ranks memories, where it keeps them, and who may call "
    "it. An empty spec is one embedded store."
)
BACKUP_ABOUT = (
    "What is backed up, when, where to, how long it is kept, and how often a restore is rehearsed. Without a schedule "
    "it is one snapshot, and cannot be changed."
)


def custom_resource_definitions() -> dict[str, Manifest]:
    """Every CustomResourceDefinition by the name of the file it is kept in."""
    return {"somamemories.yaml": _memory(), "somamemorybackups.yaml": _backup()}


def _memory() -> Manifest:
    names = {
        "kind": "SomaMemory",
        "listKind": "SomaMemoryList",
        "plural": "somamemories",
        "singular": "somamemory",
        "shortNames": ["smem"],
        "categories": ["soma"],
    }
    version = {
        "schema": {"openAPIV3Schema": _root(MEMORY_ABOUT, SomaMemorySpec, SomaMemoryStatus)},
        "subresources": {
            "status": {},
            "scale": {
                "specReplicasPath": ".spec.api.replicas",
                "statusReplicasPath": ".status.replicas",
                "labelSelectorPath": ".status.selector",
            },
        },
        "additionalPrinterColumns": [
            *_condition_columns(),
            _column("Version", ".status.version.current", "Version of the runtime that serves."),
            _column("Replicas", ".status.readyReplicas", "Pods that are ready.", kind="integer"),
            _column("Drift", ".status.drift.count", "Edits of child objects by others that stand.", kind="integer"),
            _column("Mode", ".status.mode", "Embedded or distributed.", priority=1),
            _column("Endpoint", ".status.endpoints.http", "URL of the HTTP API.", priority=1),
            _message_column(),
            _age_column(),
        ],
    }
    return _definition(names, version)


def _backup() -> Manifest:
    names = {
        "kind": "SomaMemoryBackup",
        "listKind": "SomaMemoryBackupList",
        "plural": "somamemorybackups",
        "singular": "somamemorybackup",
        "shortNames": ["smbak"],
        "categories": ["soma"],
    }
    fresh = '.status.conditions[?(@.type=="Fresh")].status'
    version = {
        "schema": {"openAPIV3Schema": _root(BACKUP_ABOUT, SomaMemoryBackupSpec, SomaMemoryBackupStatus)},
        "subresources": {"status": {}},
        "selectableFields": [{"jsonPath": ".spec.memoryRef.name"}],
        "additionalPrinterColumns": [
            *_condition_columns(),
            _column("Memory", ".spec.memoryRef.name", "The SomaMemory that is backed up."),
            _column("Schedule", ".spec.schedule", "When; empty for a single snapshot."),
            _column("Fresh", fresh, "Whether the newest snapshot is younger than the rpo."),
            _column("Last", ".status.lastSuccessfulBackup.completedAt", "Newest snapshot to restore.", kind="date"),
            _message_column(),
            _age_column(),
        ],
    }
    return _definition(names, version)


def _definition(names: Manifest, version: Manifest) -> Manifest:
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {
            "name": f"{names['plural']}.{GROUP}",
            "labels": {
                "app.kubernetes.io/name": "soma-memory-operator",
                "app.kubernetes.io/part-of": "soma-memory-operator",
            },
        },
        "spec": {
            "group": GROUP,
            "names": names,
            "scope": "Namespaced",
            "versions": [{"name": VERSION, "served": True, "storage": True, **version}],
        },
    }


def _root(about: str, spec: type[BaseModel], status: type[BaseModel]) -> Schema:
    text = {"type": "string"}
    return {
        "description": about,
        "type": "object",
        "properties": {
            "apiVersion": {**text, "description": f"{GROUP}/{VERSION}."},
            "kind": {**text, "description": "The kind of this resource."},
            "metadata": {"type": "object"},
            "spec": structural_schema(spec),
            "status": structural_schema(status),
        },
        "required": ["spec"],
        "x-kubernetes-validations": [
            {
                "rule": f"self.metadata.name.size() <= {NAME_LIMIT} && self.metadata.name.matches('{NAME_PATTERN}')",
                "message": f"metadata.name {NAME_MESSAGE}",
            }
        ],
    }


def _column(name: str, path: str, about: str, *, kind: str = "string", priority: int = 0) -> Manifest:
    column: Manifest = {"name": name, "type": kind, "jsonPath": path, "description": about}
    return {**column, "priority": priority} if priority else column


def _condition_columns() -> list[Manifest]:
    ready = '.status.conditions[?(@.type=="Ready")]'
    return [
        _column("Ready", f"{ready}.status", "Whether the current generation serves."),
        _column("Reason", f"{ready}.reason", "Why it is ready or not."),
    ]


def _message_column() -> Manifest:
    return _column("Message", '.status.conditions[?(@.type=="Ready")].message', "The reason, for people.", priority=1)


def _age_column() -> Manifest:
    return _column("Age", ".metadata.creationTimestamp", "When it was created.", kind="date")
