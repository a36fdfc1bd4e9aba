"""How a call fails: the one error table as a status and trailing metadata; and what a request must be to be one."""

from __future__ import annotations

import json
from typing import Any, NoReturn

import grpc
import grpc.aio
from google.protobuf.message import DecodeError

from memory_runtime.model.errors import InvalidArgument, SomaError

_CODES = {code.name: code for code in grpc.StatusCode}


def bare(error: SomaError) -> SomaError:
    """The error without its traceback, whose frames hold the request: in a cycle with who keeps the error."""
    error.__context__ = None
    return error.with_traceback(None)


async def abort(context: Any, failure: SomaError) -> NoReturn:
    """Ends the call with the failure. Raises what grpc.aio ends a call by."""
    await context.abort(_CODES[failure.status.grpc], failure.message, trailing_metadata(failure))
    raise AssertionError("abort raises")


def one_message(raw: Any) -> bytes:
    """What was read, which must not be the end of the call. Raises InvalidArgument."""
    if raw is grpc.aio.EOF:
        raise InvalidArgument("the call has no request", remedy="send one message, as the published proto says")
    message: bytes = raw
    return message


def parsed(handler: Any, raw: bytes) -> Any:
    """The request of the handler's own type. Raises InvalidArgument."""
    try:
        return handler.request_deserializer(raw)
    except DecodeError:
        message = "the request is not a message of this method"
        raise InvalidArgument(message, remedy="use the published proto; reflection serves it") from None


def trailing_metadata(error: SomaError) -> tuple[tuple[str, str | bytes], ...]:
    """The error body as trailing metadata: its JSON in `soma-error-bin`, and each field as ASCII for plain clients."""
    body = error.body()
    fields = [(f"soma-{name}", value.encode("ascii", "replace").decode()) for name, value in body.items() if value]
    if error.retry_after is not None:
        fields.append(("retry-after", f"{error.retry_after:.3f}"))
    printable = [(name, "".join(c if c.isprintable() else "?" for c in value)) for name, value in fields]
    return (("soma-error-bin", json.dumps(body, ensure_ascii=False).encode()), *printable)
