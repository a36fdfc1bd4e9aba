"""`kubectl soma` beside a working operator and a real API server. What needs pods that run is in e2e/."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tarfile
import uuid
from collections.abc import Callable
from pathlib import Path

import pytest

from hack.kube import Kubectl
from tests.integration.engine.harness import ROOT, Memory, until

Plugin = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture
def soma(namespace: Kubectl) -> Plugin:
    """Runs the plugin in the test's namespace, as its own process."""
    environment = os.environ | {
        "PATH": f"{namespace.program.parent}:{os.environ['PATH']}",
        "PYTHONPATH": str(ROOT / "operator"),
        "KUBECONFIG": str(namespace.kubeconfig),
    }

    def run(*arguments: str, within: str = "") -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "kubectl_soma", f"--namespace={within or namespace.namespace}", *arguments]
        return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120)

    return run


def test_status_shows_the_tree_and_says_by_its_exit_whether_it_is_well(serving: Memory, soma: Plugin) -> None:
    done = soma("status", "store")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("✓ SomaMemory/store  Serving\n├─ ✓ Deployment/store  1/1 ready\n│  └─ ✓ Pod/store-")
    assert "Secret/store-token" in done.stdout
    assert "HTTP: http://store." in done.stdout
    parsed = json.loads(soma("status", "store", "--json").stdout)
    assert parsed["tree"]["health"] == "ok"
    assert {"Deployment/store", "Service/store"} <= {child["object"] for child in parsed["tree"]["children"]}
    serving.patch({"spec": {"image": {"repository": "nowhere/else"}}})
    until("not well", lambda: soma("status", "store").returncode == 1)


def test_a_name_that_is_not_there_is_answered_with_those_that_are(serving: Memory, soma: Plugin) -> None:
    done = soma("status", "stroe")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("kubectl soma: no SomaMemory 'stroe' in namespace")
    assert done.stderr.rstrip().endswith("there are: store")


def test_drift_is_shown_with_who_made_it(serving: Memory, soma: Plugin) -> None:
    assert soma("drift", "store").returncode == 0
    serving.patch({"spec": {"driftPolicy": "Warn"}})
    serving.serve()
    service = ("patch", "deployment", "store", "--type=merge", "--field-manager=somebody")
    serving.kubectl(*service, "-p", '{"spec":{"revisionHistoryLimit":7}}')
    until("drift is open", lambda: soma("drift", "store").returncode == 1)
    done = soma("drift", "store")
    assert ".spec.revisionHistoryLimit" in done.stdout
    assert "somebody" in done.stdout


def test_preflight_lists_ten_points(serving: Memory, soma: Plugin) -> None:
    assert len(json.loads(soma("preflight", "store", "--json").stdout)["preflight"]) == 10
    assert "DisasterRecoveryDrill" in soma("preflight", "store").stdout


def test_suspend_and_resume_leave_the_spec_as_it_was(serving: Memory, soma: Plugin) -> None:
    before = serving.body()["spec"]
    assert soma("suspend", "store").stdout == "SomaMemory/store suspended\n"
    serving.wait("Suspended", "True", "Suspended")
    assert "already suspended" in soma("suspend", "store").stdout
    assert soma("resume", "store").stdout == "SomaMemory/store resumed\n"
    serving.wait("Suspended", "False", "NotSuspended")
    assert serving.body()["spec"] == before


def test_whoever_suspends_a_resource_of_a_gitops_tool_is_warned(serving: Memory, soma: Plugin) -> None:
    body = {
        "apiVersion": "memory.somatech.dev/v1alpha1",
        "kind": "SomaMemory",
        "metadata": {"name": "store"},
        "spec": {},
    }
    given = ("apply", "--server-side", "--field-manager=kustomize-controller", "--force-conflicts", "-f", "-")
    serving.kubectl(*given, stdin=json.dumps(body | {"spec": {"mode": "embedded"}}))
    assert "kustomize-controller applies this resource" in soma("suspend", "store").stderr


def test_a_restart_is_no_drift(serving: Memory, soma: Plugin) -> None:
    done = soma("restart", "store")
    assert (done.returncode, done.stdout) == (0, "deployment.apps/store restarted\n")
    serving.serve()
    assert (serving.status.get("drift") or {}).get("count", 0) == 0


def test_health_names_what_is_not_well(serving: Memory, soma: Plugin) -> None:
    serving.kubectl("run", "broken", "--image=nowhere/nothing", "--restart=Never")
    waiting = {"name": "broken", "ready": False, "restartCount": 0, "image": "", "imageID": ""}
    waiting["state"] = {"waiting": {"reason": "ImagePullBackOff"}}
    patch = json.dumps({"status": {"containerStatuses": [waiting]}})
    serving.kubectl("patch", "pod", "broken", "--subresource=status", "--type=merge", "-p", patch)
    done = soma("health")
    assert done.returncode == 1
    assert "Pod/broken" in done.stdout
    assert "SomaMemory/store" not in done.stdout.replace("LAST WARNINGS", "\n").split("\n\n")[1]
    serving.kubectl("delete", "pod", "broken", "--force", "--grace-period=0")
    assert soma("health").returncode == 0


PLANTED = "pl4nted-value-that-nobody-may-see"


def test_a_bundle_has_everything_but_secrets(serving: Memory, soma: Plugin, tmp_path: Path) -> None:
    serving.kubectl("create", "secret", "generic", "planted", f"--from-literal=password={PLANTED}")
    serving.kubectl("annotate", "deployment", "store", f"note={PLANTED}")
    serving.kubectl("create", "configmap", "store-note", f"--from-literal=text=postgres://soma:{PLANTED}x@db/soma")
    serving.kubectl("label", "configmap", "store-note", "memory.somatech.dev/memory=store")
    token = serving.kubectl.get("secret", "store-token")["data"]["token"]
    file = tmp_path / "bundle.tar.gz"
    done = soma("bundle", "store", f"--output={file}")
    assert done.returncode == 0, done.stderr
    with tarfile.open(file) as archive:
        parts = {entry.name: (archive.extractfile(entry) or pytest.fail(entry.name)).read() for entry in archive}
    assert {"soma-bundle/memory.json", "soma-bundle/objects.json", "soma-bundle/events.json"} <= set(parts)
    assert b"Deployment" in parts["soma-bundle/objects.json"]
    assert b"metrics/store-" in parts["soma-bundle/MISSING.txt"], "no node runs here: what it lacks is said"
    everything = b"".join(parts.values()) + done.stdout.encode() + done.stderr.encode()
    assert PLANTED.encode() not in everything
    assert token.encode() not in everything
    again = soma("bundle", "store", f"--output={file}")
    assert (again.returncode, again.stdout) == (2, "")
    assert "exists already" in again.stderr


def test_reset_removes_a_namespace_only_after_its_name_was_said_again(kubectl: Kubectl, soma: Plugin) -> None:
    name = f"doomed-{uuid.uuid4().hex[:8]}"
    doomed = kubectl.within(name)
    kubectl("create", "namespace", name)
    doomed("create", "configmap", "held")
    doomed("patch", "configmap", "held", "--type=merge", "-p", '{"metadata":{"finalizers":["example.com/held"]}}')
    assert f"--confirm={name}" in soma("reset", name).stderr
    assert "nothing was removed" in soma("reset", name, "--confirm=other").stderr
    assert kubectl.find("namespace", name) is not None
    stuck = soma("reset", name, f"--confirm={name}", "--timeout=12")
    doomed("patch", "configmap", "held", "--type=merge", "-p", '{"metadata":{"finalizers":null}}')
    assert stuck.returncode == 2
    assert "example.com/held" in stuck.stderr
    assert "--clear-finalizers" in stuck.stderr
    done = soma("reset", name, f"--confirm={name}", "--timeout=60")
    assert (done.returncode, done.stdout.splitlines()[-1]) == (0, f"namespace {name} is gone"), done.stderr
    assert "nothing to reset" in soma("reset", name, f"--confirm={name}").stdout
    assert "never reset" in soma("reset", "kube-system", "--confirm=kube-system").stderr
