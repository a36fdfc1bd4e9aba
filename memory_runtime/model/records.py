"""What a memory is: the scope that it lives in, what a caller sends, and what the ledger gives back."""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from memory_runtime.model.coordinates import Coordinate, canonical_coordinate
from memory_runtime.model.errors import InvalidArgument

Vector = NDArray[np.float32]
MAX_NAME_LENGTH = 256


def check_name(value: str, *, field: str) -> str:
    """The name, if it is one: 1 to 256 characters, none of them a control character.

    A control character would let two scopes share an id (they are joined by \\x1f). Raises InvalidArgument.
    """
    if not isinstance(value, str) or not 1 <= len(value) <= MAX_NAME_LENGTH or not value.isprintable():
        raise InvalidArgument(
            f"{field}: a name has 1 to {MAX_NAME_LENGTH} printable characters",
            field=field,
            remedy="send a short name without control characters",
        )
    return value


@dataclass(frozen=True, slots=True)
class Scope:
    """Whose memories: nothing crosses from one tenant, or from one namespace, to another."""

    tenant: str
    namespace: str

    def __post_init__(self) -> None:
        check_name(self.tenant, field="tenant")
        check_name(self.namespace, field="namespace")


@dataclass(frozen=True, slots=True, eq=False)
class StoreItem:
    """One memory as a caller sends it.

    `timestamp` is the event time in epoch seconds (None: now); `importance` is the raw r, any finite number;
    `vector` has the settings' dimension and need not have unit norm (None: the text is embedded); `features` are in
    [0, 1]; `ttl` is in seconds from ingestion.
    """

    coordinate: Coordinate
    payload: Mapping[str, Any]
    memory_type: str = "episodic"
    timestamp: float | None = None
    importance: float | None = None
    vector: Vector | None = None
    features: Mapping[str, float] | None = None
    pinned: bool = False
    ttl: float | None = None
    hold: bool = False


@dataclass(frozen=True, slots=True, eq=False)
class MemoryRecord:
    """One memory as the ledger holds it. Times are epoch seconds; `vector` is None where it was not asked for.

    `importance` is the raw r (None: not given, which normalises to 1), `importance_norm` the i fixed at commit.
    """

    id: uuid.UUID
    tenant: str
    namespace: str
    memory_type: str
    coordinate: Coordinate
    payload: dict[str, Any]
    importance: float | None
    importance_norm: float
    normaliser_version: int
    event_time: float
    ingest_time: float
    access_time: float
    access_count: int
    features: dict[str, float] = field(default_factory=dict)
    vector: Vector | None = None
    model_revision: str = ""
    pinned: bool = False
    hold: bool = False
    expires_at: float | None = None
    version: int = 1
    seq: int = 0

    @property
    def scope(self) -> Scope:
        """The scope that the record lives in."""
        return Scope(self.tenant, self.namespace)

    @property
    def ends_at(self) -> float | None:
        """When it is no longer found: its expiry, which what is pinned or held outlives."""
        return None if self.pinned or self.hold else self.expires_at

    @property
    def coordinate_text(self) -> str:
        """The canonical text of the coordinate."""
        return canonical_coordinate(self.coordinate)

    def legacy_payload(self) -> dict[str, Any]:
        """The payload with the fields that the service we replace adds to it (wire-compat.md, section 5).

        What the client stored under one of these names wins, but for `coordinate` and `memory_type`.
        """
        added: dict[str, Any] = {
            "timestamp": self.event_time,
            "importance_norm": self.importance_norm,
            "access_count": self.access_count,
        }
        if self.importance is not None:
            added["importance"] = self.importance
        fixed = {"coordinate": list(self.coordinate), "memory_type": self.memory_type}
        return {**added, **self.payload, **fixed}


@dataclass(frozen=True, slots=True)
class StoreReceipt:
    """The acknowledgement of a durable store; `replayed` says that an idempotency key had seen it before."""

    id: uuid.UUID
    version: int
    seq: int
    created: bool
    replayed: bool = False


@dataclass(frozen=True, slots=True)
class DeleteReceipt:
    """The acknowledgement of a durable delete; `deleted` is False when there was nothing to delete."""

    id: uuid.UUID
    deleted: bool
    seq: int


@dataclass(frozen=True, slots=True)
class Edge:
    """A typed, weighted, directed edge between two memories of one scope."""

    source: Coordinate
    target: Coordinate
    link_type: str
    weight: float
    metadata: dict[str, Any] = field(default_factory=dict)
