"""Certificates and kubeconfigs of one cluster."""

from __future__ import annotations

import base64
import json
import subprocess
from pathlib import Path

from hack.cluster.errors import ClusterError
from hack.cluster.tools import program, write_atomically


def certificate(name: str, common_name: str, *organizations: str, hosts: tuple[str, ...] = ()) -> dict[str, object]:
    """A request for NAME.crt and NAME.key. `hosts` are the DNS names and addresses that it serves as."""
    addresses = [host for host in hosts if host.replace(".", "").isdigit()]
    return {
        "name": name,
        "commonName": common_name,
        "organizations": list(organizations),
        "dnsNames": [host for host in hosts if host not in addresses],
        "ips": addresses,
    }


def issue(directory: Path, cluster: str, certificates: list[dict[str, object]]) -> None:
    """Writes ca, the certificates and the service accounts' key pair into the folder."""
    request = {
        "dir": str(directory),
        "ca": f"soma-{cluster}",
        "certificates": certificates,
        "keyPairs": ["service-accounts"],
    }
    done = subprocess.run([program("pki")], input=json.dumps(request), capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise ClusterError(
            f"the certificates could not be written to {directory} ({done.stderr.strip()}): is the disk full or "
            "read-only?"
        )


def write_kubeconfig(path: Path, context: str, server: str, pki: Path, user: str) -> None:
    """A kubeconfig with everything embedded, readable by its owner only. Its text is JSON, which is YAML too."""
    embedded = {
        name: base64.b64encode((pki / name).read_bytes()).decode() for name in ("ca.crt", f"{user}.crt", f"{user}.key")
    }
    content = {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [
            {"name": context, "cluster": {"server": server, "certificate-authority-data": embedded["ca.crt"]}}
        ],
        "users": [
            {
                "name": user,
                "user": {
                    "client-certificate-data": embedded[f"{user}.crt"],
                    "client-key-data": embedded[f"{user}.key"],
                },
            }
        ],
        "contexts": [{"name": context, "context": {"cluster": context, "user": user, "namespace": "default"}}],
        "current-context": context,
    }
    write_atomically(path, json.dumps(content, indent=2) + "\n", mode=0o600)
