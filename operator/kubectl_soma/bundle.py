"""`bundle`: everything that somebody needs who was not there, in one archive, without a secret in it."""

from __future__ import annotations

import argparse
import io
import json
import sys
import tarfile
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

from kubectl_soma import children
from kubectl_soma.cluster import Body, Cluster, PluginError
from kubectl_soma.redaction import Redactor, known_values

METRICS_PORT = 9595
OPERATOR = "app.kubernetes.io/name=soma-memory-operator"
_LOG_LINES = 5000


def bundle(cluster: Cluster, arguments: argparse.Namespace) -> int:
    """Writes the archive; what could not be had is named in it and told, and is no failure of the bundle."""
    memory = cluster.memory(arguments.name)
    target = Path(arguments.output or f"soma-{arguments.name}-{time.strftime('%Y%m%dT%H%M%SZ', time.gmtime())}.tar.gz")
    if target.exists():
        raise PluginError(f"{target} exists already: name another file with --output")
    redactor, missing = _redactor(cluster)
    count = 0
    try:
        with tarfile.open(target, "x:gz") as archive:
            for name, read in _parts(cluster, memory, arguments):
                print(f"  {name}", file=sys.stderr)
                try:
                    found = read()
                except PluginError as error:
                    missing.append(f"{name}: {error}")
                    continue
                _add(archive, name, redactor.text(found) if isinstance(found, str) else redactor.json(found))
                count += 1
            _add(archive, "MISSING.txt", redactor.text("\n".join(missing) or "nothing: all parts are there") + "\n")
    except OSError as error:
        raise PluginError(f"{target} cannot be written: {error.strerror or error}") from None
    print(
        json.dumps({"file": str(target), "parts": count, "missing": missing})
        if arguments.json
        else _told(target, count, missing)
    )
    return 0


def _told(target: Path, count: int, missing: list[str]) -> str:
    tail = f"; {len(missing)} could not be had (MISSING.txt says why)" if missing else ""
    return f"{target}: {count} parts{tail}. Secrets are replaced by [redacted]; look into it before you pass it on."


def _redactor(cluster: Cluster) -> tuple[Redactor, list[str]]:
    """Whoever may read the namespace's Secrets gets them taken out by value, too."""
    try:
        return Redactor(known_values(cluster.get("secrets")["items"])), []
    except PluginError as error:
        return Redactor(), [f"values of Secrets, to be redacted wherever they stand: {error}"]


Part = tuple[str, Callable[[], object]]


def _parts(cluster: Cluster, memory: Body, arguments: argparse.Namespace) -> Iterator[Part]:
    """Names in the archive, and how what belongs there is read: text, or objects."""
    name = str(memory["metadata"]["name"])
    running = children.pods(cluster, name)
    yield "memory.json", lambda: memory
    yield "objects.json", partial(children.objects, cluster, name)
    yield "pods.json", lambda: running
    yield "backups.json", partial(cluster.items, "somamemorybackups")
    yield "events.json", partial(cluster.items, "events")
    yield "nodes.txt", partial(cluster.run, "get", "nodes", "--output=wide")
    yield "version.json", partial(cluster.run, "version", "--output=json")
    for pod in running:
        yield from _pod(cluster, pod)
    system = Cluster(cluster.flags, arguments.operator_namespace, cluster.program)
    yield "operator/deployment.json", partial(system.items, "deployments.apps", f"--selector={OPERATOR}")
    yield "operator/log.txt", partial(_logs, system, f"--selector={OPERATOR}", "--prefix")


def _pod(cluster: Cluster, pod: Body) -> Iterator[Part]:
    name = str(pod["metadata"]["name"])
    for one in pod.get("status", {}).get("containerStatuses") or ():
        container = str(one["name"])
        yield f"logs/{name}.{container}.txt", partial(_logs, cluster, name, f"--container={container}")
        if one.get("restartCount"):
            earlier = partial(_logs, cluster, name, f"--container={container}", "--previous")
            yield f"logs/{name}.{container}.previous.txt", earlier
    path = f"/api/v1/namespaces/{cluster.namespace}/pods/{name}:{METRICS_PORT}/proxy"
    for what in ("metrics", "stats"):
        yield f"{what}/{name}.txt", partial(cluster.run, "get", "--raw", f"{path}/{what}")


def _logs(cluster: Cluster, *arguments: str) -> str:
    return cluster.run("logs", *arguments, f"--tail={_LOG_LINES}", "--timestamps")


def _add(archive: tarfile.TarFile, name: str, text: str) -> None:
    content = text.encode()
    entry = tarfile.TarInfo(f"soma-bundle/{name}")
    entry.size, entry.mtime = len(content), int(time.time())
    archive.addfile(entry, io.BytesIO(content))
