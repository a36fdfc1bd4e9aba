"""Says on which Linux our wheel runs: the tag is what its objects ask of the C library, checked, not hoped.

A wheel of this machine's compiler is named linux_<machine>, which no index takes and every glibc might refuse. PEP
600's manylinux_2_17 (also called manylinux2014) promises to need glibc 2.17 and a few libraries of the base system.
"""

from __future__ import annotations

import platform
import re
import sys
import zipfile
from collections.abc import Mapping
from pathlib import Path

from hack.images.running import run

GLIBC = (2, 17)
# What PEP 599 lets a wheel expect of the system, as far as C alone can ask for it
LIBRARIES = frozenset(
    {"libc.so.6", "libm.so.6", "libdl.so.2", "librt.so.1", "libpthread.so.0", "libgcc_s.so.1"}
    | {"ld-linux-x86-64.so.2", "ld-linux-aarch64.so.1"}
)
_VERSION = re.compile(rb"\0GLIBC_(\d+)\.(\d+)(?:\.\d+)?(?=\0)")
_LIBRARY = re.compile(rb"\0((?:lib|ld-)[\w.+-]+\.so(?:\.\d+)*)(?=\0)")


def demands(binary: bytes) -> tuple[tuple[int, int], set[str]]:
    """The newest glibc that an ELF object names, and the libraries that it names: never less than what it needs."""
    versions = [(int(major), int(minor)) for major, minor in _VERSION.findall(binary)]
    return max(versions, default=(0, 0)), {name.decode() for name in _LIBRARY.findall(binary)}


def objections(wheel: Path) -> list[str]:
    """Why a wheel may not be called manylinux_2_17; empty where it may."""
    found = []
    with zipfile.ZipFile(wheel) as archive:
        for name in archive.namelist():
            if not re.search(r"\.so(\.\d+)*$", name):
                continue
            glibc, libraries = demands(archive.read(name))
            if glibc > GLIBC:
                found.append(f"{name} asks for glibc {glibc[0]}.{glibc[1]}")
            found += [f"{name} asks for {library}" for library in sorted(libraries - LIBRARIES)]
    return found


def tag(wheel: Path, environment: Mapping[str, str] | None = None) -> Path:
    """Renames a linux_<machine> wheel to what it is, its metadata included; one that asks for more stays as it is."""
    machine = platform.machine()
    if f"-linux_{machine}" not in wheel.name:
        return wheel
    for why in (reasons := objections(wheel)):
        print(f"hack.images: the wheel stays linux_{machine}: {why}", file=sys.stderr)
    if reasons:
        return wheel
    tags = f"manylinux_{GLIBC[0]}_{GLIBC[1]}_{machine}.manylinux2014_{machine}"
    command = [sys.executable, "-m", "wheel", "tags", "--remove", "--platform-tag", tags, str(wheel)]
    name = run(command, "our wheel could not be tagged", env=environment).split()[-1]
    return wheel.with_name(name)
