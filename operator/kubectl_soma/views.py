"""Commands that only look: `status`, `drift` and `preflight` of one memory."""

from __future__ import annotations

import argparse
import json
from typing import Any

from kubectl_soma import children, health, screen
from kubectl_soma.cluster import Body, Cluster

OK, NOT_WELL = 0, 1


def status(cluster: Cluster, arguments: argparse.Namespace) -> int:
    """The tree of a memory's objects, its conditions, what drifted, and where it is reached. 1 unless it is well."""
    memory = cluster.memory(arguments.name)
    node = children.tree(memory, children.objects(cluster, arguments.name), children.pods(cluster, arguments.name))
    well = node.health.level is health.Level.OK
    if arguments.json:
        print(json.dumps(_summary(memory) | {"tree": node.as_json()}, indent=2))
        return OK if well else NOT_WELL
    found = memory.get("status") or {}
    print(screen.draw(node, colour=screen.colourful()))
    print()
    print(screen.table(("CONDITION", "STATUS", "REASON", "MESSAGE"), _conditions(memory, every=arguments.all)))
    if items := _open_drift(memory):
        print("\n" + screen.table(_DRIFT_HEAD, items))
    endpoints = found.get("endpoints") or {}
    if endpoints:
        print("\n" + "\n".join(f"{name}: {endpoints[key]}" for name, key in _ENDPOINTS if endpoints.get(key)))
    return OK if well else NOT_WELL


def drift(cluster: Cluster, arguments: argparse.Namespace) -> int:
    """Edits by others. 1 while one of them is open."""
    memory = cluster.memory(arguments.name)
    found = (memory.get("status") or {}).get("drift") or {}
    still_open = int(found.get("count") or 0)
    if arguments.json:
        print(json.dumps({"memory": arguments.name, "open": still_open, "items": found.get("items") or []}, indent=2))
    elif rows := [_drift_row(item) for item in found.get("items") or ()]:
        print(screen.table(_DRIFT_HEAD, rows))
        print(f"\n{still_open} open")
    else:
        print(f"no edit by others is known of SomaMemory/{arguments.name}")
    return NOT_WELL if still_open else OK


def preflight(cluster: Cluster, arguments: argparse.Namespace) -> int:
    """The ten points of the production checklist with their evidence. 1 while one of them failed."""
    memory = cluster.memory(arguments.name)
    points: list[Body] = (memory.get("status") or {}).get("preflight") or []
    if arguments.json:
        print(json.dumps({"memory": arguments.name, "preflight": points}, indent=2))
    elif points:
        rows = [(str(number), one["name"], one["status"], one["evidence"]) for number, one in enumerate(points, 1)]
        print(screen.table(("#", "POINT", "STATUS", "EVIDENCE"), rows))
    else:
        print(f"SomaMemory/{arguments.name} has no preflight status yet: is the operator running?")
    return NOT_WELL if not points or any(one["status"] == "Failed" for one in points) else OK


_ENDPOINTS = (("HTTP", "http"), ("gRPC", "grpc"), ("token", "tokenSecret"))
_DRIFT_HEAD = ("OBJECT", "FIELD", "CHANGED BY", "WHEN", "ACTION")


def _summary(memory: Body) -> dict[str, Any]:
    found = memory.get("status") or {}
    kept = ("conditions", "drift", "endpoints", "version", "image", "replicas", "readyReplicas", "observedGeneration")
    return {"memory": memory["metadata"]["name"], "namespace": memory["metadata"]["namespace"]} | {
        key: found[key] for key in kept if key in found
    }


def _conditions(memory: Body, *, every: bool) -> list[tuple[str, str, str, str]]:
    rows = [
        (one["type"], one["status"], one.get("reason", ""), one.get("message", ""))
        for one in (memory.get("status") or {}).get("conditions") or ()
        if every or not _is_as_hoped(one)
    ]
    return rows or [("Ready", "Unknown", "NoStatus", "the operator has written no status yet: is it running?")]


def _is_as_hoped(one: Body) -> bool:
    """Whether a condition needs nobody's attention. Ready is always shown."""
    if one["type"] == "Ready":
        return False
    hoped = "False" if one["type"] in {"Suspended", "Stalled", "Reconciling", "RestoreInProgress"} else "True"
    return bool(one["status"] == hoped)


def _open_drift(memory: Body) -> list[tuple[str, ...]]:
    items = ((memory.get("status") or {}).get("drift") or {}).get("items") or ()
    return [_drift_row(item) for item in items if item.get("action") != "Corrected"]


def _drift_row(item: Body) -> tuple[str, ...]:
    return tuple(str(item.get(key) or "") for key in ("object", "path", "manager", "time", "action"))
