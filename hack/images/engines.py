"""Turns a Dockerfile into a docker-archive, with docker or with buildah. What each would run is data (`*_command`),
so that the docker branch is tested where there is no Docker engine."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from hack.images import archive
from hack.images.base import Base, base, install, require_root
from hack.images.errors import ImageError
from hack.images.layout import ROOT, Recipe, Target, cache, machine
from hack.images.running import run, say

DOCKER_BASE = "python:3.12-slim-bookworm"
DOCKER_PYTHON = "3.12"
STORE_BYTES = {"overlay": 8e9, "vfs": 16e9}  # a first build takes 1.5 and 6 of them


@dataclass(frozen=True, slots=True)
class Order:
    """One image to build: `arguments` are the Dockerfile's build arguments, `wheels` the named context.

    `labels` are given on the command line: buildah would take a LABEL line with another argument's value for unchanged.
    """

    recipe: Recipe
    references: tuple[str, ...]
    wheels: Path
    arguments: Mapping[str, str]
    labels: Mapping[str, str]


class Engine(Protocol):
    name: str

    def target(self) -> Target: ...

    def base_image(self) -> str: ...

    def build(self, order: Order, output: Path) -> None:
        """Writes `output`, a docker-archive that carries the order's references."""


def choose(name: str | None = None) -> Engine:
    """Docker where its engine answers, else buildah; SOMA_IMAGE_ENGINE or `name` decides otherwise."""
    wanted = name or os.environ.get("SOMA_IMAGE_ENGINE") or "auto"
    if wanted not in ("auto", "docker", "buildah"):
        raise ImageError(f"the image engine '{wanted}' is not known: SOMA_IMAGE_ENGINE is auto, docker or buildah")
    if wanted == "docker" and not docker_answers():
        raise ImageError("no Docker engine answers ('docker info' fails): start it, or set SOMA_IMAGE_ENGINE=buildah")
    return Docker() if wanted == "docker" or (wanted == "auto" and docker_answers()) else Buildah()


def docker_answers() -> bool:
    if not shutil.which("docker"):
        return False
    try:
        return subprocess.run(["docker", "info"], capture_output=True, check=False, timeout=30).returncode == 0
    except subprocess.TimeoutExpired:
        return False


# --- docker
# ----------------------------------------------------------------------------------------------------------


class Docker:
    name = "docker"

    def target(self) -> Target:
        return Target(DOCKER_PYTHON, machine())

    def base_image(self) -> str:
        return DOCKER_BASE

    def build(self, order: Order, output: Path) -> None:
        run(
            docker_build_command(order),
            f"docker could not build {order.recipe.name}",
            env={**os.environ, "DOCKER_BUILDKIT": "1"},
        )
        run(docker_save_command(order, output), f"docker could not save {order.recipe.name}")


def docker_build_command(order: Order) -> list[str]:
    return [
        "docker",
        "build",
        *_build_options(order),
        *(part for ref in order.references for part in ("--tag", ref)),
        str(ROOT),
    ]


def docker_save_command(order: Order, output: Path) -> list[str]:
    return ["docker", "save", "--output", str(output), *order.references]


def _build_options(order: Order) -> list[str]:
    arguments = [part for name, value in order.arguments.items() for part in ("--build-arg", f"{name}={value}")]
    labels = [part for name, value in order.labels.items() for part in ("--label", f"{name}={value}")]
    return ["--file", str(order.recipe.dockerfile), "--build-context", f"wheels={order.wheels}", *arguments, *labels]


# --- buildah
# ---------------------------------------------------------------------------------------------------------


class Buildah:
    name = "buildah"

    def __init__(self, store: Path | None = None) -> None:
        self.store = store or cache() / "buildah"
        self._base: Base | None = None
        self._driver: str | None = None

    def target(self) -> Target:
        return Target(self.base().python, machine())

    def base(self) -> Base:
        if self._base is None:
            self._base = base()
        return self._base

    def base_image(self) -> str:
        return self.base().image

    def build(self, order: Order, output: Path) -> None:
        self.prepare()
        self.bound()
        self.import_base()
        run(self.build_command(order), f"buildah could not build {order.recipe.name}")
        with tempfile.TemporaryDirectory(dir=output.parent) as scratch:
            written = Path(scratch, "image.tar")
            pushed = self.command(
                "push",
                "--quiet",
                "--format",
                "v2s2",
                order.references[0],
                f"docker-archive:{written}:{order.references[0]}",
            )
            run(pushed, f"buildah could not write {order.recipe.name}")
            archive.retag(written, output, list(order.references))

    def prepare(self) -> None:
        require_root()
        install({} if shutil.which("buildah") else {"buildah": "buildah"})
        self.store.mkdir(parents=True, exist_ok=True)

    def import_base(self) -> None:
        made = self.base()
        if self._has(made.image):
            return
        say("importing the base")
        container = run(self.command("from", "scratch"), "buildah could not make an empty container").strip()
        run(self.command("add", "--quiet", container, str(made.archive), "/"), "buildah could not unpack the base")
        run(
            self.command("commit", "--quiet", "--rm", "--format", "docker", container, made.image),
            "buildah could not store the base",
        )

    def _has(self, image: str) -> bool:
        return (
            subprocess.run(
                self.command("inspect", "--type", "image", image), capture_output=True, check=False
            ).returncode
            == 0
        )

    def build_command(self, order: Order) -> list[str]:
        # `docker` format: the OCI format has no HEALTHCHECK. `--layers`: an unchanged stage is not run again.
        options = ["--isolation", "chroot", "--format", "docker", "--layers", "--pull-never", "--quiet"]
        return self.command("build", *options, *_build_options(order), "--ignorefile", str(ROOT / ".dockerignore"),
                            *(part for ref in order.references for part in ("--tag", ref)), str(ROOT))  # fmt: skip

    def command(self, *arguments: str) -> list[str]:
        """buildah in namespaces of its own: without a network a build can fetch nothing, and mounts end with the
        command."""
        places = ["--root", str(self.store / "root"), "--runroot", str(self.store / "run")]
        return [
            *("unshare", "--mount", "--propagation", "private", "--net"),
            "buildah",
            "--storage-driver",
            self.driver(),
            *places,
            *arguments,
        ]

    def driver(self) -> str:
        """overlay where the cache's file system can hold one (a quarter of vfs's time, which copies every layer
        whole), else vfs."""
        if self._driver is None:
            self.store.mkdir(parents=True, exist_ok=True)
            chosen = self.store / "driver"
            if not chosen.exists():
                chosen.write_text("overlay" if _overlay_works(self.store) else "vfs")
            self._driver = chosen.read_text().strip()
        return self._driver

    def bound(self) -> None:
        """Starts the store anew when it has outgrown its STORE_BYTES: every change of source leaves layers behind (vfs:
        whole copies)."""
        files = (Path(folder, name) for folder, _, names in os.walk(self.store) for name in names)
        used = sum(path.lstat().st_blocks * 512 for path in files if path.is_symlink() or path.exists())
        if used > STORE_BYTES[self.driver()]:
            say(
                f"buildah's store has grown to {used / 1e9:.0f} GB: starting it anew (this build takes a minute longer)"
            )
            self.clear()

    def clear(self) -> None:
        """Removes buildah's store: images live on as archives, and the base is imported again."""
        shutil.rmtree(self.store, ignore_errors=True)


def _overlay_works(folder: Path) -> bool:
    with tempfile.TemporaryDirectory(dir=folder) as scratch:
        for name in ("lower", "upper", "work", "merged"):
            Path(scratch, name).mkdir()
        options = f"lowerdir={scratch}/lower,upperdir={scratch}/upper,workdir={scratch}/work"
        command = [
            "unshare",
            "--mount",
            "--propagation",
            "private",
            "mount",
            "-t",
            "overlay",
            "overlay",
            "-o",
            options,
            f"{scratch}/merged",
        ]
        return subprocess.run(command, capture_output=True, check=False).returncode == 0
