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

    http: Text | None = Field(default=None, description="URL of the HTTP API.")
    grpc: Text | None = Field(default=None, description="host:port of the gRPC API.")
    token_secret: Text | None = Field(
        default=None, description="Secret and key of the bearer token, as name/key. Never its value."
    )


class VersionStatus(StatusModel):
    """Desired and current version of the runtime."""

    desired: Text | None = Field(default=None, description="Version that is rolled out.")
    current: Text | None = Field(
        default=None, description="Version that serves; differs from desired during an upgrade."
    )


class ObjectCounts(StatusModel):
    """Child objects of this resource."""

    desired: Count = Field(default=0, description="Objects that should exist.")
    ready: Count = Field(default=0, description="Objects that exist, are as they should be and are healthy.")


class DriftAction(StrEnum):
    CORRECTED = "Corrected"
    REPORTED = "Reported"
    IGNORED = "Ignored"
    BACKING_OFF = "BackingOff"


class DriftItem(StatusModel):
    """One field that somebody else changed. Its values are never reported."""

    object: Text = Field(description="Child object, as Kind/name.")
    path: Annotated[str, Field(max_length=512)] = Field(description="Field that was changed, such as .spec.replicas.")
    manager: Text | None = Field(default=None, description="Field manager that changed it, such as kubectl-edit.")
    time: Timestamp | None = Field(default=None, description="When it was changed, according to managedFields.")
    action: DriftAction = Field(description="What was done about it.")


class Drift(StatusModel):
    """Edits of child objects by others."""

    count: Count = Field(
        default=0, description="Edits found since the operator first saw the resource's present generation."
    )
    items: Annotated[tuple[DriftItem, ...], Field(max_length=10)] = Field(
        default=(), description="The latest of them, at most ten."
    )


class HistoryEntry(StatusModel):
    """One generation that was rolled out."""

    generation: Count = Field(description="metadata.generation of the spec.")
    version: Text | None = Field(default=None, description="Version of the runtime.")
    hash: Text | None = Field(default=None, description="Hash of the desired objects.")
    started_at: Timestamp | None = Field(default=None, description="When its rollout began.")
    completed_at: Timestamp | None = Field(default=None, description="When it served; absent if it never did.")
    outcome: Text | None = Field(default=None, description="Reason of the Ready condition in the end.")


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

    name: PreflightPoint = Field(description="Point of the checklist.")
    status: PreflightStatus = Field(
        description="Passed, Failed, NotApplicable (this mode has no use for it) or Unknown."
    )
    evidence: Text = Field(description="What was looked at, and what it said; with the remedy when it failed.")


class SomaMemoryStatus(StatusModel):
    """What was found. Written by the operator only, through the status subresource, and only when it changes."""

    observed_generation: Count | None = Field(
        default=None,
        description="metadata.generation that this status was computed from; older than the resource's means out of date.",
    )
    conditions: Conditions = Field(
        default=(), description="Observations, one a type. Ready: the current generation serves."
    )
    mode: Text | None = Field(default=None, description="Mode, with its default resolved.")
    endpoints: ServiceEndpoints | None = Field(default=None, description="Addresses within the cluster.")
    version: VersionStatus | None = Field(default=None, description="Desired and current version of the runtime.")
    image: Annotated[str, Field(max_length=512)] | None = Field(
        default=None, description="Image that is rolled out, resolved."
    )
    image_digest: Text | None = Field(
        default=None, description="Digest of the image that runs, as the node reports it."
    )
    settings_hash: Text | None = Field(
        default=None, description="Hash of the resolved settings; a new one rolls the pods."
    )
    replicas: Count | None = Field(
        default=None, description="Pods of the API that exist; read by the scale subresource."
    )
    ready_replicas: Count | None = Field(default=None, description="Pods of the API that are ready.")
    selector: Annotated[str, Field(max_length=512)] | None = Field(
        default=None, description="Label selector of the API's pods, for the scale subresource and autoscalers."
    )
    objects: ObjectCounts | None = Field(default=None, description="Child objects, desired and ready.")
    drift: Drift | None = Field(default=None, description="Edits of child objects by others.")
    preflight: Annotated[
        tuple[PreflightCheck, ...], Field(max_length=10, json_schema_extra={"x-kubernetes-list-map-keys": ["name"]})
    ] = Field(default=(), description="The ten points of the production preflight checklist, each with evidence.")
    last_handled_reconcile_at: Text | None = Field(
        default=None,
        description="Value of the annotation memory.somatech.dev/reconcile-at that was last acted upon: set it to ask for a reconcile now.",
    )
    history: Annotated[tuple[HistoryEntry, ...], Field(max_length=5)] = Field(
        default=(), description="The latest generations that were rolled out, newest first, at most five."
    )
