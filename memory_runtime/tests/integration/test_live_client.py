"""The live client of the service we replace, replayed: era E2 as it speaks it, era E1 with the same headers."""

from __future__ import annotations

import uuid

import pytest

from memory_runtime.tests.integration.conftest import Serve, Server
from memory_runtime.tests.integration.live_client import LiveClient, stable_coord, text_of

pytestmark = pytest.mark.integration


@pytest.fixture
def client(server: Server) -> LiveClient:
    return LiveClient(server.url, server.token, f"brain:{uuid.uuid4().hex}")


def test_what_it_stores_it_finds_fetches_and_forgets(client: LiveClient) -> None:
    keys = {"lisbon": "Ann moved to Lisbon in May", "chess": "Bo plays chess on Fridays", "violin": "Cy plays violin"}
    for key, text in keys.items():
        assert client.remember(key, {"task": text, "quality_score": 0.5, "domains": ["home"]}) == stable_coord(
            "real", key
        )
    best = client.search("who plays chess?", 1)[0]
    assert (best["task"], best["coordinate"]) == ("Bo plays chess on Fridays", stable_coord("real", "chess"))
    assert best["_score"] > 0
    filters = {"universe": "real", "tenant": client.tenant}
    assert {one["task"] for one in client.search("plays", 5, filters)} >= {keys["chess"], keys["violin"]}
    assert client.search("plays", 5, filters | {"universe": "dream"}) == []
    memory = client.fetch(stable_coord("real", "violin"))
    assert memory is not None
    assert (memory["payload"]["task"], memory["timestamp"]) == ("Cy plays violin", 1_760_000_000.5)
    coords = [stable_coord("real", key) for key in ("lisbon", "nowhere", "chess")]
    assert [one["task"] for one in client.payloads(coords)] == [keys["lisbon"], keys["chess"]]
    assert client.forget(stable_coord("real", "chess"))
    assert not client.forget(stable_coord("real", "chess"))
    assert client.fetch(stable_coord("real", "chess")) is None
    assert "chess" not in str(client.search("chess", 3))


def test_a_request_id_repeats_a_store_only_while_it_stands(client: LiveClient) -> None:
    name = str(uuid.uuid4())
    for text in ("first", "second", "first"):
        assert client.remember("key", {"task": text}, request_id=name) is not None
    memory = client.fetch(stable_coord("real", "key"))
    assert memory is not None
    assert memory["payload"]["task"] == "first", "the third store must not be taken for the first one's repetition"


def test_it_links_coordinates_whatever_they_hold_and_reads_neighbours_and_paths(client: LiveClient) -> None:
    one, two, three = (stable_coord("real", key) for key in ("one", "two", "three"))
    assert client.link(one, two, "causes", 0.8, why="because")
    assert client.link(one, two, "related", 0.4)
    assert client.link(two, three)
    assert client.neighbors(one) == [(two, "causes", 0.8, {"why": "because"}), (two, "related", 0.4, {})]
    assert [coord for coord, *_ in client.neighbors(one, k_hop=2)] == [two, two, three]
    assert client.path(one, three) == [one, two, three]
    assert client.path(three, one) == []


def test_it_sees_every_part_as_healthy(client: LiveClient) -> None:
    assert client.health() == {"kv_store": True, "vector_store": True, "graph_store": True}
    data = client.http.get("/health").json()
    assert (data["status"], data["healthy"]) == ("healthy", True)
    for path in ("/healthz", "/readyz", "/health/basic"):
        assert client.http.get(path).status_code == 200


def test_another_tenant_sees_nothing_of_it(client: LiveClient, server: Server) -> None:
    client.remember("secret", {"task": "the code is 1234"})
    client.link(stable_coord("real", "secret"), stable_coord("real", "vault"))
    other = LiveClient(server.url, server.token, f"brain:{uuid.uuid4().hex}")
    assert other.search("code", 5) == []
    assert other.fetch(stable_coord("real", "secret")) is None
    assert other.neighbors(stable_coord("real", "secret")) == []


@pytest.mark.parametrize("header", ["Authorization", "X-API-Key", "X-Auth-Token"])
def test_each_of_its_token_headers_is_enough(client: LiveClient, header: str) -> None:
    kept = client.http.headers[header]
    for name in ("Authorization", "X-API-Key", "X-Auth-Token"):
        client.http.headers.pop(name)
    assert client.http.get("/stats").status_code == 401
    client.http.headers[header] = kept
    assert client.http.get("/stats").status_code == 200


def test_the_verbs_of_the_first_era_with_the_same_headers(client: LiveClient) -> None:
    http = client.http
    here, there = text_of(stable_coord("real", "here")), text_of(stable_coord("real", "there"))
    body = {"coord": here, "payload": client.enriched("here", {"task": "Ann plays chess"}), "type": "episodic"}
    assert http.post("/store", json=body, headers={"X-Request-ID": "r1", "X-Universe": "real"}).json() == {"ok": True}
    items = [{"coord": there, "payload": {"task": "Bo plays violin"}, "type": "semantic"}]
    assert http.post("/store_bulk", json={"items": items}).json() == {"stored": 1}
    found = http.post("/recall", json={"query": "chess", "top_k": 1, "type": "episodic"}).json()
    assert [one["task"] for one in found["matches"]] == ["Ann plays chess"]
    scored = http.post("/recall_with_scores", json={"query": "violin", "top_k": 1, "hybrid": False}).json()
    assert scored["results"][0]["payload"]["task"] == "Bo plays violin"
    assert http.post("/link", json={"from_coord": here, "to_coord": there, "type": "knows", "weight": 2}).json() == {
        "ok": True
    }
    ((coordinate, edge),) = http.get("/neighbors", params={"coord": here, "link_type": "knows"}).json()["neighbors"]
    assert (text_of(tuple(coordinate)), edge["type"], edge["weight"]) == (there, "knows", 2.0)
    path = http.get("/shortest_path", params={"frm": here, "to": there}).json()["path"]
    assert [text_of(tuple(one)) for one in path] == [here, there]
    assert http.get("/stats").json()["total_memories"] == 2
    again = client.fetch(stable_coord("real", "here"))
    assert again is not None, "both eras see one store"


STATS = {"total_memories", "episodic", "semantic", "namespace"}


def test_stats_are_open_only_where_it_was_said_and_show_less(serve: Serve, server: Server) -> None:
    with server.client(token=None) as http:
        assert http.get("/stats").status_code == 401, "closed unless somebody opens it"
    opened = serve(SOMA_STATS_OPEN="true")
    with opened.client(tenant="acme") as http:
        assert http.post("/store", json={"coord": "1", "payload": {"text": "a"}}).status_code == 200
        assert http.get("/stats").json().keys() > STATS | {"vector_count"}
    with opened.client(tenant="acme", token=None) as http:
        answer = http.get("/stats")
        assert (answer.status_code, answer.json().keys()) == (200, STATS)
        assert answer.json()["total_memories"] == 1
        for path in ("/memories", "/graph/links", "/flags", "/gates"):
            assert http.get(path).status_code == 401, "nothing else is open"
    with opened.client(tenant="acme", token="wrong") as http:
        assert http.get("/stats").status_code == 403
