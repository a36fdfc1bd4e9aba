"""Facts about one object: what planning and status need to know of it, in a few hundred bytes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Any

from soma_operator.catalog.kinds import AUTOSCALER, DEPLOYMENT, GROUP, JOB, SECRET, SOMA_MEMORY, VOLUME_CLAIM, Kind, Ref
from soma_operator.catalog.names import (
    ADOPT,
    DESIRED_HASH,
    FIELD_MANAGER,
    MANAGED_BY_LABEL,
    MEMORY_LABEL,
    TEMPLATE_HASH,
)
from soma_operator.ownership.entries import data_digest, data_keys, own_digest


@dataclass(frozen=True, slots=True)
class Rollout:
    """How far a Deployment is. Counts are of pods."""

    generation: int
    observed_generation: int
    wanted: int
    total: int
    updated: int
    ready: int
    available: int
    deadline_exceeded: bool

    @property
    def complete(self) -> bool:
        """Everything that serves is of the newest template, and enough of it."""
        seen = self.observed_generation >= self.generation
        return seen and self.updated >= self.wanted and self.total == self.updated and self.available >= self.wanted


@dataclass(frozen=True, slots=True)
class Volume:
    """A PersistentVolumeClaim's life: Pending, Bound or Lost."""

    phase: str


@dataclass(frozen=True, slots=True)
class SecretData:
    """What is known of a Secret's values without reading them: names of its keys (None: not told), and a digest of
    who wrote when."""

    keys: frozenset[str] | None
    digest: str

    def lacks(self, key: str) -> bool:
        """Whether it is known not to have `key`."""
        return self.keys is not None and key not in self.keys


@dataclass(frozen=True, slots=True)
class Scaling:
    """A HorizontalPodAutoscaler's own conditions. `limited`: it wants more pods than it may have."""

    active: bool
    limited: bool


class JobState(StrEnum):
    RUNNING = "Running"
    COMPLETE = "Complete"
    FAILED = "Failed"
    """Out of retries: a Job never leaves this state."""


@dataclass(frozen=True, slots=True)
class Run:
    """How far a Job is."""

    state: JobState


Content = Rollout | Volume | SecretData | Scaling | Run | None


@dataclass(frozen=True, slots=True)
class Facts:
    """One existing object."""

    ref: Ref
    uid: str
    resource_version: int
    deleting: bool
    memory: str | None
    """Name of the SomaMemory that it is labelled with."""
    managed: bool
    """Labelled as managed by us."""
    owner: tuple[str, str, str] | None
    """Its controller: kind, name, uid."""
    adopt: str | None
    """Name of the SomaMemory that may take it over."""
    desired_hash: str | None
    template_hash: str | None
    digest: str | None
    """Digest of our managedFields entry; None: we never applied it."""
    content: Content = None

    def tells_nothing_beyond(self, before: Facts) -> bool:
        """Whether only the version is another: somebody wrote what is none of our business, such as an annotation."""
        return replace(self, resource_version=before.resource_version) == before

    def belongs_to(self, name: str, uid: str) -> bool:
        """Whether it is a child of that SomaMemory: of this one by uid, or of a former one of the same name (clone,
        restore, retained)."""
        if self.owner is not None:
            kind, owner, owner_uid = self.owner
            return kind == SOMA_MEMORY.name and (owner_uid == uid or owner == name)
        return (self.managed and self.memory == name) or self.digest is not None


def facts_of(kind: Kind, body: Mapping[str, Any]) -> Facts:
    """Read the facts from an object or its metadata."""
    meta: Mapping[str, Any] = body.get("metadata") or {}
    labels: Mapping[str, str] = meta.get("labels") or {}
    annotations: Mapping[str, str] = meta.get("annotations") or {}
    return Facts(
        ref=Ref(kind, str(meta.get("namespace", "")), str(meta.get("name", ""))),
        uid=str(meta.get("uid", "")),
        resource_version=int(meta.get("resourceVersion") or 0),
        deleting=meta.get("deletionTimestamp") is not None,
        memory=labels.get(MEMORY_LABEL),
        managed=labels.get(MANAGED_BY_LABEL) == FIELD_MANAGER,
        owner=_controller(meta),
        adopt=annotations.get(ADOPT),
        desired_hash=annotations.get(DESIRED_HASH),
        template_hash=annotations.get(TEMPLATE_HASH),
        digest=own_digest(meta),
        content=_content(kind, body, meta),
    )


def _controller(meta: Mapping[str, Any]) -> tuple[str, str, str] | None:
    for owner in meta.get("ownerReferences") or ():
        if owner.get("controller"):
            group = str(owner.get("apiVersion", "")).partition("/")[0]
            kind = str(owner.get("kind", ""))
            # A SomaMemory of another group is a stranger.
            return (
                kind if group == GROUP else f"{kind}.{group}",
                str(owner.get("name", "")),
                str(owner.get("uid", "")),
            )
    return None


def _content(kind: Kind, body: Mapping[str, Any], meta: Mapping[str, Any]) -> Content:
    if kind is DEPLOYMENT:
        return _rollout(body, meta)
    if kind is VOLUME_CLAIM:
        return Volume(str((body.get("status") or {}).get("phase", "Pending")))
    if kind is SECRET:
        return SecretData(data_keys(meta), data_digest(meta))
    if kind is AUTOSCALER:
        return _scaling(body)
    if kind is JOB:
        return Run(_job_state(body.get("status") or {}))
    return None


def _job_state(status: Mapping[str, Any]) -> JobState:
    for kind, state in (("Complete", JobState.COMPLETE), ("Failed", JobState.FAILED)):
        if _condition(status, kind).get("status") == "True":
            return state
    return JobState.RUNNING


def _rollout(body: Mapping[str, Any], meta: Mapping[str, Any]) -> Rollout:
    status: Mapping[str, Any] = body.get("status") or {}
    wanted = (body.get("spec") or {}).get("replicas")
    progressing = _condition(status, "Progressing")
    return Rollout(
        generation=int(meta.get("generation") or 0),
        observed_generation=int(status.get("observedGeneration") or 0),
        wanted=1 if wanted is None else int(wanted),
        total=int(status.get("replicas") or 0),
        updated=int(status.get("updatedReplicas") or 0),
        ready=int(status.get("readyReplicas") or 0),
        available=int(status.get("availableReplicas") or 0),
        deadline_exceeded=progressing.get("reason") == "ProgressDeadlineExceeded",
    )


def _scaling(body: Mapping[str, Any]) -> Scaling:
    status: Mapping[str, Any] = body.get("status") or {}
    limited = _condition(status, "ScalingLimited")
    return Scaling(
        active=_condition(status, "ScalingActive").get("status") == "True",
        # Being held at the lower bound is called limited too, and is what a quiet service looks like.
        limited=limited.get("status") == "True" and limited.get("reason") == "TooManyReplicas",
    )


def _condition(status: Mapping[str, Any], kind: str) -> Mapping[str, Any]:
    found = (c for c in status.get("conditions") or () if c.get("type") == kind)
    return next(found, {})
