"""What a failed call tells: whether the back end is at fault, and whether the call can have had an effect."""

from __future__ import annotations

import enum
import socket
from collections.abc import Callable

from memory_runtime.model.errors import RateLimited, SomaError, Unavailable


class Failure(enum.Enum):
    """What an exception says about the back end."""

    AWAY = "away"
    """It is away, overloaded or broke off: it may have done the work. Counts against the circuit."""
    UNSENT = "unsent"
    """It was not reached: it certainly did not do the work. Counts against the circuit."""
    CONTENDED = "contended"
    """It answered that another was in the way, and undid the work (a deadlock, a serialization failure)."""
    REFUSED = "refused"
    """It answered, and repeating would get the same answer: a bad query, a wrong password. It is healthy."""


class Retry(enum.Enum):
    """What may be repeated. Say what is true of the call, not what is hoped for."""

    SAFE = "safe"
    """Twice is as good as once (a read, an upsert): repeat after any failure that may pass."""
    UNSENT = "unsent"
    """Twice is not once (an increment, an add): repeat only what certainly had no effect."""
    NEVER = "never"

    def allows(self, failure: Failure) -> bool:
        """Whether a call of this kind may be repeated after that failure."""
        if self is Retry.NEVER or failure is Failure.REFUSED:
            return False
        return self is Retry.SAFE or failure in {Failure.UNSENT, Failure.CONTENDED}


Classify = Callable[[Exception], Failure | None]
"""Tells what an adapter's exception means; None: not the back end's doing (a defect of ours), raised as it is."""


def socket_failure(error: Exception) -> Failure | None:
    """What Python's own errors say; adapters ask it about what they do not know themselves."""
    if isinstance(error, (Unavailable, RateLimited)):
        return Failure.AWAY
    if isinstance(error, SomaError):
        return Failure.REFUSED
    if isinstance(error, (ConnectionRefusedError, socket.gaierror)):
        return Failure.UNSENT
    if isinstance(error, (OSError, EOFError)):  # TimeoutError and every ConnectionError are OSErrors
        return Failure.AWAY
    return None
