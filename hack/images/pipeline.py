"""From the tree to images: decides what has changed, orders it built, keeps the archives."""

from __future__ import annotations

import fcntl
import subprocess
import tomllib
import zipfile
from collections.abc import Iterable
from pathlib import Path

from hack.cluster.tools.progress import step
from hack.images import archive, wheels
from hack.images.archive import Image
from hack.images.engines import Engine, Order, choose
from hack.images.errors import ImageError
from hack.images.layout import INSIDE, LOCKS, PACKAGES, RECIPES, ROOT, Recipe, cache, reference
from hack.images.running import digest, say

KEPT = 4  # archives kept for each image: 300 MB each


def build(names: Iterable[str] = (), *, engine: str | None = None) -> dict[str, Image]:
    """Builds the named images (all if none is named) where anything that goes into them has changed; returns every
    one asked for.

    Raises ImageError if the machine cannot build them.
    """
    recipes = [_recipe(name) for name in names] or list(RECIPES.values())
    chosen = choose(engine)
    folder = cache() / "images"
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "build.lock").open("w") as handle:
        fcntl.flock(handle, fcntl.LOCK_EX)
        collected = wheels.collect(chosen.target())
        return {
            recipe.name: _build_one(recipe, chosen, collected, folder, number, len(recipes))
            for number, recipe in enumerate(recipes, 1)
        }


def _recipe(name: str) -> Recipe:
    if name not in RECIPES:
        raise ImageError(f"there is no image '{name}': the images are {', '.join(RECIPES)}")
    return RECIPES[name]


def _build_one(recipe: Recipe, engine: Engine, collected: Path, folder: Path, number: int, count: int) -> Image:
    inputs = inputs_hash(recipe, engine.base_image(), collected)
    output = folder / f"{recipe.name}-{inputs}.tar"
    references = (reference(recipe.name, "dev"), reference(recipe.name, inputs))
    if output.exists():
        say(f"{recipe.name}: nothing that goes into it has changed ({inputs})")
        output.touch()
        return archive.read(recipe.name, output)
    labels = {
        "org.opencontainers.image.version": version(),
        "org.opencontainers.image.revision": revision(),
        "org.opencontainers.image.base.name": engine.base_image(),
        "dev.somatech.memory.inputs": inputs,
    }
    making = folder / f".{recipe.name}-{inputs}.tar"
    making.unlink(missing_ok=True)
    expected = "a minute the first time, seconds after a change of source"
    with step(f"{recipe.name} with {engine.name} ({expected})", number, count, str):
        engine.build(Order(recipe, references, collected, {"BASE_IMAGE": engine.base_image()}, labels), making)
        archive.read(recipe.name, making)  # a broken one must not get the name of a whole one
    making.rename(output)
    _forget_old(recipe, folder)
    return archive.read(recipe.name, output)


def inputs_hash(recipe: Recipe, base_image: str, collected: Path) -> str:
    """Changes whenever the image would: Dockerfile, what runs in it, base, locks, and the image's part of our
    wheel."""
    scripts = sorted(INSIDE.glob("*.py"))
    parts: list[str | Path | bytes] = [base_image, recipe.dockerfile, ROOT / ".dockerignore", *scripts]
    parts += [collected / recipe.group / "requirements.txt", LOCKS / "pip.txt"]
    if recipe.with_model:
        parts.append(LOCKS / "model.txt")
    (own,) = (collected / "own").glob("*.whl")
    with zipfile.ZipFile(own) as wheel:
        # The other package is dropped from this image, and RECORD tells of both.
        others = tuple(f"{name}/" for name in PACKAGES if name != recipe.package)
        members = sorted(
            name for name in wheel.namelist() if not name.startswith(others) and not name.endswith("/RECORD")
        )
        parts += [part for name in members for part in (name, wheel.read(name))]
    return digest(*parts)[:12]


def version() -> str:
    return str(tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"])


def revision() -> str:
    done = subprocess.run(["git", "-C", str(ROOT), "rev-parse", "HEAD"], capture_output=True, text=True, check=False)
    return done.stdout.strip() or "unknown"


def _forget_old(recipe: Recipe, folder: Path) -> None:
    archives = sorted(folder.glob(f"{recipe.name}-*.tar"), key=lambda path: path.stat().st_mtime, reverse=True)
    for path in archives[KEPT:]:
        path.unlink(missing_ok=True)
