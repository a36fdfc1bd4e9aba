"""etcd, the one that the test clusters run (built from Go modules), on loopback, with or without TLS."""

from __future__ import annotations

import ssl
import urllib.request
from pathlib import Path

from hack.cluster.tools import program
from hack.services.certificates import Authority
from hack.services.service import Service, free_port


def start_etcd(directory: Path, *, authority: Authority | None = None) -> Service:
    """Start a fresh etcd below `directory`; with an `authority` it speaks TLS only, to holders of its certificates.

    Raises:
        ClusterError: when the program cannot be built.
        ServiceError: when it does not start.
    """
    etcd = program("etcd")
    directory.mkdir(parents=True, exist_ok=True)
    url = f"{'http' if authority is None else 'https'}://127.0.0.1:{free_port()}"
    peer = f"http://127.0.0.1:{free_port()}"
    command = [str(etcd), "--name=test", f"--data-dir={directory / 'data'}", "--log-level=warn", "--unsafe-no-fsync"]
    command += [f"--listen-client-urls={url}", f"--advertise-client-urls={url}", f"--listen-peer-urls={peer}"]
    command += [f"--initial-advertise-peer-urls={peer}", f"--initial-cluster=test={peer}"]
    context = None
    if authority is not None:
        served = authority.issue("etcd")
        command += [f"--cert-file={served.certificate}", f"--key-file={served.key}"]
        command += [f"--trusted-ca-file={authority.certificate}", "--client-cert-auth"]
        context = ssl.create_default_context(cafile=str(authority.certificate))
        context.load_cert_chain(served.certificate, served.key)
    handlers = (urllib.request.ProxyHandler({}), urllib.request.HTTPSHandler(context=context))
    opener = urllib.request.build_opener(*handlers)
    return Service(
        name="etcd", url=url, command=command, log=directory / "etcd.log", ready=lambda: _healthy(opener, url)
    ).start()


def _healthy(opener: urllib.request.OpenerDirector, url: str) -> bool:
    try:
        with opener.open(f"{url}/health", timeout=1) as answer:
            return bool(answer.status == 200)
    except OSError:
        return False
