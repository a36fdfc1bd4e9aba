"""Images without a registry: archives that we make ourselves, and archives that go into a node's containerd."""

from __future__ import annotations

import hashlib
import io
import json
import platform
import subprocess
import tarfile
from pathlib import Path

from hack.cluster.errors import ClusterError
from hack.cluster.journal import Journal
from hack.cluster.native import last_words, process_inside
from hack.cluster.node.configuration import CONTAINERD_SOCKET


def archive_of_program(program: Path, tag: str, target: Path) -> None:
    """Writes a docker archive with one static program as its only file and entry point.

    The same program gives the same bytes.
    """
    layer = _tar({program.name: program.read_bytes()}, mode=0o755)
    digest = hashlib.sha256(layer).hexdigest()
    config = {
        "architecture": {"x86_64": "amd64", "aarch64": "arm64"}.get(platform.machine(), platform.machine()),
        "os": "linux",
        "config": {"Entrypoint": [f"/{program.name}"], "User": "65535:65535"},
        "rootfs": {"type": "layers", "diff_ids": [f"sha256:{digest}"]},
    }
    text = json.dumps(config, sort_keys=True).encode()
    config_name = f"{hashlib.sha256(text).hexdigest()}.json"
    manifest = [{"Config": config_name, "RepoTags": [tag], "Layers": [f"{digest}.tar"]}]
    target.write_bytes(
        _tar({config_name: text, f"{digest}.tar": layer, "manifest.json": json.dumps(manifest).encode()}, mode=0o644)
    )


def _tar(files: dict[str, bytes], mode: int) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.USTAR_FORMAT) as tar:
        for name, content in files.items():
            entry = tarfile.TarInfo(name)
            entry.size, entry.mode = len(content), mode
            tar.addfile(entry, io.BytesIO(content))
    return buffer.getvalue()


def load(journal: Journal, archive: Path, ctr: Path) -> list[str]:
    """Imports a docker or OCI archive into the node's containerd, where the kubelet finds it.

    Returns the images' names.
    """
    inside = process_inside(journal)
    if inside is None:
        raise ClusterError(
            f"the node {journal.name!r} does not run: start it with 'hack/py -m hack.cluster up --name {journal.name}'"
        )
    if not archive.is_file():
        raise ClusterError(
            f"{archive} is no file: give a docker archive, as 'docker save' or 'buildah push IMAGE "
            "docker-archive:FILE:TAG' write it"
        )
    command = ["nsenter", f"--target={inside.pid}", "--mount", "--net", "--"]
    command += [str(ctr), f"--address={CONTAINERD_SOCKET}", "--namespace=k8s.io", "images", "import", "-"]
    # By standard input, as the archive may lie in a folder that the node's namespace hides.
    with archive.open("rb") as content:
        done = subprocess.run(command, stdin=content, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        reason = (done.stderr.strip().splitlines() or ["no message"])[-1]
        containerd = last_words(journal.path.parent / "logs" / "containerd.log")
        raise ClusterError(
            f"containerd refused {archive} ({reason}): is it a docker or OCI archive? containerd's last line: "
            f"{containerd}"
        )
    words = [line.split() for line in done.stdout.splitlines()]
    return [line[0] for line in words if line[1:] == ["saved"]]
