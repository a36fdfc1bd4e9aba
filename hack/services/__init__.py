"""Real back ends for tests and benchmarks, on free loopback ports: Debian's packages, Maven's artifacts, Go's modules.

Lives here: one module a system, each with a `start_…` that returns a running `Service`, the certificates they serve
with, and a proxy that breaks the network before them. May import `hack.cluster.tools` (Debian packages, locks, the
cache) and `hack.cluster.processes`; nothing of the operator or the runtime.
"""

from __future__ import annotations

from hack.services.certificates import Authority, Pair
from hack.services.etcd import start_etcd
from hack.services.kafka import SecureKafka, start_kafka, start_secure_kafka
from hack.services.neo4j import start_neo4j
from hack.services.poolers import start_pgbouncer, start_pgpool
from hack.services.postgres import keep_snapshot, restore_snapshot, start_clone, start_postgres, start_standby
from hack.services.proxy import FaultProxy
from hack.services.redis import (
    RedisCluster,
    RedisSentinels,
    start_redis,
    start_redis_cluster,
    start_redis_sentinels,
    start_redis_tls,
)
from hack.services.registry import start_registry
from hack.services.service import Service, ServiceError

__all__ = [
    "keep_snapshot",
    "restore_snapshot",
    "start_clone",
    "Authority",
    "FaultProxy",
    "Pair",
    "RedisCluster",
    "RedisSentinels",
    "Service",
    "ServiceError",
    "start_etcd",
    "SecureKafka",
    "start_kafka",
    "start_secure_kafka",
    "start_neo4j",
    "start_pgbouncer",
    "start_pgpool",
    "start_postgres",
    "start_standby",
    "start_redis",
    "start_registry",
    "start_redis_cluster",
    "start_redis_sentinels",
    "start_redis_tls",
]
