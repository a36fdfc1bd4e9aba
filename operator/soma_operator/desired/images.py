"""Which image is run, and which version that is."""

from __future__ import annotations

from dataclasses import dataclass

from soma_operator.api import SomaMemorySpec
from soma_operator.desired.inputs import Defaults


@dataclass(frozen=True, slots=True)
class RuntimeImage:
    """A resolved image."""

    reference: str
    version: str
    pull_policy: str
    pull_secrets: tuple[str, ...]


def resolve(spec: SomaMemorySpec, defaults: Defaults) -> RuntimeImage:
    """Digest before tag before spec.version before the operator's own; the repository likewise."""
    repository = spec.image.repository or _repository(defaults.image)
    if spec.image.digest:
        reference = f"{repository}@{spec.image.digest}"
    elif spec.image.tag or spec.version:
        reference = f"{repository}:{spec.image.tag or _tag(spec.version or '')}"
    elif spec.image.repository:
        reference = f"{repository}:{_tag(defaults.version)}"
    else:
        reference = defaults.image
    version = spec.version or spec.image.tag or (spec.image.digest or "")[:19] or defaults.version
    return RuntimeImage(reference, version, spec.image.pull_policy.value, spec.image.pull_secrets)


def _repository(reference: str) -> str:
    """The image without tag and digest; a colon before a slash is a registry's port."""
    plain = reference.partition("@")[0]
    head, slash, tail = plain.rpartition("/")
    return head + slash + tail.partition(":")[0]


def _tag(version: str) -> str:
    """The tag of a version. Tags hold no `+`, so build metadata is written as Helm writes it in a registry: 1.2.3_4."""
    return version.replace("+", "_")
