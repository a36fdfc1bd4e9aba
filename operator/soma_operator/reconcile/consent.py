"""Whether who owns what a spec names has consented: Secrets, ConfigMaps and claims, of which only metadata is asked."""

from __future__ import annotations

from collections.abc import Iterator

from soma_operator.api import Mode, Problem, SomaMemory
from soma_operator.catalog.kinds import CONFIG_MAP, SECRET, VOLUME_CLAIM, Kind, Ref
from soma_operator.desired.connections import connections
from soma_operator.policy.judgement import Named, unconsented
from soma_operator.policy.rules import PolicyRule
from soma_operator.reconcile.workbench import Workbench

_Use = tuple[str, Kind, str, str]
"""Field, kind and name of the object, and the endpoint that its content is sent to."""


async def lacks_consent(bench: Workbench, memory: SomaMemory, rule: PolicyRule) -> list[Problem]:
    """What the policy, or the owner of a Secret, does not let this spec name. Raises ApiError."""
    uses = [use for use in _uses(memory) if rule.consent or use[3]]
    found = []
    for field, kind, name, endpoint in uses:
        live = await bench.client.get(Ref(kind, memory.metadata.namespace, name))
        found.append(Named(field, f"{kind.name} {name}", live["metadata"] if live is not None else None, endpoint))
    return unconsented(memory, rule, found)


def _uses(memory: SomaMemory) -> Iterator[_Use]:
    spec = memory.spec
    for connection in connections(spec):
        sent = {reference.name for reference in connection.variables.values()}
        for use in connection.secrets():
            yield use.field, SECRET, use.name, connection.field if use.name in sent else ""
    if spec.access.token_secret_ref is not None:
        yield "spec.access.tokenSecretRef", SECRET, spec.access.token_secret_ref.name, ""
    for position, name in enumerate(spec.image.pull_secrets):
        yield f"spec.image.pullSecrets[{position}]", SECRET, name, ""
    for position, variable in enumerate(spec.pod_template.env):
        source = variable.value_from
        for kind, reference, key in (
            (SECRET, source.secret_key_ref if source else None, "secretKeyRef"),
            (CONFIG_MAP, source.config_map_key_ref if source else None, "configMapKeyRef"),
        ):
            if reference is not None:
                yield f"spec.podTemplate.env[{position}].valueFrom.{key}", kind, reference.name, ""
    if spec.mode is Mode.EMBEDDED and spec.persistence.existing_claim is not None:
        yield "spec.persistence.existingClaim", VOLUME_CLAIM, spec.persistence.existing_claim, ""
