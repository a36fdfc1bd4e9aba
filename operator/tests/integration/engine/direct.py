"""kubectl for what people do, plain HTTPS for looking: a process for each look would be most of the tests' time."""

from __future__ import annotations

import base64
import ssl
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import yaml

from hack.kube import Kubectl
from soma_operator.catalog.kinds import WATCHED_KINDS, Kind

POD = Kind("", "v1", "Pod", "pods")
EVENT = Kind("", "v1", "Event", "events")
_SHORT = {"pvc": "persistentvolumeclaims", "pdb": "poddisruptionbudgets"}


def kind_of(word: str) -> Kind | None:
    """The kind that kubectl would understand by `word`, if it is one that we look at."""
    for kind in (*WATCHED_KINDS, POD, EVENT):
        if word in (kind.plural, kind.name.lower()) or _SHORT.get(word) == kind.plural:
            return kind
    return None


def client_for(kubeconfig: Path) -> httpx.Client:
    """A client with the administrator's certificate."""
    document = yaml.safe_load(kubeconfig.read_text(encoding="utf-8"))
    cluster, user = document["clusters"][0]["cluster"], document["users"][0]["user"]
    authority = _text(cluster, "certificate-authority", kubeconfig.parent)
    context = ssl.create_default_context(cadata=authority)
    with tempfile.TemporaryDirectory() as place:
        certificate, key = Path(place, "crt"), Path(place, "key")
        certificate.write_text(_text(user, "client-certificate", kubeconfig.parent), encoding="ascii")
        key.write_text(_text(user, "client-key", kubeconfig.parent), encoding="ascii")
        context.load_cert_chain(certificate, key)
    return httpx.Client(base_url=cluster["server"], verify=context, trust_env=False, timeout=20)


def _text(entry: dict[str, str], key: str, base: Path) -> str:
    if f"{key}-data" in entry:
        return base64.b64decode(entry[f"{key}-data"]).decode()
    return (base / entry[key]).read_text(encoding="ascii")


@dataclass(frozen=True)
class Direct(Kubectl):
    """As Kubectl, but `get` and `find` of the kinds that the operator handles need no process."""

    http: httpx.Client = field(default_factory=httpx.Client)

    def within(self, namespace: str) -> Direct:
        return Direct(self.program, self.kubeconfig, namespace, self.http)

    def get(self, *args: str) -> dict[str, Any]:
        found = self._look(args)
        return super().get(*args) if found is None else found

    def find(self, *args: str) -> dict[str, Any] | None:
        found = self._look(args)
        if found is None:
            return super().find(*args)
        return found or None

    def _look(self, args: tuple[str, ...]) -> dict[str, Any] | None:
        """None: not for us; empty: not there."""
        kinds = [kind_of(word) for word in args[0].split(",")]
        rest = [word for word in args[1:] if word != "--show-managed-fields"]
        if any(kind is None for kind in kinds) or (rest and (len(rest) > 1 or rest[0].startswith("-"))):
            return None
        if rest:
            return self._request(kinds[0], rest[0])
        items = [item for kind in kinds for item in self._request(kind)["items"]]
        return {"items": items}

    def _request(self, kind: Kind | None, name: str | None = None) -> dict[str, Any]:
        assert kind is not None
        answer = self.http.get(kind.path(self.namespace, name))
        if answer.status_code == 404:
            return {}
        answer.raise_for_status()
        body: dict[str, Any] = answer.json()
        for item in body.get("items", ()):
            item.setdefault("kind", kind.name)
        return body
