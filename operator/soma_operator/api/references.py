"""References to Secrets and the TLS settings of a connection. Values never stand in a resource, only names."""

from __future__ import annotations

from enum import StrEnum

from pydantic import Field

from soma_operator.api.base import ApiModel, Rule
from soma_operator.api.values import DnsName, SecretKey


class SecretKeyRef(ApiModel):
    """One key of a Secret in the resource's namespace."""

    name: DnsName = Field(description="Name of the Secret, in the namespace of this resource.")
    key: SecretKey = Field(description="Key within the Secret's data.")


class CredentialsRef(ApiModel):
    """User name and password in one Secret in the resource's namespace."""

    name: DnsName = Field(description="Name of the Secret, in the namespace of this resource.")
    username_key: SecretKey = Field(default="username", description="Key that holds the user name.")
    password_key: SecretKey = Field(default="password", description="Key that holds the password.")


class TLSMode(StrEnum):
    DISABLED = "Disabled"
    REQUIRED = "Required"
    VERIFY_CA = "VerifyCA"
    VERIFY_FULL = "VerifyFull"


class ClientTLS(ApiModel):
    """How a connection to a back end is encrypted and whom it trusts."""

    mode: TLSMode = Field(
        default=TLSMode.VERIFY_FULL,
        description="VerifyFull checks the certificate's chain and host name, VerifyCA the chain only, Required encrypts without "
        "checking who answers, Disabled sends everything, passwords too, in the clear.",
    )
    ca_secret_ref: SecretKeyRef | None = Field(
        default=None,
        description="Certificate authority to trust, PEM. Left out: the authorities of the runtime's image.",
    )
    client_certificate_secret_name: DnsName | None = Field(
        default=None,
        description="Secret of type kubernetes.io/tls with the certificate and key that the runtime presents (mutual TLS).",
    )

    rules = (
        Rule(
            "!(has(self.mode) && self.mode == 'Disabled' && (has(self.caSecretRef) || has(self.clientCertificateSecretName)))",
            "TLS is Disabled yet certificates are named: remove mode, or remove the certificates",
            ".mode",
            lambda tls: tls.mode != TLSMode.DISABLED or not (tls.ca_secret_ref or tls.client_certificate_secret_name),
        ),
    )
