"""What a key, a value and a time to live may be, the same for every key-value store."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Sequence
from itertools import islice
from typing import Any, Final, TypeVar

from memory_runtime.model.canonical import canonical_json
from memory_runtime.model.errors import InvalidArgument, PayloadTooLarge, Unavailable
from memory_runtime.stores.interfaces import MAX_KEY_BYTES, JsonValue

T = TypeVar("T")
BATCH: Final = 1000
MAX_VALUE_BYTES: Final = 16 * 2**20
MAX_TTL: Final = 10 * 366 * 86400.0
_INT64: Final = 2**63


def check_key(key: str) -> str:
    """The key, if it is one. Raises InvalidArgument."""
    try:
        size = len(key.encode("utf-8"))
    except (UnicodeEncodeError, AttributeError):
        size = 0
    if not 1 <= size <= MAX_KEY_BYTES or "\x00" in key:
        raise InvalidArgument(
            f"key: must have 1 to {MAX_KEY_BYTES} bytes of UTF-8 and no NUL", field="key", remedy="shorten or hash it"
        )
    return key


def check_keys(keys: Sequence[str]) -> list[str]:
    """The keys, each once, in order."""
    return list(dict.fromkeys(check_key(key) for key in keys))


def check_ttl(ttl: float | None) -> float | None:
    """The time to live in seconds, if it is one. Raises InvalidArgument."""
    if ttl is not None and not (math.isfinite(ttl) and 0.001 <= ttl <= MAX_TTL):
        raise InvalidArgument(
            "ttl: must be from a millisecond to ten years", field="ttl", remedy="leave it out to keep the value"
        )
    return ttl


def encode(value: JsonValue) -> str:
    """The value's canonical JSON. Raises InvalidArgument for what one of the stores could not give back as it was."""
    text = canonical_json(value, field="value")
    _check(value)
    if len(text) > MAX_VALUE_BYTES:
        raise PayloadTooLarge(f"value: more than {MAX_VALUE_BYTES} bytes", field="value", remedy="store it in parts")
    return text


def decode(text: str) -> Any:
    """The value of a stored text. PostgreSQL writes 1e22 as an integer: beyond 64 bits, numbers are floats."""
    return json.loads(text, parse_int=_whole)


def _whole(digits: str) -> int | float:
    return int(digits) if len(digits) < 20 and -_INT64 <= int(digits) < _INT64 else float(digits)


def _check(value: Any) -> None:
    """JSON that jsonb can hold: text without NUL, integers of 64 bits, keys that are text."""
    if isinstance(value, str):
        wrong = "text with NUL" if "\x00" in value else ""
    elif isinstance(value, int):
        wrong = "" if -_INT64 <= value < _INT64 else "an integer beyond 64 bits"
    elif isinstance(value, dict):
        wrong = "" if all(isinstance(key, str) for key in value) else "a key that is not text"
        for key, child in value.items():
            _check(key)
            _check(child)
    else:
        wrong = ""
        for child in value if isinstance(value, list | tuple) else ():
            _check(child)
    if wrong:
        raise InvalidArgument(f"value: holds {wrong}", field="value", remedy="send it as text, or without NUL")


def batches(items: Sequence[T], size: int = BATCH) -> Iterator[list[T]]:
    """The items in runs of at most `size`."""
    at = iter(items)
    while run := list(islice(at, size)):
        yield run


def closed(adapter: str) -> Unavailable:
    """What every call answers after `close`."""
    return Unavailable(f"{adapter}: the store is closed", remedy="open it again")


def is_prefix(prefix: str) -> str:
    """The prefix, if it can be one; the empty one is. Raises InvalidArgument."""
    return check_key(prefix) if prefix else prefix
