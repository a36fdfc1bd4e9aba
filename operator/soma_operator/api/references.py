"""References to Secrets and the TLS settings of a connection. Values never stand in a resource, only names."""

from __future__ import annotations

from enum import StrEnum

from soma_operator.api.base import ApiModel, Rule
from soma_operator.api.values import DnsName, SecretKey


class SecretKeyRef(ApiModel):
    """One key of a Secret in the resource's namespace."""

    name: DnsName
    """Name of the Secret, in the namespace of this resource."""

    key: SecretKey
    """Key within the Secret's data."""


class CredentialsRef(ApiModel):
    """User name and password in one Secret in the resource's namespace."""

    name: DnsName
    """Name of the Secret, in the namespace of this resource."""

    username_key: SecretKey = "username"
    """Key that holds the user name."""

    password_key: SecretKey = "password"  # noqa: S105 the name of a key
    """Key that holds the password."""


class TLSMode(StrEnum):
    DISABLED = "Disabled"
    REQUIRED = "Required"
    VERIFY_CA = "VerifyCA"
    VERIFY_FULL = "VerifyFull"


class ClientTLS(ApiModel):
    """How a connection to a back end is encrypted and whom it trusts."""

    mode: TLSMode = TLSMode.VERIFY_FULL
    """VerifyFull checks the certificate's chain and host name, VerifyCA the chain only, Required encrypts without
    checking who answers, Disabled sends everything, passwords too, in the clear. VerifyCA and Required are built for
    PostgreSQL alone: elsewhere they are answered by Stalled/NotImplemented."""

    ca_secret_ref: SecretKeyRef | None = None
    """Certificate authority to trust, PEM. Left out: the authorities of the runtime's image."""

    client_certificate_secret_name: DnsName | None = None
    """Secret of type kubernetes.io/tls with the certificate and key that the runtime presents (mutual TLS). Not built
    yet for Qdrant: answered by Stalled/NotImplemented."""

    rules = (
        Rule(
            "self.?mode.orValue('') != 'Disabled' || !(has(self.caSecretRef) || has(self.clientCertificateSecretName))",
            "TLS is Disabled yet certificates are named: remove mode, or remove the certificates",
            ".mode",
            lambda tls: tls.mode != TLSMode.DISABLED or not (tls.ca_secret_ref or tls.client_certificate_secret_name),
        ),
    )
