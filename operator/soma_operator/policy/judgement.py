"""What of a spec the policy refuses: each with the path of its field and the remedy."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

from soma_operator.api import Mode, Problem, SomaMemory
from soma_operator.catalog.names import CONSENT, MAY_BE_SENT_TO
from soma_operator.desired.dependencies import qualified
from soma_operator.policy.addresses import Addresses, literal
from soma_operator.policy.rules import PolicyRule, fits_any, is_host_pattern

# Where PostgreSQL's and Kafka's clients connect to, which proxy is taken, which code is loaded, every setting of ours.
_DECISIVE = re.compile(
    r"(SOMA|PG|POSTGRES|REDIS|QDRANT|NEO4J|KAFKA|ETCD|MEMORY|OTEL|LD_|PYTHON|SSL_).*|.*_PROXY|PATH", re.IGNORECASE
)
_API_SERVER = ("localhost", "*.localhost", "kubernetes.default", "kubernetes.default.svc", "kubernetes.default.svc.*")
_ASK = "ask who runs the operator to allow it in the policy"


@dataclass(frozen=True, slots=True)
class HostUse:
    """A back end's host as the spec names it at `field`; `name` is what the operator resolves."""

    field: str
    name: str
    port: int


def hosts_used(memory: SomaMemory) -> list[HostUse]:
    """Every host that the pods are told to connect to."""
    spec, namespace = memory.spec, memory.metadata.namespace
    if spec.mode is Mode.EMBEDDED:
        return []
    found: list[tuple[str, str, int]] = []
    for name in ("postgresql", "redis", "qdrant", "graph"):
        server = getattr(spec.endpoints, name)
        if server is not None:
            found.append((f"spec.endpoints.{name}.host", server.host, server.port))
    if spec.endpoints.qdrant is not None:
        found.append(("spec.endpoints.qdrant.host", spec.endpoints.qdrant.host, spec.endpoints.qdrant.grpc_port))
    for position, broker in enumerate(spec.endpoints.kafka.bootstrap_servers if spec.endpoints.kafka else ()):
        host, _, port = broker.rpartition(":")
        found.append((f"spec.endpoints.kafka.bootstrapServers[{position}]", host, int(port)))
    # A number alone is an address to the pods, however little it looks like one.
    return [
        HostUse(field, host if literal(host) is not None else qualified(host, namespace), port)
        for field, host, port in found
    ]


def refused(memory: SomaMemory, rule: PolicyRule | None, addresses: Addresses, image: str, own: str) -> list[Problem]:
    """What the spec asks for and may not have. `image` is the resolved reference, `own` the operator's choice."""
    if rule is None:
        return [Problem("metadata.namespace", "the operator's policy allows no SomaMemory here", _ASK)]
    return [*_image(rule, image, own), *_hosts(memory, rule, addresses), *_pod(memory, rule)]


def _image(rule: PolicyRule, image: str, own: str) -> Iterator[Problem]:
    if rule.images is None or _repository(image) == _repository(own):
        return
    full = _complete(image)
    if not any(fits_any(text, rule.images) for text in (full, _repository(full))):
        yield Problem("spec.image.repository", "the operator's policy does not allow this image", _ASK)


def _hosts(memory: SomaMemory, rule: PolicyRule, addresses: Addresses) -> Iterator[Problem]:
    namespace = memory.metadata.namespace
    for use in hosts_used(memory):
        if not rule.allows_host(use.name, use.port, namespace):
            yield Problem(use.field, "the operator's policy does not allow this host", _ASK)
        elif _is_local(use.name, addresses) and not rule.names_host(use.name, use.port, namespace):
            reason = "is an address of the pod itself, of its node or of the API server, where no back end is"
            yield Problem(use.field, reason, "name the back end's Service")


def _is_local(host: str, addresses: Addresses) -> bool:
    if literal(host) is not None:
        return not addresses.admit(host)
    return fits_any(host.lower(), _API_SERVER)


def _pod(memory: SomaMemory, rule: PolicyRule) -> Iterator[Problem]:
    template = memory.spec.pod_template
    for position, variable in enumerate(template.env):
        allowed = fits_any(variable.name, rule.env) if rule.env is not None else _harmless(variable.name, rule)
        if not allowed:
            field = f"spec.podTemplate.env[{position}].name"
            yield Problem(field, "the operator's policy does not allow this variable", _ASK)
    for place, keys in (
        ("annotations", template.annotations),
        ("serviceAccountAnnotations", template.service_account_annotations),
    ):
        if rule.annotations is not None and not all(fits_any(key, rule.annotations) for key in keys):
            field = f"spec.podTemplate.{place}"
            yield Problem(field, "the operator's policy does not allow one of these keys", _ASK)


def _harmless(variable: str, rule: PolicyRule) -> bool:
    return not rule.restricts or _DECISIVE.fullmatch(variable) is None


def _repository(reference: str) -> str:
    head, slash, tail = reference.partition("@")[0].rpartition("/")
    return head + slash + tail.partition(":")[0]


def _complete(reference: str) -> str:
    """With the registry that a short name stands for."""
    first, slash, _ = reference.partition("/")
    if slash and ("." in first or ":" in first or first == "localhost"):
        return reference
    return f"docker.io/{reference}" if slash else f"docker.io/library/{reference}"


@dataclass(frozen=True, slots=True)
class Named:
    """An object that the spec names at `field`: `what` is its kind and name, `metadata` None where it is not there.

    `sent` says that its content goes to the back end of `endpoint`, the field of its host.
    """

    field: str
    what: str
    metadata: Mapping[str, Mapping[str, str]] | None
    endpoint: str = ""


def unconsented(memory: SomaMemory, rule: PolicyRule, named: Iterable[Named]) -> list[Problem]:
    """What is named without the consent of whoever owns it. The annotation that binds a Secret to hosts always counts,
    the label only where the policy asks for it."""
    hosts = hosts_used(memory)
    found: list[Problem] = []
    for one in named:
        if one.metadata is None:
            continue  # told elsewhere: it is not there
        labels, annotations = one.metadata.get("labels") or {}, one.metadata.get("annotations") or {}
        if rule.consent and labels.get(CONSENT) != "true":
            reason = f"{one.what} does not carry the label {CONSENT}=true"
            found.append(Problem(one.field, reason, "let its owner set it"))
        bound = annotations.get(MAY_BE_SENT_TO)
        if bound is None or not one.endpoint:
            continue
        found += _bound(memory, one, bound, [use for use in hosts if use.field.startswith(one.endpoint)])
    return found


def _bound(memory: SomaMemory, one: Named, hosts: str, uses: Iterable[HostUse]) -> Iterator[Problem]:
    """A Secret whose owner says where its values may go."""
    binding = PolicyRule(hosts=tuple(part for part in re.split(r"[,\s]+", hosts) if is_host_pattern(part)))
    for use in uses:
        if not binding.allows_host(use.name, use.port, memory.metadata.namespace):
            reason = f"{one.what} may not be sent to this host: its annotation {MAY_BE_SENT_TO} names others"
            yield Problem(use.field, reason, "name one of those, or another Secret")
    for position, variable in enumerate(memory.spec.pod_template.env):
        if _DECISIVE.fullmatch(variable.name):
            reason = f"{one.what} is bound to hosts, and this variable may send it elsewhere"
            yield Problem(f"spec.podTemplate.env[{position}].name", reason, "remove it, or name another Secret")
