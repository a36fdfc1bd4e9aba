"""Coordinates and ids. A coordinate is a tuple of finite floats; its canonical text and the scope make the id."""

from __future__ import annotations

import math
import uuid
from collections.abc import Sequence

from memory_runtime.model.errors import InvalidArgument

NAMESPACE_SOMA = uuid.uuid5(uuid.NAMESPACE_DNS, "memory.somatech.dev")
NAMESPACE_SOMA_COORDINATES = uuid.uuid5(NAMESPACE_SOMA, "coordinates")
"""The root of ids in the old gRPC service's coordinate collections, so that they never meet a memory's."""
MAX_COORDINATE_LENGTH = 4096
_REMEDY = "write finite numbers separated by commas, such as 1,2,3"

Coordinate = tuple[float, ...]


def parse_coordinate(text: str, *, field: str = "coord") -> Coordinate:
    """The coordinate written as `x,y,z`. Raises InvalidArgument naming `field`."""
    if not isinstance(text, str):
        raise InvalidArgument(f"{field}: expected text such as 1,2,3", field=field, remedy=_REMEDY)
    try:
        values = [float(part) for part in text.split(",")]
    except ValueError:
        shown = text if len(text) <= 80 else text[:77] + "..."
        raise InvalidArgument(f"{field}: {shown!r} is not a coordinate", field=field, remedy=_REMEDY) from None
    return make_coordinate(values, field=field)


def make_coordinate(values: Sequence[float], *, field: str = "coord") -> Coordinate:
    """A coordinate of the given numbers; minus zero becomes zero, so that equal coordinates have one text.

    Raises InvalidArgument when it is empty, longer than 4096, or holds NaN or an infinity.
    """
    if not values or len(values) > MAX_COORDINATE_LENGTH:
        raise InvalidArgument(
            f"{field}: a coordinate has 1 to {MAX_COORDINATE_LENGTH} numbers, this one has {len(values)}",
            field=field,
            remedy=_REMEDY,
        )
    try:
        coordinate = tuple([float(value) + 0.0 for value in values])
    except OverflowError:
        coordinate = (math.inf,)
    if not all(map(math.isfinite, coordinate)):
        raise InvalidArgument(f"{field}: NaN and infinities are not coordinates", field=field, remedy=_REMEDY)
    return coordinate


def canonical_coordinate(coordinate: Sequence[float]) -> str:
    """The coordinate's one text: shortest representations that round-trip, joined by commas."""
    return ",".join(map(repr, coordinate))


def coordinate_from_canonical(text: str) -> Coordinate:
    """The inverse of `canonical_coordinate`, for text that the ledger wrote."""
    return tuple(map(float, text.split(",")))


def memory_id(
    tenant: str, namespace: str, memory_type: str, canonical: str, *, root: uuid.UUID = NAMESPACE_SOMA
) -> uuid.UUID:
    """uuid5 of tenant, namespace, type and canonical coordinate: storing a coordinate again is an upsert."""
    return uuid.uuid5(root, f"{tenant}\x1f{namespace}\x1f{memory_type}\x1f{canonical}")
