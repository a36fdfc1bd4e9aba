"""The back ends of distributed mode: by DNS name, with credentials by Secret reference only."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

from pydantic import Field

from soma_operator.api.base import ApiModel, Rule
from soma_operator.api.references import ClientTLS, CredentialsRef, SecretKeyRef
from soma_operator.api.values import DnsName, Duration, Host, HostPort, Port, ShortText


class PostgreSQL(ApiModel):
    """The ledger of distributed mode: the truth that everything else can be rebuilt from."""

    host: Host
    """DNS name of the server or pooler."""

    port: Port = 5432
    """TCP port."""

    database: ShortText = "somamemory"
    """Database; it must exist. Tables are made by the migration."""

    credentials_secret_ref: CredentialsRef
    """Secret with the user name and password."""

    pool_size: Annotated[int, Field(ge=1, le=1000)] = 15
    """Most connections of one pod: replicas times poolSize must fit the server's max_connections."""

    tls: ClientTLS = Field(default_factory=ClientTLS)
    """Encryption of the connection. Left out: encrypted and fully verified."""


class Redis(ApiModel):
    """Rate limits and hot reads; its loss slows the service down and loses nothing."""

    host: Host
    """DNS name of the server."""

    port: Port = 6379
    """TCP port."""

    database: Annotated[int, Field(ge=0, le=1023)] = 0
    """Number of the database."""

    password_secret_ref: SecretKeyRef | None = None
    """Password. Left out: no password is sent."""

    username: ShortText | None = None
    """ACL user. Left out: the default user."""

    tls: ClientTLS = Field(default_factory=ClientTLS)
    """Encryption of the connection. Left out: encrypted and fully verified."""


class Qdrant(ApiModel):
    """Vectors that outgrow a replica's memory; rebuilt from the ledger when lost."""

    host: Host
    """DNS name of the server."""

    port: Port = 6333
    """HTTP port."""

    grpc_port: Port = 6334
    """gRPC port."""

    collection: ShortText | None = None
    """Collection. Left out: tenancy.namespace."""

    api_key_secret_ref: SecretKeyRef | None = None
    """API key. Left out: none is sent."""

    tls: ClientTLS = Field(default_factory=ClientTLS)
    """Encryption of the connection. Left out: encrypted and fully verified."""


class SaslMechanism(StrEnum):
    PLAIN = "PLAIN"
    SCRAM_SHA_256 = "SCRAM-SHA-256"
    SCRAM_SHA_512 = "SCRAM-SHA-512"


class Sasl(ApiModel):
    """How the runtime proves to Kafka who it is."""

    mechanism: SaslMechanism = SaslMechanism.SCRAM_SHA_512
    """SASL mechanism."""

    credentials_secret_ref: CredentialsRef
    """Secret with the user name and password."""


class StrimziCluster(ApiModel):
    """The Strimzi-managed cluster that topics are declared for."""

    name: DnsName
    """Name of the Kafka resource (label strimzi.io/cluster)."""

    namespace: DnsName
    """Namespace of the Kafka resource; KafkaTopic resources are made there."""


class Kafka(ApiModel):
    """Where events are published to and consumed from."""

    bootstrap_servers: Annotated[tuple[HostPort, ...], Field(min_length=1, max_length=16)]
    """host:port of brokers to begin with; the others are found through them."""

    sasl: Sasl | None = None
    """Authentication. Left out: none, or by the client certificate of tls."""

    strimzi: StrimziCluster | None = None
    """Not built yet. Which Strimzi cluster this is, for topics.mode Strimzi or Auto."""

    tls: ClientTLS = Field(default_factory=ClientTLS)
    """Encryption of the connection. Left out: encrypted and fully verified."""


class Graph(ApiModel):
    """Neo4j, for graphs that outgrow SQL."""

    host: Host
    """DNS name of the server."""

    port: Port = 7687
    """Bolt port."""

    database: ShortText = "neo4j"
    """Database."""

    credentials_secret_ref: CredentialsRef
    """Secret with the user name and password."""

    tls: ClientTLS = Field(default_factory=ClientTLS)
    """Encryption of the connection. Left out: encrypted and fully verified."""


class Endpoints(ApiModel):
    """Back ends by DNS name. Only PostgreSQL is required in distributed mode; embedded mode needs none."""

    postgresql: PostgreSQL | None = None
    """The ledger. Required in distributed mode, unused in embedded mode."""

    redis: Redis | None = None
    """Rate limits over all replicas, and hot reads. Left out: limits count per pod."""

    qdrant: Qdrant | None = None
    """Vectors beyond a replica's memory. Left out: every replica holds all of them."""

    kafka: Kafka | None = None
    """Events. Required when events.enabled is true."""

    graph: Graph | None = None
    """Neo4j. Left out: links are kept in the ledger."""


class SecretStoreKind(StrEnum):
    NAMESPACED = "SecretStore"
    CLUSTER = "ClusterSecretStore"


class SecretStoreRef(ApiModel):
    """A store that external-secrets reads from."""

    name: DnsName
    """Name of the SecretStore or ClusterSecretStore."""

    kind: SecretStoreKind = SecretStoreKind.NAMESPACED
    """Kind of the store."""


class ExternalSecret(ApiModel):
    """An ExternalSecret that fills the Secret `<name>-external` from a store. Needs external-secrets in the cluster."""

    secret_store_ref: SecretStoreRef
    """Store to read from."""

    path: Annotated[str, Field(min_length=1, max_length=512, pattern=r"^[-A-Za-z0-9_./]+$")]
    """Path in the store, such as secret/data/shared-infra/soma-memory/prod."""

    refresh_interval: Duration = "1h"
    """How often the store is asked; a changed value rolls the pods."""

    rules = (
        Rule(
            "!self.path.startsWith('/')",
            "path begins with a slash: write it without",
            ".path",
            lambda secret: not secret.path.startswith("/"),
        ),
    )
