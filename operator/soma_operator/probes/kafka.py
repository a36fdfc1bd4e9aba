"""Two requests of Kafka's protocol, as bytes: which versions are spoken, and which topics there are.

A Kafka client would do, were it not that it wants credentials, keeps connections and brings 6 MB: the operator asks two
questions, in versions that every broker since 2017 answers (KIP-896 keeps them in 4.x).
"""

from __future__ import annotations

import struct
from collections.abc import Sequence

LARGEST_ANSWER = 1 << 22
_METADATA, _VERSIONS = 3, 18
_METADATA_VERSION = 4  # the first that can be told not to create the topics it asks for
_CLIENT = b"soma-operator"


def versions_request() -> bytes:
    """ApiVersions, version 0: answered before authentication."""
    return _framed(_VERSIONS, 0, b"")


def metadata_request(topics: Sequence[str]) -> bytes:
    """Metadata of these topics; those that are absent are not created."""
    names = b"".join(_text(topic) for topic in topics)
    return _framed(_METADATA, _METADATA_VERSION, struct.pack(">i", len(topics)) + names + b"\x00")


def check_versions(answer: bytes) -> None:
    """Raises ValueError if this is not a broker's answer."""
    head = answer[: struct.calcsize(">ihi")].ljust(struct.calcsize(">ihi"), b"\xff")
    correlation, error, count = struct.unpack(">ihi", head)
    if correlation != _VERSIONS or error != 0 or count <= 0:
        raise ValueError("not Kafka")


def topics_present(answer: bytes) -> frozenset[str]:
    """Names of the topics that exist, of those asked for; raises ValueError for what cannot be read."""
    try:
        return _topics(_Cursor(answer))
    except (struct.error, UnicodeDecodeError, IndexError) as error:
        raise ValueError("not Kafka") from error


def _framed(key: int, version: int, body: bytes) -> bytes:
    # The correlation id is the request's own key: one connection asks each question once.
    head = struct.pack(">hhih", key, version, key, len(_CLIENT)) + _CLIENT
    return struct.pack(">i", len(head) + len(body)) + head + body


def _text(value: str) -> bytes:
    encoded = value.encode()
    return struct.pack(">h", len(encoded)) + encoded


class _Cursor:
    """Reads big-endian values one after another."""

    def __init__(self, content: bytes) -> None:
        self._content = content
        self._at = 0

    def number(self, form: str) -> int:
        value: int = struct.unpack_from(f">{form}", self._content, self._at)[0]
        self._at += struct.calcsize(f">{form}")
        return value

    def text(self) -> str:
        length = self.number("h")
        if length < 0:
            return ""
        start, self._at = self._at, self._at + length
        if self._at > len(self._content):
            raise IndexError
        return self._content[start : self._at].decode()

    def numbers(self) -> list[int]:
        return [self.number("i") for _ in range(self.number("i"))]


def _topics(cursor: _Cursor) -> frozenset[str]:
    cursor.number("i")  # correlation
    cursor.number("i")  # throttle time
    for _ in range(cursor.number("i")):  # brokers: id, host, port, rack
        cursor.number("i"), cursor.text(), cursor.number("i"), cursor.text()
    cursor.text()  # cluster
    cursor.number("i")  # controller
    present = set()
    for _ in range(cursor.number("i")):
        error, name = cursor.number("h"), cursor.text()
        cursor.number("b")  # internal
        for _ in range(cursor.number("i")):  # partitions: error, id, leader, replicas, in sync
            cursor.number("h"), cursor.number("i"), cursor.number("i"), cursor.numbers(), cursor.numbers()
        if error == 0:
            present.add(name)
    return frozenset(present)
