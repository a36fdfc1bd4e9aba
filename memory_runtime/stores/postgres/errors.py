"""What PostgreSQL says, in words that a caller may read: nothing of a DSN, a query or a driver comes out."""

from __future__ import annotations

import ssl
from typing import Final

import asyncpg

from memory_runtime.model.errors import Internal, InvalidArgument, SomaError, Unavailable
from memory_runtime.settings import SettingsError

Failures: Final = (asyncpg.PostgresError, asyncpg.InterfaceError, asyncpg.InternalClientError, OSError, TimeoutError)
"""What a call to the driver raises where the database is away or refuses."""

_ABOUT_THE_LINK: Final = ("08", "57")
"""SQLSTATE classes: connection exceptions, and operator intervention (shutdown, crash, cannot connect now)."""


_FULL = ("PostgreSQL is out of space or over a limit: nothing was stored", "free or add space")
_BUSY = ("another replica kept the ledger busy for too long", "retry")
_REFUSED = ("PostgreSQL refuses this user", "grant it the ledger's tables, or correct POSTGRES_URL")
_CROWDED = ("PostgreSQL has no free connection", "raise max_connections, or lower POSTGRES_POOL_SIZE")
_IN_WORDS: Final = {
    "53100": _FULL,
    "53200": _FULL,
    "53300": _CROWDED,
    "53400": _CROWDED,
    "55P03": _BUSY,
    "40P01": _BUSY,
    "40001": _BUSY,
    "42501": _REFUSED,
    "28000": _REFUSED,
    "28P01": _REFUSED,
    "25006": ("PostgreSQL is read-only: nothing was stored", "name the primary in POSTGRES_URL"),
    "57014": ("PostgreSQL took longer than SOMA_POSTGRES_STATEMENT_TIMEOUT_SECONDS", "retry with less"),
}
"""By SQLSTATE or its class: what is wrong, and the remedy."""


def is_lost(error: BaseException) -> bool:
    """Whether the connection is of no more use, or never was."""
    if isinstance(error, asyncpg.PostgresError):
        return str(error.sqlstate or "")[:2] in _ABOUT_THE_LINK and error.sqlstate != "57014"
    if isinstance(error, asyncpg.InterfaceError):
        return "closed" in str(error) or "connection" in str(error)
    return isinstance(error, asyncpg.InternalClientError | OSError | EOFError | TimeoutError)


def is_read_only(error: BaseException) -> bool:
    """Whether the server takes no writes (any more)."""
    return getattr(error, "sqlstate", None) == "25006" or isinstance(error, asyncpg.TargetServerAttributeNotMatched)


def is_damage(error: BaseException) -> bool:
    """Whether the error says that what is stored is damaged."""
    return isinstance(error, asyncpg.DataCorruptedError | asyncpg.IndexCorruptedError)


def is_of_one(error: BaseException) -> bool:
    """Whether one unit's data, or its own function, may be to blame: its neighbours can be committed without it."""
    if isinstance(error, asyncpg.PostgresError):
        return str(error.sqlstate or "")[:2] in {"22", "23", "54"}
    return not isinstance(error, (*Failures, SomaError)) or isinstance(error, asyncpg.DataError)


def _is_of_the_driver(error: BaseException) -> bool:
    """Whether the driver refused a value before it sent anything: its words repeat what people remember."""
    return type(error) is asyncpg.DataError


def for_the_log(error: BaseException) -> str:
    """What of the error may be logged."""
    return f"a value cannot be sent ({type(error.__cause__).__name__})" if _is_of_the_driver(error) else str(error)


def in_words(error: BaseException) -> SomaError:
    """The error that a caller may read; what the database said goes to the log, through `__cause__`."""
    if isinstance(error, SomaError):
        return error
    state = str(getattr(error, "sqlstate", None) or "")
    if state in {"22021", "22P05"}:
        return InvalidArgument(
            "a text holds a character that PostgreSQL cannot store (NUL)", field="text", remedy="leave NUL out"
        )
    if state.startswith("54"):
        # a row of an index, or a statement, beyond PostgreSQL's own limits: another try would end the same
        return InvalidArgument(
            "a name or a key is too long for PostgreSQL's indexes", field="text", remedy="send shorter names and keys"
        )
    said = _IN_WORDS.get(state) or _IN_WORDS.get(state[:2])
    if is_read_only(error):
        said = _IN_WORDS["25006"]
    elif isinstance(error, TimeoutError):
        said = _IN_WORDS["57014"]
    elif said is None and is_lost(error):
        said = ("PostgreSQL is away", "retry; it is reached again without a restart")
    elif said is None and is_damage(error):
        said = ("the ledger is damaged", "stop the runtime and restore the ledger from a backup")
    if said is None and _is_of_the_driver(error):
        return InvalidArgument("a value cannot be stored in PostgreSQL", field="text", remedy="send Unicode text")
    if said is None:
        return Internal("the ledger failed; the cause is in the log")
    return Unavailable(said[0], remedy=said[1], retry_after=1.0)


def of_start(error: BaseException) -> SettingsError | SomaError:
    """What a first connection's failure means to who sets the settings."""
    state = str(getattr(error, "sqlstate", None) or "")

    def setting(name: str, message: str, remedy: str) -> SettingsError:
        return SettingsError(f"{name}: {message}", setting=name, remedy=remedy)

    if isinstance(error, ssl.SSLCertVerificationError):
        return setting(
            "postgres_ssl_root_cert",
            f"PostgreSQL's certificate is not accepted: {error.verify_message}",
            "mount the CA that signed it, or name the host that the certificate is for in POSTGRES_URL",
        )
    if isinstance(error, ssl.SSLError):
        return setting(
            "postgres_ssl_mode", f"TLS with PostgreSQL failed: {error.reason}", "check CA, certificate and key"
        )
    if isinstance(error, ConnectionError) and "SSL" in str(error):
        return setting("postgres_ssl_mode", "PostgreSQL offers no TLS", "turn TLS on there, or set disable")
    if state in {"28P01", "28000"}:
        return setting("postgres_url", "PostgreSQL refuses this user or password", "correct POSTGRES_URL")
    if state == "3D000":
        return setting("postgres_url", "there is no such database", "create it, or correct POSTGRES_URL")
    if state == "42501":
        return setting("postgres_url", "this user may not make or read the ledger's tables", "grant it what it needs")
    if isinstance(error, asyncpg.TargetServerAttributeNotMatched):
        return setting("postgres_url", "no host named there takes writes", "name the primary, or wait for fail-over")
    return in_words(error)


def again(error: Exception) -> Exception:
    """The same refusal for another caller: one exception raised in two tasks would gather both tracebacks."""
    if not isinstance(error, SomaError):
        return error
    return type(error)(error.message, field=error.field, remedy=error.remedy, retry_after=error.retry_after)
