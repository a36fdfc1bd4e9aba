"""What Redis's errors mean to the guard: who is at fault, and whether the command can have run."""

from __future__ import annotations

from typing import Final

from redis import exceptions as redis

from memory_runtime.stores.resilience import Failure, socket_failure

_REFUSED: Final = (
    redis.AuthenticationError,
    redis.AuthorizationError,
    redis.NoPermissionError,
    redis.DataError,
)
_NOT_RUN: Final = (
    redis.BusyLoadingError,
    redis.MaxConnectionsError,
    redis.ReadOnlyError,  # the primary of a moment ago
    redis.MasterDownError,
    redis.OutOfMemoryError,
    redis.ClusterDownError,
    redis.TryAgainError,
    redis.SlotNotCoveredError,
)


def redis_failure(error: Exception) -> Failure | None:
    """The order matters: redis-py's AuthenticationError is a ConnectionError, its ReadOnlyError a ResponseError."""
    if isinstance(error, _REFUSED):
        return Failure.REFUSED
    if isinstance(error, _NOT_RUN):
        return Failure.UNSENT
    if isinstance(error, redis.ConnectionError | redis.TimeoutError):
        cause = error.__cause__ or error.__context__
        told = socket_failure(cause) if isinstance(cause, Exception) else None
        return Failure.UNSENT if told is Failure.UNSENT else Failure.AWAY
    if isinstance(error, redis.ResponseError):
        return Failure.REFUSED
    if isinstance(error, redis.RedisError):  # a cluster in the middle of a change, a broken reply
        return Failure.AWAY
    return socket_failure(error)
