"""Commands that change one memory: `restart`, `suspend`, `resume`. None of them touches what is stored."""

from __future__ import annotations

import argparse
import sys

from kubectl_soma import children
from kubectl_soma.cluster import Body, Cluster, PluginError


def restart(cluster: Cluster, arguments: argparse.Namespace) -> int:
    """Starts the memory's pods anew, as its Deployments' strategies say; the operator does not take that for drift."""
    cluster.memory(arguments.name)
    names = [
        str(one["metadata"]["name"]) for one in cluster.items("deployments.apps", children.selector(arguments.name))
    ]
    if not names:
        raise PluginError(
            f"SomaMemory {arguments.name!r} has no Deployment yet: see 'kubectl soma status {arguments.name}'"
        )
    for name in names:
        print(cluster.run("rollout", "restart", f"deployment/{name}").strip())
    if arguments.wait:
        for name in names:
            cluster.run(
                "rollout",
                "status",
                f"deployment/{name}",
                f"--timeout={arguments.timeout}s",
                seconds=arguments.timeout + 30,
            )
            print(f"deployment/{name} serves")
    return 0


def suspend(cluster: Cluster, arguments: argparse.Namespace) -> int:
    """The operator leaves the memory as it is; it goes on serving."""
    return _set_suspend(cluster, arguments.name, wanted=True)


def resume(cluster: Cluster, arguments: argparse.Namespace) -> int:
    """The operator takes care of the memory again."""
    return _set_suspend(cluster, arguments.name, wanted=False)


def _set_suspend(cluster: Cluster, name: str, *, wanted: bool) -> int:
    memory = cluster.memory(name)
    word = "suspended" if wanted else "resumed"
    if bool(memory.get("spec", {}).get("suspend", False)) is wanted:
        print(f"SomaMemory/{name} is {'already suspended' if wanted else 'not suspended'}")
        return 0
    _warn_of_gitops(memory)
    # null, not false: the field goes away, and with it our say in the spec
    cluster.patch("somamemory", name, {"spec": {"suspend": True if wanted else None}})
    print(f"SomaMemory/{name} {word}")
    return 0


def _warn_of_gitops(memory: Body) -> None:
    manager = children.is_owned_by_gitops(memory)
    if manager is not None:
        print(
            f"warning: {manager} applies this resource and may set spec.suspend back: change it there too",
            file=sys.stderr,
        )
