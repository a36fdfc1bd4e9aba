"""Starts operators, and looks at what they do. The controllers are real; pods are made ready by hand, as there is no
node."""

from __future__ import annotations

import base64
import contextlib
import json
import os
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import yaml

from hack.kube import Kubectl, KubectlError
from hack.services.service import free_port

ROOT = Path(__file__).resolve().parents[4]
T = TypeVar("T")
_LOCAL = urllib.request.build_opener(urllib.request.ProxyHandler({}))


def until(what: str, probe: Callable[[], T | None], timeout: float = 45.0, every: float = 0.1) -> T:
    """The first true answer of `probe`."""
    deadline = time.monotonic() + timeout
    while True:
        answer = probe()
        if answer:
            return answer
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {timeout:.0f} s: {what}")
        time.sleep(every)


@dataclass
class Operator:
    """One replica."""

    kubeconfig: Path
    log: Path
    settings: Mapping[str, str] = field(default_factory=dict)
    process: subprocess.Popen[bytes] | None = None
    health_port: int = 0
    metrics_port: int = 0

    def start(self) -> Operator:
        self.health_port, self.metrics_port = free_port(), free_port()
        environment = {key: value for key, value in os.environ.items() if not key.startswith("SOMA_")}
        environment |= {
            "KUBECONFIG": str(self.kubeconfig),
            "PYTHONPATH": f"{ROOT}:{ROOT / 'operator'}",
            "SOMA_OPERATOR_HEALTH_PORT": str(self.health_port),
            "SOMA_OPERATOR_METRICS_PORT": str(self.metrics_port),
            "SOMA_OPERATOR_LISTEN": "127.0.0.1",
            "SOMA_OPERATOR_RUNTIME_IMAGE": "docker.io/library/soma-memory-runtime:tested",
            "SOMA_OPERATOR_LEASE_DURATION_SECONDS": "6",
            "SOMA_OPERATOR_LOG_LEVEL": "DEBUG",
        }
        # The back ends of these tests are on loopback, which is refused unless a policy names it.
        policy = self.log.with_name("policy.yaml")
        if not policy.exists():
            policy.write_text("rules: [{hosts: ['*', 127.0.0.0/8]}]", encoding="utf-8")
        environment["SOMA_OPERATOR_POLICY_FILE"] = str(policy)
        environment |= {f"SOMA_OPERATOR_{name}": value for name, value in self.settings.items()}
        with self.log.open("ab") as sink:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "soma_operator.main"], env=environment, stderr=sink, stdout=sink, cwd="/"
            )
        return self

    def ready(self, timeout: float = 30.0) -> Operator:
        until(f"operator ready, see {self.log}", lambda: self.probe("/readyz")[0] == 200, timeout)
        return self

    def probe(self, path: str) -> tuple[int, str]:
        return self._get(self.health_port, path)

    @property
    def leading(self) -> bool:
        return "leading" in self.probe("/readyz")[1]

    def writes(self) -> dict[str, float]:
        """Requests that may change something, by verb and kind. The Lease is not among them: it has a client of its
        own."""
        found: dict[str, float] = {}
        for line in self._get(self.metrics_port, "/metrics")[1].splitlines():
            if line.startswith("soma_operator_api_requests_total{"):
                labels = dict(part.split("=", 1) for part in line.partition("{")[2].partition("}")[0].split(","))
                verb, kind = labels["verb"].strip('"'), labels["kind"].strip('"')
                if verb in ("POST", "PATCH", "PUT", "DELETE"):
                    found[f"{verb} {kind}"] = found.get(f"{verb} {kind}", 0.0) + float(line.rpartition(" ")[2])
        return found

    def metric(self, start: str) -> float:
        lines = [line for line in self._get(self.metrics_port, "/metrics")[1].splitlines() if line.startswith(start)]
        return sum(float(line.rpartition(" ")[2]) for line in lines)

    def resident_mebibytes(self) -> float:
        assert self.process is not None
        status = Path(f"/proc/{self.process.pid}/status").read_text(encoding="ascii")
        line = next(line for line in status.splitlines() if line.startswith("VmRSS"))
        return int(line.split()[1]) / 1024

    def stop(self, number: int = signal.SIGTERM) -> int:
        assert self.process is not None
        if self.process.poll() is None:
            self.process.send_signal(number)
        return self.process.wait(30)

    def _get(self, port: int, path: str) -> tuple[int, str]:
        try:
            with _LOCAL.open(f"http://127.0.0.1:{port}{path}", timeout=5) as answer:
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as error:
            return error.code, error.read().decode()
        except OSError:
            return 0, ""


@dataclass(frozen=True)
class Memory:
    """One SomaMemory in a namespace of its own."""

    kubectl: Kubectl
    name: str = "store"

    def create(self, spec: Mapping[str, Any] | None = None, annotations: Mapping[str, str] | None = None) -> Memory:
        body = {
            "apiVersion": "memory.somatech.dev/v1alpha1",
            "kind": "SomaMemory",
            "metadata": {"name": self.name, "annotations": dict(annotations or {})},
            "spec": dict(spec or {}),
        }
        self.kubectl("create", "-f", "-", stdin=json.dumps(body))
        return self

    def body(self) -> dict[str, Any]:
        return self.kubectl.get("somamemory", self.name)

    @property
    def status(self) -> dict[str, Any]:
        return dict(self.body().get("status") or {})

    def conditions(self) -> dict[str, dict[str, Any]]:
        return {condition["type"]: condition for condition in self.status.get("conditions", ())}

    def condition(self, kind: str) -> tuple[str, str] | None:
        """Status and reason."""
        found = self.conditions().get(kind)
        return (found["status"], found["reason"]) if found else None

    def wait(self, kind: str, status: str, reason: str, timeout: float = 15.0) -> dict[str, Any]:
        """Until the condition is so; returns it."""
        try:
            until("", lambda: self.condition(kind) == (status, reason), timeout)
        except AssertionError:
            raise AssertionError(f"{kind} is {self.conditions().get(kind)}, not {status}/{reason}") from None
        return self.conditions()[kind]

    def patch(self, patch: Mapping[str, Any]) -> None:
        self.kubectl("patch", "somamemory", self.name, "--type=merge", "-p", json.dumps(patch))

    def annotate(self, **annotations: str) -> None:
        named = {f"memory.somatech.dev/{key.replace('_', '-')}": value for key, value in annotations.items()}
        self.patch({"metadata": {"annotations": named}})

    def make_pods_ready(self, deployment: str = "") -> None:
        """What a kubelet would do; the controllers draw their conclusions."""
        pods = until("pods", lambda: self._newest_pods(deployment or self.name), 45)
        now = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
        image = "docker.io/library/soma-memory-runtime@sha256:" + "a" * 64
        container = {
            "name": "runtime", "ready": True, "restartCount": 0, "image": image, "imageID": image,
            "state": {"running": {"startedAt": now}},
        }  # fmt: skip
        ready = [{"type": kind, "status": "True", "lastTransitionTime": now} for kind in ("Ready", "ContainersReady")]
        patch = {"status": {"phase": "Running", "conditions": ready, "containerStatuses": [container]}}
        for pod in pods:
            name = pod["metadata"]["name"]
            self.kubectl("patch", "pod", name, "--subresource=status", "--type=merge", "-p", json.dumps(patch))

    def _newest_pods(self, name: str) -> list[dict[str, Any]]:
        deployment = self.kubectl.find("deployment", name)
        if deployment is None:
            return []
        wanted = deployment["spec"]["template"]["metadata"]["annotations"]
        labels = deployment["spec"]["selector"]["matchLabels"].items()
        return [
            pod
            for pod in self.kubectl.get("pods")["items"]
            if labels <= pod["metadata"]["labels"].items()
            and pod["metadata"].get("annotations") == wanted
            and not pod["metadata"].get("deletionTimestamp")
        ]

    def serve(self, deployment: str = "") -> Memory:
        """Until it is Ready: a rolling update brings its pods one after another, and takes others between two looks."""

        def ready() -> bool:
            with contextlib.suppress(KubectlError):
                self.make_pods_ready(deployment)
            return self.condition("Ready") == ("True", "Serving")

        try:
            until("", ready, 40, every=0.2)
        except AssertionError:
            raise AssertionError(f"not served: {self.conditions()}") from None
        return self


CHILDREN = (
    ("serviceaccount", "store"),
    ("configmap", "store-settings"),
    ("secret", "store-token"),
    ("networkpolicy", "store-deny"),
    ("networkpolicy", "store-allow"),
    ("service", "store"),
    ("service", "store-grpc"),
    ("deployment", "store"),
    ("poddisruptionbudget", "store"),
)


def kstatus(body: Mapping[str, Any]) -> str:
    """As sigs.k8s.io/cli-utils computes it for a custom resource."""
    if body["metadata"].get("deletionTimestamp"):
        return "Terminating"
    status = body.get("status") or {}
    if status.get("observedGeneration") != body["metadata"]["generation"]:
        return "InProgress"
    conditions = {condition["type"]: condition["status"] for condition in status.get("conditions", ())}
    if conditions.get("Reconciling") == "True":
        return "InProgress"
    if conditions.get("Stalled") == "True":
        return "Failed"
    return "Current" if conditions.get("Ready", "True") == "True" else "InProgress"


def token_kubeconfig(kubectl: Kubectl, place: Path, account: str = "soma-operator") -> Path:
    """A kubeconfig with nothing but a token of that ServiceAccount, made by TokenRequest."""
    admin = yaml.safe_load(kubectl.kubeconfig.read_text(encoding="utf-8"))
    token = kubectl.within("soma-system")("create", "token", account, "--duration=2h").strip()
    document = {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": admin["clusters"],
        "users": [{"name": account, "user": {"token": token}}],
        "contexts": [{"name": account, "context": {"cluster": admin["clusters"][0]["name"], "user": account}}],
        "current-context": account,
    }
    path = place / f"{account}.kubeconfig"
    path.write_text(yaml.safe_dump(document), encoding="utf-8")
    return path


def token_value(kubectl: Kubectl, name: str = "store-token") -> str:
    data = kubectl.get("secret", name)["data"]["token"]
    return base64.b64decode(data).decode()


def everything(kubectl: Kubectl) -> dict[str, str]:
    """Resource version of every object that the operator could have written."""
    kinds = "somamemory,serviceaccount,configmap,secret,pvc,networkpolicy,service,deployment,pdb"
    items = kubectl.get(kinds)["items"]
    return {f"{i['kind']}/{i['metadata']['name']}": i["metadata"]["resourceVersion"] for i in items}
