"""The profile `node`: pods that really run, and a machine that is as it was when the node is gone."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from hack.cluster import Cluster, ClusterError, down, up
from hack.cluster.kubectl import Kubectl
from hack.cluster.lifecycle import load_image
from hack.cluster.node.configuration import KERNEL_SETTINGS
from hack.cluster.node.images import archive_of_program
from hack.cluster.processes import marked
from hack.cluster.status import statuses
from hack.cluster.tools import debian, program
from hack.requirement import unavailable

pytestmark = [pytest.mark.e2e, pytest.mark.slow]
IMAGE = "soma.test/busybox:1"
NAME = "t-node"


def names(folder: str) -> set[str]:
    return {path.name for path in Path(folder).iterdir()} if Path(folder).is_dir() else set()


def host_state() -> dict[str, set[str]]:
    """What a node could leave behind on this machine."""
    mounts = {line.split()[4] for line in Path("/proc/self/mountinfo").read_text().splitlines()}
    return {
        "mounts": {mount for mount in mounts if NAME in mount},
        "links": names("/sys/class/net"),
        "namespaces": names("/run/netns"),
        "cgroups": {str(path) for path in Path("/sys/fs/cgroup").glob(f"**/soma-{NAME}*")},
        "kernel": {f"{name} = {(Path('/proc/sys') / name).read_text().strip()}" for name in KERNEL_SETTINGS},
        "folders": {
            path
            for path in (
                "/var/lib/kubelet",
                "/var/lib/containerd",
                "/var/lib/cni",
                "/run/containerd",
                "/opt/containerd",
            )
            if Path(path).exists()
        },
        "iptables": {
            line
            for line in subprocess.run(["iptables-save"], capture_output=True, text=True).stdout.splitlines()
            if "KUBE" in line
        },
    }


@pytest.fixture(scope="module")
def before() -> dict[str, set[str]]:
    down(NAME)
    return host_state()


@pytest.fixture(scope="module")
def node(before: dict[str, set[str]], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    os.environ["SOMA_CLUSTER_PROVIDER"] = "native"
    cluster = start_or_skip_node()
    debian.require(("busybox-static",), "the node's tests")
    archive = tmp_path_factory.mktemp("image") / "busybox.tar"
    archive_of_program(Path("/bin/busybox"), IMAGE, archive)
    assert load_image(NAME, archive) == [IMAGE]
    yield cluster
    down(NAME)


def start_or_skip_node() -> Cluster:
    try:
        return up("node", NAME)
    except ClusterError as error:
        unavailable(str(error))


def pod_template(labels: dict[str, str], script: str, *, claim: str | None = None) -> dict[str, Any]:
    """A pod as PodSecurity `restricted` asks for, running a busybox script."""
    mounts = [{"name": "data", "mountPath": "/data"}]
    volume = {"persistentVolumeClaim": {"claimName": claim}} if claim else {"emptyDir": {}}
    return {
        "metadata": {"labels": labels},
        "spec": {
            "terminationGracePeriodSeconds": 1,
            "enableServiceLinks": False,
            "securityContext": {
                "runAsNonRoot": True,
                "runAsUser": 10001,
                "runAsGroup": 10001,
                "fsGroup": 10001,
                "seccompProfile": {"type": "RuntimeDefault"},
            },
            "containers": [
                {
                    "name": "main",
                    "image": IMAGE,
                    "command": ["/busybox", "sh", "-c", script],
                    "resources": {"requests": {"cpu": "10m", "memory": "16Mi"}, "limits": {"memory": "64Mi"}},
                    "securityContext": {
                        "allowPrivilegeEscalation": False,
                        "readOnlyRootFilesystem": True,
                        "capabilities": {"drop": ["ALL"]},
                    },
                    "volumeMounts": mounts,
                }
            ],
            "volumes": [{"name": "data", **volume}],
        },
    }


def deployment(
    name: str, namespace: str, script: str, *, replicas: int = 1, claim: str | None = None
) -> dict[str, Any]:
    labels = {"app": name}
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": name, "namespace": namespace},
        "spec": {
            "replicas": replicas,
            "strategy": {"type": "Recreate"},
            "selector": {"matchLabels": labels},
            "template": pod_template(labels, script, claim=claim),
        },
    }


@pytest.fixture
def namespace(node: Cluster) -> Iterator[tuple[Kubectl, str]]:
    """A namespace where PodSecurity `restricted` is enforced."""
    kubectl, name = node.kubectl(), f"t-{time.monotonic_ns() % 10**9}"
    labels = {"pod-security.kubernetes.io/enforce": "restricted"}
    kubectl.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": labels}})
    kubectl.run("wait", "--for=create", "--timeout=30s", f"--namespace={name}", "serviceaccount/default")
    yield kubectl, name
    kubectl.run("delete", "namespace", name, "--timeout=60s")


def ready(kubectl: Kubectl, namespace: str, name: str) -> None:
    kubectl.run("rollout", "status", f"deployment/{name}", f"--namespace={namespace}", "--timeout=90s")


def inside(kubectl: Kubectl, namespace: str, name: str, script: str) -> str:
    return kubectl.run("exec", f"deployment/{name}", f"--namespace={namespace}", "--", "/busybox", "sh", "-c", script)


def test_pods_find_and_reach_a_service_by_its_name_and_nothing_outside(namespace: tuple[Kubectl, str]) -> None:
    kubectl, ns = namespace
    serve = "echo found > /data/index.html; exec /busybox httpd -f -p 8080 -h /data"
    kubectl.apply(deployment("web", ns, serve, replicas=2))
    kubectl.run("expose", "deployment/web", "--port=80", "--target-port=8080", f"--namespace={ns}")
    ready(kubectl, ns, "web")
    # a Service leads somewhere once kube-proxy has heard of its pods, which is a moment after they are ready
    patiently = (
        "n=0; until /busybox wget -q -O- http://web 2>/dev/null; do n=$((n+1)); [ $n -lt 60 ] || exit 1; {}; done"
    )
    assert inside(kubectl, ns, "web", patiently.format("/busybox sleep 0.5")) == "found\n"
    assert inside(kubectl, ns, "web", f"/busybox wget -q -O- http://web.{ns}.svc.cluster.local") == "found\n"
    started = time.monotonic()
    outside = inside(kubectl, ns, "web", "/busybox nc -w 20 192.0.2.1 80 </dev/null 2>&1 || echo refused")
    assert "refused" in outside
    assert time.monotonic() - started < 10, "what leads nowhere should be refused at once"
    assert "NXDOMAIN" in inside(kubectl, ns, "web", "/busybox nslookup outside.example || true")


def test_a_claim_is_writable_through_fsgroup_outlives_its_pod_and_goes_when_deleted(
    node: Cluster, namespace: tuple[Kubectl, str]
) -> None:
    kubectl, ns = namespace
    claim = {
        "apiVersion": "v1",
        "kind": "PersistentVolumeClaim",
        "metadata": {"name": "data", "namespace": ns},
        "spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}},
    }
    kubectl.apply(claim)
    append = "echo line >> /data/log; exec /busybox sleep 3600"
    kubectl.apply(deployment("writer", ns, append, claim="data"))
    ready(kubectl, ns, "writer")
    kubectl.run("delete", "pod", "--all", f"--namespace={ns}", "--wait")
    ready(kubectl, ns, "writer")
    assert inside(kubectl, ns, "writer", "/busybox wc -l < /data/log").strip() == "2"
    volume = kubectl.run("get", "pvc", "data", f"--namespace={ns}", "--output=jsonpath={.spec.volumeName}")
    folder = node.root / "data" / "volumes" / volume
    assert (folder / "log").stat().st_uid == 10001
    kubectl.run("delete", "deployment/writer", "pvc/data", f"--namespace={ns}", "--wait", "--timeout=60s")
    kubectl.run("wait", "--for=delete", f"pv/{volume}", "--timeout=60s")
    assert not folder.exists()


def test_a_crashed_container_is_back_within_seconds_each_time(namespace: tuple[Kubectl, str]) -> None:
    kubectl, ns = namespace
    kubectl.apply(deployment("crashing", ns, "/busybox sleep 1; exit 1"))
    count = (
        "get",
        "pods",
        f"--namespace={ns}",
        "--output=jsonpath={.items[0].status.containerStatuses[0].restartCount}",
    )
    deadline = time.monotonic() + 60
    restarts = 0
    while restarts < 5 and time.monotonic() < deadline:
        restarts = int(kubectl.run(*count) or 0) if kubectl.run("get", "pods", f"--namespace={ns}") else 0
        time.sleep(0.5)
    # With the default back-off (10, 20, 40 … s) the fifth restart comes after 150 s.
    assert restarts >= 5


def test_metrics_reach_the_autoscaler(namespace: tuple[Kubectl, str]) -> None:
    kubectl, ns = namespace
    kubectl.apply(deployment("busy", ns, "while :; do :; done"))
    kubectl.run("autoscale", "deployment/busy", "--cpu=50%", "--min=1", "--max=2", f"--namespace={ns}")
    wanted = ("get", "deployment/busy", f"--namespace={ns}", "--output=jsonpath={.spec.replicas}")
    deadline = time.monotonic() + 120
    while kubectl.run(*wanted) != "2":
        assert time.monotonic() < deadline, kubectl.run("describe", "hpa", f"--namespace={ns}")
        time.sleep(1)


def test_port_forward_carries_bytes_from_the_hosts_loopback(node: Cluster, namespace: tuple[Kubectl, str]) -> None:
    kubectl, ns = namespace
    kubectl.apply(deployment("web", ns, "echo forwarded > /data/index.html; exec /busybox httpd -f -p 8080 -h /data"))
    ready(kubectl, ns, "web")
    command = [program("kubectl"), f"--kubeconfig={node.kubeconfig}", "port-forward", f"--namespace={ns}"]
    forward = subprocess.Popen([*command, "deployment/web", ":8080"], stdout=subprocess.PIPE, text=True)
    try:
        assert forward.stdout is not None
        port = int(forward.stdout.readline().split("->")[0].rpartition(":")[2])
        with socket.create_connection(("127.0.0.1", port), timeout=10) as connection:
            connection.sendall(b"GET / HTTP/1.0\r\n\r\n")
            answer = b"".join(iter(lambda: connection.recv(4096), b""))
        assert answer.endswith(b"forwarded\n")
    finally:
        forward.kill()
        forward.wait()


def test_components_that_are_killed_come_back_and_pods_live_on(node: Cluster, namespace: tuple[Kubectl, str]) -> None:
    kubectl, ns = namespace
    kubectl.apply(deployment("steady", ns, "exec /busybox sleep 3600"))
    ready(kubectl, ns, "steady")
    pids = component_pids()
    for name in ("kubelet", "containerd", "kube-apiserver", "kube-controller-manager"):
        os.kill(pids[name], signal.SIGKILL)
    deadline = time.monotonic() + 60
    while any(component_pids().get(name) in (None, pids[name]) for name in ("kubelet", "containerd", "kube-apiserver")):
        assert time.monotonic() < deadline
        time.sleep(0.2)
    assert up("node", NAME) == node
    kubectl.run("wait", "--for=condition=Ready", "pod", "--all", f"--namespace={ns}", "--timeout=60s")
    restarts = "--output=jsonpath={.items[0].status.containerStatuses[0].restartCount}"
    assert kubectl.run("get", "pods", f"--namespace={ns}", restarts) == "0"


def component_pids() -> dict[str, int | None]:
    status = next(status for status in statuses() if status.name == NAME)
    return {component.name: component.pid for component in status.components}


def test_after_crashes_down_leaves_the_machine_as_it_was(node: Cluster, before: dict[str, set[str]]) -> None:
    """The last of this file: the node is gone after it."""
    kubectl = node.kubectl()
    kubectl.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "left"}})
    kubectl.run("wait", "--for=create", "--timeout=30s", "--namespace=left", "serviceaccount/default")
    kubectl.apply(deployment("left", "left", "exec /busybox sleep 3600", replicas=2))
    ready(kubectl, "left", "left")
    pids = component_pids()
    supervisor = json.loads((node.root / "state.json").read_text())["supervisor"]["pid"]
    for victim in (pids["containerd"], pids["etcd"], supervisor):
        assert victim is not None
        os.kill(victim, signal.SIGKILL)
    started = time.monotonic()
    assert down(NAME)
    assert time.monotonic() - started < 20
    assert marked(node.root) == []
    assert not node.root.exists()
    assert host_state() == before
