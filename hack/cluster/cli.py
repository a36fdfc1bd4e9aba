"""The command line: `python -m hack.cluster up|down|status|load-image|kubeconfig|tool`."""

from __future__ import annotations

import argparse
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path

from hack.cluster import lifecycle, status
from hack.cluster.errors import ClusterError
from hack.cluster.profiles import PROFILES, Options
from hack.cluster.tools import program
from hack.cluster.tools.progress import say


def parser() -> argparse.ArgumentParser:
    """The arguments of every command."""
    top = argparse.ArgumentParser(
        prog="hack/py -m hack.cluster", description="Real local Kubernetes clusters, built from source."
    )
    commands = top.add_subparsers(dest="command", required=True, metavar="COMMAND")
    starting = commands.add_parser("up", help="give a running cluster (the one there is, else a new one)")
    starting.add_argument(
        "--profile",
        choices=PROFILES,
        default="node",
        help="node: all of it (root); api: control plane; kwok: fake nodes",
    )
    starting.add_argument("--name", help="several clusters can run side by side (default: the profile)")
    starting.add_argument(
        "--controllers", action="store_true", help="api: also run the controller manager (garbage collection)"
    )
    starting.add_argument("--nodes", type=int, default=10, help="kwok: number of fake nodes (default 10)")
    starting.add_argument(
        "--current", action="store_true", help="use the cluster that kubectl points at, if it is on the allow-list"
    )
    stopping = commands.add_parser("down", help="remove a cluster and all that it made")
    which = stopping.add_mutually_exclusive_group()
    which.add_argument("--name", default="node", help="the cluster (default: node)")
    which.add_argument("--all", action="store_true", help="every cluster of this cache")
    telling = commands.add_parser("status", help="tell what runs")
    telling.add_argument("--json", action="store_true", help="for programs")
    path = commands.add_parser("kubeconfig", help="print the path of a cluster's kubeconfig")
    path.add_argument("--name", default="node", help="the cluster (default: node)")
    loading = commands.add_parser("load-image", help="put a docker archive into a node's containerd")
    loading.add_argument(
        "archive", type=Path, metavar="ARCHIVE", help="as 'docker save' or 'buildah push … docker-archive:' write it"
    )
    loading.add_argument("--name", default="node", help="the cluster (default: node)")
    tool = commands.add_parser("tool", help="print the path of a tool (kubectl, helm, …), building it if it is absent")
    tool.add_argument("tool", metavar="NAME")
    return top


def _up(arguments: argparse.Namespace) -> None:
    options = Options(controllers=arguments.controllers, nodes=arguments.nodes)
    cluster = lifecycle.up(arguments.profile, arguments.name, options, current=arguments.current)
    print(cluster.kubeconfig)


def _down(arguments: argparse.Namespace) -> None:
    if arguments.all:
        names = lifecycle.down_all()
        say(f"Removed {', '.join(names)}." if names else "No cluster to remove.")
    else:
        say(
            f"Removed {arguments.name}."
            if lifecycle.down(arguments.name)
            else f"No cluster {arguments.name!r} to remove."
        )


def _status(arguments: argparse.Namespace) -> None:
    found = status.statuses()
    print(status.as_json(found) if arguments.json else status.as_text(found))


def _kubeconfig(arguments: argparse.Namespace) -> None:
    print(lifecycle.find(arguments.name).kubeconfig)


def _load_image(arguments: argparse.Namespace) -> None:
    for image in lifecycle.load_image(arguments.name, arguments.archive):
        print(image)


def _tool(arguments: argparse.Namespace) -> None:
    print(program(arguments.tool))


_COMMANDS: dict[str, Callable[[argparse.Namespace], None]] = {
    "up": _up,
    "down": _down,
    "status": _status,
    "kubeconfig": _kubeconfig,
    "load-image": _load_image,
    "tool": _tool,
}


def main(argv: list[str] | None = None) -> int:
    """Runs one command. 0: done; 2: it cannot be had, and standard error says why in a sentence; 130: interrupted."""
    arguments = parser().parse_args(argv)
    # Being terminated is being interrupted: what was begun is undone either way.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        _COMMANDS[arguments.command](arguments)
    except ClusterError as error:
        print(f"hack.cluster: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("hack.cluster: interrupted", file=sys.stderr)
        return 130
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return 0
