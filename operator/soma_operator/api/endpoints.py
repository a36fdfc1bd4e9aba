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

    host: Host = Field(description="DNS name of the server or pooler.")
    port: Port = Field(default=5432, description="TCP port.")
    database: ShortText = Field(
        default="somamemory", description="Database; it must exist. Tables are made by the migration."
    )
    credentials_secret_ref: CredentialsRef = Field(description="Secret with the user name and password.")
    pool_size: Annotated[int, Field(ge=1, le=1000)] = Field(
        default=15,
        description="Most connections of one pod: replicas × poolSize must fit the server's max_connections.",
    )
    tls: ClientTLS = Field(
        default_factory=ClientTLS, description="Encryption of the connection. Left out: encrypted and fully verified."
    )


class Redis(ApiModel):
    """Rate limits and hot reads; its loss slows the service down and loses nothing."""

    host: Host = Field(description="DNS name of the server.")
    port: Port = Field(default=6379, description="TCP port.")
    database: Annotated[int, Field(ge=0, le=1023)] = Field(default=0, description="Number of the database.")
    password_secret_ref: SecretKeyRef | None = Field(
        default=None, description="Password. Left out: no password is sent."
    )
    username: ShortText | None = Field(default=None, description="ACL user. Left out: the default user.")
    tls: ClientTLS = Field(
        default_factory=ClientTLS, description="Encryption of the connection. Left out: encrypted and fully verified."
    )


class Qdrant(ApiModel):
    """Vectors that outgrow a replica's memory; rebuilt from the ledger when lost."""

    host: Host = Field(description="DNS name of the server.")
    port: Port = Field(default=6333, description="HTTP port.")
    grpc_port: Port = Field(default=6334, description="gRPC port.")
    collection: ShortText | None = Field(default=None, description="Collection. Left out: tenancy.namespace.")
    api_key_secret_ref: SecretKeyRef | None = Field(default=None, description="API key. Left out: none is sent.")
    tls: ClientTLS = Field(
        default_factory=ClientTLS, description="Encryption of the connection. Left out: encrypted and fully verified."
    )


class SaslMechanism(StrEnum):
    PLAIN = "PLAIN"
    SCRAM_SHA_256 = "SCRAM-SHA-256"
    SCRAM_SHA_512 = "SCRAM-SHA-512"


class Sasl(ApiModel):
    """How the runtime proves to Kafka who it is."""

    mechanism: SaslMechanism = Field(default=SaslMechanism.SCRAM_SHA_512, description="SASL mechanism.")
    credentials_secret_ref: CredentialsRef = Field(description="Secret with the user name and password.")


class StrimziCluster(ApiModel):
    """The Strimzi-managed cluster that topics are declared for."""

    name: DnsName = Field(description="Name of the Kafka resource (label strimzi.io/cluster).")
    namespace: DnsName = Field(description="Namespace of the Kafka resource; KafkaTopic resources are made there.")


class Kafka(ApiModel):
    """Where events are published to and consumed from."""

    bootstrap_servers: Annotated[tuple[HostPort, ...], Field(min_length=1, max_length=16)] = Field(
        description="host:port of brokers to begin with; the others are found through them."
    )
    sasl: Sasl | None = Field(
        default=None, description="Authentication. Left out: none, or by the client certificate of tls."
    )
    strimzi: StrimziCluster | None = Field(
        default=None, description="Which Strimzi cluster this is, for topics.mode Strimzi or Auto."
    )
    tls: ClientTLS = Field(
        default_factory=ClientTLS, description="Encryption of the connection. Left out: encrypted and fully verified."
    )


class Graph(ApiModel):
    """Neo4j, for graphs that outgrow SQL."""

    host: Host = Field(description="DNS name of the server.")
    port: Port = Field(default=7687, description="Bolt port.")
    database: ShortText = Field(default="neo4j", description="Database.")
    credentials_secret_ref: CredentialsRef = Field(description="Secret with the user name and password.")
    tls: ClientTLS = Field(
        default_factory=ClientTLS, description="Encryption of the connection. Left out: encrypted and fully verified."
    )


class Endpoints(ApiModel):
    """Back ends by DNS name. Only PostgreSQL is required in distributed mode; embedded mode needs none."""

    postgresql: PostgreSQL | None = Field(
        default=None, description="The ledger. Required in distributed mode, unused in embedded mode."
    )
    redis: Redis | None = Field(
        default=None, description="Rate limits over all replicas, and hot reads. Left out: limits count per pod."
    )
    qdrant: Qdrant | None = Field(
        default=None, description="Vectors beyond a replica's memory. Left out: every replica holds all of them."
    )
    kafka: Kafka | None = Field(default=None, description="Events. Required when events.enabled is true.")
    graph: Graph | None = Field(default=None, description="Neo4j. Left out: links are kept in the ledger.")


class SecretStoreKind(StrEnum):
    SECRET_STORE = "SecretStore"
    CLUSTER_SECRET_STORE = "ClusterSecretStore"


class SecretStoreRef(ApiModel):
    """A store that external-secrets reads from."""

    name: DnsName = Field(description="Name of the SecretStore or ClusterSecretStore.")
    kind: SecretStoreKind = Field(default=SecretStoreKind.SECRET_STORE, description="Kind of the store.")


class ExternalSecret(ApiModel):
    """An ExternalSecret that fills a Secret of the same name as the resource with a -external suffix. Needs external-secrets."""

    secret_store_ref: SecretStoreRef = Field(description="Store to read from.")
    path: Annotated[str, Field(min_length=1, max_length=512, pattern=r"^[-A-Za-z0-9_./]+$")] = Field(
        description="Path in the store, such as secret/data/shared-infra/soma-memory/prod."
    )
    refresh_interval: Duration = Field(
        default="1h", description="How often the store is asked; a changed value rolls the pods."
    )

    rules = (
        Rule(
            "!self.path.startsWith('/')",
            "path begins with a slash: write it without",
            ".path",
            lambda secret: not secret.path.startswith("/"),
        ),
    )
