"""What this version of the operator does not do yet: what would be unsafe to ignore stops everything, the rest is
told by conditions."""

from __future__ import annotations

from soma_operator.api import Mode, Problem, SomaMemorySpec


def unsafe_to_ignore(spec: SomaMemorySpec) -> list[Problem]:
    """Fields that promise safety, or another way of working, which this version does not deliver."""
    wanted = [
        (
            "spec.mode",
            spec.mode is Mode.DISTRIBUTED,
            "distributed mode is not implemented yet",
            "create it in embedded mode",
        ),
        (
            "spec.access.tls",
            spec.access.tls is not None,
            "serving TLS is not implemented yet",
            "remove it and put a mesh or an ingress in front",
        ),
        ("spec.access.jwt", spec.access.jwt is not None, "JWT is not implemented yet", "remove it and use the token"),
        ("spec.access.opa", spec.access.opa is not None, "OPA is not implemented yet", "remove it and use the token"),
        (
            "spec.encryption",
            spec.encryption is not None,
            "encryption of payloads is not implemented yet",
            "remove it and encrypt the volume",
        ),
        (
            "spec.bootstrap",
            spec.bootstrap is not None,
            "beginning from a backup is not implemented yet",
            "remove it and import instead",
        ),
    ]
    return [Problem(field, reason, remedy) for field, asked, reason, remedy in wanted if asked]
