"""What the API server refuses, as a closed set of reasons with deterministic messages."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from soma_operator.api import Reason

_QUOTED = re.compile(r'"[^"]*"')
# "Forbidden:" alone says only that the value may not be there, on a new object too.
_IMMUTABLE = re.compile(
    r"immutable|may not (change|be changed|update)|updates to .* (for fields other than|are forbidden)"
    r"|can(no|\s?no)t be (changed|updated|decreased|less|shrunk)|field can not be|may not be (updated|decreased)"
)
_TYPED = re.compile(r"typed \w+ object \([^)]*\): (.*)", re.DOTALL)
_STORE = (
    "etcdserver",
    "leader changed",
    "deadline exceeded",
    "timed out",
    "connection refused",
    "transport is closing",
)
MESSAGE_LIMIT = 256


@dataclass(frozen=True, slots=True)
class ApiError(Exception):
    """A request that failed. `status` is HTTP's, 0 when no answer came; `retry_after` seconds, if the server named
    them."""

    status: int
    reason: Reason
    message: str
    conflict: bool = False
    not_found: bool = False
    retry_after: float | None = None

    def __str__(self) -> str:
        return f"{self.reason.value}: {self.message}"

    @property
    def blind(self) -> bool:
        """The server did not answer for itself: nothing was learned, so nothing may be concluded."""
        return self.reason is Reason.API_UNAVAILABLE


def unreachable(error: BaseException) -> ApiError:
    """No answer: connection refused, reset, timed out."""
    return ApiError(0, Reason.API_UNAVAILABLE, f"the API server does not answer ({type(error).__name__})")


def classify(status: int, content_type: str, body: bytes, headers: Mapping[str, str]) -> ApiError:
    """The error that an answer of 400 and more stands for."""
    document = _document(content_type, body)
    message = str(document.get("message", ""))
    details: Mapping[str, Any] = document.get("details") or {}
    causes = [cause for cause in details.get("causes") or () if isinstance(cause, Mapping)]
    if status == 403:
        return _forbidden(message, causes)
    if status == 404:
        # An absent kind answers with text/plain, or names no object.
        served = bool(details.get("name"))
        text = "the object does not exist" if served else "the API server does not serve this kind"
        return ApiError(404, Reason.UNKNOWN if served else Reason.CRD_NOT_INSTALLED, text, not_found=True)
    if status == 409:
        return ApiError(409, Reason.RESOURCE_CONFLICT, _clip(message), conflict=True)
    if status in (400, 413, 415, 422):
        return _refused(status, message, causes)
    if status == 500:
        return _internal(message)
    return ApiError(status, Reason.API_UNAVAILABLE, f"the API server answered {status}", retry_after=_seconds(headers))


def _forbidden(message: str, causes: list[Mapping[str, Any]]) -> ApiError:
    if any(cause.get("reason") == "NamespaceTerminating" for cause in causes):
        return ApiError(403, Reason.NAMESPACE_TERMINATING, "the namespace is being deleted")
    if "exceeded quota" in message:
        quota = message.partition("exceeded quota: ")[2].partition(",")[0]
        return ApiError(403, Reason.QUOTA_EXCEEDED, f"ResourceQuota {quota} of the namespace is exhausted: raise it")
    if re.search(r'User "[^"]*" cannot ', message):
        verb = message.partition(" cannot ")[2].partition(" resource ")[0]
        return ApiError(403, Reason.FORBIDDEN, f"the operator may not {verb} this kind: grant it in its ClusterRole")
    if re.search(r"only dynamically provisioned pvc can be resized|is immutable|field can not be", message):
        return ApiError(403, Reason.IMMUTABLE_CONFLICT, _clip(message))
    return ApiError(403, Reason.ADMISSION_DENIED, _clip("refused by admission: " + _after_name(message)))


def _internal(message: str) -> ApiError:
    """A 500 is an answer. Only where the store behind the API server failed was nothing learned: that passes."""
    typed = _TYPED.search(message)
    if typed is not None:
        # The object itself cannot be read, such as a list with an item twice: it never will be.
        return ApiError(500, Reason.REFUSED, _clip(_QUOTED.sub("…", typed.group(1))))
    if "webhook" in message:
        return ApiError(500, Reason.ADMISSION_DENIED, "an admission webhook does not answer as it should")
    if not message or any(word in message for word in _STORE):
        return ApiError(500, Reason.API_UNAVAILABLE, "the API server answered 500")
    return ApiError(500, Reason.SERVER_ERROR, _clip("the API server answered 500: " + _after_name(message)))


def _refused(status: int, message: str, causes: list[Mapping[str, Any]]) -> ApiError:
    immutable = [cause for cause in causes if _IMMUTABLE.search(str(cause.get("message", "")))]
    if immutable:
        field = str(immutable[0].get("field", ""))
        return ApiError(status, Reason.IMMUTABLE_CONFLICT, f"{field} cannot be changed on the existing object")
    if "admission webhook" in message:
        return ApiError(status, Reason.ADMISSION_DENIED, _clip(_after_name(message)))
    if causes:
        cause = causes[0]
        text = f"{cause.get('field', '')}: {_QUOTED.sub('…', str(cause.get('message', '')))}"
        return ApiError(status, Reason.REFUSED, _clip(text))
    return ApiError(status, Reason.REFUSED, _clip(_after_name(message)))


def _after_name(message: str) -> str:
    """Without the quoted names: what remains is the same for every object."""
    return _QUOTED.sub("…", message)


def _clip(text: str) -> str:
    flat = " ".join(text.split())
    return flat if len(flat) <= MESSAGE_LIMIT else flat[: MESSAGE_LIMIT - 1] + "…"


def _document(content_type: str, body: bytes) -> Mapping[str, Any]:
    if "json" not in content_type:
        return {}
    try:
        found = json.loads(body)
    except ValueError:
        return {}
    return found if isinstance(found, Mapping) else {}


def _seconds(headers: Mapping[str, str]) -> float | None:
    try:
        return float(headers.get("Retry-After", ""))
    except ValueError:
        return None
