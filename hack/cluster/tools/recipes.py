"""What is built from which Go modules: one table, and every version that this project pins for its tools."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from pathlib import Path

MODULES = Path(__file__).resolve().parents[2] / "gomod"
KUBERNETES_VERSION = "1.36.3"


@dataclass(frozen=True, slots=True)
class Recipe:
    """How one tool, or a set that is built together, comes to be.

    Either `module` names a folder in hack/gomod whose main packages (`packages`, "./pki" …) are built, or `packages`
    are import
    paths that `go install` builds at `version`.
    """

    name: str
    version: str
    packages: tuple[str, ...]
    seconds: int  # a cold build on two cores, for the line that a person waits at
    module: str | None = None
    links: dict[str, str] = field(default_factory=dict)  # further program names → the built one they are
    ldflags: tuple[str, ...] = ()
    tags: tuple[str, ...] = ()
    cgo: bool = False
    debian: tuple[str, ...] = ()  # packages needed to build it

    @property
    def programs(self) -> tuple[str, ...]:
        """Names of the programs that this recipe provides."""
        built = tuple(_program_name(package, self.name) for package in self.packages)
        return built + tuple(self.links)

    def key(self) -> str:
        """Changes whenever the result would: version, flags, and the sources of a module of ours."""
        digest = hashlib.sha256(
            repr((self.packages, sorted(self.links.items()), self.ldflags, self.tags, self.cgo)).encode()
        )
        if self.module:
            for path in sorted((MODULES / self.module).rglob("*")):
                if path.is_file() and (path.suffix == ".go" or path.name in {"go.mod", "go.sum"}):
                    digest.update(path.name.encode() + b"\0" + path.read_bytes())
        return f"{self.name}-{self.version}-{digest.hexdigest()[:10]}"


def _program_name(package: str, fallback: str) -> str:
    parts = [part for part in package.split("/") if part != "."]
    if parts and parts[-1].startswith("v") and parts[-1][1:].isdigit():
        parts.pop()  # example.org/tool/v2 installs "tool"
    return parts[-1] if parts else fallback


def _installed(name: str, version: str, *packages: str, seconds: int = 60, ldflags: tuple[str, ...] = ()) -> Recipe:
    return Recipe(name, version, packages, seconds, ldflags=ldflags)


_VERSION_VARIABLES = {
    "gitVersion": f"v{KUBERNETES_VERSION}",
    "gitMajor": "1",
    "gitMinor": KUBERNETES_VERSION.split(".")[1],
}

_KUBERNETES_PROGRAMS = (
    "etcd",
    "kube-apiserver",
    "kube-controller-manager",
    "kube-proxy",
    "kube-scheduler",
    "kubectl",
    "kubelet",
)

RECIPES: tuple[Recipe, ...] = (
    Recipe("groundwork", "1", ("./pki", "./supervise", "./pause"), 30, module="groundwork"),
    Recipe(
        "kubernetes",
        KUBERNETES_VERSION,
        (".",),
        330,
        module="kubernetes",
        links=dict.fromkeys(_KUBERNETES_PROGRAMS, "kubernetes"),
        # kubectl refuses to talk to a server whose version it cannot read.
        ldflags=tuple(f"-X k8s.io/component-base/version.{key}={value}" for key, value in _VERSION_VARIABLES.items()),
    ),
    Recipe(
        "containerd",
        "2.4.2",
        tuple(
            f"github.com/containerd/containerd/v2/cmd/{name}"
            for name in ("containerd", "ctr", "containerd-shim-runc-v2")
        ),
        80,
    ),
    Recipe(
        "runc",
        "1.5.2",
        ("github.com/opencontainers/runc",),
        30,
        tags=("seccomp",),
        cgo=True,
        debian=("gcc", "libc6-dev", "libseccomp-dev", "pkg-config"),
    ),
    Recipe("node", "1", ("./coredns", "./metrics-server", "./volumes"), 150, module="node"),
    _installed("helm", "3.22.0", "helm.sh/helm/v3/cmd/helm", seconds=100),
    _installed("opa", "1.22.0", "github.com/open-policy-agent/opa", seconds=60),
    _installed("versitygw", "1.8.0", "github.com/versity/versitygw/cmd/versitygw", seconds=60),
    _installed("grpcurl", "1.9.4", "github.com/fullstorydev/grpcurl/cmd/grpcurl", seconds=30),
    _installed("kubeconform", "0.8.0", "github.com/yannh/kubeconform/cmd/kubeconform", seconds=20),
    _installed("kwok", "0.8.0", "sigs.k8s.io/kwok/cmd/kwok", seconds=90),
    _installed("k6", "1.8.1", "go.k6.io/k6", seconds=120),
    _installed("kind", "0.33.0", "sigs.k8s.io/kind", seconds=30),
)


def recipe_for(program: str) -> Recipe | None:
    """The recipe that provides a program, or None."""
    return next((recipe for recipe in RECIPES if program in recipe.programs or program == recipe.name), None)


def all_programs() -> list[str]:
    """Every program name that can be asked for, sorted."""
    return sorted({program for recipe in RECIPES for program in recipe.programs})


def named(*names: str) -> list[Recipe]:
    """Recipes by their own names, in the order asked for."""
    by_name = {recipe.name: recipe for recipe in RECIPES}
    return [by_name[name] for name in names]
