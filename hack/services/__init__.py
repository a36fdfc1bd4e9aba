"""Real back ends for tests and benchmarks, started on free loopback ports from Debian's packages and Maven's artifacts.

Lives here: one module a system, each with a `start_…` that returns a running `Service`. May import `hack.cluster.tools`
(Debian packages, locks, the cache) and `hack.cluster.processes`; nothing of the operator or the runtime.
"""

from __future__ import annotations

from hack.services.kafka import start_kafka
from hack.services.postgres import start_postgres
from hack.services.redis import start_redis
from hack.services.service import Service, ServiceError

__all__ = ["Service", "ServiceError", "start_kafka", "start_postgres", "start_redis"]
