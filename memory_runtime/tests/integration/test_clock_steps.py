"""The clock of a running server steps by an hour or a day, either way: nothing is lost, no order turns (R16)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import httpx
import pytest

from memory_runtime.tests.integration.conftest import Serve, faketime_library

pytestmark = pytest.mark.integration

STEPS = ("+3600", "-3600", "+86400", "-86400", "+0")


@pytest.fixture(scope="module")
def library() -> Path:
    return faketime_library()


def store(http: httpx.Client, number: int) -> int:
    body = {"coord": f"{number},1", "payload": {"n": number}, "vector": [1.0, 0.0, 0.0]}
    answer = http.post("/memories", json=body, headers={"Idempotency-Key": f"store-{number}"})
    assert answer.status_code == 200, answer.text
    return int(answer.headers["X-Soma-Seq"])


def recalled(http: httpx.Client, min_seq: int) -> list[dict[str, Any]]:
    body = {"vector": [1.0, 0.0, 0.0], "top_k": 100, "min_seq": min_seq, "explain": True}
    answer = http.post("/memories/search", json=body)
    assert answer.status_code == 200, answer.text
    found: list[dict[str, Any]] = answer.json()["memories"]
    return found


def test_a_clock_that_steps_turns_no_order_and_makes_no_score_impossible(
    serve: Serve, library: Path, tmp_path: Path
) -> None:
    clock = tmp_path / "clock"
    clock.write_text("+0\n")
    server = serve(
        "--half-life",
        "1d",
        LD_PRELOAD=str(library),
        FAKETIME_TIMESTAMP_FILE=str(clock),
        FAKETIME_NO_CACHE="1",
        FAKETIME_DONT_FAKE_MONOTONIC="1",
        SOMA_VECTOR_DIM="3",
    )
    with server.client() as http:
        seq = max(store(http, number) for number in range(5))
        order = [one["payload"]["n"] for one in recalled(http, seq)]
        times: list[float] = []
        for turn, offset in enumerate(STEPS):
            clock.write_text(f"{offset}\n")
            newest = store(http, 100 + turn)
            assert newest > seq, "a clock that goes back must not take the sequence with it"
            seq = newest
            found = recalled(http, seq)
            times.append(next(one["timestamp"] for one in found if one["payload"]["n"] == 100 + turn))
            assert len(found) == 6 + turn
            first = [one for one in found if one["payload"]["n"] < 100]
            if offset.startswith("-"):
                # their time has not come: all are new, none is newer than another
                assert {round(one["score"], 9) for one in first} == {1.0}
            else:
                assert [one["payload"]["n"] for one in first] == order
            assert all(0.0 < one["score"] < 1.0 + 1e-9 for one in found), (
                "a time that has not come must not lift a score"
            )
            assert store(http, 100 + turn) == seq, "a retry is known by its key, whatever the clock says"
            assert httpx.get(f"{server.url}/readyz").status_code == 200
        assert times[2] - times[3] > 2 * 86_000, "the server never saw the clock step: the test shows nothing"
    assert server.stop() == 0
