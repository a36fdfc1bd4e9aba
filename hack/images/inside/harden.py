"""Reduces a Debian root file system with Python to what a program needs at run time. Run by the Dockerfiles, as root,
inside the stage `root`.

It works on any bookworm base (debootstrap's, or `python:*-slim-bookworm`, whose Python is in /usr/local): the
packages that Python's own libraries come from stay, with their licences and their entries in dpkg's database
(vulnerability scanners read it); the shell, coreutils, apt, dpkg, perl, pip and everything set-user-id go. Only the
standard library may be used here.
"""

from __future__ import annotations

import compileall
import errno
import importlib
import os
import py_compile
import shutil
import stat
import sys
import sysconfig
from collections.abc import Iterable, Iterator
from pathlib import Path

UID = 10001
DATA = Path("/var/lib/soma")


def words(text: str) -> list[str]:
    return text.split()


# Packages whose files stay, as far as they are installed, and (unless NEVER names them) what they depend on.
KEPT = words("""
    base-files netbase ca-certificates tzdata media-types libc6 libstdc++6 libgcc-s1
    python3 python3-minimal python3.11 python3.11-minimal libpython3-stdlib libpython3.11-stdlib
    libssl3 libsqlite3-0 libffi8 libexpat1 zlib1g libbz2-1.0 liblzma5 libuuid1 libdb5.3 libzstd1
    libreadline8 libncursesw6 libtinfo6 libgdbm6 libnsl2 libtirpc3
""")
NEVER = frozenset(
    words("dpkg debconf perl-base tar coreutils dash bash openssl libc-bin mawk base-passwd readline-common")
)

# Parts of Python that install, test or draw: no program here uses them.
PYTHON_PARTS = words("ensurepip idlelib lib2to3 pydoc_data test tkinter turtledemo turtle.py config-*")
SCRIPTS = words("pip* wheel* idle* pydoc* 2to3* pdb3* pygettext* py3* python*-config")
EMPTIED = words("""
    /var/cache /var/log /var/lib/apt /var/lib/dpkg /var/lib/systemd /var/lib/pam /var/backups /root /tmp /run
""")
REMOVED = words("""
    /usr/share/man /usr/share/info /usr/share/locale /usr/share/lintian /usr/share/bug /usr/share/perl5
    /usr/share/debconf /usr/sbin/update-ca-certificates /var/lib/shells.state
    /usr/share/bash-completion /usr/share/python3 /usr/share/pixmaps /usr/share/applications /usr/share/binfmts
    /usr/share/doc-base /usr/share/gdb /usr/share/gcc /usr/include
    /etc/alternatives /etc/apt /etc/dpkg /etc/pam.d /etc/security /etc/skel /etc/cron.daily /etc/systemd /etc/shells
    /etc/shadow /etc/gshadow /etc/passwd- /etc/group- /etc/shadow- /etc/gshadow- /etc/subuid /etc/subgid /etc/.pwd.lock
""")
IMPORTED = words("bz2 ctypes hashlib lzma sqlite3 ssl uuid zlib zoneinfo _decimal multiprocessing.synchronize")


def main() -> None:
    before = size_mb("/")
    reduce_packages()
    reduce_python()
    for folder in EMPTIED:
        empty(Path(folder), keep=("status",) if folder == "/var/lib/dpkg" else ())
    for path in REMOVED:
        remove(Path(path))
    reduce_documents()
    drop_dangling_links()
    add_user()
    clear_set_id_bits()
    compile_standard_library()
    for name in IMPORTED:
        importlib.import_module(name)
    print(f"root file system reduced from {before:.0f} MB to {size_mb('/'):.0f} MB")


# --- Debian packages
# -------------------------------------------------------------------------------------------------


def reduce_packages() -> None:
    status = Path("/var/lib/dpkg/status")
    if not status.exists():
        return
    stanzas = {field(text, "Package"): text for text in status.read_text().split("\n\n") if text.strip()}
    kept = closure(stanzas)
    files = {name: [canonical(line) for line in listed(name)] for name in stanzas}
    staying = {path for name in kept for path in files[name]}
    for name in stanzas.keys() - kept:
        for path in files[name]:
            if path not in staying and (path.is_symlink() or path.is_file()):
                path.unlink()
    drop_empty_folders({path for name in stanzas.keys() - kept for path in files[name]} - staying)
    status.write_text("\n\n".join(stanzas[name].strip() for name in sorted(kept)) + "\n")


def closure(stanzas: dict[str, str]) -> set[str]:
    """The installed packages among KEPT, with everything that they depend on except for what NEVER names."""
    kept: set[str] = set()
    waiting = [name for name in KEPT if name in stanzas]
    while waiting:
        name = waiting.pop()
        if name in kept or name in NEVER:
            continue
        kept.add(name)
        waiting += [one for one in dependencies(stanzas[name]) if one in stanzas]
    return kept


def dependencies(stanza: str) -> Iterator[str]:
    text = ",".join((field(stanza, "Depends"), field(stanza, "Pre-Depends")))
    for clause in text.replace("|", ",").split(","):
        if clause.strip():
            yield clause.split()[0].partition(":")[0]


def field(stanza: str, name: str) -> str:
    return next((line.partition(":")[2].strip() for line in stanza.splitlines() if line.startswith(f"{name}:")), "")


def listed(package: str) -> list[str]:
    folder = Path("/var/lib/dpkg/info")
    lists = [folder / f"{package}.list", *folder.glob(f"{package}:*.list")]
    return [line for file in lists if file.exists() for line in file.read_text().splitlines()]


def canonical(path: str) -> Path:
    # /lib is a link to /usr/lib, and packages name files either way: without this a kept library would be taken for
    # a removed one.
    return Path(os.path.realpath(Path(path).parent)) / Path(path).name


def drop_empty_folders(folders: Iterable[Path]) -> None:
    for folder in sorted(folders, key=lambda path: len(path.parts), reverse=True):
        if folder.is_dir() and not folder.is_symlink() and len(folder.parts) > 2 and not any(folder.iterdir()):
            folder.rmdir()


# --- Python
# ----------------------------------------------------------------------------------------------------------


def reduce_python() -> None:
    library = Path(sysconfig.get_path("stdlib"))
    for pattern in PYTHON_PARTS:
        for path in library.glob(pattern):
            remove(path)
    for prefix in (Path("/usr"), Path("/usr/local")):
        for pattern in SCRIPTS:
            for path in (prefix / "bin").glob(pattern):
                remove(path)
    if library.is_relative_to("/usr/local"):
        empty(library / "site-packages")
        for name in ("include", "share/man"):
            remove(Path("/usr/local", name))


def compile_standard_library() -> None:
    # Bytecode that is not checked against the source's time: a read-only root file system cannot mend a stale one,
    # and every start would compile again.
    library = Path(sysconfig.get_path("stdlib"))
    for cached in list(library.rglob("__pycache__")):
        remove(cached)
    good = compileall.compile_dir(
        library, quiet=1, force=True, invalidation_mode=py_compile.PycInvalidationMode.UNCHECKED_HASH
    )
    if not good:
        sys.exit("harden.py: the standard library could not be compiled")


# --- files
# -----------------------------------------------------------------------------------------------------------


def reduce_documents() -> None:
    """Licences stay: distributing the image without them would break most of them."""
    for path in Path("/usr/share/doc").rglob("*"):
        if (path.is_file() or path.is_symlink()) and path.name != "copyright":
            path.unlink()
    for folder in Path("/usr/lib").glob("*/gconv"):
        remove(folder)


def drop_dangling_links() -> None:
    for top in ("/etc", "/usr"):
        for path in Path(top).rglob("*"):
            if path.is_symlink() and not path.exists():
                path.unlink()


def add_user() -> None:
    Path("/etc/passwd").write_text(
        "root:x:0:0:root:/root:/nonexistent\n"
        "nobody:x:65534:65534:nobody:/nonexistent:/nonexistent\n"
        f"soma:x:{UID}:{UID}:Soma:{DATA}:/nonexistent\n"
    )
    Path("/etc/group").write_text(f"root:x:0:\nnogroup:x:65534:\nsoma:x:{UID}:\n")
    DATA.mkdir(parents=True, exist_ok=True)
    DATA.chmod(0o750)
    os.chown(DATA, UID, UID)


def clear_set_id_bits() -> None:
    for path in walk("/"):
        mode = path.lstat().st_mode
        if stat.S_ISREG(mode) and mode & (stat.S_ISUID | stat.S_ISGID):
            path.chmod(stat.S_IMODE(mode) & 0o777)


def walk(top: str) -> Iterator[Path]:
    """Every file of the root file system, leaving out what the kernel mounts there."""
    for folder, names, files in os.walk(top):
        if folder == top:
            names[:] = [name for name in names if name not in ("proc", "sys", "dev")]
        yield from (Path(folder, name) for name in files)


def size_mb(top: str) -> float:
    return sum(path.lstat().st_size for path in walk(top)) / 1e6


def empty(folder: Path, keep: tuple[str, ...] = ()) -> None:
    if folder.is_dir():
        for path in folder.iterdir():
            if path.name not in keep:
                remove(path)


def remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
        return
    try:
        path.unlink(missing_ok=True)
    except OSError as error:
        # What a build engine has mounted (/etc/resolv.conf, /run/.containerenv) is busy, and no part of the image.
        if error.errno != errno.EBUSY:
            raise


if __name__ == "__main__":
    main()
