"""The tag of our wheel: the oldest glibc that its objects run on, by what they ask of it."""

from __future__ import annotations

import base64
import hashlib
import platform
import re
import shutil
import subprocess
import zipfile
from pathlib import Path

import pytest

from hack.images import manylinux, wheels
from hack.requirement import unavailable


def an_object(*names: bytes) -> bytes:
    return b"\x7fELF\0" + b"\0".join(names) + b"\0"


def a_wheel(folder: Path, binary: bytes) -> Path:
    path = folder / f"thing-1-cp311-abi3-linux_{platform.machine()}.whl"
    meta = f"Wheel-Version: 1.0\nRoot-Is-Purelib: false\nTag: cp311-abi3-linux_{platform.machine()}\n".encode()
    record = ""
    with zipfile.ZipFile(path, "w") as wheel:
        for name, content in (("thing/_scan.abi3.so", binary), ("thing-1.dist-info/WHEEL", meta)):
            wheel.writestr(name, content)
            digest = base64.urlsafe_b64encode(hashlib.sha256(content).digest()).rstrip(b"=").decode()
            record += f"{name},sha256={digest},{len(content)}\n"
        wheel.writestr("thing-1.dist-info/RECORD", record + "thing-1.dist-info/RECORD,,\n")
    return path


@pytest.mark.parametrize(
    ("names", "said"),
    [
        ((b"libc.so.6", b"libm.so.6", b"GLIBC_2.2.5", b"GLIBC_2.17"), []),
        ((b"libm.so.6", b"GLIBC_2.2.5", b"GLIBC_2.29"), ["glibc 2.29"]),
        ((b"GLIBC_2.4", b"libpython3.11.so.1.0"), ["libpython3.11.so.1.0"]),
        ((b"libc.so.6", b"GLIBC_2.34", b"libgomp.so.1"), ["glibc 2.34", "libgomp.so.1"]),
    ],
)
def test_what_an_object_asks_for_decides_its_tag(tmp_path: Path, names: tuple[bytes, ...], said: list[str]) -> None:
    wheel = a_wheel(tmp_path, an_object(*names))
    found = manylinux.objections(wheel)
    assert len(found) == len(said)
    assert all(part in line for part, line in zip(said, found, strict=True))
    tagged = manylinux.tag(wheel)
    assert ("manylinux_2_17" in tagged.name) == (not said)
    assert tagged.exists()
    assert [tagged] == list(tmp_path.iterdir())


def test_our_wheel_runs_on_glibc_2_17() -> None:
    wheel = wheels.build_own()
    if wheel.name.endswith("-none-any.whl"):
        unavailable("no C compiler: the wheel has no kernel")
    machine = platform.machine()
    assert wheel.name.endswith(f"-cp311-abi3-manylinux2014_{machine}.manylinux_2_17_{machine}.whl")
    with zipfile.ZipFile(wheel) as archive:
        (meta,) = [name for name in archive.namelist() if name.endswith(".dist-info/WHEEL")]
        tags = set(re.findall(r"^Tag: (.*)$", archive.read(meta).decode(), re.MULTILINE))
    assert tags == {f"cp311-abi3-manylinux2014_{machine}", f"cp311-abi3-manylinux_2_17_{machine}"}


def test_the_versions_that_binutils_reads_are_those_that_we_read(tmp_path: Path) -> None:
    wheel = wheels.build_own()
    readelf = shutil.which("readelf")
    if readelf is None or wheel.name.endswith("-none-any.whl"):
        unavailable("no C compiler with binutils")
    with zipfile.ZipFile(wheel) as archive:
        (name,) = [one for one in archive.namelist() if one.endswith(".so")]
        binary = Path(archive.extract(name, tmp_path))
    said = subprocess.run(
        [readelf, "--version-info", "--dynamic", "--wide", str(binary)], capture_output=True, text=True, check=True
    ).stdout
    versions = [tuple(map(int, found)) for found in re.findall(r"Name: GLIBC_(\d+)\.(\d+)", said)]
    libraries = set(re.findall(r"\(NEEDED\).*\[(.+)\]", said))
    glibc, named = manylinux.demands(binary.read_bytes())
    assert versions
    assert max(versions) == glibc <= (2, 17)
    assert libraries
    assert libraries <= named <= manylinux.LIBRARIES
