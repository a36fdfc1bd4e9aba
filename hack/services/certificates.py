"""Certificates for tests of TLS: an authority of their own, and what it signs, made by Debian's openssl."""

from __future__ import annotations

import subprocess
from dataclasses import dataclass
from pathlib import Path

from hack.cluster.tools.debian import require
from hack.services.service import ServiceError

_KEY = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes")


@dataclass(frozen=True, slots=True)
class Pair:
    """A certificate and its key (PKCS#8, no passphrase), both PEM."""

    certificate: Path
    key: Path


class Authority:
    """Signs certificates that are good for a day; `certificate` is what a client trusts."""

    def __init__(self, directory: Path, name: str = "ca") -> None:
        """Raises ServiceError where openssl fails."""
        require(("openssl",), "the TLS tests")
        directory.mkdir(parents=True, exist_ok=True)
        self._directory = directory
        self._name = name
        self.certificate = directory / f"{name}.crt"
        self._key = directory / f"{name}.key"
        extensions = ("-addext", "basicConstraints=critical,CA:TRUE", "-addext", "keyUsage=critical,keyCertSign")
        _openssl("req", "-x509", *_KEY, "-keyout", self._key, "-out", self.certificate, *_subject(name), *extensions)

    def issue(self, name: str, hosts: tuple[str, ...] = ("localhost", "127.0.0.1")) -> Pair:
        """A pair that serves as `hosts`, and as a client named `name`."""
        pair = Pair(self._directory / f"{name}.crt", self._directory / f"{name}.key")
        names = ",".join(f"{'IP' if host.replace('.', '').isdigit() else 'DNS'}:{host}" for host in hosts)
        extensions = ("-addext", f"subjectAltName={names}", "-addext", "extendedKeyUsage=serverAuth,clientAuth")
        signer = ("-CA", self.certificate, "-CAkey", self._key)
        _openssl("req", "-x509", *_KEY, "-keyout", pair.key, "-out", pair.certificate, *_subject(name), *signer,
                 *extensions, "-addext", "basicConstraints=critical,CA:FALSE")  # fmt: skip
        return pair


def _subject(name: str) -> tuple[str, ...]:
    return ("-subj", f"/CN={name}", "-days", "1")


def _openssl(*arguments: str | Path) -> None:
    done = subprocess.run(["openssl", *map(str, arguments)], capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise ServiceError(f"openssl could not make a certificate: {done.stderr.strip()[-300:]}")
