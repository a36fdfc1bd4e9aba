"""Java programs from their published artifacts: collected once into the cache, found there ever after."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

from hack.cluster.tools.debian import require
from hack.cluster.tools.store import cache_root, exclusive
from hack.services.service import ServiceError


def _pom(name: str, artifacts: tuple[str, ...]) -> str:
    dependencies = "".join(
        "<dependency><groupId>{}</groupId><artifactId>{}</artifactId><version>{}</version></dependency>".format(
            *artifact.split(":")
        )
        for artifact in artifacts
    )
    return (
        '<project xmlns="http://maven.apache.org/POM/4.0.0"><modelVersion>4.0.0</modelVersion>'
        f"<groupId>soma.test</groupId><artifactId>{name}</artifactId><version>1</version>"
        f"<dependencies>{dependencies}</dependencies></project>\n"
    )


def jars(name: str, artifacts: tuple[str, ...], *, wanted_for: str) -> Path:
    """The folder of these artifacts (`group:artifact:version`) and all that they need; `name` changes with them.

    Raises:
        ServiceError: when Maven cannot collect them.
    """
    home = cache_root() / name
    with exclusive(cache_root() / f"{name}.lock"):
        if (home / ".complete").exists():
            return home / "libs"
        if shutil.which("java") is None:
            require(("openjdk-17-jre-headless",), wanted_for)
        if shutil.which("mvn") is None:
            require(("maven",), wanted_for)
        shutil.rmtree(home, ignore_errors=True)
        home.mkdir(parents=True)
        (home / "pom.xml").write_text(_pom(name, artifacts))
        collect = ["mvn", "-q", "-B", "dependency:copy-dependencies", f"-DoutputDirectory={home / 'libs'}"]
        done = subprocess.run(collect, cwd=home, capture_output=True, text=True, check=False)
        if done.returncode != 0:
            last = (done.stdout.strip().splitlines() or ["no message"])[-1]
            raise ServiceError(f"Maven could not collect {name} ({last}): is its repository reachable?")
        (home / ".complete").touch()
    return home / "libs"
