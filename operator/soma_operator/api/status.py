"""SomaMemory's status: what was resolved, what runs, and what was found."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

from pydantic import Field

from soma_operator.api.base import StatusModel
from soma_operator.api.conditions import Condition
from soma_operator.api.values import Timestamp

Text = Annotated[str, Field(max_length=256)]
Count = Annotated[int, Field(ge=0)]
Conditions = Annotated[
    tuple[Condition, ...], Field(max_length=32, json_schema_extra={"x-kubernetes-list-map-keys": ["type"]})
]


class ServiceEndpoints(StatusModel):
    """Addresses within the cluster."""

    http: Text | None = None
    """URL of the HTTP API."""

    grpc: Text | None = None
    """host:port of the gRPC API."""

    token_secret: Text | None = None
    """Secret and key of the bearer token, as name/key. Never its value."""


class VersionStatus(StatusModel):
    """Desired and current version of the runtime."""

    desired: Text | None = None
    """Version that is rolled out."""

    current: Text | None = None
    """Version that serves; differs from desired during an upgrade."""


class VolumeStatus(StatusModel):
    """The volume that holds the memories. Recorded before anything is stored in it, so that its loss is noticed."""

    claim: Text
    """Name of the PersistentVolumeClaim."""

    uid: Text
    """Its uid. To begin anew after a loss, put it into the annotation memory.somatech.dev/accept-data-loss."""


class ObjectCounts(StatusModel):
    """Child objects of this resource."""

    desired: Count = 0
    """Objects that should exist."""

    ready: Count = 0
    """Objects that exist, are as they should be and are healthy."""


class DriftAction(StrEnum):
    CORRECTED = "Corrected"
    REPORTED = "Reported"
    IGNORED = "Ignored"
    BACKING_OFF = "BackingOff"


class DriftItem(StatusModel):
    """One field that somebody else changed. Its values are never reported."""

    object: Text
    """Child object, as Kind/name."""

    path: Annotated[str, Field(max_length=512)]
    """Field that was changed, such as .spec.replicas."""

    manager: Text | None = None
    """Field manager that changed it, such as kubectl-edit."""

    time: Timestamp | None = None
    """When it was changed, according to managedFields."""

    action: DriftAction
    """What was done about it."""

    acted_at: Timestamp | None = None
    """When that was done."""


class Drift(StatusModel):
    """Edits of child objects by others."""

    count: Count = 0
    """Edits that stand: reported, or no longer corrected because their author fights back."""

    items: Annotated[tuple[DriftItem, ...], Field(max_length=10)] = ()
    """Those that stand, then those corrected within the last day; at most ten."""


class HistoryEntry(StatusModel):
    """One generation that was rolled out."""

    generation: Count
    """metadata.generation of the spec."""

    version: Text | None = None
    """Version of the runtime."""

    hash: Text | None = None
    """Hash of the desired objects."""

    started_at: Timestamp | None = None
    """When its rollout began."""

    completed_at: Timestamp | None = None
    """When it served; absent if it never did."""

    outcome: Text | None = None
    """Reason of the Ready condition in the end."""


class PreflightPoint(StrEnum):
    """The production preflight checklist, in its order."""

    SECRETS_PRESENT = "SecretsPresent"
    TLS_ASSETS_MOUNTED = "TLSAssetsMounted"
    PERSISTENCE_ENABLED = "PersistenceEnabled"
    MIGRATIONS = "Migrations"
    KAFKA_READINESS = "KafkaReadiness"
    OBSERVABILITY = "Observability"
    ACCESS_CONTROLS = "AccessControls"
    BACKUPS_RUNNING = "BackupsRunning"
    RESTART_ON_ROTATION = "RestartOnRotation"
    DISASTER_RECOVERY_DRILL = "DisasterRecoveryDrill"


class PreflightStatus(StrEnum):
    PASSED = "Passed"
    FAILED = "Failed"
    NOT_APPLICABLE = "NotApplicable"
    UNKNOWN = "Unknown"


class PreflightCheck(StatusModel):
    """One point of the production preflight checklist."""

    name: PreflightPoint
    """Point of the checklist."""

    status: PreflightStatus
    """Passed, Failed, NotApplicable (this mode has no use for it) or Unknown."""

    evidence: Text
    """What was looked at, and what it said; with the remedy when it failed."""


class SomaMemoryStatus(StatusModel):
    """What was found. Written by the operator only, through the status subresource, and only when it changes."""

    observed_generation: Count | None = None
    """metadata.generation that this status was computed from; older than the resource's means out of date."""

    conditions: Conditions = ()
    """Observations, one a type. Ready: the current generation serves."""

    mode: Text | None = None
    """Mode, with its default resolved."""

    endpoints: ServiceEndpoints | None = None
    """Addresses within the cluster."""

    version: VersionStatus | None = None
    """Desired and current version of the runtime."""

    image: Annotated[str, Field(max_length=512)] | None = None
    """Image that is rolled out, resolved."""

    image_digest: Text | None = None
    """Digest of the image that runs, as the node reports it."""

    volume: VolumeStatus | None = None
    """The volume that holds the memories, in embedded mode."""

    settings_hash: Text | None = None
    """Hash of the resolved settings; a new one rolls the pods."""

    replicas: Count | None = None
    """Pods of the API that exist; read by the scale subresource."""

    ready_replicas: Count | None = None
    """Pods of the API that are ready."""

    selector: Annotated[str, Field(max_length=512)] | None = None
    """Label selector of the API's pods, for the scale subresource and autoscalers."""

    objects: ObjectCounts | None = None
    """Child objects, desired and ready."""

    drift: Drift | None = None
    """Edits of child objects by others."""

    preflight: Annotated[
        tuple[PreflightCheck, ...], Field(max_length=10, json_schema_extra={"x-kubernetes-list-map-keys": ["name"]})
    ] = ()
    """The ten points of the production preflight checklist, each with evidence."""

    last_handled_reconcile_at: Text | None = None
    """Value of the annotation memory.somatech.dev/reconcile-at that was last acted upon: set it to ask for a reconcile
    now."""

    history: Annotated[tuple[HistoryEntry, ...], Field(max_length=5)] = ()
    """The latest generations that were rolled out, newest first, at most five."""
