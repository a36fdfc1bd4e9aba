"""All that the desired objects depend on. Same inputs, same objects: nothing here may be a time, a count or a random
value."""

from __future__ import annotations

from dataclasses import dataclass

from soma_operator.api import SomaMemory
from soma_operator.catalog.names import TOKEN_KEY, claim_name, token_name


@dataclass(frozen=True, slots=True)
class Defaults:
    """What the operator decides where a spec does not."""

    image: str
    version: str
    progress_deadline_seconds: int = 600


@dataclass(frozen=True, slots=True)
class Inputs:
    """One SomaMemory, the operator's defaults, and the digest of the token Secret as observed (None: not there yet)."""

    memory: SomaMemory
    defaults: Defaults
    token_digest: str | None = None
    credentials_digest: str | None = None
    """Digest of the back ends' Secrets as observed."""

    @property
    def name(self) -> str:
        """Name of the SomaMemory, and prefix of its children's names."""
        return self.memory.metadata.name

    @property
    def namespace(self) -> str:
        """Namespace of the SomaMemory and of all its children."""
        return self.memory.metadata.namespace

    @property
    def token_secret(self) -> tuple[str, str]:
        """Name and key of the Secret that holds the bearer token."""
        reference = self.memory.spec.access.token_secret_ref
        return (reference.name, reference.key) if reference else (token_name(self.name), TOKEN_KEY)

    @property
    def generates_token(self) -> bool:
        """Whether the token Secret is ours."""
        return self.memory.spec.access.token_secret_ref is None

    @property
    def claim(self) -> str:
        """Name of the volume's claim."""
        return self.memory.spec.persistence.existing_claim or claim_name(self.name)
