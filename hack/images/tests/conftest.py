"""The built images and their unpacked root file systems, made once for a run of the tests."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import tarfile
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest

from hack.images import Image, build
from hack.images.engines import docker_answers
from hack.images.layout import INSIDE


@pytest.fixture(scope="session")
def images() -> dict[str, Image]:
    if os.geteuid() != 0 and not docker_answers():
        pytest.skip("images need a Docker engine or root")
    return build()


@pytest.fixture(scope="session")
def unpacked(images: dict[str, Image], tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Image name → a folder with its layers laid over one another, as a container would see them."""
    if os.geteuid() != 0:
        pytest.skip("unpacking with owners and entering a root file system needs root")
    roots = {}
    for name, image in images.items():
        roots[name] = tmp_path_factory.mktemp(name)
        roots[name].chmod(0o755)
        with tarfile.open(image.archive) as archive:
            manifest = archive.extractfile("manifest.json")
            assert manifest is not None
            for layer in json.load(manifest)[0]["Layers"]:
                with tarfile.open(fileobj=archive.extractfile(layer)) as files:
                    # Our own archive; set-id bits are what the tests look for, so nothing is filtered.
                    files.extractall(roots[name], numeric_owner=True, filter="fully_trusted")  # noqa: S202
    return roots


@pytest.fixture(scope="session")
def enter(unpacked: dict[str, Path]) -> Callable[..., subprocess.CompletedProcess[str]]:
    """Runs a program in an image as its user, on a read-only root with a writable /tmp, without a network."""

    def run(image: str, *command: str) -> subprocess.CompletedProcess[str]:
        root = unpacked[image]
        script = (
            'mount --bind "$0" "$0" && mount -t tmpfs tmpfs "$0/tmp" && mount -t proc proc "$0/proc" '
            '&& mount -o remount,bind,ro "$0" && exec chroot --userspec=10001:10001 --groups= "$0" "$@"'
        )
        namespaces = ["unshare", "--mount", "--propagation", "private", "--net", "--pid", "--fork"]
        environment = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "PYTHONDONTWRITEBYTECODE": "1", "HOME": "/tmp"}
        full = [*namespaces, "sh", "-c", script, str(root), *command]
        return subprocess.run(full, capture_output=True, text=True, env=environment, timeout=120, check=False)

    return run


@pytest.fixture(scope="session")
def script() -> Callable[[str], ModuleType]:
    """A script of `inside/`, as a module: they are run by path in a build stage and are in no package."""

    def load(name: str) -> ModuleType:
        specification = importlib.util.spec_from_file_location(f"inside_{name}", INSIDE / f"{name}.py")
        assert specification is not None
        assert specification.loader is not None
        module = importlib.util.module_from_spec(specification)
        specification.loader.exec_module(module)
        return module

    return load
