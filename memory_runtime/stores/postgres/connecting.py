"""How the ledger reaches PostgreSQL: DSN, TLS, time-outs, a pooler between, a server that would lose commits."""

from __future__ import annotations

import ssl
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final
from urllib.parse import parse_qsl, urlencode, urlsplit, urlunsplit

import asyncpg

from memory_runtime.settings import SettingsError, SMFSettings
from memory_runtime.stores.postgres import errors

OLDEST: Final = 13
SAFE_COMMITS: Final = frozenset({"on", "remote_apply", "remote_write", "local"})
_TLS_FIELDS: Final = ("sslmode", "sslrootcert", "sslcert", "sslkey")
_REMEDY: Final = "write postgresql://user:password@host:5432/database"


@dataclass(frozen=True, slots=True)
class Target:
    """Where PostgreSQL is and how it is spoken to.

    `pooled` says that a pooler in transaction mode is between: each transaction may be of another server. `prepares`
    says that it knows prepared statements all the same.
    """

    dsn: str = field(repr=False)
    options: Mapping[str, Any] = field(repr=False)
    connect_timeout: float
    statement_timeout: float
    lock_timeout: float
    pooled: bool = False
    prepares: bool = False

    def local_settings(self) -> dict[str, str]:
        """What each session, or behind a pooler each transaction, is run with."""
        return {
            "statement_timeout": str(int(self.statement_timeout * 1000)),
            "lock_timeout": str(int(self.lock_timeout * 1000)),
            "idle_in_transaction_session_timeout": str(int(self.statement_timeout * 4000)),
            "jit": "off",
        }

    def begin(self, characteristics: str = "") -> str:
        """The statement that opens a transaction."""
        local = "; ".join(f"SET LOCAL {name} = {value}" for name, value in self.local_settings().items())
        return f"BEGIN {characteristics}; {local}" if self.pooled else f"BEGIN {characteristics}"

    async def connect(
        self, *_: Any, cached: bool = True, planned_once: bool = False, **__: Any
    ) -> asyncpg.Connection[asyncpg.Record]:
        """A new connection; without `cached`, one that prepares nothing. Raises what the driver raises.

        `planned_once`: a statement keeps its first plan, whatever its values.
        """
        settings = {"application_name": "soma"} | ({} if self.pooled else self.local_settings())
        if planned_once and not self.pooled:
            settings["plan_cache_mode"] = "force_generic_plan"
        cache = {} if cached and (self.prepares or not self.pooled) else {"statement_cache_size": 0}
        return await asyncpg.connect(
            self.dsn,
            timeout=self.connect_timeout,
            command_timeout=self.statement_timeout + 5.0,
            server_settings=settings,
            **cache,
            **self.options,
        )


def target(settings: SMFSettings) -> Target:
    """Where the settings say PostgreSQL is. Raises SettingsError naming the setting; the password is never in it."""
    if settings.postgres_url is None:
        raise SettingsError("postgres_url: is needed in distributed mode", setting="postgres_url", remedy=_REMEDY)
    parts = _parsed(settings.postgres_url.get_secret_value().strip())
    query = dict(parse_qsl(parts.query, keep_blank_values=True))
    said = {name: query.pop(name) for name in _TLS_FIELDS if name in query}
    options: dict[str, Any] = _tls(settings, said)
    if "target_session_attrs" not in query:
        # after a fail-over, the host that takes writes
        options["target_session_attrs"] = "read-write"
    # not for brokers of other dialects: SQLAlchemy's driver name is no part of a DSN
    dsn = urlunsplit(("postgresql", parts.netloc, parts.path, urlencode(query), ""))
    return Target(
        dsn,
        options,
        settings.postgres_connect_timeout_seconds,
        settings.postgres_statement_timeout_seconds,
        settings.postgres_lock_timeout_seconds,
    )


def _parsed(dsn: str) -> Any:
    try:
        parts = urlsplit(dsn)
    except ValueError:
        parts = None
    if parts is None or parts.scheme.partition("+")[0] not in {"postgres", "postgresql"} or not parts.path.strip("/"):
        raise SettingsError(
            "postgres_url: is not a PostgreSQL DSN with a database's name", setting="postgres_url", remedy=_REMEDY
        )
    return parts


def _tls(settings: SMFSettings, said: Mapping[str, str]) -> dict[str, Any]:
    """The driver's `ssl` argument: the settings win over what the DSN says."""

    def path(given: Path | None, name: str) -> Path | None:
        return given or (Path(said[name]) if said.get(name) else None)

    root = path(settings.postgres_ssl_root_cert, "sslrootcert")
    cert, key = path(settings.postgres_ssl_cert, "sslcert"), path(settings.postgres_ssl_key, "sslkey")
    mode = settings.postgres_ssl_mode or said.get("sslmode") or ("verify-full" if root else None)
    if mode is None and cert is None:
        return {}
    if mode in {"disable", "allow", "prefer"}:
        return {"ssl": mode}
    if mode not in {None, "require", "verify-ca", "verify-full"}:
        raise SettingsError(
            f"postgres_ssl_mode: {mode!r} is not known",
            setting="postgres_ssl_mode",
            remedy="set disable, prefer, require, verify-ca or verify-full",
        )
    context = ssl.create_default_context(cafile=_readable(root, "postgres_ssl_root_cert"))
    context.check_hostname = mode == "verify-full"
    if mode in {None, "require"} and root is None:
        context.verify_mode = ssl.CERT_NONE
    if cert is not None:
        try:
            context.load_cert_chain(_readable(cert, "postgres_ssl_cert") or "", _readable(key, "postgres_ssl_key"))
        except ssl.SSLError as error:
            raise SettingsError(
                f"postgres_ssl_cert: certificate and key do not fit: {error.reason}",
                setting="postgres_ssl_cert",
                remedy="mount the certificate and its own private key, in PEM",
            ) from None
    return {"ssl": context}


def _readable(path: Path | None, setting: str) -> str | None:
    if path is None:
        return None
    try:
        path.read_bytes()
        if setting == "postgres_ssl_root_cert":
            ssl.create_default_context(cafile=path)
    except (OSError, ssl.SSLError) as error:
        reason = error.strerror or "no certificate in it"
        raise SettingsError(
            f"{setting}: cannot use {path}: {reason}", setting=setting, remedy="mount it there, readable, in PEM"
        ) from None
    return str(path)


async def probe(where: Target, settings: SMFSettings) -> Target:
    """Connects once, refuses a server that would lose commits, and finds out whether a pooler is between.

    Raises SettingsError naming the setting, or Unavailable while the server is away.
    """
    try:
        connection = await Target(
            where.dsn, where.options, where.connect_timeout, where.statement_timeout, where.lock_timeout, pooled=True
        ).connect()
    except errors.Failures as error:
        raise errors.of_start(error) from error
    try:
        await _check_server(connection, settings)
        # what the setting says of statements says nothing of the server behind: that is found out
        pooled = await _behind_pooler(connection) or settings.postgres_statement_cache == "off"
    except errors.Failures as error:
        raise errors.of_start(error) from error
    finally:
        await connection.close(timeout=1.0)
    return Target(
        where.dsn,
        where.options,
        where.connect_timeout,
        where.statement_timeout,
        where.lock_timeout,
        pooled=pooled,
        prepares=settings.postgres_statement_cache == "on",
    )


async def _check_server(connection: asyncpg.Connection[asyncpg.Record], settings: SMFSettings) -> None:
    del settings
    async with connection.transaction(readonly=True):
        found = await connection.fetchrow(
            "SELECT current_setting('server_version_num')::int AS version, current_setting('fsync') AS fsync,"
            " current_setting('synchronous_commit') AS commits, current_setting('server_encoding') AS encoding,"
            " current_setting('full_page_writes') AS pages"
        )
    if found is None or found["version"] < OLDEST * 10_000:
        raise SettingsError(
            f"postgres_url: PostgreSQL {OLDEST} or newer is needed", setting="postgres_url", remedy="upgrade the server"
        )
    if found["encoding"] != "UTF8":
        raise SettingsError(
            f"postgres_url: the database is in {found['encoding']}, not UTF8",
            setting="postgres_url",
            remedy="create the database with ENCODING 'UTF8'",
        )
    for name, value, safe in (
        ("synchronous_commit", found["commits"], SAFE_COMMITS),
        ("fsync", found["fsync"], frozenset({"on"})),
        ("full_page_writes", found["pages"], frozenset({"on"})),
    ):
        if value not in safe:
            raise SettingsError(
                f"postgres_url: the server runs with {name} = {value}: a crash would lose acknowledged writes",
                setting="postgres_url",
                remedy=f"set {name} = on there",
            )


async def _behind_pooler(connection: asyncpg.Connection[asyncpg.Record]) -> bool:
    """Whether the process that answers is not the one that was connected to: PgBouncer names itself."""
    async with connection.transaction(readonly=True):
        return bool(await connection.fetchval("SELECT pg_backend_pid()") != connection.get_server_pid())
