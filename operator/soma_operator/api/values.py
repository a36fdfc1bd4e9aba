"""Scalar types of the resources: durations, quantities, names, ports. Every string has a greatest length, because the
API server estimates the cost of CEL rules from it."""

from __future__ import annotations

import re
from fractions import Fraction
from typing import Annotated, Any

from pydantic import AfterValidator, BeforeValidator, Field, StringConstraints, WithJsonSchema

_NUMBER = r"([0-9]*[1-9][0-9]*(\.[0-9]+)?|[0-9]+\.[0-9]*[1-9][0-9]*)"  # greater than nothing
_POSITIVE = rf"{_NUMBER}(ms|s|m|h|d|w|y)"
_QUANTITY = r"^[0-9]+(\.[0-9]+)?(m|k|M|G|T|P|E|Ki|Mi|Gi|Ti|Pi|Ei)?$"
_DNS_LABEL = r"[a-z0-9]([-a-z0-9]*[a-z0-9])?"

# The runtime reads at most 18 digits before and after the point: with 19 characters in all there are no more.
_DURATION_LENGTH = 19

Duration = Annotated[str, StringConstraints(pattern=f"^{_POSITIVE}$", max_length=_DURATION_LENGTH)]
"""More than nothing, with one unit: `500ms`, `30s`, `15m`, `12h`, `30d`, `2w`, `1y` (365.25 days)."""

DurationOrNone = Annotated[str, StringConstraints(pattern=f"^(none|{_POSITIVE})$", max_length=_DURATION_LENGTH)]
"""A duration, or the word `none`."""

ByteQuantity = Annotated[str, StringConstraints(pattern=rf"^{_NUMBER}(k|M|G|T|P|Ki|Mi|Gi|Ti|Pi)$", max_length=32)]
"""Bytes as Kubernetes writes them, more than none, with a unit (`10` alone would be ten bytes): `10Gi`, `500M`."""


_UNITS = {
    suffix: base**power
    for base, suffixes in ((1000, ("k", "M", "G", "T", "P", "E")), (1024, ("Ki", "Mi", "Gi", "Ti", "Pi", "Ei")))
    for power, suffix in enumerate(suffixes, start=1)
}


def amount(quantity: str) -> Fraction:
    """What a Kubernetes quantity stands for, exactly; raises ValueError for what is none."""
    match = re.fullmatch(r"([0-9]+(?:\.[0-9]+)?)([A-Za-z]*)", quantity, re.ASCII)
    if match is None or match[2] not in {"", "m", *_UNITS}:
        raise ValueError("not a quantity")
    number = Fraction(match[1])
    return number / 1000 if match[2] == "m" else number * _UNITS.get(match[2], 1)


def _text(value: Any) -> Any:
    """Kubernetes takes `cpu: 2` as well as `cpu: "2"`."""
    return str(value) if isinstance(value, int | float) and not isinstance(value, bool) else value


_INT_OR_STRING: dict[str, Any] = {"x-kubernetes-int-or-string": True, "maxLength": 32}
Quantity = Annotated[
    str,
    BeforeValidator(_text),
    StringConstraints(pattern=_QUANTITY, max_length=32),
    WithJsonSchema({**_INT_OR_STRING, "pattern": _QUANTITY}),
]
IntOrPercent = Annotated[
    str,
    BeforeValidator(_text),
    StringConstraints(pattern=r"^[0-9]+%?$", max_length=8),
    WithJsonSchema({**_INT_OR_STRING, "maxLength": 8, "pattern": r"^[0-9]+%?$"}),
]
_PORT_OR_NAME = r"^[a-z0-9]+(-[a-z0-9]+)*$"


def _is_port(text: str) -> str:
    if text.isdecimal() and not 1 <= int(text) <= 65535:
        raise ValueError("a port is a number from 1 to 65535, or a name")
    return text


PortOrName = Annotated[
    str,
    BeforeValidator(_text),
    StringConstraints(pattern=_PORT_OR_NAME, max_length=15),
    AfterValidator(_is_port),
    WithJsonSchema({**_INT_OR_STRING, "maxLength": 15, "pattern": _PORT_OR_NAME}),
]

DnsLabel = Annotated[str, StringConstraints(pattern=f"^{_DNS_LABEL}$", max_length=63)]
DnsName = Annotated[str, StringConstraints(pattern=rf"^{_DNS_LABEL}(\.{_DNS_LABEL})*$", max_length=253)]
DnsNameOrNone = Annotated[str, StringConstraints(pattern=rf"^({_DNS_LABEL}(\.{_DNS_LABEL})*)?$", max_length=253)]
_HOST_LABEL = r"[A-Za-z0-9]([-A-Za-z0-9]{0,61}[A-Za-z0-9])?"
_HOST = rf"{_HOST_LABEL}(\.{_HOST_LABEL})*"
_PORT = r"([1-9][0-9]{0,3}|[1-5][0-9]{4}|6[0-4][0-9]{3}|65[0-4][0-9]{2}|655[0-2][0-9]|6553[0-5])"
Host = Annotated[str, StringConstraints(pattern=f"^{_HOST}$", max_length=253)]
HostPort = Annotated[str, StringConstraints(pattern=f"^{_HOST}:{_PORT}$", max_length=259)]
HttpUrl = Annotated[str, StringConstraints(pattern=r"^https?://[^\s/@]+(/[^\s]*)?$", max_length=2048)]
Port = Annotated[int, Field(ge=1, le=65535)]
Replicas = Annotated[int, Field(ge=1, le=1000)]
SecretKey = Annotated[str, StringConstraints(pattern=r"^[-._a-zA-Z0-9]+$", max_length=253)]
EnvName = Annotated[str, StringConstraints(pattern=r"^[A-Za-z_][A-Za-z0-9_]*$", max_length=128)]
_PREFIX = rf"{_DNS_LABEL}(\.{_DNS_LABEL})*/"
_QUALIFIED = r"[A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?"


def _prefix_fits(key: str) -> str:
    if len(key.rpartition("/")[0]) > 253:
        raise ValueError("the part before the slash has more than 253 characters")
    return key


LabelKey = Annotated[
    str, StringConstraints(pattern=rf"^({_PREFIX})?{_QUALIFIED}$", max_length=317), AfterValidator(_prefix_fits)
]
ResourceName = Annotated[
    str, StringConstraints(pattern=rf"^(cpu|memory|ephemeral-storage|{_PREFIX}{_QUALIFIED})$", max_length=317)
]
"""What a container may reserve: the standard ones, or an extended resource such as nvidia.com/gpu."""
LabelValue = Annotated[str, StringConstraints(pattern=r"^([A-Za-z0-9]([-A-Za-z0-9_.]*[A-Za-z0-9])?)?$", max_length=63)]
MemoryType = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][-A-Za-z0-9_.]*$", max_length=63)]
TopicName = Annotated[
    str,
    StringConstraints(pattern=r"^(\.?[a-zA-Z0-9_-][a-zA-Z0-9._-]*|\.\.[a-zA-Z0-9._-]+)$", max_length=249),
]
"""As Kafka takes them: `.` and `..` are none."""


def _printable(text: str) -> str:
    if not text.isprintable():
        raise ValueError("holds a character that is not printable")
    return text


ShortText = Annotated[
    str,
    StringConstraints(pattern=r"^[\p{L}\p{M}\p{N}\p{P}\p{S} ]+$", min_length=1, max_length=253),
    # The API server knows a newer Unicode than Python: what it admits beyond that is told by the operator.
    AfterValidator(_printable),
]
"""A name in any script: printable characters and spaces, as the runtime takes names."""
Timestamp = Annotated[str, WithJsonSchema({"type": "string", "format": "date-time"})]
"""RFC 3339 in UTC."""
