"""Events to and from Kafka, and who makes their topics."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

from pydantic import Field

from soma_operator.api.base import ApiModel
from soma_operator.api.values import LabelKey, ShortText, TopicName

TopicConfig = Annotated[dict[LabelKey, Annotated[str, Field(max_length=256)]], Field(max_length=32)]


class Events(ApiModel):
    """What is published and consumed. A store never waits for Kafka: events leave through the outbox."""

    enabled: bool = False
    """Whether changes are published and events consumed; needs endpoints.kafka, and distributed mode: in embedded mode
    it is not built yet, and KafkaReady says NotImplemented."""

    topic: TopicName = "memory.events"
    """Topic of changes to memories."""

    audit_topic: TopicName | None = None
    """Topic, such as memory.audit, that the lines of the audit chain are published to. Left out: they stay in the
    ledger."""

    dead_letter_topic: TopicName = "memory.dlq"
    """Topic for events that can never be applied, with the reason."""

    config_topic: TopicName = "config.updates"
    """Topic of configuration updates."""

    consumer_group: ShortText = "soma-consumer-group"
    """Consumer group of the consumer pods."""


class TopicsMode(StrEnum):
    AUTO = "Auto"
    STRIMZI = "Strimzi"
    ADMIN = "Admin"
    EXTERNAL = "External"


class Topic(ApiModel):
    """Settings of one topic that differ from the defaults of topics."""

    name: TopicName
    """Name of the topic."""

    partitions: Annotated[int, Field(ge=1, le=10000)] | None = None
    """Number of partitions; it can only grow. Left out: topics.partitions."""

    replication_factor: Annotated[int, Field(ge=1, le=15)] | None = None
    """Copies of each partition; fixed once the topic exists. Left out: topics.replicationFactor."""

    config: TopicConfig = Field(default_factory=dict)
    """Configuration of the topic, such as {retention.ms: '604800000'}."""


class Topics(ApiModel):
    """Who makes the topics, and how. Topics hold data: the operator never deletes them."""

    mode: TopicsMode = TopicsMode.AUTO
    """External leaves topics to you and only checks them. The others are not built yet, and TopicsReady says
    NotImplemented: Strimzi declares KafkaTopic resources, Admin asks the brokers; Auto is Strimzi where its CRD is
    served and endpoints.kafka.strimzi is set, else Admin."""

    partitions: Annotated[int, Field(ge=1, le=10000)] = 6
    """Not built yet. Partitions of a topic without its own number. They only grow."""

    replication_factor: Annotated[int, Field(ge=1, le=15)] = 3
    """Not built yet. Copies of each partition. Fixed once a topic exists."""

    items: Annotated[
        tuple[Topic, ...], Field(max_length=32, json_schema_extra={"x-kubernetes-list-map-keys": ["name"]})
    ] = ()
    """Not built yet. Settings of single topics."""
