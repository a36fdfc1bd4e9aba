"""The profiles `api` and `kwok`: a real API server on loopback, without root, that leaves nothing behind."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from hack.cluster import Cluster, ClusterError, Options, down, up
from hack.cluster.layout import layout
from hack.cluster.processes import marked
from hack.cluster.status import ComponentStatus, statuses
from hack.cluster.tools import ensure_all
from hack.cluster.tools.recipes import named

pytestmark = pytest.mark.integration
ROOT = Path(__file__).resolve().parents[3]
Start = Callable[..., Cluster]


def components(cluster: Cluster) -> dict[str, ComponentStatus]:
    status = next(status for status in statuses() if status.name == cluster.name)
    return {component.name: component for component in status.components}


def test_it_is_up_within_ten_seconds_once_built(start: Start) -> None:
    ensure_all(named("groundwork", "kubernetes"))
    started = time.monotonic()
    cluster = start("api")
    took = time.monotonic() - started
    assert cluster.kubectl().answers()
    # Of a machine that does nothing else: others' tests may run beside this one.
    assert took < 10 * max(1.0, os.getloadavg()[0])


def test_admission_is_the_real_one(start: Start) -> None:
    kubectl = start("api", Options(controllers=True)).kubectl()
    kubectl.apply(
        {
            "apiVersion": "v1",
            "kind": "Namespace",
            "metadata": {"name": "strict", "labels": {"pod-security.kubernetes.io/enforce": "restricted"}},
        }
    )
    kubectl.run("wait", "--for=create", "--timeout=30s", "--namespace=strict", "serviceaccount/default")
    with pytest.raises(ClusterError, match="violates PodSecurity"):
        kubectl.run("run", "loose", "--image=x", "--namespace=strict")
    with pytest.raises(ClusterError, match='User "eve" cannot list resource "secrets"'):
        kubectl.run("get", "secrets", "--as=eve")
    kubectl.run("delete", "namespace", "strict", "--timeout=60s")


def test_up_returns_the_running_cluster_and_refuses_another_kind_under_its_name(start: Start) -> None:
    first = start("api")
    before = components(first)["kube-apiserver"].pid
    assert up("api", first.name) == first
    assert components(first)["kube-apiserver"].pid == before
    with pytest.raises(ClusterError, match="without --controllers"):
        up("api", first.name, Options(controllers=True))
    with pytest.raises(ClusterError, match=r"has the profile api \(native\), not kwok"):
        up("kwok", first.name)


def test_two_run_side_by_side_and_one_goes_without_the_other(start: Start) -> None:
    first, second = start("api"), start("api")
    first.kubectl().run("create", "namespace", "only-here")
    with pytest.raises(ClusterError, match="not found"):
        second.kubectl().run("get", "namespace", "only-here")
    assert down(first.name)
    assert second.kubectl().answers()


def test_a_killed_api_server_comes_back_with_its_data(start: Start) -> None:
    cluster = start("api")
    cluster.kubectl().run("create", "namespace", "kept")
    victim = components(cluster)["kube-apiserver"].pid
    assert victim is not None
    os.kill(victim, signal.SIGKILL)
    while components(cluster)["kube-apiserver"].pid == victim:
        time.sleep(0.05)
    assert up("api", cluster.name) == cluster
    assert "kept" in cluster.kubectl().run("get", "namespace")
    assert components(cluster)["kube-apiserver"].restarts >= 1


def test_down_leaves_no_process_even_after_the_supervisor_was_killed(start: Start) -> None:
    cluster = start("api", Options(controllers=True))
    # the controller manager may end and be started anew while the API server is young
    deadline = time.monotonic() + 30
    while len(marked(cluster.root)) != 4:
        assert time.monotonic() < deadline, marked(cluster.root)
        time.sleep(0.05)
    supervisor = json.loads(layout(cluster.name).state.read_text())["supervisor"]["pid"]
    os.kill(supervisor, signal.SIGKILL)
    assert down(cluster.name)
    assert marked(cluster.root) == []
    assert not cluster.root.exists()


def test_a_tool_that_is_killed_while_it_starts_is_cleaned_up_by_the_next_one(start: Start) -> None:
    name = start("api").name
    down(name)
    command = [sys.executable, "-m", "hack.cluster", "up", "--profile", "api", "--name", name]
    tool = subprocess.Popen(command, cwd=ROOT, stderr=subprocess.DEVNULL)
    while not marked(layout(name).root):
        assert tool.poll() is None
        time.sleep(0.01)
    tool.kill()
    tool.wait()
    cluster = up("api", name)
    assert cluster.kubectl().answers()
    assert len(marked(cluster.root)) == 3


def test_a_supervisor_that_dies_takes_its_components_along(start: Start) -> None:
    cluster = start("api")
    supervisor = json.loads(layout(cluster.name).state.read_text())["supervisor"]["pid"]
    os.kill(supervisor, signal.SIGKILL)
    deadline = time.monotonic() + 10
    while marked(cluster.root) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert marked(cluster.root) == []
    assert up("api", cluster.name).kubectl().answers()


@pytest.mark.slow
def test_kwok_runs_hundreds_of_pods_on_fake_nodes(start: Start) -> None:
    kubectl = start("kwok", Options(nodes=20)).kubectl()
    kubectl.run("create", "deployment", "many", "--image=none", "--replicas=200")
    kubectl.run("rollout", "status", "deployment/many", "--timeout=120s")
    kubectl.run("create", "job", "once", "--image=none")
    kubectl.run("wait", "--for=condition=Complete", "job/once", "--timeout=60s")
    used = kubectl.run("get", "pods", "--output=jsonpath={.items[*].spec.nodeName}").split()
    assert len(set(used)) == 20
