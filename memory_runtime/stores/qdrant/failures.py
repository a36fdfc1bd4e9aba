"""What the client raises, in our words: is it worth another try, and whose fault is it."""

from __future__ import annotations

import asyncio
import json
from typing import Final

import grpc
import httpx
from qdrant_client.common.client_exceptions import ResourceExhaustedResponse
from qdrant_client.http.exceptions import ApiException, ResponseHandlingException, UnexpectedResponse

from memory_runtime.model.errors import InvalidArgument, SomaError, Unavailable
from memory_runtime.settings import SettingsError
from memory_runtime.stores.interfaces import StoreWiped
from memory_runtime.stores.resilience import Failure, socket_failure

RETRY_SECONDS: Final = 1.0
_AWAY: Final = {
    grpc.StatusCode.UNAVAILABLE,
    grpc.StatusCode.CANCELLED,
    grpc.StatusCode.ABORTED,
    grpc.StatusCode.INTERNAL,
    grpc.StatusCode.UNKNOWN,
    grpc.StatusCode.RESOURCE_EXHAUSTED,
    grpc.StatusCode.DATA_LOSS,
}
_SHORT: Final = 200


class KeyRefused(Unavailable):
    """Qdrant does not know the API key. Keys are rotated on a running system: the next try may pass."""


def classify(error: Exception) -> Failure | None:
    """What a translated error says of the back end: it answered, if only to refuse."""
    return Failure.REFUSED if isinstance(error, StoreWiped | KeyRefused) else socket_failure(error)


def missing(collection: str) -> StoreWiped:
    """The error for a collection that is not there."""
    return StoreWiped(
        f"Qdrant has no collection {collection!r}", remedy="wait until the relay has made and filled it", retry_after=5
    )


def translated(error: BaseException, collection: str) -> Exception | None:
    """Our error for one of the client's; None for what is not the client's (a defect, a cancellation)."""
    if isinstance(error, SomaError | SettingsError):
        return error
    if isinstance(error, ResourceExhaustedResponse):
        return _away("it asks to slow down", retry_after=float(error.retry_after_s))
    if isinstance(error, grpc.aio.AioRpcError):
        return _of_status(error.code(), error.details() or "", collection)
    if isinstance(error, UnexpectedResponse):
        return _of_http(error, collection)
    if isinstance(error, ResponseHandlingException):
        return _of_transport(error.source)
    if isinstance(error, httpx.HTTPError | asyncio.TimeoutError):
        return _of_transport(error)
    if isinstance(error, ApiException):
        return _away(_brief(str(error)))
    # local mode says it with a ValueError
    if isinstance(error, ValueError) and "not found" in str(error):
        return missing(collection)
    return None


def _of_status(code: grpc.StatusCode, details: str, collection: str) -> Exception:
    if code is grpc.StatusCode.DEADLINE_EXCEEDED:
        return _too_slow()
    if code is grpc.StatusCode.NOT_FOUND:
        return missing(collection)
    if code in {grpc.StatusCode.UNAUTHENTICATED, grpc.StatusCode.PERMISSION_DENIED}:
        return _refused()
    if code in _AWAY:
        return _away(_brief(details))
    return InvalidArgument(f"Qdrant refuses the request: {_brief(details)}", remedy="see docs/qdrant.md")


def _of_http(error: UnexpectedResponse, collection: str) -> Exception:
    code = error.status_code or 0
    if code in {401, 403}:
        return _refused()
    if code == 404:
        return missing(collection)
    if code == 408:
        return _too_slow()
    words = _brief(_told(error))
    if code == 429 or code >= 500:
        return _away(words, retry_after=_wished(error))
    return InvalidArgument(f"Qdrant refuses the request: {words}", remedy="see docs/qdrant.md")


def _of_transport(error: BaseException) -> Exception:
    if isinstance(error, httpx.TimeoutException | asyncio.TimeoutError):
        return _too_slow()
    return _away(type(error).__name__)


def _told(error: UnexpectedResponse) -> str:
    try:
        return str(json.loads(error.content)["status"]["error"])
    except (ValueError, KeyError, TypeError):
        return error.reason_phrase


def _wished(error: UnexpectedResponse) -> float:
    try:
        return float(error.headers.get("retry-after", RETRY_SECONDS))
    except ValueError:
        return RETRY_SECONDS


def _away(why: str, *, retry_after: float = RETRY_SECONDS) -> Unavailable:
    return Unavailable(f"Qdrant is away: {why}", remedy="it is tried again", retry_after=retry_after)


def _too_slow() -> Unavailable:
    return Unavailable(
        "Qdrant did not answer in time",
        remedy="raise qdrant_timeout_seconds, or give it more room",
        retry_after=RETRY_SECONDS,
    )


def _refused() -> KeyRefused:
    return KeyRefused(
        "qdrant_api_key: Qdrant refuses it", field="qdrant_api_key", remedy="set the key that it knows", retry_after=5.0
    )


def _brief(text: str) -> str:
    line = " ".join(text.split())
    return line if len(line) <= _SHORT else f"{line[: _SHORT - 1]}…"
