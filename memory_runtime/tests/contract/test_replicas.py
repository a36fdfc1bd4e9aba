"""Several `soma serve` on one PostgreSQL: each answers with what any of them acknowledged, whatever happens to one."""

from __future__ import annotations

import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from hack.services import Service
from memory_runtime.tests.integration.conftest import COMMAND, Server, clean_environment, faketime_library, start

pytestmark = pytest.mark.integration
TOKEN = "replica-token"
DIM = "3"


def settings(dsn: str, **rest: str) -> dict[str, str]:
    return {
        "SOMA_MODE": "distributed",
        "POSTGRES_URL": dsn,
        "POSTGRES_POOL_SIZE": "5",
        "SOMA_API_TOKEN": TOKEN,
        "SOMA_VECTOR_DIM": DIM,
        "SOMA_EMBEDDING_PROVIDER": "client",
    } | rest


@pytest.fixture(scope="module")
def faketime() -> Path:
    return faketime_library()


@pytest.fixture
def replica(tmp_path: Path, database: str) -> Iterator[Callable[..., Server]]:
    """Starts one more replica on the test's database."""
    running: list[Server] = []

    def starter(name: str, **rest: str) -> Server:
        folder = tmp_path / name
        folder.mkdir()
        running.append(start(folder, [], settings(database, **rest)))
        return running[-1]

    yield starter
    for one in running:
        one.crash()


def store(client: httpx.Client, number: int, **rest: Any) -> int:
    body = {"coord": f"{number},0", "payload": {"n": number}, "vector": [1, number, 0]} | rest
    answer = client.post("/store", json=body)
    answer.raise_for_status()
    return int(answer.headers["X-Soma-Seq"])


def recalled(client: httpx.Client, min_seq: int, top_k: int = 100) -> set[int]:
    answer = client.post("/recall", json={"vector": [1, 0, 0], "top_k": top_k, "min_seq": min_seq})
    assert answer.status_code == 200, answer.text
    return {match["n"] for match in answer.json()["matches"]}


def test_a_pin_holds_on_every_replica_after_a_restart_and_in_hybrid_recall(replica: Callable[..., Server]) -> None:
    words = {"SOMA_EMBEDDING_PROVIDER": "hash", "SOMA_HALF_LIFE": "1d", "SOMA_VECTOR_DIM": "64"}
    first, second = replica("a", **words), replica("b", **words)
    old = {"timestamp": "2020-01-01", "pinned": True, "vector": None}
    with first.client(tenant="acme") as a, second.client(tenant="acme") as b:
        seq = max(
            store(a, 1, **old, payload={"n": 1, "text": "tea"}), store(a, 2, vector=None, payload={"text": "tea"})
        )
        third = replica("c", **words)
        with third.client(tenant="acme") as c:
            for client in (a, b, c):
                for asked in ({}, {"hybrid": True}):
                    body = {"query": "tea", "min_seq": seq, "explain": True} | asked
                    results = client.post("/recall_with_scores", json=body).json()["results"]
                    pinned = next(one for one in results if one["payload"].get("n") == 1)
                    assert pinned["explanation"]["half_life_seconds"] is None
                    assert pinned["score"] > 0.1


def test_what_one_replica_acknowledged_the_other_answers_with_and_what_one_deleted_is_gone(
    replica: Callable[[str], Server],
) -> None:
    first, second = replica("a"), replica("b")
    with first.client(tenant="acme") as a, second.client(tenant="acme") as b:
        for number in range(1, 11):
            writer, reader = (a, b) if number % 2 else (b, a)
            assert number in recalled(reader, store(writer, number))
        gone = b.delete("/memories/3,0")
        assert gone.json()["deleted"] is True
        assert recalled(a, int(gone.headers["X-Soma-Seq"])) == set(range(1, 11)) - {3}
        assert a.get("/memories/3,0").status_code == 404
        assert a.get("/stats").json()["total_memories"] == b.get("/stats").json()["total_memories"] == 9
    assert [first.stop(), second.stop()] == [0, 0]


def test_a_killed_replica_takes_nothing_with_it(replica: Callable[[str], Server]) -> None:
    doomed, other = replica("doomed"), replica("other")
    acknowledged: list[int] = []

    def load() -> None:
        with doomed.client(tenant="acme") as client:
            for number in range(1, 10_000):
                try:
                    store(client, number)
                except httpx.HTTPError:
                    return
                acknowledged.append(number)

    thread = threading.Thread(target=load)
    thread.start()
    while len(acknowledged) < 20:
        time.sleep(0.01)
    doomed.crash()
    thread.join()
    with other.client(tenant="acme") as client:
        after = store(client, 100_000)
        found = recalled(client, after, top_k=1000)
    assert set(acknowledged) <= found
    # the one that was under way may have been durable before its answer was lost
    assert found - set(acknowledged) <= {len(acknowledged) + 1, 100_000}


def test_statistics_survive_a_restart_of_postgresql_and_writing_goes_on_without_one_of_ours(
    replica: Callable[[str], Server], postgres: Service
) -> None:
    server = replica("a")
    with server.client(tenant="acme") as client:
        last = store(client, 1)
        postgres.stop()
        try:
            refused = client.post("/store", json={"coord": "2,0", "payload": {}, "vector": [1, 0, 0]})
            assert refused.status_code == 503, refused.text + server.log_path.read_text()[-4000:]
            assert refused.headers["retry-after"]
            stats = client.get("/stats")
            assert (stats.status_code, stats.json()["total_memories"], stats.json()["stale"]) == (200, 1, True)
            assert client.get("/livez").status_code == 200
            assert client.get("/readyz").status_code == 503
        finally:
            postgres.start()
        deadline = time.monotonic() + 30
        while client.get("/readyz").status_code != 200:
            assert time.monotonic() < deadline, client.get("/readyz").text
            time.sleep(0.1)
        assert store(client, 3) == last + 1
        assert recalled(client, last + 1) == {1, 3}
        assert client.get("/stats").json()["stale"] is False


@pytest.mark.parametrize(
    ("change", "named"),
    [
        (lambda dsn: dsn.replace("postgres:", "nobody:", 1), "postgres_url"),
        (lambda dsn: dsn.rpartition("/")[0] + "/no_such_database", "postgres_url"),
        (lambda dsn: "mysql://user:secret-word@127.0.0.1/x", "postgres_url"),
        (lambda dsn: "", "postgres_url"),
    ],
)
def test_a_database_that_cannot_be_right_ends_the_start_with_the_settings_name(
    database: str, tmp_path: Path, change: Callable[[str], str], named: str
) -> None:
    environment = clean_environment(**settings(change(database)), SOMA_DATA_DIR=str(tmp_path))
    done = subprocess.run([*COMMAND, "serve", "--http-port", "0"], env=environment, capture_output=True, timeout=60)
    said = (done.stdout + done.stderr).decode()
    assert done.returncode == 2, said
    assert named in said
    assert "Traceback" not in said
    password = database.partition("postgres:")[2].partition("@")[0]
    assert password not in said
    assert "secret-word" not in said


def test_replicas_whose_clocks_differ_by_hours_agree_on_what_is_newest_and_on_the_order(
    replica: Callable[..., Server], faketime: Path
) -> None:
    """R16: a version is newer by the ledger's sequence, an age is never negative, and both replicas rank alike."""
    slow = replica("slow", LD_PRELOAD=str(faketime), FAKETIME="-2h", FAKETIME_DONT_FAKE_MONOTONIC="1")
    fast = replica("fast", LD_PRELOAD=str(faketime), FAKETIME="+2h", FAKETIME_DONT_FAKE_MONOTONIC="1")
    with slow.client(tenant="acme") as behind, fast.client(tenant="acme") as ahead:
        seq = 0
        for number in range(6):
            seq = store(ahead if number % 2 else behind, number, vector=[1, 0, 0])
        # written by the fast clock first, by the slow one after it: the later write is the newer one, on both
        store(ahead, 7, payload={"n": 7, "said": "first"}, vector=[1, 0, 0])
        seq = store(behind, 7, payload={"n": 7, "said": "second"}, vector=[1, 0, 0])
        asked = {"vector": [1, 0, 0], "top_k": 20, "min_seq": seq, "half_life": "1h", "explain": True}
        answers = [client.post("/memories/search", json=asked).json()["memories"] for client in (behind, ahead)]
        for found in answers:
            assert len(found) == 7
            assert [one["payload"]["said"] for one in found if one["payload"]["n"] == 7] == ["second"]
            assert all(0.0 <= one["score"] <= 1.0 for one in found)
        moment = answers[1][0]["explanation"]["at"] + 3600
        alike = [
            [
                (one["payload"]["n"], one["log2_score"])
                for one in client.post("/memories/search", json=asked | {"as_of": moment}).json()["memories"]
            ]
            for client in (behind, ahead)
        ]
        assert alike[0] == alike[1]
