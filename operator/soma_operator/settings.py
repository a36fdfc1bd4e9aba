"""The operator's own settings: environment variables with the prefix SOMA_OPERATOR_, checked once at start."""

from __future__ import annotations

import secrets
import socket
from collections.abc import Mapping
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, ValidationError

PREFIX = "SOMA_OPERATOR_"
_POD_NAMESPACE = Path("/var/run/secrets/kubernetes.io/serviceaccount/namespace")

Port = Annotated[int, Field(ge=0, le=65535)]
DnsName = Annotated[str, StringConstraints(pattern=r"^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$", max_length=253)]
ImageName = Annotated[str, StringConstraints(pattern=r"^[^\s@]+(@sha256:[a-f0-9]{64})?$", min_length=1, max_length=512)]


class LogLevel(StrEnum):
    DEBUG = "DEBUG"
    INFO = "INFO"
    WARNING = "WARNING"
    ERROR = "ERROR"


class LogFormat(StrEnum):
    JSON = "json"
    TEXT = "text"


class InvalidSettingsError(ValueError):
    """A setting that cannot be used; the text names the variable and what it takes."""


class OperatorSettings(BaseModel):
    """Everything about the operator that a deployment may choose. Times are seconds."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    runtime_image: ImageName = "docker.io/library/soma-memory-runtime:dev"
    """Image of the runtime where a resource names none."""
    runtime_version: str = Field(default="", max_length=128)
    """Version that image has; empty: its tag."""
    namespace: DnsName = "soma-system"
    """Namespace of the Lease; the pod's own unless set."""
    lease_name: DnsName = "soma-operator"
    leader_election: bool = True
    """Off only where exactly one replica runs."""
    identity: str = Field(default="", max_length=253)
    """Name in the Lease; empty: the host's name and a random suffix."""
    lease_duration_seconds: int = Field(default=15, ge=3, le=600)
    resync_seconds: float = Field(default=600, ge=5, le=86400)
    """Mean time between lists of everything, which repair what a watch may have missed."""
    probe_seconds: float = Field(default=10, ge=0, le=3600)
    """Time from one look at a back end to the next; 0 looks at none, and their conditions are Unknown."""
    workers: int = Field(default=4, ge=1, le=64)
    api_rate: float = Field(default=50, gt=0, le=10000)
    """Requests per second to the API server, in the mean; twice as many in a burst."""
    rollout_slots: int = Field(default=2, ge=1, le=1000)
    """How many rollouts that nobody asked for (an upgrade of the operator) run at once."""
    rollout_delay_seconds: float = Field(default=10, ge=0, le=3600)
    progress_deadline_seconds: int = Field(default=600, ge=10, le=86400)
    """After this without progress a rollout is Stalled."""
    policy_file: str = Field(default="", max_length=4096)
    """YAML with what resources of which namespaces may ask for (docs/security.md); empty: only what is local is
    refused."""
    node_address: str = Field(default="", max_length=64)
    """Address of the node that this pod runs on: no back end is there."""
    listen: str = "0.0.0.0"  # noqa: S104 probes come from the node, scrapes from other pods
    health_port: Port = 8080
    metrics_port: Port = 8081
    log_level: LogLevel = LogLevel.INFO
    log_format: LogFormat = LogFormat.JSON

    @classmethod
    def from_environment(cls, environ: Mapping[str, str]) -> OperatorSettings:
        """Read and check; raises InvalidSettingsError that names every bad variable."""
        given: dict[str, Any] = {}
        unknown: list[str] = []
        for variable, value in environ.items():
            if not variable.startswith(PREFIX):
                continue
            name = variable.removeprefix(PREFIX).lower()
            if name in cls.model_fields:
                given[name] = value.upper() if name == "log_level" else value
            else:
                unknown.append(variable)
        if unknown:
            raise InvalidSettingsError(f"{', '.join(sorted(unknown))}: no such setting; see --help for the list")
        given.setdefault("namespace", _own_namespace())
        if not given.get("identity"):
            given["identity"] = f"{socket.gethostname()}-{secrets.token_hex(3)}"
        try:
            return cls.model_validate(given)
        except ValidationError as error:
            raise InvalidSettingsError(_sentence(error)) from None

    @property
    def default_version(self) -> str:
        """Version of the default image."""
        if self.runtime_version:
            return self.runtime_version
        name = self.runtime_image.partition("@")[0].rpartition("/")[2]
        return name.partition(":")[2] or "latest"


def _own_namespace() -> str:
    try:
        return _POD_NAMESPACE.read_text(encoding="utf-8").strip() or "soma-system"
    except OSError:
        return "soma-system"


def _sentence(error: ValidationError) -> str:
    parts = []
    for entry in error.errors(include_url=False, include_input=True):
        variable = PREFIX + str(entry["loc"][0]).upper()
        message = str(entry["msg"])
        parts.append(f"{variable}={entry['input']}: {message[:1].lower()}{message[1:]}")
    return "; ".join(sorted(parts))


def describe() -> str:
    """The settings with their defaults, for --help."""
    lines = [f"  {PREFIX}{name.upper():<26} {info.default!s}" for name, info in OperatorSettings.model_fields.items()]
    return "environment (default):\n" + "\n".join(lines)
