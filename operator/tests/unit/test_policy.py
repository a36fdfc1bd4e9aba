"""What a policy lets a resource ask for: each rule, its way round, and the default that no sample meets."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from soma_operator.api import SomaMemory
from soma_operator.main import main
from soma_operator.policy.addresses import Addresses, networks
from soma_operator.policy.judgement import Named, refused, unconsented
from soma_operator.policy.rules import InvalidPolicyError, Policy, PolicyRule
from soma_operator.probes.names import Names

OWN = "docker.io/library/soma-memory-runtime:1"
SAMPLES = sorted((Path(__file__).parents[3] / "manifests/samples").glob("*.yaml"))


def memory(namespace: str = "team", **spec: Any) -> SomaMemory:
    return SomaMemory.parse({"metadata": {"name": "store", "namespace": namespace, "uid": "u"}, "spec": spec})


def fleet(host: str = "pg", namespace: str = "team", **spec: Any) -> SomaMemory:
    postgresql = {"host": host, "credentialsSecretRef": {"name": "pg"}}
    endpoints = {"postgresql": postgresql, **spec.pop("endpoints", {})}
    return memory(namespace, mode="distributed", endpoints=endpoints, **spec)


CLUSTER = Addresses(networks(["10.96.0.1", "192.0.2.7"]))


def fields(found: SomaMemory, rule: PolicyRule | None, image: str = OWN, addresses: Addresses = CLUSTER) -> list[str]:
    problems = refused(found, rule, addresses, image, OWN)
    assert all(problem.remedy for problem in problems)
    return [problem.field for problem in problems]


@pytest.mark.parametrize("path", SAMPLES, ids=lambda path: path.stem)
def test_no_sample_is_refused_by_default(path: Path) -> None:
    for body in yaml.safe_load_all(path.read_text(encoding="utf-8")):
        if body and body["kind"] == "SomaMemory":
            body["metadata"]["namespace"] = "team"
            assert fields(SomaMemory.parse(body), Policy().rule_for("team")) == []


@pytest.mark.parametrize(
    "host",
    [
        "127.0.0.1", "127.1.2.3", "0.1.2.3", "2852039166", "0x7f.1", "0177.0.0.1", "127.1",
        "169.254.169.254", "224.0.0.1", "10.96.0.1", "192.0.2.7", "kubernetes.default.svc", "kubernetes.default",
        "Kubernetes.Default.svc.cluster.local", "x.localhost",
    ],
)  # fmt: skip
def test_what_is_local_is_refused_by_default(host: str) -> None:
    assert fields(fleet(host), Policy().rule_for("team")) == ["spec.endpoints.postgresql.host"]
    assert fields(fleet(host), PolicyRule(hosts=("*",))) == ["spec.endpoints.postgresql.host"]


def test_a_bare_name_of_the_api_servers_service_is_its_namespaces_own() -> None:
    assert fields(fleet("kubernetes", namespace="default"), PolicyRule()) == ["spec.endpoints.postgresql.host"]
    assert fields(fleet("kubernetes"), PolicyRule()) == []


def test_a_network_that_a_policy_names_is_reached_although_it_is_local() -> None:
    policy = Policy.parse("rules: [{hosts: [127.0.0.0/8]}]")
    addresses = Addresses(networks(["10.96.0.1"]), policy.networks())
    assert fields(fleet("127.0.0.1"), policy.rule_for("team"), addresses=addresses) == []
    assert addresses.admit("127.0.0.1")
    assert not addresses.admit("169.254.169.254")


@pytest.mark.parametrize(
    ("pattern", "host", "port", "allowed"),
    [
        ("*.data.svc", "pg.data.svc", 5432, True),
        ("*.data.svc", "pg.data.svc.evil.example", 5432, False),
        ("*.data.svc:5432", "pg.data.svc", 5432, True),
        ("*.data.svc:5432", "pg.data.svc", 22, False),
        ("*.{namespace}.svc", "pg", 5432, True),
        ("*.{namespace}.svc", "pg.other.svc", 5432, False),
        ("10.20.0.0/16", "10.20.3.4", 5432, True),
        ("10.20.0.0/16", "10.21.3.4", 5432, False),
        ("10.20.0.0/16", "10.20.evil.example", 5432, False),
        ("10.20.0.5:5432", "10.20.0.5", 5432, True),
        ("*.example.com", "PG.Example.com", 5432, True),
        ("10.20.*", "10.20.3.4", 5432, False),
    ],
)
def test_hosts_are_names_addresses_and_networks(pattern: str, host: str, port: int, allowed: bool) -> None:
    endpoints = {"redis": {"host": host, "port": port}}
    found = fields(fleet("pg.sound.svc", endpoints=endpoints), PolicyRule(hosts=(pattern, "pg.sound.svc")))
    assert found == ([] if allowed else ["spec.endpoints.redis.host"])


def test_every_host_of_a_spec_is_judged() -> None:
    endpoints = {
        "redis": {"host": "r"}, "qdrant": {"host": "q"}, "kafka": {"bootstrapServers": ["k:1", "l:2"]},
        "graph": {"host": "n", "credentialsSecretRef": {"name": "n"}},
    }  # fmt: skip
    found = set(fields(fleet("pg", endpoints=endpoints, events={"enabled": True}), PolicyRule(hosts=("none",))))
    assert found == {
        *(f"spec.endpoints.{name}.host" for name in ("postgresql", "redis", "qdrant", "graph")),
        "spec.endpoints.kafka.bootstrapServers[0]",
        "spec.endpoints.kafka.bootstrapServers[1]",
    }


@pytest.mark.parametrize(
    ("image", "allowed"),
    [
        (OWN, True),
        ("docker.io/library/soma-memory-runtime@sha256:" + "a" * 64, True),
        ("registry.example.com/soma/runtime:2", True),
        ("registry.example.com/other/runtime:2", False),
        ("registry.example.com.evil.io/soma/runtime:2", False),
        ("evil/runtime", False),
        ("fixed.example.com/runtime:1.2.3", True),
        ("fixed.example.com/runtime:1.2.4", False),
    ],
)
def test_images_are_the_operators_own_and_those_that_a_rule_names(image: str, allowed: bool) -> None:
    rule = PolicyRule(images=("registry.example.com/soma/*", "fixed.example.com/runtime:1.2.3"))
    assert fields(memory(), rule, image) == ([] if allowed else ["spec.image.repository"])
    assert fields(memory(), PolicyRule(), image) == []


@pytest.mark.parametrize("name", ["PGHOST", "PGPASSWORD", "SOMA_REDIS_HOST", "KAFKA_BOOTSTRAP_SERVERS", "https_proxy",
                                  "LD_PRELOAD", "PYTHONPATH", "NEO4J_URL", "PATH"])  # fmt: skip
def test_a_variable_does_not_go_round_a_rule(name: str) -> None:
    found = memory(podTemplate={"env": [{"name": "TZ", "value": "UTC"}, {"name": name, "value": "x"}]})
    place = ["spec.podTemplate.env[1].name"]
    assert fields(found, PolicyRule()) == []
    assert fields(found, PolicyRule(hosts=("*", "127.0.0.0/8"))) == []
    for rule in (PolicyRule(hosts=("a",)), PolicyRule(images=()), PolicyRule(consent=True), PolicyRule(env=("TZ",))):
        assert fields(found, rule) == place
    assert fields(found, PolicyRule(hosts=("a",), env=("*",))) == []


def test_annotations_that_others_act_upon_can_be_limited() -> None:
    template = {
        "annotations": {"prometheus.io/scrape": "true"},
        "serviceAccountAnnotations": {"eks.amazonaws.com/role-arn": "x"},
    }
    found = memory(podTemplate=template)
    assert fields(found, PolicyRule(annotations=("prometheus.io/*",))) == ["spec.podTemplate.serviceAccountAnnotations"]
    assert fields(found, PolicyRule()) == []


def test_the_first_rule_that_fits_decides_and_where_none_fits_nothing_is_allowed() -> None:
    policy = Policy.parse("rules: [{namespaces: [prod-*], images: []}, {namespaces: [dev]}]")
    assert policy.rule_for("prod-a") == policy.rules[0]
    assert fields(memory("dev"), policy.rule_for("dev"), "any/image") == []
    assert fields(memory("other"), policy.rule_for("other")) == ["metadata.namespace"]


def named(labels: Any = None, annotations: Any = None, endpoint: str = "") -> Named:
    return Named("spec.x", "Secret pg", {"labels": labels, "annotations": annotations}, endpoint)


def test_what_is_named_needs_its_owners_consent_where_the_policy_asks() -> None:
    strict, consent = PolicyRule(consent=True), "memory.somatech.dev/consent"
    assert unconsented(memory(), PolicyRule(), [named()]) == []
    assert [p.field for p in unconsented(memory(), strict, [named()])] == ["spec.x"]
    assert unconsented(memory(), strict, [named({consent: "true"})]) == []
    assert unconsented(memory(), strict, [Named("spec.x", "Secret pg", None)]) == [], "it is not there: told elsewhere"


@pytest.mark.parametrize(("hosts", "allowed"), [("pg.team.svc", True), ("a, *.team.svc", True), ("pg.data.svc", False),
                                                ("", False), ("10.0.0.0/99", False)])  # fmt: skip
def test_the_owner_of_a_secret_says_where_it_may_be_sent_without_any_policy(hosts: str, allowed: bool) -> None:
    bound = named(annotations={"memory.somatech.dev/may-be-sent-to": hosts}, endpoint="spec.endpoints.postgresql")
    found = [problem.field for problem in unconsented(fleet(), PolicyRule(), [bound])]
    assert found == ([] if allowed else ["spec.endpoints.postgresql.host"])
    turned = fleet(podTemplate={"env": [{"name": "PGHOST", "value": "evil"}]})
    assert "spec.podTemplate.env[0].name" in [p.field for p in unconsented(turned, PolicyRule(), [bound])]


@pytest.mark.parametrize(
    "address", ["::1", "::ffff:127.0.0.1", "64:ff9b::7f00:1", "2002:7f00:1::", "fe80::1%eth0", "fd00:ec2::254", "junk"]
)
def test_an_address_is_judged_by_where_its_packets_go(address: str) -> None:
    assert not Addresses().admit(address)


def test_ordinary_addresses_are_admitted() -> None:
    assert all(Addresses().admit(one) for one in ("10.1.2.3", "192.168.0.9", "203.0.113.5", "2001:db8::5", "fd12::1"))


async def test_a_name_that_leads_to_the_operators_own_node_is_not_followed() -> None:
    names = Names(lambda host: ("127.0.0.1", "10.9.9.9", "169.254.169.254"), Addresses().admit)
    assert await names.addresses("rebound.example.com") == ("10.9.9.9",)


@pytest.mark.parametrize(
    "text", ["rules: []", "rules: [{host: [a]}]", "- a", "rules: [{hosts: [10.0.0.0/99]}]", "a: ["]
)
def test_a_policy_that_cannot_be_used_stops_the_start(
    text: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(InvalidPolicyError):
        Policy.parse(text)
    for path in (tmp_path / "policy.yaml", tmp_path / "absent"):
        if path.name != "absent":
            path.write_text(text, encoding="utf-8")
        monkeypatch.setenv("SOMA_OPERATOR_POLICY_FILE", str(path))
        assert main(["--check"]) == 2
        assert "SOMA_OPERATOR_POLICY_FILE" in capsys.readouterr().err
