"""Commands that reach a memory's pods: `logs` and `connect` (a port-forward, and where the token is)."""

from __future__ import annotations

import argparse
import base64
import json
import subprocess
import sys

from kubectl_soma import children
from kubectl_soma.cluster import Cluster, PluginError

HTTP_PORT, GRPC_PORT = 9595, 50053


def logs(cluster: Cluster, arguments: argparse.Namespace) -> int:
    """The logs of all the memory's pods, each line with its pod's name."""
    cluster.memory(arguments.name)
    if not children.pods(cluster, arguments.name):
        raise PluginError(f"SomaMemory {arguments.name!r} has no pod: see 'kubectl soma status {arguments.name}'")
    command = cluster.command("logs", children.selector(arguments.name), "--prefix", f"--tail={arguments.tail}")
    command += ["--all-containers", "--max-log-requests=50"]
    if arguments.follow:
        command.append("--follow")
    if arguments.previous:
        command.append("--previous")
    return subprocess.run(command, check=False).returncode


def connect(cluster: Cluster, arguments: argparse.Namespace) -> int:
    """Forwards the memory's ports to loopback until interrupted, and says how to call it; `--json`: in one line."""
    memory = cluster.memory(arguments.name)
    secret = str(((memory.get("status") or {}).get("endpoints") or {}).get("tokenSecret") or "")
    if not secret:
        raise PluginError(
            f"SomaMemory {arguments.name!r} has no endpoint yet: see 'kubectl soma status {arguments.name}'"
        )
    ports = [f"{arguments.port}:{HTTP_PORT}"] + ([f"{arguments.grpc_port}:{GRPC_PORT}"] if arguments.grpc else [])
    service = _service(cluster, arguments.name)
    process = subprocess.Popen(
        cluster.command("port-forward", "--address=127.0.0.1", service, *ports), stdout=subprocess.PIPE, text=True
    )
    try:
        _wait_for_forwarding(process)
        _tell(cluster, arguments, secret)
        return process.wait()
    except KeyboardInterrupt:
        return 0
    finally:
        process.terminate()
        process.wait()


def _service(cluster: Cluster, memory: str) -> str:
    """A pod would do for kubectl; the Service picks one that is ready."""
    names = [str(one["metadata"]["name"]) for one in cluster.items("services", children.selector(memory))]
    if memory not in names:
        raise PluginError(f"SomaMemory {memory!r} has no Service yet: see 'kubectl soma status {memory}'")
    return f"service/{memory}"


def _wait_for_forwarding(process: subprocess.Popen[str]) -> None:
    assert process.stdout is not None  # noqa: S101 it was asked for
    line = process.stdout.readline()
    if not line.startswith("Forwarding from"):
        process.wait()
        raise PluginError("kubectl port-forward ended: is a pod of the memory ready?")


def _tell(cluster: Cluster, arguments: argparse.Namespace, secret: str) -> None:
    name, _, key = secret.partition("/")
    url = f"http://127.0.0.1:{arguments.port}"
    if arguments.json:
        print(json.dumps({"url": url, "token": _token(cluster, name, key)}), flush=True)
        return
    secret_command = f"kubectl --namespace={cluster.namespace} get secret {name} --output=jsonpath='{{.data.{key}}}'"
    print(f"SomaMemory/{arguments.name} answers at {url} until you press Ctrl-C. In another shell:\n")
    print(f'  export SOMA_URL={url} SOMA_API_TOKEN="$({secret_command} | base64 --decode)"')
    print('  soma recall "what is remembered?"\n', flush=True)
    print("The token is read from its Secret by that command; it was not shown here.", file=sys.stderr)


def _token(cluster: Cluster, name: str, key: str) -> str:
    data = cluster.get("secret", name).get("data") or {}
    if key not in data:
        raise PluginError(f"Secret {name!r} has no key {key!r}: see status.endpoints.tokenSecret")
    return base64.b64decode(data[key]).decode()
