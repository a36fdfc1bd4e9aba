"""Two requests of Kafka's protocol, as bytes: which versions are spoken, and which topics there are.

A Kafka client would do, were it not that it wants credentials, keeps connections and brings 6 MB: the operator asks two
questions, in versions that every broker since 2017 answers (KIP-896 keeps them in 4.x).

The server may be anybody's. So an answer has a greatest size, and it is read in steps: `TopicReader.steps` gives the
event loop back after a fixed number of entries, however the answer is built.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Sequence

LARGEST_VERSIONS = 1 << 13
"""Bytes of an answer to ApiVersions: a broker names fewer than a hundred requests, six bytes each."""
LARGEST_METADATA = 1 << 18
"""Bytes of an answer to Metadata: two topics with 6,000 partitions of three replicas, or 4,000 brokers."""
STEP = 500
"""Entries (brokers, topics, partitions) that are read before the event loop has its turn."""
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


class TopicReader:
    """Reads which of the topics asked for exist, from the answer to `metadata_request`."""

    def __init__(self, answer: bytes, asked: Sequence[str]) -> None:
        self._cursor = _Cursor(answer)
        self._asked = frozenset(asked)
        self.present: frozenset[str] = frozenset()
        """The topics that exist; complete when `steps` has ended."""

    def steps(self) -> Iterator[None]:
        """Reads on; gives way after every STEP entries. Raises ValueError for what cannot be read."""
        try:
            for number, _ in enumerate(self._entries(), start=1):
                if number % STEP == 0:
                    yield
        except (struct.error, UnicodeDecodeError, IndexError) as error:
            raise ValueError("not Kafka") from error

    def _entries(self) -> Iterator[None]:
        cursor = self._cursor
        if cursor.number("i") != _METADATA:  # correlation
            raise ValueError("not Kafka")
        cursor.number("i")  # throttle time
        for _ in range(cursor.number("i")):  # brokers: id, host, port, rack
            cursor.skip(4)
            cursor.skip_text()
            cursor.skip(4)
            cursor.skip_text()
            yield
        cursor.skip_text()  # cluster
        cursor.number("i")  # controller
        topics = cursor.number("i")
        if topics > len(self._asked):
            raise ValueError("not Kafka")  # it was asked for these only
        for _ in range(topics):
            error, name = cursor.number("h"), cursor.text()
            cursor.number("b")  # internal
            for _ in range(cursor.number("i")):  # partitions: error, id, leader, replicas, in sync
                cursor.skip(10)
                cursor.skip(4 * cursor.number("i"))
                cursor.skip(4 * cursor.number("i"))
                yield
            if error == 0 and name in self._asked:
                self.present |= {name}
            yield


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
        start = self._at + 2
        self.skip_text()
        return self._content[start : self._at].decode()

    def skip_text(self) -> None:
        self.skip(self.number("h"))

    def skip(self, count: int) -> None:
        """Past `count` bytes; a negative count stands for nothing, as Kafka writes null."""
        self._at += max(0, count)
        if self._at > len(self._content):
            raise IndexError
