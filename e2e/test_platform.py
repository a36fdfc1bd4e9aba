"""The node itself: metrics reach an autoscaler, and the operator survives its own death without touching what runs."""

from __future__ import annotations

import json
from collections.abc import Callable

from e2e.harness import Memory
from hack.kube import Kubectl, wait_until


def lease_holder(system: Kubectl) -> str:
    lease = system.get("lease", "soma-operator")
    return str(lease["spec"].get("holderIdentity") or "")


def test_metrics_server_feeds_an_autoscaler(operator: Kubectl, namespace: Kubectl) -> None:
    image = operator.get("deployment", "soma-operator")["spec"]["template"]["spec"]["containers"][0]["image"]
    restricted = {
        "allowPrivilegeEscalation": False,
        "capabilities": {"drop": ["ALL"]},
        "runAsNonRoot": True,
        "runAsUser": 10001,
        "seccompProfile": {"type": "RuntimeDefault"},
    }
    container = {
        "name": "busy",
        "image": image,
        "imagePullPolicy": "IfNotPresent",
        "command": ["/opt/soma/bin/python", "-c", "import time\nwhile True: sum(range(20000)); time.sleep(0.01)"],
        "resources": {"requests": {"cpu": "50m", "memory": "32Mi"}},
        "securityContext": restricted,
    }
    labels = {"app": "busy"}
    deployment = {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": "busy"},
        "spec": {
            "selector": {"matchLabels": labels},
            "template": {"metadata": {"labels": labels}, "spec": {"containers": [container]}},
        },
    }
    namespace.apply(json.dumps(deployment))
    namespace("autoscale", "deployment", "busy", "--cpu=50%", "--min=1", "--max=2")

    def measured() -> bool:
        metrics = namespace.get("hpa", "busy").get("status", {}).get("currentMetrics") or []
        return any(m.get("resource", {}).get("current", {}).get("averageUtilization") is not None for m in metrics)

    wait_until(measured, "the autoscaler to see a measurement", timeout=180, every=2)
    namespace("delete", "hpa,deployment", "busy", "--wait=false")


def test_a_killed_leader_is_followed_by_the_other_replica(operator: Kubectl, memory: Callable[..., Memory]) -> None:
    agents = memory()
    agents.await_condition("Ready", "True")
    serving = agents.pod()
    assert serving is not None
    leader = wait_until(lambda: lease_holder(operator), "a leader", timeout=60)
    pods = [
        p["metadata"]["name"]
        for p in operator.get("pods", "-l", "app.kubernetes.io/name=soma-memory-operator")["items"]
    ]
    leading = next(p for p in pods if p in leader)
    operator("delete", "pod", leading, "--grace-period=0", "--force")
    wait_until(lambda: (now := lease_holder(operator)) and leading not in now, "another leader", timeout=60)
    agents.kubectl("delete", "configmap", "agents-settings")
    wait_until(lambda: agents.kubectl.find("configmap", "agents-settings"), "the new leader to mend", timeout=60)
    still = agents.pod()
    assert still is not None
    assert still["metadata"]["uid"] == serving["metadata"]["uid"]
