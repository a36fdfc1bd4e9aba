"""The command line of `kubectl soma`."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence

from kubectl_soma import access, actions, bundle, namespace, views
from kubectl_soma.cluster import Cluster, PluginError, connect

EXIT_USAGE = 2
_CLUSTER_FLAGS = ("kubeconfig", "context", "cluster", "user", "as", "server", "token", "request_timeout")


def main(argv: Sequence[str] | None = None) -> int:
    """0: done, and well. 1: done, and something is not well. 2: it could not be done; one line says why."""
    arguments = parser().parse_args(argv)
    try:
        cluster = connect(_flags(arguments), arguments.namespace)
        run: Callable[[Cluster, argparse.Namespace], int] = arguments.run
        return run(cluster, arguments)
    except PluginError as error:
        print(f"kubectl soma: {error}", file=sys.stderr)
        return EXIT_USAGE
    except (KeyboardInterrupt, BrokenPipeError):
        return EXIT_USAGE


def parser() -> argparse.ArgumentParser:
    """All commands."""
    shared = _shared()
    made = argparse.ArgumentParser(
        prog="kubectl soma", description="Looks after SomaMemory resources.", parents=[shared]
    )
    commands = made.add_subparsers(required=True, metavar="COMMAND")

    def add(
        name: str, run: Callable[[Cluster, argparse.Namespace], int], words: str, *, memory: bool = True
    ) -> argparse.ArgumentParser:
        one = commands.add_parser(name, help=words, description=words, parents=[shared])
        if memory:
            one.add_argument("name", metavar="MEMORY", help="name of the SomaMemory")
        one.set_defaults(run=run)
        return one

    status = add("status", views.status, "the tree of its objects with health, conditions, drift, endpoints")
    status.add_argument("--all", action="store_true", help="show every condition, not only those that need attention")
    add("drift", views.drift, "fields that others changed, and what was done about it")
    add("preflight", views.preflight, "the ten points of the production checklist, with evidence")
    restart = add("restart", actions.restart, "start its pods anew, without taking them all down at once")
    restart.add_argument("--wait", action="store_true", help="return when the new pods serve")
    restart.add_argument(
        "--timeout", type=_seconds, default=600, metavar="SECONDS", help="how long --wait waits (default 600)"
    )
    add("suspend", actions.suspend, "the operator leaves it alone; it goes on serving")
    add("resume", actions.resume, "the operator takes care of it again")
    logs = add("logs", access.logs, "the logs of all its pods")
    logs.add_argument("-f", "--follow", action="store_true", help="go on with what is written from now on")
    logs.add_argument("-p", "--previous", action="store_true", help="of the containers before the last restart")
    logs.add_argument(
        "--tail", type=int, default=200, metavar="LINES", help="lines of each container (default 200, -1 is all)"
    )
    _connect(add("connect", access.connect, "forward its ports to this machine, and say where the token is"))
    collect = add(
        "bundle",
        bundle.bundle,
        "an archive for whoever has to find out: objects, Events, logs, metrics; secrets redacted",
    )
    collect.add_argument("-o", "--output", metavar="FILE", help="where to (default soma-MEMORY-TIME.tar.gz)")
    collect.add_argument(
        "--operator-namespace",
        default="soma-system",
        metavar="NAMESPACE",
        help="where the operator runs (default soma-system)",
    )
    add(
        "health", namespace.health, "a snapshot of the namespace: what is not well, and the last warnings", memory=False
    )
    _reset(
        add(
            "reset",
            namespace.reset,
            "remove a namespace and everything in it, after a typed confirmation",
            memory=False,
        )
    )
    return made


def _connect(made: argparse.ArgumentParser) -> None:
    made.add_argument(
        "--port", type=_port, default=access.HTTP_PORT, help=f"local port of HTTP (default {access.HTTP_PORT})"
    )
    made.add_argument("--grpc", action="store_true", help="forward gRPC, too")
    made.add_argument(
        "--grpc-port", type=_port, default=access.GRPC_PORT, help=f"local port of gRPC (default {access.GRPC_PORT})"
    )


def _reset(made: argparse.ArgumentParser) -> None:
    made.add_argument("namespace_to_reset", metavar="NAMESPACE", help="the namespace to remove")
    made.add_argument("--confirm", metavar="NAMESPACE", help="its name once more, instead of typing it when asked")
    made.add_argument("--release", metavar="NAME", help="a Helm release in it to uninstall first")
    made.add_argument("--clear-finalizers", action="store_true", help="if it does not go: clear its finalizers")
    made.add_argument("--timeout", type=_seconds, default=120, metavar="SECONDS", help="how long to wait (default 120)")


def _shared() -> argparse.ArgumentParser:
    made = argparse.ArgumentParser(add_help=False, argument_default=argparse.SUPPRESS)
    group = made.add_argument_group("which cluster, as kubectl has it")
    group.add_argument("-n", "--namespace", help="namespace (default: that of the context)")
    for name in _CLUSTER_FLAGS:
        group.add_argument("--" + name.replace("_", "-"), dest=f"kubectl_{name}", metavar="X")
    made.add_argument("--json", action="store_true", help="for programs")
    return made


def _flags(arguments: argparse.Namespace) -> list[str]:
    given = vars(arguments)
    arguments.namespace, arguments.json = given.get("namespace"), given.get("json", False)
    return [
        f"--{name.replace('_', '-')}={given[f'kubectl_{name}']}"
        for name in _CLUSTER_FLAGS
        if f"kubectl_{name}" in given
    ]


def _seconds(text: str) -> int:
    seconds = int(text)
    if seconds < 1:
        raise argparse.ArgumentTypeError("must be at least 1 second")
    return seconds


def _port(text: str) -> int:
    port = int(text)
    if not 0 < port < 65536:
        raise argparse.ArgumentTypeError("must be a port from 1 to 65535")
    return port


if __name__ == "__main__":
    sys.exit(main())
