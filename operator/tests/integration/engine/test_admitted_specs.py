"""What admission lets through must work: specs drawn from the CRD's own schema, judged by a real API server.

Each is refused there; or Stalled, with the path of a field; or the runtime's settings load from what is rendered, and
the API server takes every child, or its refusal is told as Stalled/Refused with the child's field. SOMA_SPEC_EXAMPLES
draws more of them.
"""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
from hypothesis import HealthCheck, Phase, given, note, settings

from hack.kube import Kubectl
from memory_runtime.engine.following import Codes, scoring_params
from memory_runtime.settings import load_settings
from soma_operator.api import Reason, SomaMemory
from soma_operator.api.errors import SpecError
from soma_operator.catalog.flow_text import flow_text
from soma_operator.catalog.kinds import CONFIG_MAP, DEPLOYMENT, SOMA_MEMORY
from soma_operator.cluster.errors import ApiError, classify
from soma_operator.desired.children import Child, children
from soma_operator.desired.inputs import Defaults, Inputs
from soma_operator.plan.readiness import unsafe_to_ignore
from tests.drawn_specs import specs
from tests.integration.engine.direct import Direct

EXAMPLES = int(os.environ.get("SOMA_SPEC_EXAMPLES", "120"))
APPLY = {"Content-Type": "application/apply-patch+yaml"}


def admitted(http: httpx.Client, namespace: str, body: dict[str, Any]) -> bool:
    """Whether the API server takes the resource; nothing is stored."""
    path = SOMA_MEMORY.path(namespace)
    answer = http.post(f"{path}?dryRun=All&fieldValidation=Strict", content=json.dumps(body), headers={
        "Content-Type": "application/json"
    })  # fmt: skip
    assert answer.status_code in (201, 400, 422), answer.text
    return answer.status_code == 201


def problems(memory: SomaMemory | SpecError) -> list[str]:
    """Paths of the fields that the resource is Stalled for."""
    if isinstance(memory, SpecError):
        return [problem.field for problem in memory.problems]
    return [problem.field for problem in unsafe_to_ignore(memory.spec)]


def parsed(body: dict[str, Any]) -> SomaMemory | SpecError:
    try:
        return SomaMemory.parse(body)
    except SpecError as error:
        return error


def environment(found: list[Child], place: Path) -> dict[str, str]:
    """What the first pod would see: our variables, the image's own, and every Secret's value."""
    (config,) = [child for child in found if child.ref.kind is CONFIG_MAP]
    place.write_text(config.manifest["data"]["settings.yaml"], encoding="utf-8")
    deployment = next(child for child in found if child.ref.kind is DEPLOYMENT)
    entries = deployment.manifest["spec"]["template"]["spec"]["containers"][0]["env"]
    values = {entry["name"]: str(entry.get("value", "from-a-secret")) for entry in entries}
    return {**values, "SOMA_CONFIG_FILE": str(place), "SOMA_MODEL_DIR": "/opt/soma/models/m"}


def refusal(http: httpx.Client, namespace: str, child: Child) -> ApiError | None:
    """What the API server has against a child, if anything, as the operator understands it."""
    manifest = {**child.manifest, "metadata": {**child.manifest["metadata"], "namespace": namespace}}
    path = child.ref.kind.path(namespace, child.ref.name)
    answer = http.patch(f"{path}?fieldManager=soma-operator&force=true&dryRun=All", content=flow_text(manifest),
                        headers=APPLY)  # fmt: skip
    if answer.status_code in (200, 201):
        return None
    return classify(answer.status_code, answer.headers.get("Content-Type", ""), answer.content, answer.headers)


def test_whatever_is_admitted_starts_or_is_stalled_with_a_field(
    namespace: Kubectl, tmp_path: Path, record_property: Callable[[str, object], None]
) -> None:
    assert isinstance(namespace, Direct)
    where, http = str(namespace.namespace), namespace.http
    seen: Counter[str] = Counter()

    # Without shrinking, which would take minutes of requests: what fails is noted as it was drawn.
    @settings(
        max_examples=EXAMPLES, deadline=None, database=None, phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )  # fmt: skip
    @given(specs())
    def check(spec: dict[str, Any]) -> None:
        body = {
            "apiVersion": "memory.somatech.dev/v1alpha1",
            "kind": "SomaMemory",
            "metadata": {"name": "store", "namespace": where, "uid": "1-2-3", "generation": 1},
            "spec": {**spec, "podTemplate": _plain_environment(spec)},
        }
        memory = parsed(body)
        if not admitted(http, where, body):
            seen["refused"] += 1
            return
        stalled = problems(memory)
        if stalled or isinstance(memory, SpecError):
            seen["stalled"] += 1
            assert all(field.startswith("spec.") for field in stalled), stalled
            return
        seen[memory.spec.mode.value] += 1
        found = children(Inputs(memory, Defaults("registry.example:5000/runtime:1.2.3", "1.2.3"), "d", "c"))
        loaded = load_settings(environ=environment(found, tmp_path / "settings.yaml")).settings
        scoring_params(loaded, Codes())
        refusals = [error for child in found if (error := refusal(http, where, child)) is not None]
        note("\n".join(map(str, refusals)))
        seen["child refused"] += bool(refusals)
        # Schema and rules do not say all that Kubernetes asks of a pod: what it refuses is told, with its field.
        assert all(error.reason is Reason.REFUSED and "." in error.message for error in refusals)

    check()
    record_property("drawn", json.dumps(seen))
    assert min(seen["embedded"], seen["distributed"], seen["refused"]) >= EXAMPLES // 20, seen
    assert seen["child refused"] <= EXAMPLES // 20, seen


def _plain_environment(spec: dict[str, Any]) -> dict[str, Any]:
    """Without variables that are settings of the runtime: their values are the runtime's to judge."""
    template = dict(spec.get("podTemplate", {}))
    if "env" in template:
        template["env"] = [entry for entry in template["env"] if not entry["name"].startswith("SOMA")]
    return template
