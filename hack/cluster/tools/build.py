"""Builds recipes into the cache: each once, by one caller at a time, visible only when whole."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import threading
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from hack.cluster.errors import ClusterError
from hack.cluster.tools import debian, golang
from hack.cluster.tools.progress import step
from hack.cluster.tools.recipes import MODULES, Recipe, all_programs, recipe_for
from hack.cluster.tools.store import cache_root, exclusive, need_free_space

_DISK_GIGABYTES = 8.0  # sources, build cache and programs of everything, cold


def program(name: str) -> Path:
    """Path of one program (kubectl, helm, opa, …), built if it is absent."""
    recipe = recipe_for(name)
    if recipe is None:
        raise ClusterError(f"no tool is called {name!r}: there are {', '.join(all_programs())}")
    return ensure(recipe) / (name if name in recipe.programs else recipe.programs[0])


def ensure_all(recipes: Iterable[Recipe]) -> dict[str, Path]:
    """Builds what is absent of several recipes, counting the steps. Returns each program's path."""
    wanted = list(recipes)
    absent = [recipe for recipe in wanted if not _complete(recipe)]
    for number, recipe in enumerate(absent, start=1):
        ensure(recipe, number, len(absent))
    return {name: _home(recipe) / name for recipe in wanted for name in recipe.programs}


def ensure(recipe: Recipe, number: int = 1, count: int = 1) -> Path:
    """Folder with the recipe's programs, built if absent. Callers that come together wait for the first one's build."""
    if not _complete(recipe):
        with exclusive(cache_root() / "tools" / f"{recipe.name}.lock", f"another build of {recipe.name}"):
            if not _complete(recipe):
                _build(recipe, number, count)
    return _home(recipe)


def _home(recipe: Recipe) -> Path:
    return cache_root() / "tools" / recipe.key()


def _complete(recipe: Recipe) -> bool:
    return _home(recipe).is_dir()  # it appears by a rename, so that being there is being whole


def _build(recipe: Recipe, number: int, count: int) -> None:
    need_free_space(cache_root(), _DISK_GIGABYTES, f"building {recipe.name}")
    debian.require(recipe.debian, f"building {recipe.name}")
    going = _Build(recipe)
    label = f"Building {recipe.name} {recipe.version} (about {_duration(recipe.seconds)} when nothing is cached)"
    with step(label, number, count, going.detail):
        for left in (cache_root() / "tools").glob(f".{recipe.name}-*"):
            shutil.rmtree(left, ignore_errors=True)  # of a caller that was killed: we hold the lock
        folder = cache_root() / "tools" / f".{recipe.key()}.{os.getpid()}"
        folder.mkdir(parents=True)
        try:
            going.run(folder)
            for link, target in recipe.links.items():
                (folder / link).symlink_to(target)
            folder.replace(_home(recipe))
        finally:
            shutil.rmtree(folder, ignore_errors=True)  # there is one only where the build failed


def _duration(seconds: int) -> str:
    return f"{seconds} s" if seconds < 90 else f"{seconds / 60:.0f} min"


@dataclass(slots=True)
class _Build:
    """One run of the Go command, counting the packages that it names while it compiles them."""

    recipe: Recipe
    compiled: int = 0
    downloaded: int = 0
    last_lines: list[str] = field(default_factory=list)

    def detail(self) -> str:
        if self.compiled == 0:
            return f"{self.downloaded} modules fetched" if self.downloaded else ""
        return f"{self.compiled} packages compiled"

    def run(self, folder: Path) -> None:
        """Builds every program of the recipe into the folder. ClusterError with the compiler's last lines."""
        recipe = self.recipe
        environment = golang.environment(cgo=recipe.cgo)
        flags = ["-v", "-ldflags", " ".join(("-s -w", *recipe.ldflags)), "-tags", ",".join(recipe.tags)]
        if recipe.module is not None:
            # An existing folder as the output takes every main package, each by its own name.
            command = [golang.go(), "build", *flags, "-o", f"{folder}/", *recipe.packages]
            where = MODULES / recipe.module
        else:
            environment["GOBIN"] = str(folder)
            command = [golang.go(), "install", *flags, *(f"{package}@v{recipe.version}" for package in recipe.packages)]
            where = cache_root()
        self._watch(
            subprocess.Popen(
                command,
                cwd=where,
                env=environment,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.PIPE,
                text=True,
                start_new_session=True,
            )
        )

    def _watch(self, process: subprocess.Popen[str]) -> None:
        reader = threading.Thread(target=self._count, args=(process,), daemon=True)
        reader.start()
        try:
            status = process.wait()
        except BaseException:
            # An interrupted build must not go on behind the person's back, nor the compilers that it started.
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            raise
        reader.join(timeout=10)
        if status != 0:
            told = "\n".join(self.last_lines[-20:])
            raise ClusterError(
                f"building {self.recipe.name} {self.recipe.version} failed (status {status}); is the Go module proxy "
                f"reachable? The compiler's last lines:\n{told}"
            )

    def _count(self, process: subprocess.Popen[str]) -> None:
        for line in process.stderr or ():
            if line.startswith("go: downloading"):
                self.downloaded += 1
            elif line.startswith(("#", "go: ")) or " " in line.strip():
                self.last_lines.append(line.rstrip())
            else:
                self.compiled += 1
