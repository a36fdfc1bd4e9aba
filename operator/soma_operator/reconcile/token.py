"""The bearer token: generated once, where none is referenced; its value is never read, logged or written twice."""

from __future__ import annotations

import base64
import secrets
from collections.abc import Mapping
from typing import Any

from soma_operator.api import Reason
from soma_operator.catalog.kinds import SECRET, SOMA_MEMORY, Ref
from soma_operator.catalog.names import TOKEN_KEY
from soma_operator.cluster.errors import ApiError
from soma_operator.desired.inputs import Inputs
from soma_operator.events.recorder import NORMAL, WARNING
from soma_operator.observe.facts import Facts, SecretData, facts_of
from soma_operator.reconcile.workbench import Workbench
from soma_operator.status.findings import Failure


async def ensure_token(bench: Workbench, inputs: Inputs, manifest: Mapping[str, Any], *, served: bool) -> Facts | None:
    """Make the generated token's Secret if there is none; returns its facts, or None if somebody else's is in the
    way."""
    ref = Ref(SECRET, inputs.namespace, inputs.token_secret[0])
    known = bench.store.child(ref)
    if known is not None:
        return known
    value = base64.b64encode(secrets.token_urlsafe(32).encode()).decode()
    try:
        answer = await bench.client.create(ref, {**manifest, "data": {TOKEN_KEY: value}})
    except ApiError as error:
        if not error.conflict:
            raise
        live = await bench.client.get(ref)
        return None if live is None else facts_of(SECRET, live)
    bench.store.put_child(SECRET, answer)
    memory = inputs.memory.metadata
    told = (WARNING, "a new token was made, because the Secret was gone: clients need the new one")
    kind, text = told if served else (NORMAL, "a token was made")
    owner = Ref(SOMA_MEMORY, memory.namespace, memory.name)
    bench.recorder.record(owner, memory.uid, kind, "TokenGenerated", f"{ref}: {text}")
    return facts_of(SECRET, answer)


async def referenced_token(bench: Workbench, inputs: Inputs) -> Facts | None:
    """Facts about the Secret that the spec names: asked for each time, because it carries no label to watch it by."""
    name, _ = inputs.token_secret
    live = await bench.client.get(Ref(SECRET, inputs.namespace, name))
    return None if live is None else facts_of(SECRET, live)


def judge_token(inputs: Inputs, facts: Facts | None) -> Failure | None:
    """What the token Secret lacks, or None."""
    name, key = inputs.token_secret
    if facts is None:
        if inputs.generates_token:
            return Failure(Reason.SECRET_NOT_FOUND, f"Secret {name} is being made")
        return Failure(Reason.SECRET_NOT_FOUND, f"spec.access.tokenSecretRef: Secret {name} does not exist: create it")
    if isinstance(facts.content, SecretData) and facts.content.lacks(key):
        field = "the generated token" if inputs.generates_token else "spec.access.tokenSecretRef"
        return Failure(Reason.SECRET_KEY_MISSING, f"{field}: Secret {name} has no key {key}: add it")
    return None
