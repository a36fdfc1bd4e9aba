"""`kubectl soma` without a cluster: what it judges, draws and hides."""

from __future__ import annotations

import base64
import json
from typing import Any

import pytest

from kubectl_soma import children, health, screen
from kubectl_soma.health import Level
from kubectl_soma.main import parser
from kubectl_soma.redaction import HIDDEN, Redactor, known_values


def _condition(kind: str, status: str = "True", reason: str = "Because") -> dict[str, str]:
    return {"type": kind, "status": status, "reason": reason}


def _memory(*conditions: dict[str, str], generation: int = 2, observed: int = 2) -> dict[str, Any]:
    return {
        "kind": "SomaMemory",
        "metadata": {"name": "notes", "generation": generation},
        "status": {"observedGeneration": observed, "conditions": list(conditions)},
    }


@pytest.mark.parametrize(
    ("body", "level"),
    [
        (_memory(_condition("Ready")), Level.OK),
        (_memory(_condition("Ready"), observed=1), Level.PROGRESSING),
        (_memory(_condition("Ready", "False"), _condition("Reconciling")), Level.PROGRESSING),
        (_memory(_condition("Ready", "False"), _condition("Stalled")), Level.FAILED),
        (_memory(_condition("Ready", "False")), Level.FAILED),
        (_memory(), Level.PROGRESSING),
        ({"kind": "Job", "status": {"conditions": [_condition("Failed")]}}, Level.FAILED),
        ({"kind": "Job", "status": {"conditions": [_condition("Complete")]}}, Level.OK),
        ({"kind": "Job", "status": {}}, Level.PROGRESSING),
        ({"kind": "PersistentVolumeClaim", "status": {"phase": "Lost"}}, Level.FAILED),
        ({"kind": "PersistentVolumeClaim"}, Level.PROGRESSING),
        ({"kind": "ConfigMap"}, Level.OK),
        ({"kind": "ConfigMap", "metadata": {"deletionTimestamp": "now"}}, Level.PROGRESSING),
        (
            {"kind": "Pod", "status": {"containerStatuses": [{"state": {"waiting": {"reason": "ImagePullBackOff"}}}]}},
            Level.FAILED,
        ),
        ({"kind": "Pod", "status": {"phase": "Running", "conditions": [_condition("Ready")]}}, Level.OK),
        ({"kind": "Pod", "status": {"phase": "Running"}}, Level.PROGRESSING),
    ],
)
def test_health_is_judged_from_the_object_alone(body: dict[str, Any], level: Level) -> None:
    assert health.of(body).level is level


def test_a_deployment_is_well_when_the_newest_template_serves() -> None:
    body = {
        "kind": "Deployment",
        "metadata": {"generation": 4},
        "spec": {"replicas": 2},
        "status": {"observedGeneration": 4, "readyReplicas": 2, "updatedReplicas": 1},
    }
    assert health.of(body).level is Level.PROGRESSING
    body["status"]["updatedReplicas"] = 2
    assert health.of(body) == (Level.OK, "2/2 ready")
    body["status"]["conditions"] = [_condition("Progressing", "False", "ProgressDeadlineExceeded")]
    assert health.of(body).level is Level.FAILED


def test_the_tree_shows_pods_below_what_they_are_of() -> None:
    labels = {"app": "notes"}
    deployment = {
        "kind": "Deployment",
        "metadata": {"name": "notes"},
        "spec": {"selector": {"matchLabels": labels}},
    }
    job = {"kind": "Job", "metadata": {"name": "notes-migrate"}, "status": {"conditions": [_condition("Complete")]}}
    pods = [
        {"kind": "Pod", "metadata": {"name": "notes-1", "labels": labels | {"x": "y"}}},
        {"kind": "Pod", "metadata": {"name": "m-1", "ownerReferences": [{"kind": "Job", "name": "notes-migrate"}]}},
        {"kind": "Pod", "metadata": {"name": "stray"}},
    ]
    drawn = screen.draw(children.tree(_memory(_condition("Ready")), [deployment, job], pods), colour=False)
    assert [line.rstrip().split("  ")[0] for line in drawn.replace("│  ", "").splitlines()][:1] == [
        "✓ SomaMemory/notes"
    ]
    assert drawn.splitlines()[2].startswith("│  └─ … Pod/notes-1")
    assert drawn.splitlines()[4].startswith("│  └─ … Pod/m-1")
    assert drawn.splitlines()[5].startswith("└─ … Pod/stray")
    assert "\x1b" not in drawn


SECRETS = {
    "password": "pl4nted-p4ssword",
    "token": "planted.token+with/odd=chars",
    "multi": "two\nlines-planted\n",
}


@pytest.fixture(scope="module")
def redactor() -> Redactor:
    data = {key: base64.b64encode(value.encode()).decode() for key, value in SECRETS.items()}
    return Redactor(known_values([{"kind": "Secret", "data": data}, {"kind": "Secret"}]))


@pytest.mark.parametrize("value", SECRETS.values())
def test_a_known_value_is_hidden_wherever_it_stands(redactor: Redactor, value: str) -> None:
    body = {
        "kind": "Pod",
        "spec": {"containers": [{"args": [f"--x={value}"], "env": [{"name": "HARMLESS", "value": value}]}]},
        "note": base64.b64encode(value.encode()).decode(),
    }
    written = redactor.json(body) + redactor.text(f"a log line with {value} in it")
    assert value not in written
    assert json.dumps(value)[1:-1] not in written
    assert base64.b64encode(value.encode()).decode() not in written


@pytest.mark.parametrize(
    ("given", "secret"),
    [
        ("dial postgres://soma:h4rd2guess@db:5432/soma", "h4rd2guess"),
        ("redis://:only-a-pass@cache:6379", "only-a-pass"),
        ("Authorization: Bearer abcdef0123456789", "abcdef0123456789"),
        ("authorization: basic dXNlcjpwYXNz", "dXNlcjpwYXNz"),
        ("got eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxIn0.c2lnbmF0dXJl from", "eyJzdWIiOiIxIn0"),
        ("key AKIAABCDEFGHIJKLMNOP used", "AKIAABCDEFGHIJKLMNOP"),
        ("-----BEGIN RSA PRIVATE KEY-----\nMIIE\nabc\n-----END RSA PRIVATE KEY-----", "MIIE"),
        ('{"redis_password": "verysecret", "host": "cache"}', "verysecret"),
        ("PGPASSWORD=verysecret psql", "verysecret"),
        ("aws_secret_access_key: verysecret", "verysecret"),
    ],
)
def test_what_looks_like_a_secret_is_hidden_although_nobody_knows_it(given: str, secret: str) -> None:
    assert secret not in Redactor().text(given)
    assert secret not in Redactor().json({"kind": "ConfigMap", "data": {"settings.yaml": given}})


def test_a_secret_keeps_its_keys_and_an_environment_its_names() -> None:
    made = Redactor().body(
        [
            {
                "kind": "Secret",
                "metadata": {"name": "db"},
                "data": {"user": "YQ==", "password": "Yg=="},
                "type": "Opaque",
            },
            {"env": [{"name": "SOMA_API_TOKEN", "value": "x"}, {"name": "SOMA_LOG_LEVEL", "value": "INFO"}]},
            {"env": [{"name": "PGPASSWORD", "valueFrom": {"secretKeyRef": {"name": "db", "key": "password"}}}]},
            {"annotations": {"kubectl.kubernetes.io/last-applied-configuration": '{"stringData": {"a": "b"}}'}},
        ]
    )
    assert made == [
        {"kind": "Secret", "metadata": {"name": "db"}, "data": {"user": HIDDEN, "password": HIDDEN}, "type": "Opaque"},
        {"env": [{"name": "SOMA_API_TOKEN", "value": HIDDEN}, {"name": "SOMA_LOG_LEVEL", "value": "INFO"}]},
        {"env": [{"name": "PGPASSWORD", "valueFrom": {"secretKeyRef": {"name": "db", "key": "password"}}}]},
        {"annotations": {}},
    ]


def test_ordinary_text_stays_readable() -> None:
    text = "stored 3 memories in 1.2 ms; http://notes.team.svc:9595/healthz said 200; the token Secret is notes-token"
    assert Redactor().text(text) == text


def test_flags_of_kubectl_stand_before_or_after_the_command(capsys: pytest.CaptureFixture[str]) -> None:
    for line in (["-n", "team", "--context=x", "status", "notes"], ["status", "notes", "-n", "team", "--context", "x"]):
        given = parser().parse_args(line)
        assert (given.namespace, given.kubectl_context, given.name) == ("team", "x", "notes")
    with pytest.raises(SystemExit) as ended:
        parser().parse_args(["connect", "notes", "--port", "70000"])
    assert ended.value.code == 2
    assert "1 to 65535" in capsys.readouterr().err
