"""Builds the optional scan kernel for a checkout: `hack/py -m hack.kernel` (or `make kernel`).

The object is cached under $SOMA_CACHE by a hash of its source, compiler and interpreter, and copied beside its source
(*.so is git-ignored), so a fresh clone has it in a moment. Without a C compiler this says so and recall uses NumPy:
same answers, slower. `--sanitize` builds and runs the fuzz under AddressSanitizer and UBSan instead.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
SOURCE = ROOT / "memory_runtime" / "scoring" / "kernel"
FILES = ("scan.c", "vector.c", "encode.c", "_scanmodule.c", "_encodemodule.c")
HEADERS = ("scan.h", "vector.h", "encode.h", "faces.h")
NAME = "_scan.abi3.so"
FLAGS = ("-O3", "-std=gnu11", "-Wall", "-Wextra", "-ffp-contract=off", "-fPIC", "-shared", "-fvisibility=hidden")
SANITIZE = ("-O1", "-g", "-fsanitize=address,undefined", "-fno-sanitize-recover=all", "-fno-omit-frame-pointer")


class CannotBuild(Exception):  # noqa: N818 -- reads as what it says
    """No compiler or no headers; the message names the remedy."""


def compiler() -> str:
    """The C compiler: $CC, else gcc, cc or clang."""
    for name in (os.environ.get("CC"), "gcc", "cc", "clang"):
        if name and shutil.which(name):
            return name
    raise CannotBuild("no C compiler found: install gcc, or name one in CC (recall works without, more slowly)")


def key(cc: str, flags: tuple[str, ...]) -> str:
    """What the object depends on."""
    digest = hashlib.sha256()
    version = subprocess.run([cc, "--version"], capture_output=True, check=True).stdout
    for part in (*(SOURCE / name for name in (*FILES, *HEADERS)),):
        digest.update(part.read_bytes())
    digest.update(b"|".join([version, " ".join(flags).encode(), sysconfig.get_platform().encode()]))
    return digest.hexdigest()[:16]


def compile_to(target: Path, cc: str, flags: tuple[str, ...]) -> None:
    """Compiles the extension into `target`, atomically. Raises CannotBuild with the compiler's words."""
    include = sysconfig.get_paths()["include"]
    if not (Path(include) / "Python.h").exists():
        raise CannotBuild("Python.h is missing: install python3-dev (recall works without the kernel, more slowly)")
    target.parent.mkdir(parents=True, exist_ok=True)
    unfinished = target.with_name(f".{target.name}.{os.getpid()}")
    sources = [str(SOURCE / name) for name in FILES]
    made = subprocess.run(
        [cc, *flags, f"-I{include}", *sources, "-o", str(unfinished), "-lm"],
        capture_output=True,
        text=True,
        check=False,
    )
    if made.returncode:
        unfinished.unlink(missing_ok=True)
        raise CannotBuild(f"the kernel does not compile:\n{made.stderr}")
    unfinished.replace(target)


def build() -> Path:
    """The object beside its source, built or taken from the cache. Raises CannotBuild."""
    cc = compiler()
    cache = Path(os.environ.get("SOMA_CACHE") or Path.home() / ".cache" / "soma")
    cached = cache / "kernel" / key(cc, FLAGS) / NAME
    if not cached.exists():
        compile_to(cached, cc, FLAGS)
    beside = SOURCE / NAME
    if not beside.exists() or beside.read_bytes() != cached.read_bytes():
        # A process that has the old object mapped keeps it: replaced, never overwritten
        unfinished = beside.with_name(f".{NAME}.{os.getpid()}")
        shutil.copyfile(cached, unfinished)
        unfinished.replace(beside)
    return beside


def sanitize(seconds: float) -> int:
    """Runs the differential fuzz with a sanitized kernel in a scratch copy of the package; the exit status."""
    cc = compiler()
    cache = Path(os.environ.get("SOMA_CACHE") or Path.home() / ".cache" / "soma")
    flags = (*(flag for flag in FLAGS if flag != "-O3"), *SANITIZE)
    scratch = cache / "kernel" / key(cc, flags) / "sanitized"
    shutil.rmtree(scratch, ignore_errors=True)
    shutil.copytree(ROOT / "memory_runtime", scratch / "memory_runtime", ignore=shutil.ignore_patterns("*.so", "tests"))
    compile_to(scratch / "memory_runtime" / "scoring" / "kernel" / NAME, cc, flags)
    runtimes = [
        subprocess.run([cc, f"-print-file-name={name}"], capture_output=True, text=True, check=True).stdout.strip()
        for name in ("libasan.so", "libubsan.so")
    ]
    environment = os.environ | {
        "LD_PRELOAD": " ".join(runtimes),
        # Python keeps memory to the end on purpose; everything else is fatal
        "ASAN_OPTIONS": "detect_leaks=0:abort_on_error=0",
        "PYTHONPATH": f"{scratch}:{ROOT}",
        "PYTHONMALLOC": "malloc",
    }
    status = 0
    for variant in ("portable", "avx2", "avx512-vnni"):
        command = [sys.executable, "-m", "hack.kernel_fuzz", "--seconds", str(seconds)]
        status |= subprocess.run(command, env=environment | {"SOMA_KERNEL": variant}, check=False).returncode
    shutil.rmtree(scratch, ignore_errors=True)
    return status


def main() -> int:
    """Exit status 0, or 2 where it cannot be built (unless --optional)."""
    parser = argparse.ArgumentParser(prog="hack/py -m hack.kernel", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--optional", action="store_true", help="exit 0 with a note where it cannot be built")
    parser.add_argument("--sanitize", action="store_true", help="fuzz the kernel under AddressSanitizer and UBSan")
    parser.add_argument("--seconds", type=float, default=20.0, help="how long --sanitize fuzzes each variant")
    options = parser.parse_args()
    try:
        if options.sanitize:
            return sanitize(options.seconds)
        print(build())
    except CannotBuild as why:
        print(f"hack.kernel: {why}", file=sys.stderr)
        return 0 if options.optional else 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
