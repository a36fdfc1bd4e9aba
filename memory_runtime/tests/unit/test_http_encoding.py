"""Answers are encoded piece by piece: the same JSON, the large ones beside the event loop, none beyond the bound."""

from __future__ import annotations

import json
import threading
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from memory_runtime.model.errors import PayloadTooLarge
from memory_runtime.surfaces.http.encoding import AT_ONCE, encoded, pieces

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=3), inner, max_size=4),
    max_leaves=20,
)


@given(VALUES)
def test_pieces_are_the_json_of_the_value(value: Any) -> None:
    assert json.loads(b"".join(pieces(value))) == value


def test_iterators_are_lists() -> None:
    made = {"batches": (({"n": n} for n in range(size)) for size in (2, 0)), "seq": 1}
    assert b"".join(pieces(made)) == b'{"batches":[[{"n":0},{"n":1}],[]],"seq":1}'


async def sent(response: Any) -> tuple[dict[str, Any], list[bytes]]:
    messages: list[Any] = []

    async def send(message: Any) -> None:
        messages.append(message)

    await response({"type": "http"}, None, send)
    start, *bodies = messages
    return start, [one["body"] for one in bodies]


async def test_a_large_answer_is_made_beside_the_event_loop_and_sent_in_chunks() -> None:
    threads = set()

    def members() -> Any:
        for number in range(4 * AT_ONCE // 1000):
            threads.add(threading.current_thread())
            yield {"n": number, "text": "é" * 1000}

    start, bodies = await sent(encoded({"memories": members()}, {"X-Soma-Seq": "7"}, 1 << 30))
    headers = {name.decode(): value.decode() for name, value in start["headers"]}
    assert headers["x-soma-seq"] == "7"
    assert headers["content-type"] == "application/json"
    assert int(headers["content-length"]) == sum(map(len, bodies))
    assert [one["n"] for one in json.loads(b"".join(bodies))["memories"]] == list(range(4 * AT_ONCE // 1000))
    assert max(map(len, bodies)) <= 1 << 20
    assert len(bodies) > 1
    assert threads - {threading.main_thread()}, "all of it was encoded on the event loop"


async def test_what_is_too_large_is_refused_before_it_is_made() -> None:
    made = 0

    def members() -> Any:
        nonlocal made
        for made in range(1_000_000):  # noqa: B007 -- counted from outside
            yield "x" * 1000

    with pytest.raises(PayloadTooLarge):
        encoded({"memories": members()}, None, 100_000)
    with pytest.raises(PayloadTooLarge) as caught:
        await sent(encoded({"memories": members()}, None, 4 * AT_ONCE))
    assert "SOMA_MAX_RESPONSE_BODY_MB" in str(caught.value.remedy)
    assert made < 4 * AT_ONCE // 1000 + 10
