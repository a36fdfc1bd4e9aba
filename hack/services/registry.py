"""A Confluent-compatible schema registry: Apicurio Registry from its published artifact, in memory, on loopback."""

from __future__ import annotations

import hashlib
import shutil
import subprocess
import tarfile
import urllib.request
from pathlib import Path

from hack.cluster.tools.debian import require
from hack.cluster.tools.store import cache_root, exclusive
from hack.services.service import Service, ServiceError, free_port

VERSION = "2.6.13.Final"
_ARTIFACT = f"io.apicurio:apicurio-registry-app:{VERSION}:tar.gz:all"
_SHA256 = "3cda1b34aa020fb4ac4dd6a66018d757e81e437f97e20a1f92d366b70091c6ba"
_API = "apis/ccompat/v7"


def registry_program() -> Path:
    """The registry's jar in the cache, fetched by Maven on first use."""
    home = cache_root() / f"apicurio-registry-{VERSION}"
    jar = home / f"apicurio-registry-app-{VERSION}-runner.jar"
    with exclusive(cache_root() / f"apicurio-registry-{VERSION}.lock"):
        if (home / ".complete").exists():
            return jar
        if shutil.which("java") is None:
            require(("openjdk-17-jre-headless",), "the schema registry's test")
        if shutil.which("mvn") is None:
            require(("maven",), "the schema registry's test")
        shutil.rmtree(home, ignore_errors=True)
        home.mkdir(parents=True)
        copy = ["mvn", "-q", "-B", "dependency:copy", f"-Dartifact={_ARTIFACT}", f"-DoutputDirectory={home}"]
        done = subprocess.run(copy, cwd=home, capture_output=True, text=True, check=False)
        archives = list(home.glob("*.tar.gz"))
        if done.returncode != 0 or not archives:
            last = (done.stdout.strip().splitlines() or ["no message"])[-1]
            raise ServiceError(f"Maven could not fetch {_ARTIFACT} ({last}): is its repository reachable?")
        if hashlib.sha256(archives[0].read_bytes()).hexdigest() != _SHA256:
            raise ServiceError(f"{_ARTIFACT} is not what it was when it was pinned; nothing of it was run")
        with tarfile.open(archives[0]) as archive:
            archive.extractall(home, filter="data")
        archives[0].unlink()
        (home / ".complete").touch()
    return jar


def _answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(f"{url}/subjects", timeout=1) as answer:  # noqa: S310 -- loopback
            return bool(answer.status == 200)
    except OSError:
        return False


def start_registry(directory: Path) -> Service:
    """Start an empty registry; the service's url is the root of its Confluent-compatible API.

    Raises:
        ServiceError: when the artifact cannot be had or the registry does not start.
    """
    directory.mkdir(parents=True, exist_ok=True)
    jar, port = registry_program(), free_port()
    url = f"http://127.0.0.1:{port}/{_API}"
    options = ["-Dquarkus.http.host=127.0.0.1", f"-Dquarkus.http.port={port}"]
    return Service(
        name="schema-registry",
        url=url,
        command=["java", "-Xmx256m", "-XX:TieredStopAtLevel=1", *options, "-jar", str(jar)],
        log=directory / "registry.log",
        ready=lambda: _answers(url),
    ).start(timeout=120)
