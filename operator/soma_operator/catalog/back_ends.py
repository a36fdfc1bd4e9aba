"""The back ends of distributed mode as the operator looks at them: what each is called, and where it is probed."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class BackEnd(StrEnum):
    """Systems that a distributed memory stands on, by the name that people know them by."""

    POSTGRESQL = "PostgreSQL"
    REDIS = "Redis"
    QDRANT = "Qdrant"
    KAFKA = "Kafka"


@dataclass(frozen=True, slots=True)
class Endpoint:
    """What one probe asks. Equal endpoints share a probe, whatever resources they are of.

    `addresses` are ways to the same system: one that answers is enough. `topics` are those that Kafka must have; empty
    where they are not asked for, because the brokers want credentials first, and those the operator never reads.
    """

    back_end: BackEnd
    addresses: tuple[tuple[str, int], ...]
    tls: bool
    shows_certificate: bool = False
    """Whether clients present a certificate: the operator has none, so a TLS handshake is all that it can see."""
    topics: tuple[str, ...] = ()

    def __str__(self) -> str:
        return f"{self.back_end.value} at " + ", ".join(f"{host}:{port}" for host, port in self.addresses)
