"""Records that may stand on the events topic: good ones, broken ones, and what is on the edge. Pure, by a seed."""

from __future__ import annotations

import json
import random
import uuid
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Final, NamedTuple

DIM: Final = 3
LARGEST: Final = 1_000_000
"""Bytes that a topic takes unless it is told otherwise, less what a record carries besides."""
_DEEP: Final = (5, 63, 64, 65, 199, 5000, 100_000)
_NUMBERS: Final = ("1e999", "-1e999", "NaN", "Infinity", "-Infinity", "9" * 400, "9" * 5000, "-0", "1e-400", "0.1e1")
_TEXTS: Final = (
    "",
    "\0",
    "a\0b",
    "\x1f",
    "\ud800",
    "\U0001f600" * 256,
    "x" * 257,
    "x" * 6000,
    "1,2,x",
    "nan",
    "٣",
    "' OR 1=1 --",
    "null",
    "\u2028",
    "e\u0301",
)
_TIMES: Final = (
    -9e10,
    9e10,
    1e12,
    1e300,
    -62135596801,
    253402300800,
    "1796040112345",
    "0000-01-01T00:00:00Z",
    "9999-12-31T23:59:59.9999999Z",
    "9999-12-31T23:59:59-14:00",
    "2024-06-30T23:59:60Z",
    "2024-06-10t24:00:00z",
    "now",
    "1e999",
    "nan",
    "",
)
_HEADERS: Final = (
    "tenant",
    "op",
    "record-version",
    "schema-version",
    "origin",
    "traceparent",
    "committed-at",
    "memory-type",
    "coordinate",
    "collection",
    "attributes",
    "added",
    "dlq-reason",
    "dlq-marker",
    "x",
    "",
)


class Raw(NamedTuple):
    """A record as it is sent; None is Kafka's null."""

    key: bytes | None
    value: bytes | None
    headers: list[tuple[str, bytes | None]]

    @property
    def size(self) -> int:
        """Its bytes, about."""
        return len(self.value or b"") + sum(len(name) + len(value or b"") + 10 for name, value in self.headers)


def records(seed: int, count: int) -> Iterator[Raw]:
    """`count` records; the same seed gives the same ones."""
    rng = random.Random(seed)
    earlier: list[Raw] = []
    for _ in range(count):
        if earlier and rng.random() < 0.1:
            yield rng.choice(earlier)
            continue
        made = rng.choices(_MAKERS, _WEIGHTS)[0](rng)
        while made.size > LARGEST:
            made = rng.choices(_MAKERS, _WEIGHTS)[0](rng)
        if len(made.value or b"") < 10_000:
            earlier.append(made)
            del earlier[:-500]
        yield made


def body(rng: random.Random, **fields: Any) -> dict[str, Any]:
    """An event that is one."""
    number = rng.randrange(200)
    return {
        "event_id": str(uuid.UUID(int=rng.getrandbits(128))),
        "id": f"memory-{number}",
        "namespace": "notes",
        "type": rng.choice(["created", "updated", "deleted", "episodic"]),
        "timestamp": rng.choice([1_700_000_000.25, "2024-06-10T06:13:20Z", 1_700_000_000]),
        "payload": {"text": f"note {number}", "coordinate": [float(number), 2.0]},
        "embedding": [1.0, float(number), 0.0],
        "importance": rng.choice([1, 2.5, 5]),
    } | fields


def _good(rng: random.Random) -> Raw:
    said = body(rng)
    if rng.random() < 0.3:
        del said["embedding"]
    version = rng.randrange(1, 5)
    headers: list[tuple[str, bytes | None]] = [
        ("tenant", b"acme"),
        ("op", rng.choice([b"created", b"updated", b"deleted"])),
        ("origin", rng.choice([b"one", b"two"])),
        ("record-version", b"%d" % version),
    ]
    if rng.random() < 0.3:
        headers.append(("attributes", b'{"expires_at":4000000000.5,"features":{"mood":0.5},"pinned":true}'))
    return Raw(b"acme:" + said["id"].encode(), json.dumps(said).encode(), headers[: rng.randrange(len(headers) + 1)])


def _field(rng: random.Random) -> Raw:
    """One field of the body holds anything, or is not there, or is there twice."""
    said = {name: json.dumps(value) for name, value in body(rng).items()}
    name = rng.choice([*said, "model_revision", "more"])
    said[name] = _literal(rng)
    if name == "timestamp" and rng.random() < 0.7:
        said[name] = json.dumps(rng.choice(_TIMES))
    if rng.random() < 0.1:
        del said[name]
    pairs = [f"{json.dumps(key)}:{value}" for key, value in said.items()]
    if rng.random() < 0.1:
        pairs.append(pairs[0])
    return Raw(b"k", f"{{{','.join(pairs)}}}".encode("utf-8", "surrogatepass"), [])


def _place(rng: random.Random) -> Raw:
    """Coordinates, types and names at their edges."""
    coordinate: Any = rng.choice(
        [
            [10**400],
            [1e308, -1e308],
            [True],
            ["1"],
            [],
            [[1.0]],
            [rng.random() * 10 ** rng.randrange(-300, 300) for _ in range(rng.choice([1, 300, 4096, 4097]))],
            "1,2",
            "1e999",
            "1,,2",
            {"x": 1},
            None,
        ]
    )
    wide = "".join(chr(rng.randrange(0x20000, 0x2A000)) for _ in range(256))
    payload: dict[str, Any] = {"text": rng.choice(_TEXTS[5:]), "coordinate": coordinate}
    if rng.random() < 0.5:
        payload["memory_type"] = rng.choice([*_TEXTS, wide, 5, None])
    said = body(rng, payload=payload, namespace=rng.choice(["notes", wide, *_TEXTS]))
    return Raw(b"k", json.dumps(said).encode(), [("tenant", rng.choice([b"acme", wide.encode("utf-8", "replace")]))])


def _header(rng: random.Random) -> Raw:
    """A header, or a few, that hold anything."""
    headers = [(rng.choice(_HEADERS), _header_value(rng)) for _ in range(rng.choice([1, 1, 1, 2, 5, 300]))]
    return Raw(b"k", json.dumps(body(rng)).encode(), headers)


def _header_value(rng: random.Random) -> bytes | None:
    kind = rng.randrange(7)
    if kind == 0:
        return rng.choice([None, b"", rng.randbytes(rng.choice([1, 10, 300])), b"\xff\xfe"])
    if kind == 1:
        return rng.choice([*_NUMBERS, "1" * 30, "-1", "1.5", "٣", "9223372036854775808"]).encode()
    if kind == 2:
        return rng.choice(_TEXTS).encode("utf-8", "surrogatepass")
    if kind == 3:
        return bytes(rng.choices(b"abcdefghijklmnopqrstuvwxyz0123456789", k=rng.choice([3, 250, 6000])))
    if kind == 4:
        name = rng.choice(["expires_at", "features", "pinned", "hold", "more"])
        return f'{{"{name}":{_literal(rng)}}}'.encode("utf-8", "surrogatepass")
    if kind == 5:
        depth = rng.choice(_DEEP)
        return b"[" * depth + b"]" * depth
    return rng.choice([b"created", b"deleted", b"1", b"acme", b"2", b"00-" + b"a" * 32 + b"-" + b"b" * 16 + b"-01"])


def _bytes(rng: random.Random) -> Raw:
    """No event at all, or one that was cut, framed or put into another encoding."""
    whole = json.dumps(body(rng)).encode()
    value: bytes | None = rng.choice(
        [
            None,
            b"",
            b"\0",
            b"\0\0\0\0\1" + whole,
            b"\0" + rng.randbytes(4) + whole,
            b"\0\0\0\0\1" + rng.randbytes(30),
            whole[: rng.randrange(len(whole))],
            whole + whole,
            rng.randbytes(rng.randrange(300)),
            whole.decode().encode("utf-16"),
            b"\xef\xbb\xbf" + whole,
            b"null",
            b"[]",
            b'"text"',
            b"1e999",
            b"[" * 100_000,
            b'{"a":' * 3000 + b"1" + b"}" * 3000,
        ]
    )
    return Raw(rng.choice([None, b"", b"k", rng.randbytes(20)]), value, [])


def _large(rng: random.Random) -> Raw:
    """As much as a topic takes, or nearly."""
    size = rng.choice([100_000, 900_000])
    said = body(rng, payload={"text": "word " * (size // 5), "coordinate": [1.0]})
    if rng.random() < 0.3:
        return Raw(b"k", json.dumps(body(rng)).encode(), [("x", b"h" * size)])
    return Raw(b"k", json.dumps(said).encode(), [])


def _literal(rng: random.Random) -> str:
    """A JSON text of anything, or what is nearly JSON."""
    kind = rng.randrange(8)
    if kind == 0:
        return rng.choice(_NUMBERS)
    if kind == 1:
        return json.dumps(rng.choice(_TEXTS))
    if kind == 2:
        depth = rng.choice(_DEEP[:6])
        return "[" * depth + "]" * depth
    if kind == 3:
        items = [rng.choice([*_NUMBERS, "1", "null", '"a"']) for _ in range(rng.choice([0, 3, 3, 5000]))]
        return f"[{','.join(items)}]"
    if kind == 4:
        return json.dumps(rng.choice(_TIMES))
    if kind == 5:
        return f'{{"a":{rng.choice(_NUMBERS)},"a":1,"":null}}'
    return rng.choice(["null", "true", "{}", "[]", '"\\ud800"', '"\\u0000"', "1e308", "9007199254740993", "''", ""])


_MAKERS: Final[Sequence[Callable[[random.Random], Raw]]] = (_good, _field, _place, _header, _bytes, _large)
_WEIGHTS: Final = (30, 30, 12, 20, 8, 0.2)
