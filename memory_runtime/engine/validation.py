"""What a request must be before anything is done for it. Pure; every refusal names the field and the remedy."""

from __future__ import annotations

import hashlib
import math
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from memory_runtime.engine.types import RecallRequest
from memory_runtime.model.canonical import canonical_json
from memory_runtime.model.coordinates import canonical_coordinate, make_coordinate, memory_id
from memory_runtime.model.errors import InvalidArgument, PayloadTooLarge
from memory_runtime.model.records import Scope, StoreItem, Vector, check_name
from memory_runtime.model.timestamps import parse_timestamp
from memory_runtime.settings import SMFSettings

MAX_FEATURES = 64
MAX_TTL = 2.4e11
"""Seconds, about 7600 years: a memory stored today must not expire after the year 9999."""
_LEAST_NORM = 1e-12


@dataclass(frozen=True, slots=True, eq=False)
class Checked:
    """A store item that may be committed, once it has a vector."""

    item: StoreItem
    id: uuid.UUID
    coordinate: str
    payload: str
    vector: Vector | None


def unit_vector(vector: npt.ArrayLike, dim: int, *, field: str = "vector") -> Vector:
    """The vector as unit float32 [dim]. Raises InvalidArgument for NaN, infinity, zero or a wrong dimension."""
    try:
        wide = np.asarray(vector, dtype=np.float64)
    except (TypeError, ValueError, OverflowError):
        raise InvalidArgument(f"{field}: not a list of numbers", field=field, remedy="send finite numbers") from None
    if wide.shape != (dim,):
        raise InvalidArgument(
            f"{field}: has the shape {list(wide.shape)}, the memory holds vectors of {dim} numbers",
            field=field,
            remedy=f"send {dim} numbers, or leave the vector out and send text",
        )
    norm = float(np.sqrt(np.dot(wide, wide)))
    if not math.isfinite(norm):
        raise InvalidArgument(
            f"{field}: holds NaN, an infinity or a huge number", field=field, remedy="send finite numbers"
        )
    if norm < _LEAST_NORM:
        raise InvalidArgument(
            f"{field}: is zero and has no direction", field=field, remedy="send a vector that is not zero"
        )
    return np.ascontiguousarray(wide / norm, dtype=np.float32)


def check_item(scope: Scope, item: StoreItem, settings: SMFSettings, *, path: str = "") -> Checked:
    """The item with its id and canonical texts. Raises InvalidArgument or PayloadTooLarge naming `path` + field."""
    check_name(item.memory_type, field=f"{path}memory_type")
    coordinate = canonical_coordinate(make_coordinate(item.coordinate, field=f"{path}coord"))
    if not isinstance(item.payload, Mapping):
        raise InvalidArgument(
            f"{path}payload: must be an object", field=f"{path}payload", remedy='send {"text": "..."}'
        )
    payload = canonical_json(dict(item.payload), field=f"{path}payload")
    limit = int(settings.max_request_body_mb * 2**20)
    if len(payload.encode()) > limit:
        raise PayloadTooLarge(
            f"{path}payload: larger than {limit} bytes",
            field=f"{path}payload",
            remedy="store a smaller payload, or raise SOMA_MAX_REQUEST_BODY_MB",
        )
    _finite_or_none(item.importance, f"{path}importance")
    check_time(item.timestamp, f"{path}timestamp")
    if item.ttl is not None and not 0 < item.ttl <= MAX_TTL:
        raise InvalidArgument(
            f"{path}ttl: must be positive, and at most 7600 years",
            field=f"{path}ttl",
            remedy="send a duration such as 30d, or none to keep it for good",
        )
    _features(item.features, f"{path}features")
    vector = None if item.vector is None else unit_vector(item.vector, settings.vector_dim, field=f"{path}vector")
    identity = memory_id(scope.tenant, scope.namespace, item.memory_type, coordinate)
    return Checked(item, identity, coordinate, payload, vector)


def _finite(value: float) -> bool:
    """Whether the number is one that a ledger can hold; a whole number may be too large to be a float."""
    try:
        return math.isfinite(value)
    except OverflowError:
        return False


def _finite_or_none(value: float | None, field: str) -> None:
    if value is not None and not _finite(value):
        raise InvalidArgument(f"{field}: must be a finite number", field=field, remedy="send a finite number")


def check_time(value: float | None, field: str) -> None:
    """Raises InvalidArgument for what is no time in epoch seconds."""
    if value is not None:
        parse_timestamp(value, field=field)


def _features(features: Mapping[str, float] | None, field: str) -> None:
    if not features:
        return
    if len(features) > MAX_FEATURES:
        raise InvalidArgument(f"{field}: more than {MAX_FEATURES}", field=field, remedy="send fewer features")
    for name, value in features.items():
        check_name(name, field=field)
        if isinstance(value, bool) or not isinstance(value, int | float) or not 0.0 <= value <= 1.0:
            raise InvalidArgument(
                f"{field}.{name}: must be in [0, 1]", field=f"{field}.{name}", remedy="scale it before storing"
            )


def body_hash(checked: Sequence[Checked]) -> str:
    """SHA-256 of what the caller sent, whatever order its keys had: what an idempotency key stands for."""
    digest = hashlib.sha256()
    for one in checked:
        item = one.item
        rest: list[Any] = [
            one.coordinate,
            item.memory_type,
            item.timestamp,
            item.importance,
            item.pinned,
            item.ttl,
            item.hold,
        ]
        rest.append(dict(item.features) if item.features else None)
        for part in (one.payload, canonical_json(rest, field="body")):
            digest.update(f"{len(part)}:{part}".encode())
        digest.update(b"" if one.vector is None else one.vector.tobytes())
    return digest.hexdigest()


def check_recall(request: RecallRequest, settings: SMFSettings, *, path: str = "") -> Vector | None:
    """The unit query vector, where one was given. Raises InvalidArgument naming `path` + field."""
    if (request.query is None) == (request.vector is None):
        raise InvalidArgument(
            f"{path}query: send either query or vector", field=f"{path}query", remedy="send one of the two"
        )
    if request.query is not None and not request.query.strip():
        raise InvalidArgument(f"{path}query: is empty", field=f"{path}query", remedy="send the text to recall by")
    if isinstance(request.top_k, bool) or not 1 <= request.top_k <= settings.top_k_max:
        raise InvalidArgument(
            f"{path}top_k: must be from 1 to {settings.top_k_max}",
            field=f"{path}top_k",
            remedy="ask for fewer, or raise SOMA_TOP_K_MAX",
        )
    if request.memory_type is not None:
        check_name(request.memory_type, field=f"{path}memory_type")
    check_time(request.as_of, f"{path}as_of")
    half_life = request.half_life
    if isinstance(half_life, int | float) and not (math.isfinite(half_life) and half_life > 0):
        raise InvalidArgument(
            f"{path}half_life: must be positive",
            field=f"{path}half_life",
            remedy="send a duration such as 30d, or none",
        )
    if request.min_seq is not None and request.min_seq < 0:
        raise InvalidArgument(f"{path}min_seq: is negative", field=f"{path}min_seq", remedy="send the seq of a receipt")
    if request.boost is not None and not (math.isfinite(request.boost) and 1.0 <= request.boost <= 100.0):
        raise InvalidArgument(f"{path}boost: must be from 1 to 100", field=f"{path}boost", remedy="2.0 is the default")
    return None if request.vector is None else unit_vector(request.vector, settings.vector_dim, field=f"{path}vector")
