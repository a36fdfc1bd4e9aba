"""SomaMemory's spec: one deployment of the memory service, in either mode.

Defaults live in these models and never in the schema, so that the API server writes nothing into what the author wrote;
what was resolved shows in status.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

from pydantic import Field

from soma_operator.api.access import Access, RateLimits, Tenancy
from soma_operator.api.base import ApiModel, Rule
from soma_operator.api.endpoints import Endpoints, ExternalSecret
from soma_operator.api.events import Events, Topics
from soma_operator.api.image import Image, Version
from soma_operator.api.network import NetworkPolicy
from soma_operator.api.observability import Observability
from soma_operator.api.persistence import DEFAULT_SIZE, Bootstrap, DeletionPolicy, Encryption, Persistence, Retention
from soma_operator.api.scoring import Scoring
from soma_operator.api.workload import ApiWorkload, ConsumerWorkload, PodTemplate


class Mode(StrEnum):
    EMBEDDED = "embedded"
    DISTRIBUTED = "distributed"


class DriftPolicy(StrEnum):
    ENFORCE = "Enforce"
    WARN = "Warn"


class IgnoredPath(ApiModel):
    """Fields of one child object in which edits by others are left alone."""

    kind: Annotated[str, Field(pattern=r"^[A-Z][A-Za-z0-9]*$", max_length=63)]
    """Kind of the child, such as Deployment."""

    path: Annotated[str, Field(pattern=r"^(/[^/\s]+)+$", max_length=512)]
    """JSON pointer to the field, such as /spec/template/metadata/annotations; everything below it is left alone."""


_MODE = "(has(self.mode) ? self.mode : 'embedded')"
_EMBEDDED_ONE = (
    "embedded mode has one writer, so api.replicas must be 1: remove it, or create a SomaMemory in distributed mode"
)


def _unchanged(path: str) -> str:
    """CEL: the optional field at `path` is what it was, absence included.

    Comparing optionals (`self.?a.?b == oldSelf.?a.?b`) says the same, but the API server cannot bound its cost.
    """
    names = path.split(".")

    def present(root: str) -> str:
        return " && ".join(f"has({root}.{'.'.join(names[: depth + 1])})" for depth in range(len(names)))

    now, before = present("self"), present("oldSelf")
    return f"({now}) == ({before}) && (!({now}) || self.{path} == oldSelf.{path})"


def _size(root: str) -> str:
    """CEL: the volume's size, with its default."""
    volume = f"{root}.persistence"
    return f"(has({volume}) && has({volume}.size) ? {volume}.size : '{DEFAULT_SIZE}')"


class SomaMemorySpec(ApiModel):
    """What is wanted. All is optional: an empty spec is one embedded store, a volume of 10Gi and a generated token."""

    image: Image = Field(default_factory=Image)
    """The runtime's image. Left out: the one this operator's release was tested with."""

    version: Version | None = None
    """Version of the runtime, used as the image's tag unless that is set. Left out: the operator's own."""

    mode: Mode = Mode.EMBEDDED
    """embedded: one pod, SQLite ledger on a volume, nothing else needed. distributed: any number of pods on
    PostgreSQL. Immutable."""

    tenancy: Tenancy = Field(default_factory=Tenancy)
    """Names under which memories are kept when a caller gives none."""

    scoring: Scoring = Field(default_factory=Scoring)
    """How memories are ranked, and what turns text into vectors."""

    api: ApiWorkload = Field(default_factory=ApiWorkload)
    """The pods that serve HTTP and gRPC."""

    consumer: ConsumerWorkload = Field(default_factory=ConsumerWorkload)
    """The pods that take events from Kafka; only in distributed mode."""

    persistence: Persistence = Field(default_factory=Persistence)
    """The volume of embedded mode."""

    endpoints: Endpoints = Field(default_factory=Endpoints)
    """Back ends of distributed mode."""

    external_secret: ExternalSecret | None = None
    """Not built yet: SecretsReady says NotImplemented. Fill the referenced Secrets from a store such as Vault by
    external-secrets. Left out: you make them."""

    events: Events = Field(default_factory=Events)
    """Events to and from Kafka; not built yet for embedded mode."""

    topics: Topics = Field(default_factory=Topics)
    """Who makes the topics, and how. Not built yet but for mode External: you make them."""

    access: Access = Field(default_factory=Access)
    """Who may call the service. Left out: holders of a generated token."""

    rate_limits: RateLimits = Field(default_factory=RateLimits)
    """How often one caller may ask."""

    network_policy: NetworkPolicy = Field(default_factory=NetworkPolicy)
    """From where the pods can be reached, and what they may reach."""

    observability: Observability = Field(default_factory=Observability)
    """Logs, metrics and traces."""

    retention: Retention = Field(default_factory=Retention)
    """Bounds on what is kept. Left out: everything is kept."""

    encryption: Encryption | None = None
    """Not built yet: answered by Stalled/NotImplemented. Encryption of stored payloads. Left out: what the volume
    does."""

    bootstrap: Bootstrap | None = None
    """Not built yet: answered by Stalled/NotImplemented. Begin with the content of a backup. Left out: begin empty."""

    pod_template: PodTemplate = Field(default_factory=PodTemplate)
    """What is added to every pod of the runtime."""

    deletion_policy: DeletionPolicy = DeletionPolicy.RETAIN
    """What becomes of the memories when this resource is deleted. Retain keeps the volume, and a new SomaMemory of the
    same name takes it over; Delete removes it for good. PostgreSQL, Qdrant and topics are yours: neither touches them.
    """

    drift_policy: DriftPolicy = DriftPolicy.ENFORCE
    """What happens when somebody edits a child object: Enforce puts it back and reports who did it, Warn only reports
    it."""

    ignore_paths: Annotated[tuple[IgnoredPath, ...], Field(max_length=32)] = ()
    """Fields of children that others may edit without it being reported or corrected."""

    suspend: bool = False
    """Whether the operator leaves everything as it is: nothing is created, changed or corrected, what runs keeps
    running."""

    rules = (
        Rule(
            f"{_MODE} == 'distributed' || !has(self.api) || !has(self.api.replicas) || self.api.replicas == 1",
            _EMBEDDED_ONE,
            ".api.replicas",
            lambda spec: spec.mode == Mode.DISTRIBUTED or spec.api.replicas in (None, 1),
        ),
        Rule(
            f"{_MODE} == 'distributed' || !has(self.api) || !has(self.api.autoscaling)",
            "embedded mode has one writer: remove api.autoscaling, or create a SomaMemory in distributed mode",
            ".api.autoscaling",
            lambda spec: spec.mode == Mode.DISTRIBUTED or spec.api.autoscaling is None,
        ),
        Rule(
            f"{_MODE} == 'embedded' || (has(self.endpoints) && has(self.endpoints.postgresql))",
            "distributed mode keeps its ledger in PostgreSQL: set endpoints.postgresql",
            ".endpoints.postgresql",
            lambda spec: spec.mode == Mode.EMBEDDED or spec.endpoints.postgresql is not None,
        ),
        Rule(
            f"{_MODE} == 'embedded' || !has(self.persistence)",
            "persistence is the volume of embedded mode, distributed mode has none: remove persistence",
            ".persistence",
            lambda spec: spec.mode == Mode.EMBEDDED or "persistence" not in spec.model_fields_set,
        ),
        Rule(
            f"{_MODE} == 'distributed' || !has(self.consumer)",
            "consumer pods exist only in distributed mode: remove consumer",
            ".consumer",
            lambda spec: spec.mode == Mode.DISTRIBUTED or "consumer" not in spec.model_fields_set,
        ),
        Rule(
            "!self.?events.?enabled.orValue(false) || self.?endpoints.?kafka.hasValue()",
            "events go to Kafka: set endpoints.kafka, or events.enabled to false",
            ".endpoints.kafka",
            lambda spec: not spec.events.enabled or spec.endpoints.kafka is not None,
        ),
        Rule(
            f"{_MODE} == (has(oldSelf.mode) ? oldSelf.mode : 'embedded')",
            "mode is immutable: create another SomaMemory in the other mode and import into it",
            ".mode",
        ),
        Rule(
            _unchanged("persistence.storageClassName"),
            "persistence.storageClassName is immutable: create another SomaMemory with it and import into that",
            ".persistence.storageClassName",
        ),
        Rule(
            _unchanged("persistence.accessModes"),
            "persistence.accessModes is immutable: create another SomaMemory with them and import into that",
            ".persistence.accessModes",
        ),
        Rule(
            _unchanged("persistence.existingClaim"),
            "persistence.existingClaim is immutable: create another SomaMemory that uses the other claim",
            ".persistence.existingClaim",
        ),
        Rule(
            f"quantity({_size('self')}).compareTo(quantity({_size('oldSelf')})) >= 0",
            f"persistence.size cannot shrink ({DEFAULT_SIZE} if left out): set it to its former value or more",
            ".persistence.size",
        ),
        Rule(
            "self.?scoring.?embedding.?dimension.orValue(384) == oldSelf.?scoring.?embedding.?dimension.orValue(384)",
            "scoring.embedding.dimension (384 if left out) is immutable: create another SomaMemory and import into it",
            ".scoring.embedding.dimension",
        ),
        Rule(
            _unchanged("encryption"),
            "encryption is immutable, stored payloads keep theirs: create another SomaMemory and import into it",
            ".encryption",
        ),
    )
