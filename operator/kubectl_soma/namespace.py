"""Commands on a whole namespace: `health` (a snapshot) and `reset` (remove all of it)."""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
import time
from collections.abc import Sequence

from kubectl_soma import health as judging
from kubectl_soma import screen
from kubectl_soma.cluster import Body, Cluster, PluginError
from kubectl_soma.health import Level

_LOOKED_AT = (
    "somamemories",
    "somamemorybackups",
    "deployments.apps",
    "statefulsets.apps",
    "jobs.batch",
    "persistentvolumeclaims",
    "pods",
)
_WARNINGS = 15


def health(cluster: Cluster, arguments: argparse.Namespace) -> int:
    """What is not well in the namespace, and its latest warnings. 1 where anything has failed."""
    found = {kind: cluster.items(kind) for kind in _LOOKED_AT}
    judged = [(body, judging.of(body)) for bodies in found.values() for body in bodies]
    failed = [(body, one) for body, one in judged if one.level is Level.FAILED]
    waiting = [(body, one) for body, one in judged if one.level is Level.PROGRESSING]
    warnings = _warnings(cluster)
    if arguments.json:
        print(json.dumps(_as_json(cluster.namespace, found, judged, warnings), indent=2))
    else:
        counts = ", ".join(f"{len(bodies)} {kind.partition('.')[0]}" for kind, bodies in found.items() if bodies)
        print(f"namespace {cluster.namespace}: {counts or 'nothing of ours'}\n")
        rows = [
            (screen.mark(one.level, colour=False), f"{body['kind']}/{body['metadata']['name']}", one.why)
            for body, one in (*failed, *waiting)
        ]
        print(screen.table(("", "OBJECT", "STATE"), rows) or "everything is well")
        if warnings:
            print("\n" + screen.table(("LAST WARNINGS", "OBJECT", "MESSAGE"), warnings))
    return 1 if failed else 0


def _warnings(cluster: Cluster) -> list[tuple[str, str, str]]:
    events = cluster.items("events", "--field-selector=type=Warning")
    events.sort(key=lambda one: str(one.get("lastTimestamp") or one.get("eventTime") or ""), reverse=True)
    return [
        (
            str(one.get("reason")),
            f"{one['involvedObject']['kind']}/{one['involvedObject'].get('name', '')}",
            str(one.get("message"))[:160],
        )
        for one in events[:_WARNINGS]
    ]


def _as_json(
    namespace: str,
    found: dict[str, list[Body]],
    judged: Sequence[tuple[Body, judging.Health]],
    warnings: Sequence[Sequence[str]],
) -> dict[str, object]:
    return {
        "namespace": namespace,
        "counts": {kind.partition(".")[0]: len(bodies) for kind, bodies in found.items()},
        "objects": [
            {"object": f"{body['kind']}/{body['metadata']['name']}", "health": one.level.value, "reason": one.why}
            for body, one in judged
        ],
        "warnings": [list(row) for row in warnings],
    }


def reset(cluster: Cluster, arguments: argparse.Namespace) -> int:
    """Removes a namespace and all that is in it: the cluster reset checklist. Asks for the namespace's name first.

    A namespace that does not go is shown with what holds it; its finalizers are taken away only with
    `--clear-finalizers`, because what they guard is left behind then.
    """
    name = arguments.namespace_to_reset
    if cluster.find("namespace", name) is None:
        print(f"namespace {name!r} is not there: nothing to reset")
        return 0
    if name in {"default", "kube-system", "kube-public", "kube-node-lease"}:
        raise PluginError(f"{name!r} belongs to the cluster and is never reset: remove what is in it by name")
    inside = Cluster(cluster.flags, name, cluster.program)
    _say_what_is_lost(inside)
    _confirm(name, arguments.confirm)
    _uninstall(inside, arguments.release)
    inside.run("delete", "namespace", name, "--wait=false", "--ignore-not-found")
    if _is_gone(inside, name, arguments.timeout):
        print(f"namespace {name} is gone")
        return 0
    for line in _holders(inside, name):
        print(f"  {line}", file=sys.stderr)
    if not arguments.clear_finalizers:
        raise PluginError(
            f"namespace {name!r} still terminates after {arguments.timeout} s: remove what holds it, or run this again "
            "with --clear-finalizers (what the finalizers guard is left behind)"
        )
    body = inside.get("namespace", name)
    body["spec"]["finalizers"] = []
    inside.run("replace", "--raw", f"/api/v1/namespaces/{name}/finalize", "--filename=-", given=json.dumps(body))
    if not _is_gone(inside, name, arguments.timeout):
        raise PluginError(
            f"namespace {name!r} is still there although its finalizers were cleared: ask the API server's log"
        )
    print(f"namespace {name} is gone; its finalizers were cleared, so look for what they guarded")
    return 0


def _say_what_is_lost(inside: Cluster) -> None:
    memories = inside.items("somamemories")
    claims = inside.items("persistentvolumeclaims")
    lines = [f"SomaMemory/{one['metadata']['name']} ({judging.of(one).why})" for one in memories]
    lines += [f"PersistentVolumeClaim/{one['metadata']['name']} ({_size(one)})" for one in claims]
    print(f"namespace {inside.namespace}: all of it will be removed, with", file=sys.stderr)
    print("\n".join(f"  {line}" for line in lines) or "  no memory and no volume", file=sys.stderr)


def _size(claim: Body) -> str:
    return str(claim.get("status", {}).get("capacity", {}).get("storage") or "not bound")


def _confirm(name: str, given: str | None) -> None:
    if given is None:
        if not sys.stdin.isatty():
            raise PluginError(f"this removes data: repeat it with --confirm={name}")
        given = input("Type the namespace's name to remove it: ").strip()
    if given != name:
        raise PluginError(f"{given!r} is not {name!r}: nothing was removed")


def _uninstall(inside: Cluster, release: str | None) -> None:
    if release is None:
        return
    helm = shutil.which("helm")
    if helm is None:
        raise PluginError("--release needs helm on the PATH: install it, or leave --release out")
    flags = [
        flag.replace("--context=", "--kube-context=")
        for flag in inside.flags
        if flag.startswith(("--context=", "--kubeconfig="))
    ]
    done = subprocess.run(
        [helm, "uninstall", release, f"--namespace={inside.namespace}", "--ignore-not-found", *flags],
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode != 0:
        raise PluginError(f"helm uninstall {release}: {done.stderr.strip()}")
    print(done.stdout.strip())


def _is_gone(cluster: Cluster, name: str, seconds: int) -> bool:
    deadline = time.monotonic() + seconds
    while cluster.find("namespace", name) is not None:
        if time.monotonic() > deadline:
            return False
        time.sleep(0.5)
    return True


def _holders(cluster: Cluster, name: str) -> list[str]:
    """The API server's own words on why a namespace does not go."""
    conditions = (cluster.find("namespace", name) or {}).get("status", {}).get("conditions") or ()
    return [f"{one['reason']}: {one['message']}" for one in conditions if one.get("status") == "True"]
