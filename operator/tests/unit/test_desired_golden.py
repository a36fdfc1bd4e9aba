"""Every rendered shape, as files that a reviewer can read.

After an intended change: SOMA_UPDATE_GOLDEN=1 hack/py -m pytest operator/tests/unit/test_desired_golden.py
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from memory_runtime.settings import SMFSettings
from soma_operator.api import SomaMemory, SomaMemorySpec
from soma_operator.catalog.flow_text import flow_text
from soma_operator.catalog.kinds import AUTOSCALER, CONFIG_MAP, DEPLOYMENT, DISRUPTION_BUDGET, JOB
from soma_operator.desired.children import Child, children
from soma_operator.desired.images import resolve
from soma_operator.desired.inputs import Defaults, Inputs
from soma_operator.desired.runtime_settings import runtime_settings

GOLDEN = Path(__file__).parent / "golden"
DEFAULTS = Defaults("registry.example:5000/soma-memory-runtime:1.2.3", "1.2.3")
SHAPES: dict[str, dict[str, Any]] = {
    "embedded-minimal": {},
    "embedded-full": {
        "version": "2.0.0",
        "image": {"pullPolicy": "Always", "pullSecrets": ["registry"]},
        "tenancy": {"namespace": "notes", "defaultTenant": "acme"},
        "scoring": {
            "preset": "balanced",
            "halfLifeByType": {"episodic": "7d", "semantic": "none"},
            "importanceExponent": 0.5,
            "featureWeights": {"trust": 0.5},
            "hybrid": {"byDefault": True, "boost": 3},
            "embedding": {"provider": "transformer", "model": "m", "revision": "r", "dimension": 768},
        },
        "api": {
            "resources": {"requests": {"cpu": 1}},
            "requestTimeoutSeconds": 5,
            "scheduling": {
                "nodeSelector": {"disk": "fast"},
                "tolerations": [{"operator": "Exists"}],
                "priorityClassName": "high",
                "topologySpread": [{"maxSkew": 1, "topologyKey": "zone", "whenUnsatisfiable": "DoNotSchedule"}],
            },
        },
        "persistence": {"size": "100Gi", "storageClassName": "fast", "accessModes": ["ReadWriteOncePod"]},
        "access": {"corsOrigins": ["https://app.example"]},
        "rateLimits": {"maxRequests": 100, "windowSeconds": 10},
        "retention": {"ttl": "365d", "maxRows": 1000, "maxBytes": "1Gi"},
        "networkPolicy": {
            "from": [{"namespaceSelector": {"matchLabels": {"team": "a"}}}],
            "metricsFrom": [{"podSelector": {"matchLabels": {"app": "prometheus"}}}],
            "extraEgress": [{"to": [{"ipBlock": {"cidr": "10.0.0.0/8"}}], "ports": [{"port": "443"}, {"port": "dns"}]}],
        },
        "observability": {"logLevel": "WARNING", "logFormat": "text", "metricsEnabled": False},
        "podTemplate": {
            "labels": {"team": "a"},
            "annotations": {"note": "b"},
            "env": [{"name": "HTTP_PROXY", "value": "x"}],
            "terminationGracePeriodSeconds": 20,
            "serviceAccountAnnotations": {"cloud": "identity"},
        },
        "deletionPolicy": "Delete",
    },
    "embedded-of-others": {
        "access": {"tokenSecretRef": {"name": "mine", "key": "bearer"}},
        "persistence": {"existingClaim": "kept"},
        "networkPolicy": {"enabled": False},
        "image": {"repository": "elsewhere/runtime", "digest": "sha256:" + "a" * 64},
    },
    "distributed-minimal": {
        "mode": "distributed",
        "endpoints": {"postgresql": {"host": "pg", "credentialsSecretRef": {"name": "pg"}}},
    },
    "distributed-full": {
        "mode": "distributed",
        "endpoints": {
            "postgresql": {
                "host": "pg.data.svc",
                "port": 6432,
                "database": "a b",
                "credentialsSecretRef": {"name": "pg", "usernameKey": "user", "passwordKey": "secret"},
                "poolSize": 5,
                "tls": {
                    "mode": "VerifyCA",
                    "caSecretRef": {"name": "ca", "key": "root.pem"},
                    "clientCertificateSecretName": "pg-client",
                },
            },
            "redis": {
                "host": "redis",
                "username": "soma",
                "passwordSecretRef": {"name": "redis", "key": "password"},
                "tls": {"caSecretRef": {"name": "ca", "key": "root.pem"}},
            },
            "qdrant": {
                "host": "qdrant",
                "apiKeySecretRef": {"name": "qdrant", "key": "key"},
                "tls": {"caSecretRef": {"name": "ca", "key": "root.pem"}},
            },
            "graph": {"host": "neo4j", "credentialsSecretRef": {"name": "neo4j"}},
            "kafka": {
                "bootstrapServers": ["kafka-0:9092", "kafka-1:9093"],
                "sasl": {"credentialsSecretRef": {"name": "kafka"}},
                "tls": {
                    "caSecretRef": {"name": "ca", "key": "root.pem"},
                    "clientCertificateSecretName": "kafka-client",
                },
            },
        },
        "events": {"enabled": True, "auditTopic": "memory.audit"},
        "topics": {"mode": "External"},
        "api": {"autoscaling": {"maxReplicas": 10, "targetMemoryUtilizationPercentage": 80}},
        "consumer": {"replicas": 3},
    },
}


def rendered(shape: str, digest: str | None = "0123456789abcdef") -> list[Child]:
    body = {"metadata": {"name": "store", "namespace": "team", "uid": "1-2-3", "generation": 1}, "spec": SHAPES[shape]}
    return children(Inputs(SomaMemory.parse(body), DEFAULTS, digest, "fedcba9876543210"))


@pytest.mark.parametrize("shape", SHAPES)
def test_a_shape_is_rendered_as_its_golden_file_says(shape: str) -> None:
    text = yaml.safe_dump_all([dict(child.manifest) for child in rendered(shape)], sort_keys=False, width=1000)
    path = GOLDEN / f"{shape}.yaml"
    if os.environ.get("SOMA_UPDATE_GOLDEN"):
        path.parent.mkdir(exist_ok=True)
        path.write_text("# Generated by test_desired_golden.py with SOMA_UPDATE_GOLDEN=1.\n" + text, encoding="utf-8")
    assert path.read_text(encoding="utf-8").partition("\n")[2] == text


def taken_settings(shape: str) -> SMFSettings:
    """As a pod of that shape reads them: the file, and what the kubelet puts into the environment."""
    (config,) = [child for child in rendered(shape) if child.ref.kind is CONFIG_MAP]
    values = yaml.safe_load(config.manifest["data"]["settings.yaml"])
    assert set(values) <= set(SMFSettings.model_fields)
    for child in rendered(shape):
        if child.ref.kind is DEPLOYMENT:
            for entry in child.manifest["spec"]["template"]["spec"]["containers"][0]["env"]:
                name = entry["name"].removeprefix("SOMA_").lower()
                if "valueFrom" in entry and entry["name"].startswith("SOMA_"):
                    assert name in SMFSettings.model_fields
                    values[name] = "secret"
    return SMFSettings(**values)


@pytest.mark.parametrize("shape", SHAPES)
def test_the_runtime_takes_every_rendered_setting(shape: str) -> None:
    assert taken_settings(shape).mode == SHAPES[shape].get("mode", "embedded")


def test_a_preset_gives_way_to_what_is_set() -> None:
    (config,) = [child for child in rendered("embedded-full") if child.ref.kind is CONFIG_MAP]
    taken = SMFSettings(**yaml.safe_load(config.manifest["data"]["settings.yaml"]))
    day = 86400.0
    assert (taken.half_life, taken.half_life_by_type) == (30 * day, {"episodic": 7 * day, "semantic": None})


@pytest.mark.parametrize("shape", SHAPES)
def test_every_pod_meets_pod_security_restricted(shape: str) -> None:
    for child in rendered(shape):
        if child.ref.kind in (DEPLOYMENT, JOB):
            pod = child.manifest["spec"]["template"]["spec"]
            assert pod["securityContext"]["runAsNonRoot"] is True
            assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
            assert pod["automountServiceAccountToken"] is False
            assert pod["enableServiceLinks"] is False
            for container in pod["containers"]:
                assert container["securityContext"]["capabilities"] == {"drop": ["ALL"]}
                assert container["securityContext"]["allowPrivilegeEscalation"] is False
                assert container["securityContext"]["readOnlyRootFilesystem"] is True


def test_only_a_change_that_concerns_pods_changes_their_template() -> None:
    def template(spec: dict[str, Any], digest: str = "d") -> tuple[str, str | None]:
        body = {"metadata": {"name": "store", "namespace": "team", "uid": "1", "generation": 1}, "spec": spec}
        found = children(Inputs(SomaMemory.parse(body), DEFAULTS, digest))
        (deployment,) = [child for child in found if child.ref.kind is DEPLOYMENT]
        return deployment.hash, deployment.template_hash

    plain = template({})
    assert template({"deletionPolicy": "Delete"}) == plain
    assert template({"networkPolicy": {"enabled": False}}) == plain
    assert template({"observability": {"logLevel": "DEBUG"}})[1] != plain[1], "settings are read at start"
    assert template({}, "rotated")[1] != plain[1], "a rotated token rolls the pods"


def test_labels_of_the_parent_are_never_copied() -> None:
    meta = {"name": "store", "namespace": "team", "uid": "1", "labels": {"argocd.argoproj.io/instance": "app"}}
    found = children(Inputs(SomaMemory.parse({"metadata": meta}), DEFAULTS))
    assert not [child for child in found if "argocd.argoproj.io/instance" in child.manifest["metadata"]["labels"]]


def test_hostile_values_stay_values() -> None:
    spec = {
        "podTemplate": {
            "annotations": {"note": 'x"\n  hostPID: true\n# {{ 7*7 }}'},
            "env": [{"name": "A", "value": "'}}"}],
        }
    }
    body = {"metadata": {"name": "store", "namespace": "team", "uid": "1"}, "spec": spec}
    found = children(Inputs(SomaMemory.parse(body), DEFAULTS))
    (deployment,) = [child for child in found if child.ref.kind is DEPLOYMENT]
    pod = deployment.manifest["spec"]["template"]
    assert pod["metadata"]["annotations"]["note"] == spec["podTemplate"]["annotations"]["note"]  # type: ignore[index]
    assert pod["spec"]["containers"][0]["env"][-1] == {"name": "A", "value": "'}}"}
    assert "hostPID" not in pod["spec"]


LEDGER = {"mode": "distributed", "endpoints": {"postgresql": {"host": "pg", "credentialsSecretRef": {"name": "pg"}}}}


def made(spec: dict[str, Any], credentials: str = "d", image: str = "image:1") -> list[Child]:
    body = {"metadata": {"name": "store", "namespace": "team", "uid": "1", "generation": 1}, "spec": spec}
    return children(Inputs(SomaMemory.parse(body), Defaults(image, "1"), "d", credentials))


def migration(*args: Any, **kwargs: Any) -> Child:
    (job,) = [child for child in made(*args, **kwargs) if child.ref.kind is JOB]
    return job


def test_only_what_concerns_the_ledger_migrates_again() -> None:
    plain = migration(LEDGER).ref.name
    assert migration({**LEDGER, "observability": {"logLevel": "DEBUG"}}).ref.name == plain
    assert migration({**LEDGER, "api": {"replicas": 5}}).ref.name == plain
    assert migration(LEDGER, credentials="rotated").ref.name == plain
    assert migration(LEDGER, image="image:2").ref.name != plain
    elsewhere = {"postgresql": {"host": "other", "credentialsSecretRef": {"name": "pg"}}}
    assert migration({**LEDGER, "endpoints": elsewhere}).ref.name != plain
    assert len(plain) <= 63


def test_a_migration_comes_before_what_needs_it() -> None:
    order = [child.ref.kind for child in made(LEDGER)]
    assert order.index(CONFIG_MAP) < order.index(JOB) < order.index(DEPLOYMENT) < order.index(DISRUPTION_BUDGET)


def test_no_credential_is_in_a_manifest_and_rotation_rolls_the_pods() -> None:
    def template(credentials: str) -> Any:
        (deployment,) = [child for child in made(LEDGER, credentials) if child.ref.kind is DEPLOYMENT]
        return deployment

    env = template("a").manifest["spec"]["template"]["spec"]["containers"][0]["env"]
    (password,) = [entry for entry in env if entry["name"] == "PGPASSWORD"]
    assert password["valueFrom"] == {"secretKeyRef": {"name": "pg", "key": "password"}}
    assert template("a").template_hash != template("b").template_hash


def test_certificates_are_files_and_their_paths_are_settings() -> None:
    found, taken = rendered("distributed-full"), taken_settings("distributed-full")
    assert taken.postgres_ssl_mode == "verify-ca"
    (job,) = [child for child in found if child.ref.kind is JOB]
    pod = job.manifest["spec"]["template"]["spec"]
    (mount,) = [mount for mount in pod["containers"][0]["volumeMounts"] if mount["name"] == "tls-postgres"]
    (volume,) = [volume for volume in pod["volumes"] if volume["name"] == "tls-postgres"]
    files = {
        f"{mount['mountPath']}/{item['path']}"
        for source in volume["projected"]["sources"]
        for item in source["secret"]["items"]
    }
    assert files == {str(taken.postgres_ssl_root_cert), str(taken.postgres_ssl_cert), str(taken.postgres_ssl_key)}
    assert [volume["name"] for volume in pod["volumes"] if volume["name"].startswith("tls-")] == ["tls-postgres"]


def test_an_autoscaler_owns_the_number_of_replicas() -> None:
    found = made({**LEDGER, "api": {"autoscaling": {"maxReplicas": 4}}})
    (deployment,) = [child for child in found if child.ref.kind is DEPLOYMENT]
    (scaler,) = [child for child in found if child.ref.kind is AUTOSCALER]
    assert "replicas" not in deployment.manifest["spec"]
    assert scaler.manifest["spec"]["scaleTargetRef"]["name"] == deployment.ref.name


def container(spec: dict[str, Any], kind: Any = DEPLOYMENT) -> dict[str, Any]:
    found = next(child for child in made(spec) if child.ref.kind is kind)
    body: dict[str, Any] = found.manifest["spec"]["template"]["spec"]["containers"][0]
    return body


def test_a_variable_of_the_spec_takes_the_place_of_ours() -> None:
    given = [{"name": "PGPASSWORD", "value": "mine"}, {"name": "TZ", "value": "UTC"}]
    for kind in (DEPLOYMENT, JOB):
        env = container({**LEDGER, "podTemplate": {"env": given}}, kind)["env"]
        names = [entry["name"] for entry in env]
        assert len(set(names)) == len(names)
        assert [entry for entry in env if entry["name"] == "PGPASSWORD"] == [{"name": "PGPASSWORD", "value": "mine"}]


@pytest.mark.parametrize(
    ("given", "requests", "limits"),
    [
        (None, {"cpu": "250m", "memory": "512Mi"}, {"memory": "2Gi"}),
        ({"requests": {"cpu": "1"}}, {"cpu": "1", "memory": "512Mi"}, {"memory": "2Gi"}),
        ({"requests": {"memory": "4Gi"}}, {"cpu": "250m", "memory": "4Gi"}, {"memory": "4Gi"}),
        ({"limits": {"memory": "256Mi"}}, {"cpu": "250m", "memory": "256Mi"}, {"memory": "256Mi"}),
        ({"limits": {"cpu": "100m"}}, {"cpu": "100m", "memory": "512Mi"}, {"cpu": "100m", "memory": "2Gi"}),
    ],
)
def test_every_pod_requests_and_bounds_its_memory(given: Any, requests: Any, limits: Any) -> None:
    found = container({"api": {"resources": given}} if given else {})["resources"]
    assert found == {"requests": requests, "limits": limits}


def test_an_index_that_is_saved_on_the_nodes_disk_reserves_it() -> None:
    assert container(LEDGER)["resources"]["requests"]["ephemeral-storage"] == "2Gi"
    given = {"api": {"resources": {"limits": {"ephemeral-storage": "1Gi"}}}}
    assert container({**LEDGER, **given})["resources"]["requests"]["ephemeral-storage"] == "1Gi"


@pytest.mark.parametrize(
    ("spec", "image"),
    [
        ({"version": "1.2.3+build.4"}, "r:5000/runtime:1.2.3_build.4"),
        ({"version": "1.2.3+build.4", "image": {"tag": "x"}}, "r:5000/runtime:x"),
        ({"image": {"repository": "mine"}}, "mine:2.0.0_rc"),
        ({}, "r:5000/runtime@sha256:" + "a" * 64),
    ],
)
def test_an_image_reference_is_one_whatever_the_version(spec: dict[str, Any], image: str) -> None:
    defaults = Defaults("r:5000/runtime@sha256:" + "a" * 64, "2.0.0+rc")
    assert resolve(SomaMemorySpec.model_validate(spec), defaults).reference == image


VALUES = st.recursive(
    st.text() | st.integers() | st.booleans(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=5,
)


@settings(deadline=None)  # a loaded machine is no defect
@given(VALUES)
def test_whatever_text_a_spec_holds_is_the_same_in_yaml(value: Any) -> None:
    """JSON escapes what lies beyond U+FFFF as two halves, which YAML refuses: an emoji in an annotation was enough."""
    assert yaml.safe_load(flow_text(value)) == value
    assert yaml.load(flow_text([value]), Loader=yaml.CSafeLoader) == [value]


@pytest.mark.parametrize(
    ("given_bytes", "bound"), [("1Gi", 2**30), ("0.0001k", 1), ("99999999999999999999Pi", 2**63 - 1)]
)
def test_a_bound_of_bytes_is_one_and_fits_the_ledger(given_bytes: str, bound: int) -> None:
    """0 stands for no bound at all."""
    assert (
        runtime_settings(SomaMemorySpec.model_validate({"retention": {"maxBytes": given_bytes}}))["retention_max_bytes"]
        == bound
    )
