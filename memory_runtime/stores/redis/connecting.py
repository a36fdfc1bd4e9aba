"""How Redis is reached: one server, the primary that Sentinels name, or a cluster; TLS, client certificate, ACL user.

redis-py's own repeats are turned off everywhere: the guard repeats, within its budget and the caller's deadline.
"""

from __future__ import annotations

import ssl
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Literal

from redis.asyncio import Connection, ConnectionPool, Redis, SSLConnection
from redis.asyncio.cluster import ClusterNode, RedisCluster
from redis.asyncio.connection import parse_url
from redis.asyncio.retry import Retry
from redis.asyncio.sentinel import Sentinel
from redis.backoff import NoBackoff
from redis.maint_notifications import MaintNotificationsConfig

from memory_runtime.settings import SettingsError, SMFSettings
from memory_runtime.stores.redis.failures import redis_failure
from memory_runtime.stores.resilience import Guard, GuardPolicy
from memory_runtime.telemetry.backends import BackendMetrics

RedisClient = Redis | RedisCluster
_REMEDY: Final = "write redis://user:password@host:6379/0, or rediss:// for TLS"


@dataclass(frozen=True, slots=True)
class RedisTarget:
    """Where Redis is and how it is spoken to; made by `redis_target`. `login` and `tls` are redis-py's arguments."""

    topology: Literal["standalone", "sentinel", "cluster"]
    nodes: tuple[tuple[str, int], ...]
    database: int
    pool_size: int
    timeout: float
    master: str = ""
    login: dict[str, Any] = field(default_factory=dict, repr=False)
    sentinel_login: dict[str, Any] = field(default_factory=dict, repr=False)
    tls: dict[str, Any] = field(default_factory=dict)

    def client(self) -> RedisClient:
        """A client that has not connected yet; close it with `aclose`. Its pool is bounded by `pool_size`."""
        link = {
            "socket_timeout": self.timeout,
            "socket_connect_timeout": self.timeout,
            "decode_responses": True,
            "driver_info": None,  # spares CLIENT SETINFO, which an ACL user need not have
            **self.login,
        }
        if self.topology == "cluster":
            return RedisCluster(
                startup_nodes=[ClusterNode(host, port) for host, port in self.nodes],
                max_connections=self.pool_size,
                retry=Retry(NoBackoff(), 0),
                maint_notifications_config=MaintNotificationsConfig(enabled=False),
                **(self.tls and {"ssl": True, **self.tls}),
                **link,
            )
        link |= {"retry": Retry(NoBackoff(), 0), "db": self.database}
        if self.topology == "sentinel":
            ends = {"ssl": True, **self.tls} if self.tls else {}
            sentinels = {"socket_timeout": self.timeout, "retry": Retry(NoBackoff(), 0), **self.sentinel_login, **ends}
            found = Sentinel(list(self.nodes), sentinel_kwargs=sentinels, **link, **ends)  # type: ignore[no-untyped-call]
            primary: Redis = found.master_for(self.master, max_connections=self.pool_size)
            return primary
        pool = ConnectionPool(
            connection_class=SSLConnection if self.tls else Connection,
            max_connections=self.pool_size,
            host=self.nodes[0][0],
            port=self.nodes[0][1],
            **link,
            **self.tls,
        )
        return Redis.from_pool(pool)

    def guard(self, metrics: BackendMetrics | None = None, **policy: Any) -> Guard:
        """The guard that a client of this target is called through: as many calls at once as connections."""
        values = {"attempt_timeout": self.timeout, "timeout": 3 * self.timeout, "places": self.pool_size} | policy
        return Guard("redis", GuardPolicy(**values), classify=redis_failure, metrics=metrics)


def redis_target(settings: SMFSettings) -> RedisTarget | None:
    """Where the settings say Redis is; None where they name none. Raises SettingsError naming the setting."""
    url = settings.redis_url
    if url is None and settings.redis_host is None and not settings.redis_nodes:
        return None
    said = _parsed(url.get_secret_value().strip()) if url is not None else {}
    host, port = said.get("host", settings.redis_host), said.get("port", settings.redis_port)
    if settings.redis_nodes:
        nodes = tuple(_node(text) for text in settings.redis_nodes)
    elif host:
        nodes = ((host, int(port)),)
    else:
        raise SettingsError("redis_url: names no host", setting="redis_url", remedy=_REMEDY)
    database = int(said.get("db", settings.redis_db))
    if settings.redis_topology == "cluster" and database:
        raise SettingsError("redis_db: a cluster has database 0 alone", setting="redis_db", remedy="set it to 0")
    password = settings.redis_password.get_secret_value() if settings.redis_password else said.get("password")
    username = settings.redis_username or said.get("username")
    sentinel_password = settings.redis_sentinel_password
    return RedisTarget(
        topology=settings.redis_topology,
        nodes=nodes,
        database=database,
        pool_size=settings.redis_pool_size,
        timeout=settings.redis_timeout_seconds,
        master=settings.redis_sentinel_master,
        login=_login(username, password),
        sentinel_login=_login(
            settings.redis_sentinel_username, sentinel_password.get_secret_value() if sentinel_password else None
        ),
        tls=_tls(settings) if settings.redis_tls or "connection_class" in said else {},
    )


def _login(username: str | None, password: str | None) -> dict[str, Any]:
    return {name: value for name, value in (("username", username), ("password", password)) if value}


def _parsed(url: str) -> dict[str, Any]:
    if url.partition("://")[0] not in {"redis", "rediss"}:
        raise SettingsError("redis_url: is not a redis:// or rediss:// URL", setting="redis_url", remedy=_REMEDY)
    try:
        return dict(parse_url(url))
    except ValueError:  # its message may repeat the URL, and the password in it
        raise SettingsError("redis_url: cannot be understood", setting="redis_url", remedy=_REMEDY) from None


def _node(text: str) -> tuple[str, int]:
    host, _, port = text.rpartition(":")
    if not host or not port.isdecimal() or not 0 < int(port) < 65536:
        raise SettingsError(
            f"redis_nodes: {text!r} is not host:port",
            setting="redis_nodes",
            remedy="write host:port, with commas between",
        )
    return host.strip("[]"), int(port)


def _tls(settings: SMFSettings) -> dict[str, Any]:
    """redis-py's arguments."""
    options: dict[str, Any] = {
        "ssl_cert_reqs": "none" if settings.redis_tls_verify == "none" else "required",
        "ssl_check_hostname": settings.redis_tls_verify == "full",
    }
    if settings.redis_ca_cert is not None:
        options["ssl_ca_certs"] = _usable(settings.redis_ca_cert, "redis_ca_cert")
    if settings.redis_cert is not None and settings.redis_key is not None:
        options["ssl_certfile"] = _usable(settings.redis_cert, "redis_cert")
        options["ssl_keyfile"] = _usable(settings.redis_key, "redis_key")
        try:
            ssl.create_default_context().load_cert_chain(settings.redis_cert, settings.redis_key)
        except ssl.SSLError as error:
            raise SettingsError(
                f"redis_cert: certificate and key do not fit: {error.reason}",
                setting="redis_cert",
                remedy="mount the certificate and its own private key, in PEM",
            ) from None
    return options


def _usable(path: Path, setting: str) -> str:
    try:
        path.read_bytes()
        if setting == "redis_ca_cert":
            ssl.create_default_context(cafile=str(path))
    except (OSError, ssl.SSLError) as error:
        reason = error.strerror or "no certificate in it"
        raise SettingsError(
            f"{setting}: cannot use {path}: {reason}", setting=setting, remedy="mount it there, readable, in PEM"
        ) from None
    return str(path)
