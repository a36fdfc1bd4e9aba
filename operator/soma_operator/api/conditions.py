"""Condition types and reasons: closed enums, so that alerts, tests and GitOps tools can rely on them.

Messages stand beside them in the operator's engine: deterministic, at most 256 characters, without times, pod names,
counts or secret values.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

from pydantic import Field, StringConstraints

from soma_operator.api.base import StatusModel
from soma_operator.api.values import Timestamp


class ConditionStatus(StrEnum):
    TRUE = "True"
    FALSE = "False"
    UNKNOWN = "Unknown"


class MemoryConditionType(StrEnum):
    """Conditions of a SomaMemory. RECONCILING and STALLED are removed when false (kstatus); all others stay."""

    READY = "Ready"
    AVAILABLE = "Available"
    RECONCILING = "Reconciling"
    STALLED = "Stalled"
    SYNCED = "Synced"
    INITIALIZED = "Initialized"
    DATABASE_READY = "DatabaseReady"
    VECTOR_STORE_READY = "VectorStoreReady"
    CACHE_READY = "CacheReady"
    KAFKA_READY = "KafkaReady"
    TOPICS_READY = "TopicsReady"
    SECRETS_READY = "SecretsReady"
    MIGRATED = "Migrated"
    RUNTIME_READY = "RuntimeReady"
    CONSUMER_READY = "ConsumerReady"
    AUTOSCALING_ACTIVE = "AutoscalingActive"
    NETWORK_RESTRICTED = "NetworkRestricted"
    MONITORING_READY = "MonitoringReady"
    BACKED_UP = "BackedUp"
    SUSPENDED = "Suspended"


class BackupConditionType(StrEnum):
    """Conditions of a SomaMemoryBackup; RECONCILING and STALLED are removed when false."""

    READY = "Ready"
    RECONCILING = "Reconciling"
    STALLED = "Stalled"
    SCHEDULED = "Scheduled"
    LAST_BACKUP_SUCCEEDED = "LastBackupSucceeded"
    FRESH = "Fresh"
    LAST_DRILL_SUCCEEDED = "LastDrillSucceeded"
    RESTORE_IN_PROGRESS = "RestoreInProgress"
    RESTORE_SUCCEEDED = "RestoreSucceeded"
    SUSPENDED = "Suspended"


class Reason(StrEnum):
    """Why a condition has its status."""

    # Of any condition
    DISABLED = "Disabled"
    NOT_IMPLEMENTED = "NotImplemented"
    CRD_NOT_INSTALLED = "CRDNotInstalled"
    FORBIDDEN = "Forbidden"
    UNKNOWN = "Unknown"
    # Ready, Available, Reconciling, Initialized
    SERVING = "Serving"
    NOT_SERVING = "NotServing"
    PROGRESSING = "Progressing"
    ROLLING_OUT = "RollingOut"
    DEGRADED = "Degraded"
    WAITING_FOR_DEPENDENCY = "WaitingForDependency"
    WAITING_FOR_SLOT = "WaitingForSlot"
    INITIALIZED = "Initialized"
    NEVER_SERVED = "NeverServed"
    TERMINATING = "Terminating"
    NAMESPACE_TERMINATING = "NamespaceTerminating"
    # Stalled: nothing happens until somebody acts
    INVALID_SPEC = "InvalidSpec"
    IMMUTABLE_CONFLICT = "ImmutableConflict"
    RESOURCE_CONFLICT = "ResourceConflict"
    DATA_LOST = "DataLost"
    REFUSED = "Refused"
    NOT_ALLOWED = "NotAllowed"
    # Synced
    ALL_APPLIED = "AllApplied"
    APPLY_FAILED = "ApplyFailed"
    DRIFT_DETECTED = "DriftDetected"
    DRIFT_BACKING_OFF = "DriftBackingOff"
    QUOTA_EXCEEDED = "QuotaExceeded"
    ADMISSION_DENIED = "AdmissionDenied"
    API_UNAVAILABLE = "APIUnavailable"
    SERVER_ERROR = "ServerError"
    # Dependencies
    REACHABLE = "Reachable"
    UNREACHABLE = "Unreachable"
    AUTHENTICATION_FAILED = "AuthenticationFailed"
    TLS_FAILED = "TLSFailed"
    NOT_CONFIGURED = "NotConfigured"
    EMBEDDED = "Embedded"
    # Secrets
    SECRET_GENERATED = "SecretGenerated"  # noqa: S105 a reason, not a password
    SECRET_REFERENCED = "SecretReferenced"  # noqa: S105
    SECRET_NOT_FOUND = "SecretNotFound"  # noqa: S105
    SECRET_KEY_MISSING = "SecretKeyMissing"  # noqa: S105
    # Pods and volumes
    ROLLOUT_COMPLETE = "RolloutComplete"
    PROGRESS_DEADLINE_EXCEEDED = "ProgressDeadlineExceeded"
    IMAGE_PULL_FAILED = "ImagePullFailed"
    PODS_CRASHING = "PodsCrashing"
    PODS_UNSCHEDULABLE = "PodsUnschedulable"
    PODS_NOT_READY = "PodsNotReady"
    VOLUME_PENDING = "VolumePending"
    # Migrations
    MIGRATED = "Migrated"
    MIGRATION_RUNNING = "MigrationRunning"
    MIGRATION_FAILED = "MigrationFailed"
    MIGRATED_AT_START = "MigratedAtStart"
    # Topics
    TOPICS_CREATED = "TopicsCreated"
    TOPICS_EXTERNAL = "TopicsExternal"
    TOPICS_PENDING = "TopicsPending"
    NOT_SUPPORTED = "NotSupported"
    # Autoscaling, network, monitoring
    SCALING_ACTIVE = "ScalingActive"
    SCALING_LIMITED = "ScalingLimited"
    METRICS_UNAVAILABLE = "MetricsUnavailable"
    POLICIES_APPLIED = "PoliciesApplied"
    POLICIES_PENDING = "PoliciesPending"
    MONITORING_APPLIED = "MonitoringApplied"
    MONITORING_PENDING = "MonitoringPending"
    # Suspended
    SUSPENDED = "Suspended"
    NOT_SUSPENDED = "NotSuspended"
    # Backup, drill and restore
    NO_BACKUP = "NoBackup"
    BACKED_UP = "BackedUp"
    SCHEDULED = "Scheduled"
    ONE_OFF = "OneOff"
    NEVER_RUN = "NeverRun"
    BACKUP_RUNNING = "BackupRunning"
    BACKUP_SUCCEEDED = "BackupSucceeded"
    BACKUP_FAILED = "BackupFailed"
    WITHIN_RPO = "WithinRPO"
    RPO_EXCEEDED = "RPOExceeded"
    DRILL_SUCCEEDED = "DrillSucceeded"
    DRILL_FAILED = "DrillFailed"
    RESTORE_RUNNING = "RestoreRunning"
    RESTORE_SUCCEEDED = "RestoreSucceeded"
    RESTORE_FAILED = "RestoreFailed"
    NO_RESTORE = "NoRestore"
    MEMORY_NOT_FOUND = "MemoryNotFound"


class Condition(StatusModel):
    """One observation, as `metav1.Condition` writes it. `type` stays a string: another version may publish others."""

    type: Annotated[str, StringConstraints(min_length=1, max_length=63)]
    """What is observed, such as Ready or Synced. One entry a type."""

    status: ConditionStatus
    """Whether the condition holds: True, False or Unknown."""

    reason: Annotated[str, StringConstraints(min_length=1, max_length=63)]
    """Why, as one word from a closed list: safe to alert on."""

    message: Annotated[str, StringConstraints(max_length=256)] = ""
    """The same for people: names the field or object concerned and the remedy. No secret values."""

    observed_generation: Annotated[int, Field(ge=0)] | None = None
    """metadata.generation this was computed from; older than the resource's means out of date."""

    last_transition_time: Timestamp
    """When `status` last changed, RFC 3339 in UTC."""
