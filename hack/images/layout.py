"""Names of the images and places in the cache. Nothing here touches the disk."""

from __future__ import annotations

import os
import platform
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
LOCKS = ROOT / "hack" / "locks"
INSIDE = ROOT / "hack" / "images" / "inside"
REPOSITORY = "docker.io/library"
SUITE = "bookworm"
UID = 10001


@dataclass(frozen=True, slots=True)
class Recipe:
    """What one image is made of."""

    name: str
    dockerfile: Path
    lock: Path
    group: str  # its folder of locked wheels
    package: str  # the one of our two packages that it keeps
    with_model: bool


PACKAGES = ("soma_operator", "memory_runtime")


def _recipe(group: str, package: str, *, with_model: bool) -> Recipe:
    lock = LOCKS / f"{group}.txt"
    return Recipe(f"soma-memory-{group}", ROOT / f"Dockerfile.{group}", lock, group, package, with_model=with_model)


RECIPES = {
    recipe.name: recipe
    for recipe in (
        _recipe("operator", "soma_operator", with_model=False),
        _recipe("runtime", "memory_runtime", with_model=True),
    )
}


@dataclass(frozen=True, slots=True)
class Target:
    """The Python and the processor that the wheels must fit: the base image's, which need not be the host's."""

    python: str
    machine: str

    def __str__(self) -> str:
        return f"cp{self.python.replace('.', '')}-{self.machine}"


def cache() -> Path:
    return Path(os.environ.get("SOMA_CACHE") or Path.home() / ".cache" / "soma")


def machine() -> str:
    names = {"amd64": "x86_64", "arm64": "aarch64"}
    return names.get(platform.machine().lower(), platform.machine().lower())


def reference(name: str, tag: str) -> str:
    return f"{os.environ.get('SOMA_IMAGE_REPOSITORY') or REPOSITORY}/{name}:{tag}"
