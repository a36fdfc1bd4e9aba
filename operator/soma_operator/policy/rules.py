"""The policy file: rules for namespaces, of which the first that fits decides."""

from __future__ import annotations

import ipaddress
from fnmatch import fnmatchcase
from typing import Annotated, Any, Self

import yaml
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError

from soma_operator.policy.addresses import Network, literal, meanings

Patterns = Annotated[tuple[str, ...], Field(max_length=1000)]


class InvalidPolicyError(ValueError):
    """A policy that cannot be used; the text names the part and what it takes."""


def _host(pattern: str) -> str:
    _split(pattern)
    return pattern


def is_host_pattern(text: str) -> bool:
    """Whether this is a pattern of hosts; what is none fits nothing."""
    try:
        _split(text)
    except ValueError:
        return False
    return bool(text)


def _split(pattern: str) -> tuple[str, Network | None, int | None]:
    """Name pattern or network, and the port that it is bound to."""
    text, port = pattern, None
    head, colon, tail = pattern.rpartition(":")
    if colon and tail.isdecimal() and (":" not in head or head.startswith("[")):
        text, port = head.strip("[]"), int(tail)
    if "/" in text:
        return text, ipaddress.ip_network(text), port
    address = literal(text) if "*" not in text else None
    return text.lower(), ipaddress.ip_network(str(address)) if address else None, port


class PolicyRule(BaseModel):
    """What resources in these namespaces may ask for. A list that is left out does not restrict."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    namespaces: Annotated[Patterns, Field(min_length=1)] = ("*",)
    """Names of namespaces; * stands for anything."""
    images: Patterns | None = None
    """Images beside the operator's own: repositories (registry.example.com/soma/*), or one with its tag or digest."""
    hosts: Annotated[tuple[Annotated[str, AfterValidator(_host)], ...], Field(max_length=1000)] | None = None
    """Back ends: names (*.data.svc), addresses and networks, each with or without :port; {namespace} is the
    resource's own. A network that is named here is reached although it is local."""
    env: Patterns | None = None
    """Names of variables in podTemplate.env. Left out where images, hosts or consent are restricted: all but those
    that decide where connections go or which code runs."""
    annotations: Patterns | None = None
    """Keys in podTemplate.annotations and serviceAccountAnnotations, which other controllers act upon."""
    consent: bool = False
    """Whether each Secret, ConfigMap and claim that a resource names must carry the label that consents to it."""

    @property
    def restricts(self) -> bool:
        """Whether a variable could go round this rule."""
        limits_hosts = self.hosts is not None and "*" not in self.hosts
        return self.images is not None or limits_hosts or self.consent

    def networks(self) -> tuple[Network, ...]:
        """The networks that `hosts` names."""
        return tuple(network for pattern in self.hosts or () if (network := _split(pattern)[1]) is not None)

    def names_host(self, host: str, port: int, namespace: str) -> bool:
        """Whether a pattern of `hosts`, other than the one that means anything, fits."""
        return any(_fits(pattern, host, port, namespace) for pattern in self.hosts or () if pattern != "*")

    def allows_host(self, host: str, port: int, namespace: str) -> bool:
        """Whether `hosts` lets a resource of that namespace use that host."""
        return self.hosts is None or "*" in self.hosts or self.names_host(host, port, namespace)


def _fits(pattern: str, host: str, port: int, namespace: str) -> bool:
    name, network, only = _split(pattern.replace("{namespace}", namespace))
    if only is not None and only != port:
        return False
    address = literal(host)
    if network is not None:
        return address is not None and any(meaning in network for meaning in meanings(address))
    return address is None and fnmatchcase(host.lower(), name)


def fits_any(text: str, patterns: tuple[str, ...]) -> bool:
    """Whether one of the patterns fits the whole text."""
    return any(fnmatchcase(text, pattern) for pattern in patterns)


class Policy(BaseModel):
    """All rules. Without a file: one that restricts nothing, so that only what is local is refused."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    rules: Annotated[tuple[PolicyRule, ...], Field(min_length=1, max_length=1000)] = (PolicyRule(),)

    def rule_for(self, namespace: str) -> PolicyRule | None:
        """The first rule that fits; None: nothing is allowed there."""
        return next((rule for rule in self.rules if fits_any(namespace, rule.namespaces)), None)

    def networks(self) -> tuple[Network, ...]:
        """Every network that some rule names."""
        return tuple(network for rule in self.rules for network in rule.networks())

    @classmethod
    def parse(cls, text: str) -> Self:
        """From YAML; raises InvalidPolicyError."""
        try:
            document: Any = yaml.safe_load(text)
            return cls.model_validate(document)
        except yaml.YAMLError as error:
            mark = getattr(error, "problem_mark", None)
            raise InvalidPolicyError("not YAML" + (f" at line {mark.line + 1}" if mark else "")) from None
        except ValidationError as error:
            first = error.errors(include_url=False, include_input=False)[0]
            path = ".".join(str(part) for part in first["loc"]) or "the document"
            raise InvalidPolicyError(f"{path}: {first['msg']}") from None
