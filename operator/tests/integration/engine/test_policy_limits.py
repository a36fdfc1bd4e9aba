"""What a policy refuses is Stalled with field and remedy, makes nothing, and goes on once it is allowed."""

from __future__ import annotations

from pathlib import Path

import pytest

from hack.kube import Kubectl
from tests.integration.engine.conftest import NewOperator
from tests.integration.engine.harness import Memory, Operator

POLICY = """
rules:
  - images: ["registry.example.com/soma/*"]
    hosts: ["*.{namespace}.svc", "127.0.0.0/8"]
    consent: true
"""


@pytest.fixture(scope="module")
def limited(new_operator: NewOperator, tmp_path_factory: pytest.TempPathFactory) -> Operator:
    path: Path = tmp_path_factory.mktemp("policy") / "policy.yaml"
    path.write_text(POLICY, encoding="utf-8")
    return new_operator(POLICY_FILE=str(path)).ready()


def made(kubectl: Kubectl) -> list[str]:
    items = kubectl.get("deployments,jobs,configmaps,services")["items"]
    return [item["metadata"]["name"] for item in items if item["metadata"]["name"].startswith("store")]


def test_an_image_that_is_not_allowed_makes_nothing_and_an_allowed_one_goes_on(
    limited: Operator, namespace: Kubectl
) -> None:
    memory = Memory(namespace).create({"image": {"repository": "registry.example.com/evil/runtime"}})
    condition = memory.wait("Stalled", "True", "NotAllowed")
    assert condition["message"].startswith("spec.image.repository: ")
    assert "ask who runs the operator" in condition["message"]
    assert made(namespace) == []
    memory.patch({"spec": {"image": {"repository": "registry.example.com/soma/runtime"}}})
    memory.serve()


def test_a_host_that_is_not_allowed_is_neither_probed_nor_given_to_pods(limited: Operator, namespace: Kubectl) -> None:
    namespace("create", "secret", "generic", "pg", "--from-literal=username=u", "--from-literal=password=hunter2")
    postgresql = {"host": "pg.other.svc", "credentialsSecretRef": {"name": "pg"}}
    memory = Memory(namespace).create({"mode": "distributed", "endpoints": {"postgresql": postgresql}})
    condition = memory.wait("Stalled", "True", "NotAllowed")
    assert condition["message"].startswith("spec.endpoints.postgresql.host: ")
    assert made(namespace) == []
    assert "pg.other.svc" not in limited.log.read_text(encoding="utf-8")


def test_a_secret_without_its_owners_consent_is_not_used_until_it_has_it(limited: Operator, namespace: Kubectl) -> None:
    namespace("create", "secret", "generic", "callers", "--from-literal=token=hunter2")
    memory = Memory(namespace).create({"access": {"tokenSecretRef": {"name": "callers", "key": "token"}}})
    condition = memory.wait("Stalled", "True", "NotAllowed")
    assert condition["message"].startswith("spec.access.tokenSecretRef: Secret callers ")
    assert made(namespace) == []
    namespace("label", "secret", "callers", "memory.somatech.dev/consent=true")
    memory.serve()


def test_a_secret_that_is_bound_to_hosts_goes_to_no_other(limited: Operator, namespace: Kubectl) -> None:
    namespace("create", "secret", "generic", "pg", "--from-literal=username=u", "--from-literal=password=hunter2")
    namespace("label", "secret", "pg", "memory.somatech.dev/consent=true")
    namespace("annotate", "secret", "pg", "memory.somatech.dev/may-be-sent-to=pg.data.svc")
    postgresql = {"host": "mine", "credentialsSecretRef": {"name": "pg"}}
    memory = Memory(namespace).create({"mode": "distributed", "endpoints": {"postgresql": postgresql}})
    condition = memory.wait("Stalled", "True", "NotAllowed")
    assert "may not be sent to this host" in condition["message"]
    namespace("annotate", "secret", "pg", "--overwrite", "memory.somatech.dev/may-be-sent-to=mine.*.svc")
    memory.wait("DatabaseReady", "False", "Unreachable", 25)
