"""What a header means that may hold any text (tenant, namespace, idempotency key, token): UTF-8, and one value.

HTTP says nothing of characters beyond ASCII, and clients do not agree: curl sends UTF-8, Python's libraries Latin-1.
Here the bytes are UTF-8, and other bytes are refused rather than guessed, or one name would be two scopes. A client
that can send ASCII only writes `UTF-8''caf%C3%A9` (RFC 8187), or over gRPC the key with `-bin` and UTF-8 bytes.
"""

from __future__ import annotations

import re
import urllib.parse
from collections.abc import Iterable
from typing import Final

from memory_runtime.model.errors import InvalidArgument

NAMED: Final = {
    "x-soma-tenant": "X-Soma-Tenant",
    "x-soma-namespace": "X-Soma-Namespace",
    "idempotency-key": "Idempotency-Key",
    "authorization": "Authorization",
    "x-api-key": "X-API-Key",
    "x-auth-token": "X-Auth-Token",
}
"""Headers that we read, by their name in lower case, as they are written."""
_EXTENDED: Final = re.compile(r"(?i:utf-8)'[A-Za-z0-9-]*'(.*)", re.DOTALL)
_REMEDY: Final = "send UTF-8 bytes, or ASCII as UTF-8''caf%C3%A9 (RFC 8187)"


def named_headers(pairs: Iterable[tuple[bytes, bytes]]) -> dict[str, str]:
    """Headers by their names in lower case, those that we read as text by the one rule, others as Latin-1.

    Raises InvalidArgument, naming the header, for one of ours that is not UTF-8, or is there twice with two meanings:
    which of the two counts would differ from proxy to proxy.
    """
    found: dict[str, str] = {}
    for raw_name, raw in pairs:
        name = raw_name.decode("latin-1").lower()
        shown = NAMED.get(name)
        value = raw.decode("latin-1") if shown is None else header_text(raw, shown)
        if shown is not None and found.get(name, value) != value:
            raise InvalidArgument(f"{shown}: is there twice with different values", field=shown, remedy="send it once")
        found[name] = value
    return found


def named_metadata(pairs: Iterable[tuple[str, str | bytes]]) -> dict[str, str]:
    """The same of gRPC's metadata, where the bytes of `x-soma-tenant-bin` stand for `x-soma-tenant`."""

    def flat() -> Iterable[tuple[bytes, bytes]]:
        for key, value in pairs:
            base = key.removesuffix("-bin")
            if isinstance(value, str):
                yield key.encode(), value.encode("utf-8", "surrogateescape")
            elif base in NAMED:
                yield base.encode(), value

    return named_headers(flat())


def header_text(raw: bytes, shown: str) -> str:
    """The text of one header. Raises InvalidArgument."""
    try:
        text = raw.decode("utf-8")
        extended = _EXTENDED.fullmatch(text.strip())
        if extended is not None:
            text = urllib.parse.unquote_to_bytes(extended.group(1)).decode("utf-8")
    except UnicodeDecodeError:
        raise InvalidArgument(f"{shown}: is not UTF-8", field=shown, remedy=_REMEDY) from None
    return text
