"""Where embedded mode keeps its ledger, how long memories are kept, how a store begins and how it ends."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

from pydantic import Field

from soma_operator.api.base import ApiModel, Rule
from soma_operator.api.references import SecretKeyRef
from soma_operator.api.values import ByteQuantity, DnsName, DnsNameOrNone, Duration, ShortText, Timestamp

DEFAULT_SIZE = "10Gi"


class AccessMode(StrEnum):
    READ_WRITE_ONCE = "ReadWriteOnce"
    READ_WRITE_ONCE_POD = "ReadWriteOncePod"
    READ_WRITE_MANY = "ReadWriteMany"


class Persistence(ApiModel):
    """The volume of embedded mode: ledger, index snapshots and models."""

    size: ByteQuantity = DEFAULT_SIZE
    """Size of the volume. It may grow where the StorageClass allows it, and never shrinks. A million memories of 384
    dimensions take about 4Gi."""

    storage_class_name: DnsNameOrNone | None = None
    """StorageClass of the volume; "" asks for none. Left out: the cluster's default. Immutable."""

    access_modes: Annotated[tuple[AccessMode, ...], Field(min_length=1, max_length=3)] = (AccessMode.READ_WRITE_ONCE,)
    """How the volume may be mounted. The ledger has one writer: ReadWriteOncePod is the strictest. Immutable."""

    existing_claim: DnsName | None = None
    """Use this PersistentVolumeClaim instead of making one; the operator never resizes or deletes it. Immutable."""

    rules = (
        Rule(
            "!has(self.existingClaim) || !(has(self.size) || has(self.storageClassName) || has(self.accessModes))",
            "existingClaim already decides size, storageClassName and accessModes: remove those",
            ".existingClaim",
            lambda volume: (
                volume.existing_claim is None
                or not volume.model_fields_set & {"size", "storage_class_name", "access_modes"}
            ),
        ),
        Rule(
            "!has(self.accessModes) || size(self.accessModes) == 1 || !('ReadWriteOncePod' in self.accessModes)",
            "ReadWriteOncePod goes with no other access mode: remove the others",
            ".accessModes",
            lambda volume: len(volume.access_modes) == 1 or AccessMode.READ_WRITE_ONCE_POD not in volume.access_modes,
        ),
    )


class Retention(ApiModel):
    """Bounds on what is kept. Off unless set: a memory is never deleted because it is old or seldom used."""

    ttl: Duration | None = None
    """Age at which memories without a ttl of their own are deleted, such as 365d. Left out: never."""

    max_rows: Annotated[int, Field(ge=1, le=10_000_000_000)] | None = None
    """Most memories kept in each tenant's namespace; beyond it those with the lowest retention score are archived on
    the volume and go. Left out: no bound."""

    max_bytes: ByteQuantity | None = None
    """Most bytes kept in each tenant's namespace; beyond it as with maxRows. Left out: no bound but the volume's."""


class S3Destination(ApiModel):
    """A place in an S3-compatible object store."""

    bucket: Annotated[str, Field(pattern=r"^[a-z0-9][-a-z0-9.]{1,61}[a-z0-9]$", max_length=63)]
    """Name of the bucket."""

    prefix: Annotated[str, Field(pattern=r"^[-A-Za-z0-9_./]*$", max_length=512)] = ""
    """Path within the bucket. Several memories may share one: each writes below its own namespace and name."""

    region: ShortText | None = None
    """Region of the bucket, where the store has regions."""

    endpoint: Annotated[str, Field(pattern=r"^https?://[^\s/@]+/?$", max_length=512)] | None = None
    """Address of a store other than AWS. http:// sends backups in the clear: for tests only."""

    credentials_secret_name: DnsName | None = None
    """Secret in the namespace of this resource with AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY. Left out: the
    identity of the pod's ServiceAccount."""

    ca_secret_ref: SecretKeyRef | None = None
    """Certificate authority of the endpoint, PEM."""

    force_path_style: bool = False
    """Put the bucket into the path instead of the host name, as most stores other than AWS need."""


class Destination(ApiModel):
    """Where backups are written."""

    s3: S3Destination
    """A bucket in an S3-compatible object store."""


class RestoreSource(ApiModel):
    """Which backup a new store begins with; exactly one of backupName and s3."""

    backup_name: DnsName | None = None
    """SomaMemoryBackup in the same namespace, whose destination is read."""

    s3: S3Destination | None = None
    """Where the backup lies, for one made in another cluster."""

    snapshot: ShortText | None = None
    """Id of the snapshot to restore. Left out: the newest that is complete."""

    up_to_time: Timestamp | None = None
    """Restore as of this time (RFC 3339), from the newest snapshot before it. Left out: all of the snapshot."""

    rules = (
        Rule(
            "has(self.backupName) != has(self.s3)",
            "fromBackup takes exactly one source: set backupName or s3",
            "",
            lambda source: (source.backup_name is None) != (source.s3 is None),
        ),
    )


class Bootstrap(ApiModel):
    """How a new store begins. Looked at once, before the first start; later changes do not touch what is stored."""

    from_backup: RestoreSource
    """Restore this backup before serving. Nothing is served until it has been verified."""


class DeletionPolicy(StrEnum):
    RETAIN = "Retain"
    DELETE = "Delete"


class Encryption(ApiModel):
    """Encryption of the stored payloads, beyond what the volume does."""

    key_secret_ref: SecretKeyRef
    """Key of 32 bytes, base64. Losing it loses the memories: keep a copy outside of the cluster."""
