"""The two resources as the operator handles them: what it needs of the metadata, the spec, the status."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, Self, TypeVar

from pydantic import BaseModel, ValidationError

from soma_operator.api.backup import SomaMemoryBackupSpec, SomaMemoryBackupStatus
from soma_operator.api.errors import Problem, SpecError
from soma_operator.api.spec import SomaMemorySpec
from soma_operator.api.status import SomaMemoryStatus

GROUP = "memory.somatech.dev"
VERSION = "v1alpha1"
API_VERSION = f"{GROUP}/{VERSION}"
# The longest names made from it are those of CronJobs (at most 52 characters: `<name>-backup`), of hashed Jobs
# (63: `<name>-migrate-<10 hex>`) and the values of labels (63).
NAME_LIMIT = 40
NAME_PATTERN = r"^[a-z]([-a-z0-9]*[a-z0-9])?$"
NAME_MESSAGE = (
    f"must have at most {NAME_LIMIT} characters, begin with a lower-case letter, "
    "and hold only lower-case letters, digits and dashes"
)

Model = TypeVar("Model", bound=BaseModel)


@dataclass(frozen=True, slots=True)
class ObjectMeta:
    """What is used of metadata. `generation` counts changes of the spec; `deletion_timestamp` is RFC 3339 or None."""

    name: str
    namespace: str
    uid: str = ""
    generation: int = 0
    resource_version: str = ""
    creation_timestamp: str | None = None
    deletion_timestamp: str | None = None
    finalizers: tuple[str, ...] = ()
    labels: Mapping[str, str] = field(default_factory=dict)
    annotations: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def of(cls, body: Mapping[str, Any]) -> Self:
        """Read `body["metadata"]`; absent parts get their empty value."""
        meta = body.get("metadata") or {}
        return cls(
            name=str(meta.get("name", "")),
            namespace=str(meta.get("namespace", "")),
            uid=str(meta.get("uid", "")),
            generation=int(meta.get("generation") or 0),
            resource_version=str(meta.get("resourceVersion", "")),
            creation_timestamp=meta.get("creationTimestamp"),
            deletion_timestamp=meta.get("deletionTimestamp"),
            finalizers=tuple(meta.get("finalizers") or ()),
            labels=dict(meta.get("labels") or {}),
            annotations=dict(meta.get("annotations") or {}),
        )


@dataclass(frozen=True, slots=True)
class SomaMemory:
    """A SomaMemory with its defaults resolved."""

    kind: ClassVar[str] = "SomaMemory"
    plural: ClassVar[str] = "somamemories"
    metadata: ObjectMeta
    spec: SomaMemorySpec
    status: SomaMemoryStatus

    @classmethod
    def parse(cls, body: Mapping[str, Any]) -> Self:
        """Parse an object as the API server returns it.

        Raises SpecError, naming the fields, for a spec that schema and CEL would refuse today (one stored before a
        rule existed).
        """
        metadata = ObjectMeta.of(body)
        return cls(metadata, _spec(SomaMemorySpec, metadata, body), parse_status(SomaMemoryStatus, body))


@dataclass(frozen=True, slots=True)
class SomaMemoryBackup:
    """A SomaMemoryBackup with its defaults resolved."""

    kind: ClassVar[str] = "SomaMemoryBackup"
    plural: ClassVar[str] = "somamemorybackups"
    metadata: ObjectMeta
    spec: SomaMemoryBackupSpec
    status: SomaMemoryBackupStatus

    @classmethod
    def parse(cls, body: Mapping[str, Any]) -> Self:
        """Parse an object as the API server returns it; raises SpecError as SomaMemory.parse does."""
        metadata = ObjectMeta.of(body)
        return cls(metadata, _spec(SomaMemoryBackupSpec, metadata, body), parse_status(SomaMemoryBackupStatus, body))


def _spec(model: type[Model], metadata: ObjectMeta, body: Mapping[str, Any]) -> Model:
    if len(metadata.name) > NAME_LIMIT or not re.fullmatch(NAME_PATTERN, metadata.name):
        raise SpecError([Problem("metadata.name", NAME_MESSAGE, "create it again under such a name")])
    try:
        return model.model_validate(body.get("spec") or {}, by_alias=True, by_name=False)
    except ValidationError as error:
        raise SpecError.from_validation(error, "spec") from error


NAME_MESSAGE = (
    f"must begin with a lower-case letter and have at most {NAME_LIMIT} lower-case letters, digits and dashes"
)


def parse_status(model: type[Model], body: Mapping[str, Any]) -> Model:
    """The status as it was last written; what cannot be understood is dropped, as it is computed anew anyway."""
    status = body.get("status") or {}
    try:
        return model.model_validate(status, by_alias=True, by_name=False)
    except ValidationError as error:
        broken = {entry["loc"][0] for entry in error.errors(include_url=False, include_input=False) if entry["loc"]}
        return model.model_validate({key: value for key, value in status.items() if key not in broken})
