"""The Secrets of back ends: whether they are there, and a digest that changes with them. Their values are never asked
for."""

from __future__ import annotations

import hashlib

from soma_operator.api import Reason, SomaMemorySpec
from soma_operator.catalog.kinds import SECRET, Ref
from soma_operator.cluster.errors import ApiError
from soma_operator.desired.connections import SecretUse, secrets_used
from soma_operator.observe.facts import Facts, SecretData, facts_of
from soma_operator.reconcile.carrying_out import tellable
from soma_operator.reconcile.workbench import Workbench
from soma_operator.status.findings import Failure


async def look_at_credentials(bench: Workbench, namespace: str, spec: SomaMemorySpec) -> tuple[str, Failure | None]:
    """Digest over all of them, and what the first one lacks. One request a Secret: they carry no label to watch by."""
    uses = secrets_used(spec)
    found: dict[str, Facts | None] = {}
    for name in sorted({use.name for use in uses}):
        try:
            live = await bench.client.get(Ref(SECRET, namespace, name))
        except ApiError as error:
            failure = tellable(error)
            return "", Failure(failure.reason, f"Secret {name}: {failure.message}")
        found[name] = facts_of(SECRET, live) if live is not None else None
    lacking = next((lack for use in uses if (lack := judge(use, found[use.name])) is not None), None)
    return _digest(found), lacking


def judge(use: SecretUse, facts: Facts | None) -> Failure | None:
    """What a Secret lacks, or None."""
    if facts is None:
        return Failure(Reason.SECRET_NOT_FOUND, f"{use.field}: Secret {use.name} does not exist: create it")
    if isinstance(facts.content, SecretData):
        for key in use.keys:
            if facts.content.lacks(key):
                return Failure(Reason.SECRET_KEY_MISSING, f"{use.field}: Secret {use.name} has no key {key}: add it")
    return None


def _digest(found: dict[str, Facts | None]) -> str:
    parts = [
        f"{name}={facts.content.digest}"
        for name, facts in found.items()
        if facts is not None and isinstance(facts.content, SecretData)
    ]
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:16]
