"""One error taxonomy for every surface: a table maps each code to its HTTP status and its gRPC status."""

# ruff: noqa: N818 -- the names are those of the wire (NotFound, not NotFoundError): the table below is their contract

from __future__ import annotations

from typing import ClassVar, NamedTuple


class Status(NamedTuple):
    """How an error code looks on the wire: HTTP status, gRPC status name and number."""

    http: int
    grpc: str
    grpc_number: int


STATUS_TABLE: dict[str, Status] = {
    "INVALID_ARGUMENT": Status(400, "INVALID_ARGUMENT", 3),
    "UNAUTHENTICATED": Status(401, "UNAUTHENTICATED", 16),
    "PERMISSION_DENIED": Status(403, "PERMISSION_DENIED", 7),
    "NOT_FOUND": Status(404, "NOT_FOUND", 5),
    "CONFLICT": Status(409, "ALREADY_EXISTS", 6),
    "PAYLOAD_TOO_LARGE": Status(413, "RESOURCE_EXHAUSTED", 8),
    "UNPROCESSABLE": Status(422, "INVALID_ARGUMENT", 3),
    "RATE_LIMITED": Status(429, "RESOURCE_EXHAUSTED", 8),
    "INTERNAL": Status(500, "INTERNAL", 13),
    "UNAVAILABLE": Status(503, "UNAVAILABLE", 14),
    "DEADLINE_EXCEEDED": Status(504, "DEADLINE_EXCEEDED", 4),
}


class SomaError(Exception):
    """An error that a caller may read: what is wrong, with which field, and what to do about it.

    `retry_after` is in seconds and set only where trying again later can help.
    """

    code: ClassVar[str] = "INTERNAL"

    def __init__(
        self,
        message: str,
        *,
        field: str | None = None,
        remedy: str | None = None,
        retry_after: float | None = None,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.field = field
        self.remedy = remedy
        self.retry_after = retry_after

    @property
    def status(self) -> Status:
        """The wire statuses of this error, from the one table."""
        return STATUS_TABLE[self.code]

    def body(self) -> dict[str, str | None]:
        """The error body that every surface answers with."""
        return {"detail": self.message, "code": self.code, "field": self.field, "remedy": self.remedy}


class InvalidArgument(SomaError):
    """The request can never succeed as it is written."""

    code = "INVALID_ARGUMENT"


class Unauthenticated(SomaError):
    """No credential, or one that is not known."""

    code = "UNAUTHENTICATED"


class PermissionDenied(SomaError):
    """A known caller may not do this."""

    code = "PERMISSION_DENIED"


class NotFound(SomaError):
    """No such memory in the caller's tenant and namespace."""

    code = "NOT_FOUND"


class Conflict(SomaError):
    """The request contradicts one that has been committed."""

    code = "CONFLICT"


class PayloadTooLarge(SomaError):
    """The request exceeds a size limit."""

    code = "PAYLOAD_TOO_LARGE"


class Unprocessable(SomaError):
    """Well-formed, but its values do not fit together or a bound that is configured."""

    code = "UNPROCESSABLE"


class RateLimited(SomaError):
    """The caller has spent its budget of requests."""

    code = "RATE_LIMITED"


class Internal(SomaError):
    """A defect of ours; its detail is in the log, never in the answer."""

    code = "INTERNAL"


class Unavailable(SomaError):
    """A resource is away (disk full, ledger closed, still starting): trying again later can help."""

    code = "UNAVAILABLE"


class DeadlineExceeded(SomaError):
    """The caller's deadline passed before there was an answer; what was not committed has had no effect."""

    code = "DEADLINE_EXCEEDED"
