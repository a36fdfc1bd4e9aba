"""PostgreSQL, Redis and Kafka in pods of the namespace under test, over TLS, with their certificates and passwords."""

from __future__ import annotations

import base64
import json
import secrets
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hack.images.archive import Image
from hack.kube import Kubectl
from hack.services import Authority

DATABASE = "somamemory"
_PORTS = {"postgres": 5432, "redis": 6379, "kafka": 9093}
_RESTRICTED = {
    "allowPrivilegeEscalation": False,
    "capabilities": {"drop": ["ALL"]},
    "runAsNonRoot": True,
    "seccompProfile": {"type": "RuntimeDefault"},
}


@dataclass(frozen=True)
class BackEnds:
    """The three servers of one namespace, by the names of their Services: postgres, redis, kafka."""

    kubectl: Kubectl
    image: Image

    def apply(self, place: Path) -> None:
        """Make everything; `place` keeps the certificates. Does not wait: whoever needs a server waits for it."""
        objects = [*self._secrets(place), *self._pods()]
        self.kubectl.apply(json.dumps({"apiVersion": "v1", "kind": "List", "items": objects}))

    def endpoints(self) -> dict[str, Any]:
        """`spec.endpoints` of a SomaMemory that uses them: verified in full, PostgreSQL by client certificate too."""
        trusted = {"caSecretRef": {"name": "authority", "key": "ca.crt"}}
        return {
            "postgresql": {
                "host": "postgres",
                "database": DATABASE,
                "credentialsSecretRef": {"name": "postgres-user"},
                "poolSize": 5,
                "tls": trusted | {"clientCertificateSecretName": "soma-client"},
            },
            "redis": {
                "host": "redis",
                "passwordSecretRef": {"name": "redis-user", "key": "password"},
                "tls": trusted,
            },
            "kafka": {"bootstrapServers": [self.broker], "tls": trusted},
        }

    @property
    def broker(self) -> str:
        return f"kafka.{self.kubectl.namespace}.svc:{_PORTS['kafka']}"

    def rollout(self, name: str) -> None:
        """Wait until that server answers."""
        self.kubectl("rollout", "status", f"statefulset/{name}", "--timeout=120s", timeout=130)

    def stop(self, name: str) -> None:
        self.kubectl("scale", f"statefulset/{name}", "--replicas=0")
        self.kubectl("delete", "pod", f"{name}-0", "--force", "--grace-period=0", "--ignore-not-found")

    def start(self, name: str) -> None:
        self.kubectl("scale", f"statefulset/{name}", "--replicas=1")

    def _secrets(self, place: Path) -> list[dict[str, Any]]:
        authority = Authority(place)
        trusted = {"ca.crt": authority.certificate.read_bytes()}
        found = [_secret("authority", trusted)]
        for name in _PORTS:
            pair = authority.issue(name, (name, f"{name}.{self.kubectl.namespace}.svc", "localhost"))
            files = {"tls.crt": pair.certificate.read_bytes(), "tls.key": pair.key.read_bytes()}
            found.append(_secret(f"{name}-tls", trusted | files))
        client = authority.issue("soma")
        files = {"tls.crt": client.certificate.read_bytes(), "tls.key": client.key.read_bytes()}
        # A character that a URL would have to encode, because passwords have them.
        password = f"p@ss/{secrets.token_hex(8)}".encode()
        found.append(_secret("soma-client", files))
        found.append(_secret("postgres-user", {"username": b"soma", "password": password}))
        found.append(_secret("redis-user", {"password": secrets.token_hex(12).encode()}))
        return found

    def _pods(self) -> list[dict[str, Any]]:
        postgres = [_from_secret("POSTGRES_PASSWORD", "postgres-user")]
        redis = [_from_secret("REDIS_PASSWORD", "redis-user")]
        kafka = [{"name": "KAFKA_HOST", "value": self.broker.rpartition(":")[0]}]
        found = []
        for name, environment in (("postgres", postgres), ("redis", redis), ("kafka", kafka)):
            found += [_service(name), self._stateful_set(name, environment)]
        return found

    def _stateful_set(self, name: str, environment: list[dict[str, Any]]) -> dict[str, Any]:
        labels = {"app": name}
        container = {
            "name": name,
            "image": self.image.pinned_ref,
            "imagePullPolicy": "IfNotPresent",
            "command": [name],
            "env": environment,
            "ports": [{"containerPort": _PORTS[name]}],
            "readinessProbe": {"tcpSocket": {"port": _PORTS[name]}, "periodSeconds": 1},
            "resources": {"requests": {"cpu": "50m", "memory": "64Mi"}, "limits": {"memory": "768Mi"}},
            "securityContext": _RESTRICTED,
            "volumeMounts": [
                {"name": "tls", "mountPath": "/tls", "readOnly": True},
                {"name": "data", "mountPath": "/data"},
            ],
        }
        claim = {
            "metadata": {"name": "data"},
            "spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}},
        }
        pod = {
            "enableServiceLinks": False,
            "securityContext": {
                "runAsNonRoot": True,
                "runAsUser": 10001,
                "fsGroup": 10001,
                "fsGroupChangePolicy": "OnRootMismatch",
                "seccompProfile": {"type": "RuntimeDefault"},
            },
            "terminationGracePeriodSeconds": 5,
            "containers": [container],
            "volumes": [{"name": "tls", "secret": {"secretName": f"{name}-tls", "defaultMode": 288}}],
        }
        return {
            "apiVersion": "apps/v1",
            "kind": "StatefulSet",
            "metadata": {"name": name},
            "spec": {
                "serviceName": name,
                "selector": {"matchLabels": labels},
                "template": {"metadata": {"labels": labels}, "spec": pod},
                "volumeClaimTemplates": [claim],
            },
        }


def _service(name: str) -> dict[str, Any]:
    ports = [{"port": _PORTS[name]}]
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": name},
        "spec": {"selector": {"app": name}, "ports": ports},
    }


def _secret(name: str, values: dict[str, bytes]) -> dict[str, Any]:
    data = {key: base64.b64encode(value).decode() for key, value in values.items()}
    return {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": name}, "data": data}


def _from_secret(variable: str, name: str) -> dict[str, Any]:
    return {"name": variable, "valueFrom": {"secretKeyRef": {"name": name, "key": "password"}}}
