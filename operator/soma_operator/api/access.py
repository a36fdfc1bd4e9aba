"""Who may call the service, as whom, and how often."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from soma_operator.api.base import ApiModel
from soma_operator.api.references import SecretKeyRef
from soma_operator.api.values import DnsName, Duration, HttpUrl, ShortText


class Jwt(ApiModel):
    """Bearer tokens signed by an identity provider, instead of a shared token."""

    issuer: HttpUrl
    """Expected `iss` claim."""

    audience: ShortText
    """Expected `aud` claim."""

    jwks_url: HttpUrl | None = Field(default=None, alias="jwksURL")
    """Where the signing keys are published. Left out: found by the issuer's discovery document."""

    tenant_claim: ShortText = "tenant"
    """Claim that names the caller's tenant."""


class Opa(ApiModel):
    """Policy decisions by Open Policy Agent. Fails closed: no answer is a refusal."""

    url: HttpUrl
    """Address of OPA, such as http://opa.security.svc:8181."""

    path: Annotated[str, Field(pattern=r"^[-A-Za-z0-9_/]+$", max_length=253)] = "soma/memory/allow"
    """Path of the decision below /v1/data/."""

    timeout: Duration = "1s"
    """Longest wait for a decision."""


class ServerTLS(ApiModel):
    """The certificate that HTTP and gRPC are served with."""

    secret_name: DnsName
    """Secret of type kubernetes.io/tls with the certificate and key, such as cert-manager makes."""

    client_ca_secret_ref: SecretKeyRef | None = None
    """Authority that must have signed a caller's certificate (mutual TLS). Left out: callers need none."""


class Access(ApiModel):
    """Authentication is always on. Left out entirely: a token is generated into the Secret <name>-token, key token."""

    token_secret_ref: SecretKeyRef | None = None
    """Bearer token that callers present. Left out: one is generated once and never rotated by the operator."""

    jwt: Jwt | None = None
    """Not built yet: answered by Stalled/NotImplemented. Accept tokens of an identity provider."""

    opa: Opa | None = None
    """Not built yet: answered by Stalled/NotImplemented. Ask Open Policy Agent about every request."""

    tls: ServerTLS | None = None
    """Not built yet: answered by Stalled/NotImplemented. Serve HTTPS and gRPC over TLS. Left out: plain, for a mesh or
    an ingress in front."""

    cors_origins: Annotated[tuple[Annotated[str, Field(max_length=253)], ...], Field(max_length=32)] = ()
    """Origins that browsers may call from, such as https://app.example.com. Left out: none."""


class Tenancy(ApiModel):
    """Names under which memories are kept when a caller gives none."""

    namespace: ShortText = "api_ns"
    """Memory namespace (not a Kubernetes one) of callers that name none."""

    default_tenant: ShortText = "default"
    """Tenant of callers that name none."""


class RateLimits(ApiModel):
    """How often one caller may ask. Beyond it requests are answered with 429."""

    max_requests: Annotated[int, Field(ge=0, le=1_000_000_000)] = 0
    """Requests of one caller within the window; 0 switches the limit off."""

    window_seconds: Annotated[int, Field(ge=1, le=86400)] = 60
    """Length of the window."""
