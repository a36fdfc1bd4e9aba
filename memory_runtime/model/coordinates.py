"""Coordinates and ids. A coordinate is a tuple of finite floats; its canonical text and the scope make the id.

A number that float64 cannot tell from another one that may be meant is refused, since the two would be one memory:
a whole number beyond 2^53, and a decimal that is neither the shortest text of its float nor a longer print of it.
"""

from __future__ import annotations

import math
import uuid
from collections.abc import Sequence
from decimal import Context, Decimal, InvalidOperation

from memory_runtime.model.errors import InvalidArgument

NAMESPACE_SOMA = uuid.uuid5(uuid.NAMESPACE_DNS, "memory.somatech.dev")
NAMESPACE_SOMA_COORDINATES = uuid.uuid5(NAMESPACE_SOMA, "coordinates")
"""The root of ids in the old gRPC service's coordinate collections, so that they never meet a memory's."""
MAX_COORDINATE_LENGTH = 4096
_REMEDY = "write finite numbers separated by commas, such as 1,2,3"

LARGEST_WHOLE = 2**53
"""From here on, float64 has no place for every whole number."""
_ALWAYS_TOLD_APART = 15
"""Decimal digits that float64 always holds."""
_TELL_APART = (
    "send at most 15 digits, or split a long number over more components, such as 1098765432,109876543; keys that are"
    " text are planned"
)

Coordinate = tuple[float, ...]


def parse_coordinate(text: str, *, field: str = "coord") -> Coordinate:
    """The coordinate written as `x,y,z`; a comma after the last number is allowed, as the old service did.

    Raises InvalidArgument naming `field`.
    """
    if not isinstance(text, str):
        raise InvalidArgument(f"{field}: expected text such as 1,2,3", field=field, remedy=_REMEDY)
    parts = text.rstrip().removesuffix(",").split(",")
    try:
        values = [float(part) for part in parts]
    except ValueError:
        raise InvalidArgument(f"{field}: {_shown(text)!r} is not a coordinate", field=field, remedy=_REMEDY) from None
    coordinate = make_coordinate(values, field=field)
    for part, value in zip(parts, values, strict=True):
        if not _is_told_apart(part.strip(), value):
            raise _ambiguous(part.strip(), field)
    return coordinate


def _shown(text: str) -> str:
    return text if len(text) <= 80 else text[:77] + "..."


def _ambiguous(number: object, field: str) -> InvalidArgument:
    return InvalidArgument(
        f"{field}: {_shown(str(number))} and numbers near it are the same to a computer (float64), so different"
        " coordinates would be one",
        field=field,
        remedy=_TELL_APART,
    )


def _is_told_apart(text: str, value: float) -> bool:
    """Whether the float stands for this text and for no other number that could be meant."""
    if len(text) <= _ALWAYS_TOLD_APART and text.isascii() and "e" not in text and "E" not in text:
        return True
    try:
        written = Decimal(text.replace("_", ""))
    except InvalidOperation:
        return False
    if written == written.to_integral_value() and "e" not in text.lower() and "." not in text:
        return abs(written) <= LARGEST_WHOLE
    if written == Decimal(repr(value)):
        return True
    digits = len(written.normalize(Context(prec=max(1, len(text)))).as_tuple().digits)
    return abs(value) < LARGEST_WHOLE and value != 0 and written == Context(prec=digits).plus(Decimal(value))


def received_coordinate(values: Sequence[float], *, field: str = "coord") -> Coordinate:
    """A coordinate that came as float64: what the numbers were before is not known.

    A whole number beyond 2^53 may be another one that was rounded. Raises InvalidArgument.
    """
    coordinate = make_coordinate(values, field=field)
    for value in coordinate:
        if abs(value) >= LARGEST_WHOLE:
            raise _ambiguous(value, field)
    return coordinate


def make_coordinate(values: Sequence[float], *, field: str = "coord") -> Coordinate:
    """A coordinate of the given numbers; minus zero becomes zero, so that equal coordinates have one text.

    Raises InvalidArgument when it is empty, longer than 4096, or holds NaN, an infinity, or an integer beyond 2^53.
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
    for value in values:
        if isinstance(value, int) and abs(value) > LARGEST_WHOLE:
            raise _ambiguous(value, field)
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
