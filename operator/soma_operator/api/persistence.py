"""Where embedded mode keeps its ledger, how long memories are kept, how a store begins and how it ends."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

from pydantic import Field

from soma_operator.api.base import ApiModel, Rule
from soma_operator.api.references import SecretKeyRef
from soma_operator.api.values import ByteQuantity, DnsName, Duration, ShortText, Timestamp

DEFAULT_SIZE = "10Gi"


class AccessMode(StrEnum):
    READ_WRITE_ONCE = "ReadWriteOnce"
    READ_WRITE_ONCE_POD = "ReadWriteOncePod"
    READ_WRITE_MANY = "ReadWriteMany"


class Persistence(ApiModel):
    """The volume of embedded mode: ledger, index snapshots and models."""

    size: ByteQuantity = Field(
        default=DEFAULT_SIZE,
        description="Size of the volume. It may grow where the StorageClass allows it, and never shrinks. A million memories of 384 dimensions "
        "take about 4Gi.",
    )
    storage_class_name: Annotated[str, Field(max_length=253)] | None = Field(
        default=None,
        description='StorageClass of the volume; "" asks for none. Left out: the cluster\'s default. Immutable.',
    )
    access_modes: Annotated[tuple[AccessMode, ...], Field(min_length=1, max_length=3)] = Field(
        default=(AccessMode.READ_WRITE_ONCE,),
        description="How the volume may be mounted. The ledger has one writer: ReadWriteOncePod is the strictest. Immutable.",
    )
    existing_claim: DnsName | None = Field(
        default=None,
        description="Use this PersistentVolumeClaim instead of making one; it is never resized or deleted by the operator. Immutable.",
    )

    rules = (
        Rule(
            "!has(self.existingClaim) || !(has(self.size) || has(self.storageClassName) || has(self.accessModes))",
            "existingClaim excludes size, storageClassName and accessModes: the claim already decides them, remove them",
            ".existingClaim",
            lambda volume: (
                volume.existing_claim is None
                or not volume.model_fields_set & {"size", "storage_class_name", "access_modes"}
            ),
        ),
    )


class Retention(ApiModel):
    """Bounds on what is kept. Off unless set: a memory is never deleted because it is old or seldom used."""

    ttl: Duration | None = Field(
        default=None,
        description="Age at which memories without a ttl of their own are deleted, such as 365d. Left out: never.",
    )
    max_rows: Annotated[int, Field(ge=1, le=10_000_000_000)] | None = Field(
        default=None,
        description="Most memories kept; beyond it those with the lowest retention score go first. Left out: no bound.",
    )
    max_bytes: ByteQuantity | None = Field(
        default=None,
        description="Most bytes of memories kept; beyond it as with maxRows. Left out: no bound but the volume's.",
    )


class S3Destination(ApiModel):
    """A place in an S3-compatible object store."""

    bucket: Annotated[str, Field(pattern=r"^[a-z0-9][-a-z0-9.]{1,61}[a-z0-9]$", max_length=63)] = Field(
        description="Name of the bucket."
    )
    prefix: Annotated[str, Field(pattern=r"^[-A-Za-z0-9_./]*$", max_length=512)] = Field(
        default="",
        description="Path within the bucket. Several memories may share one: each writes below its own namespace and name.",
    )
    region: ShortText | None = Field(default=None, description="Region of the bucket, where the store has regions.")
    endpoint: Annotated[str, Field(pattern=r"^https?://[^\s/@]+/?$", max_length=512)] | None = Field(
        default=None,
        description="Address of a store other than AWS. http:// sends backups in the clear: for tests only.",
    )
    credentials_secret_name: DnsName | None = Field(
        default=None,
        description="Secret in the namespace of this resource with AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY. Left out: the identity of the "
        "pod's ServiceAccount.",
    )
    ca_secret_ref: SecretKeyRef | None = Field(default=None, description="Certificate authority of the endpoint, PEM.")
    force_path_style: bool = Field(
        default=False,
        description="Put the bucket into the path instead of the host name, as most stores other than AWS need.",
    )


class Destination(ApiModel):
    """Where backups are written."""

    s3: S3Destination = Field(description="A bucket in an S3-compatible object store.")


class RestoreSource(ApiModel):
    """Which backup a new store begins with; exactly one of backupName and s3."""

    backup_name: DnsName | None = Field(
        default=None, description="SomaMemoryBackup in the same namespace, whose destination is read."
    )
    s3: S3Destination | None = Field(
        default=None, description="Where the backup lies, for one made in another cluster."
    )
    snapshot: ShortText | None = Field(
        default=None, description="Id of the snapshot to restore. Left out: the newest that is complete."
    )
    up_to_time: Timestamp | None = Field(
        default=None,
        description="Restore as of this time (RFC 3339), from the newest snapshot before it. Left out: all of the snapshot.",
    )

    rules = (
        Rule(
            "has(self.backupName) != has(self.s3)",
            "fromBackup takes exactly one source: set backupName or s3",
            "",
            lambda source: (source.backup_name is None) != (source.s3 is None),
        ),
    )


class Bootstrap(ApiModel):
    """How a new store begins. Looked at once, before the first start; later changes have no effect on what is stored."""

    from_backup: RestoreSource = Field(
        description="Restore this backup before serving. Nothing is served until it has been verified."
    )


class DeletionPolicy(StrEnum):
    RETAIN = "Retain"
    DELETE = "Delete"


class Encryption(ApiModel):
    """Encryption of the stored payloads, beyond what the volume does."""

    key_secret_ref: SecretKeyRef = Field(
        description="Key of 32 bytes, base64. Losing it loses the memories: keep a copy outside of the cluster."
    )
