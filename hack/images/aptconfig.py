"""Reads from apt's configuration, at run time, where Debian's packages come from: no mirror is ever written into the
tree."""

from __future__ import annotations

import os
import shutil
from dataclasses import dataclass

from hack.images.errors import ImageError
from hack.images.layout import SUITE
from hack.images.running import run

FORMAT = "$(ORIGIN)|$(LABEL)|$(CODENAME)|$(COMPONENT)|$(REPO_URI)"
SECURITY_LABEL = "Debian-Security"


@dataclass(frozen=True, slots=True)
class Sources:
    """A Debian mirror for `SUITE`, and the lines of a sources.list with its updates where apt knows them."""

    mirror: str
    lines: tuple[str, ...]


def sources() -> Sources:
    """Where this machine gets Debian from. SOMA_DEBIAN_MIRROR names a mirror where apt's configuration has none."""
    named = os.environ.get("SOMA_DEBIAN_MIRROR")
    if named:
        return Sources(named, (f"deb {named} {SUITE} main",))
    if not shutil.which("apt-get"):
        raise ImageError(
            "without a Docker engine the images stand on Debian's packages, and there is no apt here: start Docker, "
            "or use a Debian machine"
        )
    found = parse(
        run(
            ["apt-get", "indextargets", "--format", FORMAT, "Created-By: Packages"],
            "apt's configuration could not be read",
        )
    )
    if found is None:
        raise ImageError(
            "apt's configuration names no Debian mirror (or 'apt-get update' was never run): start Docker, "
            f"or name a mirror that has {SUITE} in SOMA_DEBIAN_MIRROR"
        )
    return found


def parse(listing: str) -> Sources | None:
    """`listing`: lines of FORMAT. A Debian of another release serves too, since a mirror holds every suite; its
    security archive is then taken by the suite's own name."""
    rows = [line.split("|") for line in listing.splitlines() if line.count("|") == 4]
    debian = [row for row in rows if row[0] == "Debian" and row[3] == "main"]
    main = [row for row in debian if row[1] == "Debian"]
    if not main:
        return None
    mirror = main[0][4]
    lines = [f"deb {mirror} {SUITE} main", f"deb {mirror} {SUITE}-updates main"]
    lines += [f"deb {row[4]} {SUITE}-security main" for row in debian if row[1] == SECURITY_LABEL][:1]
    return Sources(mirror, tuple(lines))


def proxies() -> dict[str, str]:
    """debootstrap downloads with wget, which does not read apt's proxies; the environment's own come first."""
    settings = run(
        ["apt-config", "shell", "http", "Acquire::http::Proxy", "https", "Acquire::https::Proxy"], "apt-config failed"
    )
    found = dict(line.split("=", 1) for line in settings.splitlines() if "=" in line)
    named = {
        f"{name}_proxy": value.strip("'") for name, value in found.items() if value.strip("'") not in ("", "DIRECT")
    }
    return {**named, **os.environ}
