"""One image for all three: a node takes in one archive sooner than three, and they share most of their files."""

from __future__ import annotations

import fcntl
import hashlib
import io
import json
import platform
import shutil
import tarfile
import tempfile
from collections.abc import Sequence
from pathlib import Path

from hack.cluster.tools.progress import step
from hack.images import archive
from hack.images.aptconfig import sources
from hack.images.archive import Image
from hack.images.base import apt_of, base, require_root, shrink
from hack.images.errors import ImageError
from hack.images.layout import UID, cache, reference
from hack.images.running import digest, run
from hack.services import ServiceError
from hack.services.kafka import VERSION as KAFKA
from hack.services.kafka import kafka_jars

NAME = "soma-test-backends"
PACKAGES = ("postgresql-15", "redis-server", "openjdk-17-jre-headless")
# PostgreSQL's JIT wants a compiler of 110 MB.
DROPPED = ("usr/lib/llvm-14", "usr/lib/postgresql/15/lib/llvmjit.so", "usr/lib/postgresql/15/lib/bitcode")
DROPPED_FILES = ("usr/lib/*/libLLVM-14.so*", "usr/lib/*/libz3.so*")
SCRIPTS = Path(__file__).resolve().parent
HOME = "opt/backends"
_RECIPE = "2"  # raise it when the making changes
# dpkg-deb --extract would put a folder where /bin is a link to /usr/bin.
_UNPACK = 'dpkg-deb --fsys-tarfile "$1" | tar -C "$2" -x --keep-directory-symlink'


def build_backends() -> Image:
    """The image, made on the first call (about a minute; root and network needed), afterwards found in the cache.

    Raises ImageError if it cannot be made.
    """
    standing_on = base()
    scripts = sorted(SCRIPTS.glob("*.sh"))
    key = digest(standing_on.image, *PACKAGES, KAFKA, _RECIPE, *scripts)[:12]
    output = cache() / "images" / f"{NAME}-{key}.tar"
    with Path(f"{cache() / 'images' / NAME}.lock").open("w") as handle:
        fcntl.flock(handle, fcntl.LOCK_EX)
        if not output.exists():
            require_root()
            with step("PostgreSQL, Redis and Kafka as an image (about a minute, once)", 1, 1, str):
                _make(standing_on.archive, scripts, output)
            for old in output.parent.glob(f"{NAME}-*.tar"):
                if old != output:
                    old.unlink()
    return archive.read(NAME, output)


def _make(standing_on: Path, scripts: Sequence[Path], output: Path) -> None:
    try:
        jars = kafka_jars()
    except ServiceError as error:
        raise ImageError(str(error)) from error
    with tempfile.TemporaryDirectory(prefix=".backends-", dir=output.parent) as scratch:
        root = Path(scratch, "root")
        root.mkdir()
        run(["tar", "-C", root, "-xpf", standing_on], "the base could not be unpacked")
        _unpack_packages(root)
        shutil.copytree(jars, root / "opt/kafka")
        _drop(root)
        for script in scripts:
            target = root / HOME / script.stem
            target.parent.mkdir(exist_ok=True)
            shutil.copyfile(script, target)
            target.chmod(0o755)
        # PostgreSQL asks who it is, and does not begin where nobody can tell.
        with (root / "etc/passwd").open("a") as accounts:
            accounts.write(f"backend:x:{UID}:{UID}::/tmp:/bin/sh\n")
        layer = Path(scratch, "layer.tar")
        packing: list[str | Path] = [
            "tar",
            "--sort=name",
            "--numeric-owner",
            "--one-file-system",
            "-C",
            root,
            "-cf",
            layer,
            ".",
        ]
        run(packing, "the image could not be packed")
        _write_archive(layer, [reference(NAME, "dev"), reference(NAME, output.stem.removeprefix(f"{NAME}-"))], output)


def _unpack_packages(root: Path) -> None:
    """Downloads and unpacks, without configuring: a package's scripts would start servers and want /proc."""
    with apt_of(root, sources()) as apt:
        apt("update")
        apt("--yes", "--no-install-recommends", "--download-only", "install", *PACKAGES)
        for package in sorted((root / "var/cache/apt/archives").glob("*.deb")):
            run(["sh", "-c", _UNPACK, "sh", package, root], f"{package.name} could not be unpacked")
    run(["chroot", root, "ldconfig"], "the libraries could not be listed")
    shrink(root)


def _drop(root: Path) -> None:
    for name in DROPPED:
        path = root / name
        shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)
    for pattern in DROPPED_FILES:
        for path in root.glob(pattern):
            path.unlink()


def _write_archive(layer: Path, references: list[str], output: Path) -> None:
    """A docker-archive of one layer."""
    with layer.open("rb") as content:
        layer_digest = hashlib.file_digest(content, "sha256").hexdigest()
    config = {
        "architecture": {"x86_64": "amd64", "aarch64": "arm64"}.get(platform.machine(), platform.machine()),
        "os": "linux",
        "config": {"User": f"{UID}:{UID}", "Env": [f"PATH=/{HOME}:/usr/bin:/bin", "LANG=C.UTF-8"]},
        "rootfs": {"type": "layers", "diff_ids": [f"sha256:{layer_digest}"]},
    }
    text = json.dumps(config, sort_keys=True).encode()
    name = f"{hashlib.sha256(text).hexdigest()}.json"
    manifest = [{"Config": name, "RepoTags": references, "Layers": [f"{layer_digest}.tar"]}]
    making = output.with_suffix(".making")
    with tarfile.open(making, "w") as tar:
        for member, body in ((name, text), ("manifest.json", json.dumps(manifest).encode())):
            entry = tarfile.TarInfo(member)
            entry.size = len(body)
            tar.addfile(entry, io.BytesIO(body))
        tar.add(layer, f"{layer_digest}.tar")
    making.rename(output)
