"""What is refused of HTTP itself, before any route: each with its status, in the one error body."""

from __future__ import annotations

import json
import urllib.parse
import uuid
from typing import ClassVar, Final

from starlette.types import Scope

from memory_runtime.model.errors import InvalidArgument, SomaError, Status

LONGEST_LINE: Final = 48 << 10
"""Bytes of a request's line: method, path and query string."""
LARGEST_HEADERS: Final = 16 << 10
"""Bytes of all headers of a request."""
MOST_HEADERS: Final = 256


class HttpRefusal(SomaError):  # noqa: N818 -- named as the errors of the one table are
    """A request that is refused as HTTP; gRPC knows nothing like it."""

    http: ClassVar[int] = 400
    code = "INVALID_ARGUMENT"

    @property
    def status(self) -> Status:
        """The HTTP status of this class."""
        return Status(self.http, "INVALID_ARGUMENT", 3)


class RequestTimeout(HttpRefusal):
    """The headers did not arrive in time."""

    http, code = 408, "REQUEST_TIMEOUT"


class UriTooLong(HttpRefusal):
    """The request line is too long."""

    http, code = 414, "URI_TOO_LONG"


class HeadersTooLarge(HttpRefusal):
    """The headers are too large, or too many."""

    http, code = 431, "HEADERS_TOO_LARGE"


class NotImplementedHere(HttpRefusal):
    """A transfer coding other than chunked."""

    http, code = 501, "NOT_IMPLEMENTED"


class VersionNotSupported(HttpRefusal):
    """Another HTTP than 1.0 and 1.1."""

    http, code = 505, "HTTP_VERSION_NOT_SUPPORTED"


def line_too_long() -> UriTooLong:
    """The refusal of a request line."""
    remedy = f"send a line of at most {LONGEST_LINE} bytes; what is longer belongs into the body of a POST"
    return UriTooLong("the request line is too long", remedy=remedy)


def headers_too_large() -> HeadersTooLarge:
    """The refusal of headers."""
    remedy = f"send at most {MOST_HEADERS} headers of {LARGEST_HEADERS} bytes in all"
    return HeadersTooLarge("the headers are too large", remedy=remedy)


def malformed(hint: int, reason: str, *, line_only: bool) -> SomaError:
    """The refusal of what is no HTTP: `hint` is the status that the parser suggests, `reason` what it says.

    `line_only`: not even the request's first line was whole when its buffer was full.
    """
    if hint == HeadersTooLarge.http:
        return line_too_long() if line_only else headers_too_large()
    said = reason.partition(":")[0][:80]
    if hint == NotImplementedHere.http:
        return NotImplementedHere(said, remedy="send the body as it is, with Content-Length or chunked")
    return InvalidArgument(f"the request is not valid HTTP: {said}", remedy="send an HTTP/1.1 request")


def check(scope: Scope) -> None:
    """Refuses what the parser lets through: sizes that depended on how the bytes arrived, versions, two lengths.

    Raises HttpRefusal or InvalidArgument.
    """
    if len(scope["raw_path"]) + len(scope["query_string"]) > LONGEST_LINE:
        raise line_too_long()
    for name, raw in (("path", scope["raw_path"]), ("query", scope["query_string"])):
        _refuse_other_than_utf8(raw, name)
    headers = scope["headers"]
    if len(headers) > MOST_HEADERS or sum(len(name) + len(value) for name, value in headers) > LARGEST_HEADERS:
        raise headers_too_large()
    if scope["http_version"] not in {"1.0", "1.1"}:
        raise VersionNotSupported(f"HTTP/{scope['http_version']} is not spoken here", remedy="send HTTP/1.1")
    names = [name for name, _ in headers]
    if b"transfer-encoding" in names and b"content-length" in names:
        # a proxy before us may go by the other one: what it takes for the body would be the next request here
        raise InvalidArgument(
            "the request has both Content-Length and Transfer-Encoding", remedy="send one of the two headers"
        )


def _refuse_other_than_utf8(raw: bytes, name: str) -> None:
    """What is not UTF-8 would be replaced by one and the same sign, and different texts would become one."""
    if b"%" not in raw:
        return
    try:
        urllib.parse.unquote_to_bytes(raw).decode("utf-8")
    except UnicodeDecodeError:
        message = f"the {name} is not UTF-8"
        raise InvalidArgument(message, field=name, remedy="percent-encode the UTF-8 bytes of each character") from None


def raw_response(error: SomaError) -> tuple[int, list[tuple[bytes, bytes]], bytes]:
    """Status, headers and body of an error where there is no application to answer; the connection ends with it."""
    body = json.dumps(error.body(), separators=(",", ":")).encode()
    headers = [
        (b"content-type", b"application/json"),
        (b"content-length", str(len(body)).encode()),
        (b"cache-control", b"no-store"),
        (b"x-request-id", uuid.uuid4().hex.encode()),
        (b"connection", b"close"),
    ]
    return error.status.http, headers, body
