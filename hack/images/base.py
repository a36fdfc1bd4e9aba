"""Makes the base image of a machine without a container engine: Debian's smallest root file system with Python, by
debootstrap.

Kept as a tar file in the cache, keyed by suite, packages and recipe (not by day: the same key is the same base;
`--refresh` makes a new one with today's security updates).
"""

from __future__ import annotations

import fcntl
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from hack.cluster.tools.progress import step
from hack.images.aptconfig import Sources, proxies, sources
from hack.images.errors import ImageError
from hack.images.layout import SUITE, cache, machine
from hack.images.running import digest, run, say

PYTHON = "3.11"  # bookworm's
PACKAGES = ("python3", "ca-certificates", "tzdata", "netbase", "media-types", "libstdc++6")
KEYRING = Path("/usr/share/keyrings/debian-archive-keyring.gpg")
NEEDED = {"debootstrap": "debootstrap", str(KEYRING): "debian-archive-keyring"}
# Files of this machine that debootstrap copies in, what apt and dpkg keep for themselves, and documents nobody
# reads in an image.
EMPTIED = (
    "var/cache/apt",
    "var/lib/apt/lists",
    "var/log",
    "tmp",
    "usr/share/man",
    "usr/share/info",
    "usr/share/locale",
)
REMOVED = ("etc/resolv.conf", "etc/hostname", "etc/hosts", "etc/apt/sources.list", "var/cache/debconf")
SCRATCH = ".debootstrap-"
RECIPE = 3  # raise it when the making of the base changes


@dataclass(frozen=True, slots=True)
class Base:
    """A root file system as a tar file, and the key that names what it was made from."""

    archive: Path
    key: str
    python: str = PYTHON

    @property
    def image(self) -> str:
        return f"localhost/soma-base:{self.key}"


def base(*, refresh: bool = False) -> Base:
    """The base of this machine's architecture, made on the first call (about a minute and a half; root and network
    needed)."""
    key = f"{SUITE}-{machine()}-{digest(*PACKAGES, SUITE, str(RECIPE))[:10]}"
    archive = cache() / "images" / "base" / f"{key}.tar"
    if archive.exists() and not refresh:
        return Base(archive, _dated(key, archive))
    require_root()
    archive.parent.mkdir(parents=True, exist_ok=True)
    with Path(f"{archive}.lock").open("w") as handle:
        fcntl.flock(handle, fcntl.LOCK_EX)
        if refresh or not archive.exists():
            install({program: package for program, package in NEEDED.items() if not _present(program)})
            for left in archive.parent.glob(f"{SCRATCH}*"):
                shutil.rmtree(left, ignore_errors=True)  # by one that was killed
            with step(f"base of Debian {SUITE}'s packages (about a minute and a half, once)", 1, 1, str):
                _make(archive, sources())
    return Base(archive, _dated(key, archive))


def _dated(key: str, archive: Path) -> str:
    # A refreshed base is another base: without its time in the name, what stands on it would be taken for unchanged.
    return f"{key}-{int(archive.stat().st_mtime):x}"


def _make(archive: Path, origin: Sources) -> None:
    # Not in /tmp, which may be mounted nodev or noexec: debootstrap makes device files and runs what it unpacks.
    with tempfile.TemporaryDirectory(prefix=SCRATCH, dir=archive.parent) as scratch:
        root = Path(scratch, "root")
        options = ["--variant=minbase", f"--keyring={KEYRING}", f"--include={','.join(PACKAGES)}"]
        # In a mount namespace of its own: what debootstrap mounts cannot outlive it, whatever ends it.
        namespace = ["unshare", "--mount", "--propagation", "private"]
        command = [*namespace, "debootstrap", *options, SUITE, str(root), origin.mirror]
        run(command, "debootstrap could not make a root file system", env=proxies())
        before = _megabytes(root)
        _update(root, origin)
        shrink(root)
        making = Path(scratch, "base.tar")
        packed = [
            "tar",
            "--sort=name",
            "--numeric-owner",
            "--one-file-system",
            "-C",
            str(root),
            "-cf",
            str(making),
            ".",
        ]
        run(packed, "the base could not be packed")
        making.rename(archive)
        say(f"base: {before} MB as installed, {_megabytes(root)} MB after caches, lists and documents went")


def _update(root: Path, origin: Sources) -> None:
    """debootstrap knows one suite; fixes since the release stand in two more. A mirror without them leaves the
    release as it is."""
    try:
        with apt_of(root, origin) as apt:
            apt("update")
            apt("--yes", "--no-install-recommends", "dist-upgrade")
    except ImageError as error:
        say(f"the base stays without security updates: {error}")


@contextmanager
def apt_of(root: Path, origin: Sources) -> Iterator[Callable[..., None]]:
    """apt-get of that root file system, which reaches this machine's mirror while the block runs."""
    listing = root / "etc/apt/sources.list"
    listing.write_text("\n".join(origin.lines) + "\n")
    for name in ("resolv.conf", "hosts"):
        shutil.copyfile(f"/etc/{name}", root / "etc" / name)
    _copy_apt_settings(root)
    environment = {**proxies(), "DEBIAN_FRONTEND": "noninteractive", "LC_ALL": "C.UTF-8"}

    def apt(*arguments: str) -> None:
        run(["chroot", root, "apt-get", "--quiet", *arguments], "Debian's packages could not be had", env=environment)

    try:
        yield apt
    finally:
        (root / "etc/apt/apt.conf.d/99-from-host").unlink(missing_ok=True)


def _copy_apt_settings(root: Path) -> None:
    """A mirror of this machine may want its proxy or its rules about dates; certificates and hooks stay out."""
    dump = run(["apt-config", "dump"], "apt-config failed").splitlines()
    wanted = ("Acquire::http", "Acquire::https::Proxy", "Acquire::Check-", "Acquire::Retries")
    lines = [line for line in dump if line.startswith(wanted) and '"";' not in line]
    (root / "etc/apt/apt.conf.d/99-from-host").write_text("\n".join(lines) + "\n")


def shrink(root: Path) -> None:
    """Takes out of a root file system what nobody reads in an image."""
    for name in EMPTIED:
        for path in (root / name).glob("*"):
            shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink()
    for name in REMOVED:
        path = root / name
        shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)
    for path in (root / "usr/share/doc").rglob("*"):
        if path.is_file() and path.name != "copyright":
            path.unlink()


def _megabytes(root: Path) -> int:
    return round(
        sum(path.lstat().st_size for path in root.rglob("*") if path.is_file() and not path.is_symlink()) / 1e6
    )


# --- this machine
# ----------------------------------------------------------------------------------------------------


def require_root() -> None:
    if os.geteuid() != 0:
        raise ImageError(
            "building images without a Docker engine needs root (debootstrap, buildah's chroot): start Docker, "
            "or run this with sudo"
        )


def install(missing: dict[str, str]) -> None:
    """Installs Debian packages: `missing` maps what is not there to the package that brings it."""
    if not missing:
        return
    packages = sorted(set(missing.values()))
    if not shutil.which("apt-get"):
        raise ImageError(f"{' and '.join(packages)} are needed and there is no apt here: install them, or start Docker")
    require_root()
    say(f"installing {', '.join(packages)} with apt-get (about 20 s, once)")
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    waiting = ["apt-get", "-o", "DPkg::Lock::Timeout=300", "--quiet"]
    command = [*waiting, "--yes", "--no-install-recommends", "install", *packages]
    failed = f"apt-get could not install {', '.join(packages)}"
    try:
        run(command, failed, env=environment)
    except ImageError:
        # Lists may be absent or too old; another's repository that cannot be reached must not stop this.
        with suppress(ImageError):
            run([*waiting, "update"], "apt-get update failed", env=environment)
        run(command, failed, env=environment)


def _present(program: str) -> bool:
    return Path(program).exists() if program.startswith("/") else shutil.which(program) is not None
