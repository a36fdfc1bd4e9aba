"""How long a SomaMemory takes to serve, how soon a deleted child is back, and what an idle operator weighs.

Runs on a node of its own (`hack.cluster`, profile node), each time measured by polling the API server every 20 ms.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
from collections.abc import Sequence

import httpx

from hack.cluster import ClusterError, down, up
from hack.images import ImageError
from hack.install import connect, install
from hack.kube import Kubectl, KubectlError, wait_until

POLL_SECONDS = 0.02
CHILDREN = (
    ("service", ""),
    ("service", "-grpc"),
    ("configmap", "-settings"),
    ("serviceaccount", ""),
    ("poddisruptionbudget", ""),
    ("networkpolicy", "-deny"),
    ("networkpolicy", "-allow"),
    ("secret", "-token"),
    ("deployment", ""),
)


def memory(name: str) -> str:
    """A minimal resource of that name."""
    return json.dumps(
        {
            "apiVersion": "memory.somatech.dev/v1alpha1",
            "kind": "SomaMemory",
            "metadata": {"name": name},
            "spec": {"persistence": {"size": "1Gi"}, "deletionPolicy": "Delete"},
        }
    )


def is_ready(kubectl: Kubectl, name: str) -> bool:
    """Whether the resource says Ready for its current generation."""
    found = kubectl.get("somamemory", name)
    conditions = found.get("status", {}).get("conditions", [])
    return any(
        c["type"] == "Ready"
        and c["status"] == "True"
        and c.get("observedGeneration") == found["metadata"]["generation"]
        for c in conditions
    )


def apply_to_ready(kubectl: Kubectl, name: str) -> float:
    """Seconds from `kubectl apply` until Ready is True."""
    began = time.monotonic()
    kubectl.apply(memory(name))
    wait_until(lambda: is_ready(kubectl, name), f"{name} to be ready", timeout=180, every=POLL_SECONDS)
    return time.monotonic() - began


def child_back(kubectl: Kubectl, kind: str, name: str) -> float:
    """Seconds from the deletion of a child until another one of its name exists."""
    before = kubectl.get(kind, name)["metadata"]["uid"]
    kubectl("delete", kind, name, "--wait=false")
    began = time.monotonic()

    def back() -> bool:
        found = kubectl.find(kind, name)
        return found is not None and found["metadata"]["uid"] != before

    wait_until(back, f"{kind}/{name} to come back", timeout=30, every=POLL_SECONDS)
    return time.monotonic() - began


def operator_megabytes(system: Kubectl) -> list[float]:
    """Resident memory of each operator process, as its own metrics tell it."""
    sizes = []
    for pod in system.get("pods", "-l", "app.kubernetes.io/name=soma-memory-operator")["items"]:
        with system.port_forward(f"pod/{pod['metadata']['name']}", 8081) as port:
            text = httpx.get(f"http://127.0.0.1:{port}/metrics", timeout=10).text
        line = next(line for line in text.splitlines() if line.startswith("process_resident_memory_bytes "))
        sizes.append(round(float(line.split()[1]) / 1e6, 1))
    return sizes


def measure(runs: int, name: str) -> dict[str, object]:
    """All figures, as one JSON object."""
    cluster = up("node", name=name)
    system = install(cluster)
    kubectl = connect(cluster)
    ready = [apply_to_ready(kubectl, f"bench-{run}") for run in range(runs)]
    back = {f"{kind}{suffix}": child_back(kubectl, kind, f"bench-0{suffix}") for kind, suffix in CHILDREN}
    resident = operator_megabytes(system)
    for run in range(runs):
        kubectl("delete", "somamemory", f"bench-{run}", "--wait=false")
    return {
        "apply_to_ready_s": {"median": round(statistics.median(ready), 2), "max": round(max(ready), 2)},
        "child_back_s": {child: round(seconds, 3) for child, seconds in back.items()},
        "operator_resident_mb": resident,
        "runs": runs,
    }


def main(arguments: Sequence[str] | None = None) -> int:
    """Entry point; exit status 2 where a node cannot be had."""
    parser = argparse.ArgumentParser(prog="hack/bench/lifecycle", description=__doc__)
    parser.add_argument("--runs", type=int, default=3, help="SomaMemories created one after another (default 3)")
    parser.add_argument("--name", default="bench", help="name of the cluster, made if absent (default bench)")
    parser.add_argument("--keep", action="store_true", help="leave the cluster running")
    parser.add_argument("--json", action="store_true", help="one JSON object instead of a table")
    chosen = parser.parse_args(arguments)
    if chosen.runs < 1:
        parser.error("--runs: at least 1")
    try:
        figures = measure(chosen.runs, chosen.name)
    except (ClusterError, ImageError, KubectlError, TimeoutError) as error:
        print(f"hack/bench/lifecycle: {error}", file=sys.stderr)
        return 2
    finally:
        if not chosen.keep:
            down(chosen.name)
    if chosen.json:
        print(json.dumps(figures))
    else:
        for key, value in figures.items():
            print(f"{key:24} {value}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
