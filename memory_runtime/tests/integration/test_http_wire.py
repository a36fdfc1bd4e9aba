"""The wire of the service that we replace: eras E1 and E2, shape by shape, against a real server."""

import time

import pytest

pytestmark = pytest.mark.integration

ADDED = {"timestamp", "importance_norm", "access_count", "coordinate", "memory_type"}


def store(http, coord, text, **more):
    answer = http.post("/store", json={"coord": coord, "payload": {"text": text}, **more})
    assert answer.status_code == 200, answer.text
    return answer


def test_store_answers_ok_and_nothing_else_and_says_the_rest_in_headers(http):
    answer = store(http, "1,2,3", "Ann moved to Lisbon")
    assert answer.json() == {"ok": True}
    assert int(answer.headers["X-Soma-Seq"]) > 0
    assert answer.headers["X-Soma-Version"] == "1"
    assert store(http, "1,2,3", "Ann moved to Porto").headers["X-Soma-Version"] == "2"


def test_store_gives_its_receipt_when_asked(http):
    body = {"coord": "1", "payload": {"text": "a"}}
    receipt = http.post("/store?receipt=true", json=body).json()["receipt"]
    assert receipt.keys() == {"id", "version", "seq", "created", "replayed"}


def test_store_bulk_counts_and_is_all_or_nothing(http):
    items = [{"coord": f"{n},0", "payload": {"text": f"fact {n}"}} for n in range(3)]
    assert http.post("/store_bulk", json={"items": items}).json() == {"stored": 3}
    refused = http.post("/store_bulk", json={"items": [*items, {"coord": "1,x", "payload": {}}]})
    assert refused.status_code == 400
    assert refused.json()["field"] == "items.3.coord"
    assert http.get("/stats").json()["total_memories"] == 3


def test_recall_gives_flat_payloads_with_the_fields_that_the_server_adds(http):
    store(http, "1,2,3", "Ann moved to Lisbon")
    matches = http.post("/recall", json={"query": "Ann Lisbon"}).json()
    assert matches.keys() == {"matches"}
    (match,) = matches["matches"]
    assert match["text"] == "Ann moved to Lisbon"
    assert match["coordinate"] == [1.0, 2.0, 3.0]
    assert match["memory_type"] == "episodic"
    assert match.keys() == ADDED | {"text"}


def test_recall_by_get_takes_filters_as_json_text(http):
    for name in ("ann", "bo"):
        body = {"coord": "1" if name == "ann" else "2", "payload": {"text": "plays chess", "user": name}}
        assert http.post("/store", json=body).status_code == 200
    answer = http.get("/recall", params={"query": "chess", "filters": '{"user": "bo"}', "top_k": 5})
    assert [match["user"] for match in answer.json()["matches"]] == ["bo"]
    broken = http.get("/recall", params={"query": "chess", "filters": "{"})
    assert (broken.status_code, broken.json()["field"]) == (400, "filters")


def test_filters_apply_before_the_top_k(http):
    """Defect 8 of the original: the match was looked for among the unfiltered best."""
    items = [{"coord": f"{n}", "payload": {"text": "chess chess chess", "user": "many"}} for n in range(30)]
    items.append({"coord": "99", "payload": {"text": "a little chess and much else to say", "user": "one"}})
    http.post("/store_bulk", json={"items": items})
    answer = http.post("/recall", json={"query": "chess", "top_k": 1, "filters": {"user": "one"}}).json()
    assert [match["user"] for match in answer["matches"]] == ["one"]


def test_recall_batch_answers_each_query_in_order(http):
    store(http, "1", "Ann plays the violin")
    store(http, "2", "Bo repairs bicycles")
    answer = http.post("/recall_batch", json={"queries": ["violin", "bicycles"], "top_k": 1}).json()
    assert [[match["coordinate"] for match in batch] for batch in answer["batches"]] == [[[1.0]], [[2.0]]]


def test_recall_with_scores_orders_by_score_and_explains_only_when_asked(http):
    store(http, "1", "Ann plays the violin")
    store(http, "2", "Ann plays")
    plain = http.post("/recall_with_scores", json={"query": "Ann plays the violin"}).json()
    assert plain.keys() == {"results"}
    assert all(result.keys() == {"payload", "score"} for result in plain["results"])
    scores = [result["score"] for result in plain["results"]]
    assert scores == sorted(scores, reverse=True)
    asked = http.post("/recall_with_scores", json={"query": "Ann", "explain": True, "half_life": "1d"}).json()
    assert asked.keys() == {"results", "seq", "as_of", "route", "suppressed"}
    assert asked["results"][0]["explanation"]["half_life_seconds"] == 86400.0


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/recall_with_context", {"query": "chess", "context": {"room": "club"}}),
        ("/keyword_search", {"term": "chess"}),
    ],
)
def test_results_are_payloads(http, path, body):
    store(http, "1", "Bo plays chess")
    assert [result["text"] for result in http.post(path, json=body).json()["results"]] == ["Bo plays chess"]


def test_hybrid_recall_boosts_what_holds_a_term(http):
    store(http, "1", "Bo plays chess in the club every week")
    body = {"query": "Bo plays chess", "terms": ["chess"], "boost": 2.0}
    (boosted,) = http.post("/hybrid_recall_with_scores", json=body).json()["results"]
    (plain,) = http.post("/recall_with_scores", json={"query": "Bo plays chess"}).json()["results"]
    assert boosted["score"] == pytest.approx(2.0 * plain["score"], rel=1e-6)


def test_links_neighbors_and_paths_in_the_shapes_of_both_eras(http):
    for coord in ("1,1", "2,2", "3,3"):
        store(http, coord, f"at {coord}")
    assert http.post("/link", json={"from_coord": "1,1", "to_coord": "2,2", "weight": 0.5}).json() == {"ok": True}
    linked = http.post("/graph/link", json={"from_coord": "2,2", "to_coord": "3,3", "link_type": "next"}).json()
    assert linked == {"from_coord": "2,2", "to_coord": "3,3", "link_type": "next", "ok": True}
    ((coordinate, edge),) = http.get("/neighbors", params={"coord": "1,1"}).json()["neighbors"]
    assert coordinate == [2.0, 2.0]
    assert (edge["type"], edge["weight"]) == ("related", 0.5)
    (one,) = http.get("/graph/neighbors", params={"coord": "2,2"}).json()["neighbors"]
    assert (one["coordinate"], one["link_type"], one["strength"]) == ([3.0, 3.0], "next", 1.0)
    path = http.get("/shortest_path", params={"frm": "1,1", "to": "3,3"}).json()
    assert path == {"path": [[1.0, 1.0], [2.0, 2.0], [3.0, 3.0]]}
    found = http.get("/graph/path", params={"from_coord": "1,1", "to_coord": "3,3"}).json()
    assert found["path"] == ["1.0,1.0", "2.0,2.0", "3.0,3.0"]
    assert (found["link_types"], found["found"]) == (["related", "next"], True)
    none = http.get("/graph/path", params={"from_coord": "3,3", "to_coord": "1,1"}).json()
    assert (none["path"], none["link_types"], none["found"]) == ([], [], False)
    assert http.get("/shortest_path", params={"frm": "3,3", "to": "1,1"}).json() == {"path": []}


def test_links_join_coordinates_that_hold_no_memory_until_an_end_is_deleted_or_they_are(http):
    for link_type, strength in (("related", 0.5), ("causes", 2.0)):
        body = {"from_coord": "1,1", "to_coord": "2,2", "link_type": link_type, "strength": strength}
        assert http.post("/graph/link", json=body | {"metadata": {"why": link_type}}).json()["ok"]
    assert http.post("/link", json={"from_coord": "2,2", "to_coord": "3,3"}).json() == {"ok": True}
    found = http.get("/graph/neighbors", params={"coord": "1,1"}).json()["neighbors"]
    assert [(one["coord"], one["coordinate"], one["link_type"], one["strength"]) for one in found] == [
        ("2.0,2.0", [2.0, 2.0], "causes", 2.0),
        ("2.0,2.0", [2.0, 2.0], "related", 0.5),
    ]
    assert [one["metadata"] for one in found] == [{"why": "causes"}, {"why": "related"}]
    assert [edge["type"] for _, edge in http.get("/neighbors", params={"coord": "1,1"}).json()["neighbors"]] == [
        "causes",
        "related",
    ]
    path = http.get("/graph/path", params={"from_coord": "1,1", "to_coord": "3,3"}).json()
    assert (path["path"], path["link_types"]) == (["1.0,1.0", "2.0,2.0", "3.0,3.0"], ["causes", "related"])
    assert [[one["link_type"] for one in step] for step in path["links"]] == [["causes", "related"], ["related"]]
    ask = {"from_coord": "1,1", "to_coord": "2,2"}
    assert http.delete("/graph/link", params=ask | {"link_type": "causes"}).json() == ask | {"deleted": 1}
    assert http.delete("/graph/link", params=ask | {"link_type": "causes"}).json() == ask | {"deleted": 0}
    store(http, "2,2", "here for a moment")
    assert http.delete("/memories/2,2").json()["deleted"]
    assert http.get("/graph/links").json()["links"] == []


def test_graph_path_counts_coordinates_in_its_max_length(http):
    for coord in ("1", "2", "3"):
        store(http, coord, f"at {coord}")
    for start, end in (("1", "2"), ("2", "3")):
        http.post("/link", json={"from_coord": start, "to_coord": end})
    ask = {"from_coord": "1", "to_coord": "3"}
    assert http.get("/graph/path", params={**ask, "max_length": 3}).json()["found"]
    assert not http.get("/graph/path", params={**ask, "max_length": 2}).json()["found"]


def test_range_lists_the_coordinates_within_a_box(http):
    for coord in ("1,1", "5,5", "9,9"):
        store(http, coord, "somewhere")
    assert http.get("/range", params={"min": "0,0", "max": "5,5"}).json() == {"coords": [[1.0, 1.0], [5.0, 5.0]]}


def test_remember_derives_a_coordinate_so_that_a_repeat_is_no_duplicate(http):
    for _ in range(2):
        assert http.post("/remember", json={"payload": {"text": "the bin goes out on Monday"}}).json() == {"ok": True}
    assert http.get("/stats").json()["total_memories"] == 1


def test_payloads_by_coords_takes_both_notations_and_leaves_out_what_is_missing(http):
    store(http, "1,2,3", "here")
    answer = http.post("/payloads_by_coords", json={"coords": [[1, 2, 3], "1,2,3", [7, 7, 7]]}).json()
    assert [payload["text"] for payload in answer["payloads"]] == ["here", "here"]


def test_memories_are_resources(http):
    body = {"coord": "1.5,2", "payload": {"text": "Ann"}, "memory_type": "semantic"}
    assert http.post("/memories", json=body).json() == {"coord": "1.5,2", "memory_type": "semantic", "ok": True}
    memory = http.get("/memories/1.5,2").json()["memory"]
    assert (memory["payload"], memory["memory_type"]) == ({"text": "Ann"}, "semantic")
    assert memory["coordinate"] == [1.5, 2.0]
    (found,) = http.post("/memories/search", json={"query": "Ann"}).json()["memories"]
    assert found["payload"] == {"text": "Ann"}
    assert http.get("/memories/search", params={"query": "Ann"}).json()["memories"][0]["payload"] == {"text": "Ann"}
    assert http.delete("/memories/1.5,2").json() == {"coord": "1.5,2", "deleted": True}
    assert http.delete("/memories/1.5,2").json() == {"coord": "1.5,2", "deleted": False}
    gone = http.get("/memories/1.5,2")
    assert (gone.status_code, gone.json()["code"]) == (404, "NOT_FOUND")


def test_search_pages_by_offset(http):
    items = [{"coord": f"{n}", "payload": {"text": "chess " * (n + 1)}} for n in range(6)]
    http.post("/store_bulk", json={"items": items})
    whole = http.post("/memories/search", json={"query": "chess", "top_k": 6}).json()["memories"]
    second = http.post("/memories/search", json={"query": "chess", "top_k": 3, "offset": 3}).json()["memories"]
    assert [memory["id"] for memory in second] == [memory["id"] for memory in whole[3:]]


def test_listing_walks_every_memory_once(http):
    items = [{"coord": f"{n}", "payload": {"text": f"fact {n}"}} for n in range(25)]
    http.post("/store_bulk", json={"items": items})
    seen, after = [], None
    while True:
        page = http.get("/memories", params={"limit": 10, **({"after": after} if after else {})}).json()
        seen += [memory["coordinate"][0] for memory in page["memories"]]
        after = page["next"]
        if after is None:
            break
    assert sorted(seen) == list(range(25))


def test_stats_say_counts_and_what_embeds(http):
    store(http, "1", "a")
    store(http, "2", "b", type="semantic")
    stats = http.get("/stats").json()
    assert (stats["total_memories"], stats["episodic"], stats["semantic"]) == (2, 1, 1)
    assert stats["embedding_provider"] == "hash"
    assert stats["vector_count"] == 2


def test_health_routes_name_the_parts_as_ever(http):
    parts = {"kv_store": True, "vector_store": True, "graph_store": True, "prediction_provider": True}
    for path in ("/health/basic", "/healthz", "/readyz"):
        assert http.get(path).json() == parts
    whole = http.get("/health").json()
    assert whole.items() >= (parts | {"status": "healthy", "healthy": True}).items()
    assert [(one["name"], one["healthy"]) for one in whole["services"]] == [
        ("redis", True),
        ("milvus", True),
        ("postgresql", True),
    ]
    assert http.get("/ping").json() == {"ping": "pong"}
    assert http.get("/").json() == {"message": "SomaFractalMemory API is running", "metrics": "/metrics"}


def test_metrics_keep_the_names_that_dashboards_ask_for(http):
    store(http, "1", "a")
    text = http.get("/metrics").text
    for name in ("api_requests_total", "api_request_latency_seconds_bucket", "api_responses_total"):
        assert f"{name}{{" in text
    assert 'endpoint="/store"' in text
    assert "soma_memory_store_total{" in text


def test_payload_fields_of_the_old_service_still_set_time_and_importance(http):
    body = {"coord": "1", "payload": {"text": "a", "timestamp": 1_600_000_000.0, "importance": 3.0}}
    http.post("/store", json=body)
    memory = http.get("/memories/1").json()["memory"]
    assert memory["timestamp"] == 1_600_000_000.0
    assert memory["importance"] == 3.0
    explicit = {**body, "timestamp": "2024-06-10T06:13:20Z", "importance": 2}
    http.post("/store", json=explicit)
    memory = http.get("/memories/1").json()["memory"]
    assert (memory["timestamp"], memory["importance"]) == (1_718_000_000.0, 2.0)


def test_event_time_decays_and_as_of_answers_as_it_was(http):
    now = time.time()
    store(http, "1", "Ann lives in Porto", timestamp=now - 100 * 86400)
    store(http, "2", "Ann lives in Lisbon", timestamp=now - 86400)
    ask = {"query": "Ann lives in Porto", "top_k": 2}
    assert http.post("/recall", json=ask).json()["matches"][0]["coordinate"] == [1.0]
    decayed = http.post("/recall", json={**ask, "half_life": "7d"}).json()["matches"]
    assert decayed[0]["coordinate"] == [2.0]
    past = http.post("/recall", json={**ask, "as_of": now - 50 * 86400}).json()["matches"]
    assert [match["coordinate"] for match in past] == [[1.0]]


def test_min_seq_reads_ones_write_and_a_future_one_is_unavailable(http):
    seq = int(store(http, "1", "Ann").headers["X-Soma-Seq"])
    assert http.post("/recall", json={"query": "Ann", "min_seq": seq}).json()["matches"]
    late = http.post("/recall", json={"query": "Ann", "min_seq": seq + 10_000})
    assert (late.status_code, late.json()["field"]) == (503, "min_seq")
    assert late.headers["Retry-After"]


def test_what_the_old_service_took_is_taken(http):
    """A comma after the last number, an empty type, and a top k of 0."""
    assert http.post("/store", json={"coord": "7,8,9,", "payload": {"text": "lenient"}, "type": ""}).status_code == 200
    (memory,) = http.post("/recall", json={"query": "lenient", "top_k": 1, "type": ""}).json()["matches"]
    assert (memory["memory_type"], memory["coordinate"]) == ("episodic", [7.0, 8.0, 9.0])
    assert http.get("/memories/7,8,9,").json()["memory"]["payload"]["text"] == "lenient"
    answer = http.get("/recall", params={"query": "lenient", "top_k": 0, "type": ""})
    assert answer.status_code == 200, answer.text
    assert answer.json()["matches"] == []
    for path, body, key in (
        ("/recall", {"query": "lenient"}, "matches"),
        ("/recall_with_scores", {"query": "lenient"}, "results"),
        ("/hybrid_recall_with_scores", {"query": "lenient"}, "results"),
        ("/recall_with_context", {"query": "lenient", "context": {}}, "results"),
        ("/keyword_search", {"term": "lenient"}, "results"),
        ("/memories/search", {"query": "lenient"}, "memories"),
        ("/recall_batch", {"queries": ["lenient", "other"]}, "batches"),
    ):
        answer = http.post(path, json=body | {"top_k": 0})
        assert answer.status_code == 200, path
        assert answer.json()[key] in ([], [[], []]), path
    store(http, "7,8,10", "beside it")
    assert http.post("/link", json={"from_coord": "7,8,9,", "to_coord": "7,8,10", "type": ""}).status_code == 200
    # an empty type here would be every type
    assert http.delete("/memories/7,8,9", params={"memory_type": ""}).status_code == 422


@pytest.mark.parametrize("top_k", [1001, 50_000, 2**62])
def test_more_than_the_bound_is_answered_with_the_bound_and_says_so(http, top_k):
    items = [{"coord": f"{n},0", "payload": {"text": f"chess {n}"}} for n in range(3)]
    assert http.post("/store_bulk", json={"items": items}).status_code == 200
    asked = {"query": "chess", "top_k": top_k}
    for path, body, key in (
        ("/recall", asked, "matches"),
        ("/recall_with_scores", asked, "results"),
        ("/recall_with_context", asked | {"context": {}}, "results"),
        ("/hybrid_recall_with_scores", asked, "results"),
        ("/keyword_search", {"term": "chess", "top_k": top_k}, "results"),
        ("/memories/search", asked, "memories"),
    ):
        answer = http.post(path, json=body)
        assert (answer.status_code, answer.headers.get("X-Soma-Top-K")) == (200, "1000"), (path, answer.text)
        assert len(answer.json()[key]) == 3, path
    for path, key in (("/recall", "matches"), ("/memories/search", "memories")):
        answer = http.get(path, params=asked)
        assert (answer.status_code, answer.headers.get("X-Soma-Top-K")) == (200, "1000"), (path, answer.text)
        assert len(answer.json()[key]) == 3, path
    batch = http.post("/recall_batch", json={"queries": ["chess", "2"], "top_k": top_k})
    assert (batch.status_code, batch.headers["X-Soma-Top-K"]) == (200, "1000")
    assert "X-Soma-Top-K" not in http.post("/recall", json=asked | {"top_k": 1000}).headers
    assert http.post("/recall", json=asked | {"top_k": -1}).status_code == 422
    beyond = http.post("/memories/search", json=asked | {"offset": 1000})
    assert (beyond.status_code, beyond.json()["field"]) == (400, "offset")
