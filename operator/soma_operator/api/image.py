"""Which runtime image is run."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

from pydantic import Field, StringConstraints

from soma_operator.api.base import ApiModel, Rule
from soma_operator.api.values import DnsName

_PART = r"[a-z0-9]+((\.|_|__|-+)[a-z0-9]+)*"
_REGISTRY = r"[A-Za-z0-9]([-A-Za-z0-9.]*[A-Za-z0-9])?(:[0-9]{1,5})?"
# A tag at the end is let through here, and refused by a rule that says where it belongs.
Repository = Annotated[
    str,
    StringConstraints(pattern=rf"^({_REGISTRY}/)?{_PART}(/{_PART})*(:[-A-Za-z0-9._]+)?$", min_length=1, max_length=255),
]
Tag = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9_][-A-Za-z0-9._]*$", max_length=128)]
Digest = Annotated[str, StringConstraints(pattern=r"^sha256:[a-f0-9]{64}$", max_length=71)]
Version = Annotated[str, StringConstraints(pattern=r"^v?[0-9]+\.[0-9]+\.[0-9]+([-+][-0-9A-Za-z.+]+)?$", max_length=64)]


class PullPolicy(StrEnum):
    ALWAYS = "Always"
    IF_NOT_PRESENT = "IfNotPresent"
    NEVER = "Never"


class Image(ApiModel):
    """The runtime's image. Whatever is left out comes from the operator, whose own release names a tested pair."""

    repository: Repository | None = None
    """Image without tag, such as registry.example.com/soma-memory-runtime. Left out: the operator's choice."""

    tag: Tag | None = None
    """Tag of the image. Left out: spec.version if set (its + written as _), else the operator's choice."""

    digest: Digest | None = None
    """sha256:… of the image. Wins over the tag, and is the only form that cannot change under you."""

    pull_policy: PullPolicy = PullPolicy.IF_NOT_PRESENT
    """When a node asks the registry for the image."""

    pull_secrets: Annotated[tuple[DnsName, ...], Field(max_length=8)] = ()
    """Names of Secrets of type kubernetes.io/dockerconfigjson for a private registry."""

    rules = (
        Rule(
            "!has(self.repository) || !self.repository.matches(':[^/]*$')",
            "repository ends in a tag: write it in image.tag",
            ".repository",
            lambda image: image.repository is None or ":" not in image.repository.rpartition("/")[2],
        ),
    )
