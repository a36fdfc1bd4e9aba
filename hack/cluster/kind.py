"""The profile `node` where Docker works: kind runs it. kind's own program is built here, as every tool is."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hack.cluster import runner
from hack.cluster.errors import ClusterError
from hack.cluster.journal import Journal
from hack.cluster.kubectl import Kubectl
from hack.cluster.layout import Layout
from hack.cluster.node.images import archive_of_program
from hack.cluster.tools import program, write_atomically

METRICS_IMAGE = "soma.test/metrics-server:1"  # also in manifests/kind.yaml
_MANIFESTS = Path(__file__).resolve().parent / "manifests"
_WAIT = "180s"


def docker_works(run: runner.Run = runner.run) -> bool:
    """Whether a Docker daemon answers us: the client alone, or a socket that refuses us, is no engine."""
    return run(["docker", "info", "--format", "{{.ServerVersion}}"], None).status == 0


@dataclass(frozen=True, slots=True)
class Kind:
    """kind's clusters are called soma-NAME, their contexts kind-soma-NAME."""

    run: runner.Run = runner.run

    def start(self, place: Layout, journal: Journal) -> None:
        """Creates the cluster, then brings what kind lacks: metrics."""
        journal.provider = "kind"
        journal.save()
        for folder in (place.logs, place.config):
            folder.mkdir(parents=True, exist_ok=True)
        config = place.config / "kind.json"
        write_atomically(config, json.dumps(configuration(), indent=2))
        arguments = ("create", "cluster", "--name", _cluster(place.name), "--kubeconfig", str(place.kubeconfig))
        self._kind(*arguments, "--config", str(config), "--wait", _WAIT)
        archive = place.config / "metrics-server.tar"
        archive_of_program(program("metrics-server"), METRICS_IMAGE, archive)
        self.load(place.name, archive)
        kubectl = self.kubectl(place)
        for manifest in ("metrics.yaml", "kind.yaml"):
            kubectl.run("apply", "--filename", str(_MANIFESTS / manifest))
        kubectl.run("wait", "--for=condition=Available", f"--timeout={_WAIT}", "apiservice/v1beta1.metrics.k8s.io")

    def remove(self, name: str) -> None:
        """Deletes the cluster; kind takes an absent one for deleted."""
        self._kind("delete", "cluster", "--name", _cluster(name))

    def load(self, name: str, archive: Path) -> None:
        """Puts a docker archive into the nodes' container runtime."""
        self._kind("load", "image-archive", str(archive), "--name", _cluster(name))

    def kubectl(self, place: Layout) -> Kubectl:
        """kubectl for a cluster of kind's."""
        return Kubectl(program("kubectl"), place, self.run)

    def _kind(self, *arguments: str) -> None:
        done = self.run([str(program("kind")), *arguments], None)
        if done.status != 0:
            last = (done.error.strip().splitlines() or ["no message"])[-1]
            raise ClusterError(
                f"'kind {' '.join(arguments[:2])}' failed ({last}): look at 'docker ps', or set "
                "SOMA_CLUSTER_PROVIDER=native"
            )


def _cluster(name: str) -> str:
    return f"soma-{name}"


def configuration() -> dict[str, Any]:
    """kind's configuration: loopback only, and a crashed container comes back in a second as on the native node."""
    kubelet = {
        "apiVersion": "kubelet.config.k8s.io/v1beta1",
        "kind": "KubeletConfiguration",
        "featureGates": {"KubeletCrashLoopBackOffMax": True},
        "crashLoopBackOff": {"maxContainerRestartPeriod": "1s"},
    }
    return {
        "kind": "Cluster",
        "apiVersion": "kind.x-k8s.io/v1alpha4",
        "networking": {"apiServerAddress": "127.0.0.1"},
        "nodes": [{"role": "control-plane"}],
        "kubeadmConfigPatches": [json.dumps(kubelet)],
    }
