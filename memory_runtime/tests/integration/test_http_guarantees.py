"""What a caller may rely on: retries make no duplicate, nothing crosses tenants, what is deleted stays deleted."""

import concurrent.futures
import json
import uuid

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

pytestmark = pytest.mark.integration

BODY = {"coord": "1,2", "payload": {"text": "Ann moved to Lisbon"}}


def test_retry_with_the_same_key_is_answered_with_the_first_reply(http):
    headers = {"Idempotency-Key": uuid.uuid4().hex}
    first = http.post("/store?receipt=true", json=BODY, headers=headers)
    again = http.post("/store?receipt=true", json=BODY, headers=headers)
    assert again.json()["receipt"] == first.json()["receipt"] | {"replayed": True}
    assert again.headers["Idempotency-Replayed"] == "true"
    assert "Idempotency-Replayed" not in first.headers
    assert http.get("/memories/1,2").json()["memory"]["version"] == 1


def test_key_with_another_body_is_a_conflict(http):
    headers = {"Idempotency-Key": uuid.uuid4().hex}
    assert http.post("/store", json=BODY, headers=headers).status_code == 200
    refused = http.post("/store", json={**BODY, "payload": {"text": "else"}}, headers=headers)
    assert (refused.status_code, refused.json()["code"]) == (409, "CONFLICT")
    assert http.get("/memories/1,2").json()["memory"]["payload"] == BODY["payload"]


def test_concurrent_retries_store_once(server):
    tenant, headers = uuid.uuid4().hex, {"Idempotency-Key": uuid.uuid4().hex}

    def send(_):
        with server.client(tenant=tenant) as client:
            return client.post("/store?receipt=true", json=BODY, headers=headers).json()["receipt"]

    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        receipts = list(pool.map(send, range(8)))
    assert len({(receipt["id"], receipt["version"], receipt["seq"]) for receipt in receipts}) == 1
    assert sum(not receipt["replayed"] for receipt in receipts) == 1


def test_key_is_remembered_across_a_restart(serve):
    headers = {"Idempotency-Key": "once", "X-Soma-Tenant": "t"}
    first = serve()
    with first.client(tenant="t") as client:
        seq = client.post("/store", json=BODY, headers=headers).headers["X-Soma-Seq"]
    first.crash()
    with serve().client(tenant="t") as client:
        again = client.post("/store", json=BODY, headers=headers)
        assert (again.headers["X-Soma-Seq"], again.headers["Idempotency-Replayed"]) == (seq, "true")


def test_request_id_makes_a_retry_safe_and_is_no_conflict_for_another_body(http):
    headers = {"X-Request-ID": uuid.uuid4().hex}
    http.post("/memories", json=BODY, headers=headers)
    assert http.post("/memories", json=BODY, headers=headers).headers["Idempotency-Replayed"] == "true"
    other = http.post("/memories", json={**BODY, "coord": "3,4"}, headers=headers)
    assert other.status_code == 200
    assert "Idempotency-Replayed" not in other.headers


@pytest.mark.parametrize("route", ["/store", "/memories", "/store_bulk", "/remember"])
def test_under_one_request_id_the_last_request_wins(http, route):
    headers = {"X-Request-ID": uuid.uuid4().hex}

    def store(text):
        body = {"coord": "1,2", "payload": {"text": text}}
        answer = http.post(route, json={"items": [body]} if route == "/store_bulk" else body, headers=headers)
        assert answer.status_code == 200
        assert http.get("/memories/1,2").json()["memory"]["payload"]["text"] == text
        return "Idempotency-Replayed" in answer.headers

    assert [store(text) for text in "abaabb"] == [False, False, False, True, False, True]
    for _ in range(2):
        assert http.delete("/memories/1,2", headers=headers).json()["deleted"]
        assert [store("b"), store("b")] == [False, True]


def test_no_door_takes_a_number_that_another_one_would_overwrite(http):
    ours, theirs = "1,1098765432109876543", "1,1098765432109876544"
    http.post("/store", json={"coord": "1", "payload": {}})
    calls = [
        ("POST", "/store", {"coord": ours, "payload": {}}),
        ("POST", "/memories", {"coord": theirs, "payload": {}}),
        ("POST", "/remember", {"coord": ours, "payload": {}}),
        ("POST", "/store_bulk", {"items": [{"coord": ours, "payload": {}}]}),
        ("POST", "/link", {"from_coord": "1", "to_coord": ours}),
        ("POST", "/graph/links", {"links": [{"from_coord": ours, "to_coord": "1"}]}),
        ("POST", "/payloads_by_coords", {"coords": [[1, 1098765432109876543]]}),
        ("GET", f"/memories/{ours}", None),
        ("DELETE", f"/memories/{ours}", None),
        ("GET", f"/neighbors?coord={ours}", None),
        ("GET", f"/range?min={ours}&max={theirs}", None),
    ]
    for verb, path, body in calls:
        answer = http.request(verb, path, json=body)
        assert (answer.status_code, answer.json()["code"]) == (400, "INVALID_ARGUMENT"), path
        assert "split a long number" in answer.json()["remedy"]
    assert http.get("/stats").json()["total_memories"] == 1


def test_a_request_id_repeats_links_and_deletes_as_they_are_asked(http):
    headers = {"X-Request-ID": uuid.uuid4().hex}
    for coord in ("1", "2"):
        http.post("/store", json={"coord": coord, "payload": {}})
    link = {"from_coord": "1", "to_coord": "2", "link_type": "cause", "strength": 0.5}
    for strength in (0.5, 0.75, 0.5):
        assert http.post("/graph/link", json=link | {"strength": strength}, headers=headers).status_code == 200
        assert [one["strength"] for one in http.get("/graph/links").json()["links"]] == [strength]
    assert http.delete("/memories/2", headers=headers).json()["deleted"]
    http.post("/store", json={"coord": "2", "payload": {}})
    assert http.delete("/memories/2", headers=headers).json()["deleted"]


def test_storing_again_is_an_update_and_its_delete_finds_it(http):
    """Defect 2 of the original: a re-store made a duplicate, and delete left its content searchable."""
    for text in ("Ann lives in Porto", "Ann lives in Lisbon"):
        http.post("/store", json={"coord": "1,2", "payload": {"text": text}})
    matches = http.post("/recall", json={"query": "Ann lives in Porto", "top_k": 10}).json()["matches"]
    assert [match["text"] for match in matches] == ["Ann lives in Lisbon"]
    assert http.delete("/memories/1,2").json()["deleted"]
    assert http.post("/recall", json={"query": "Ann lives in Lisbon"}).json()["matches"] == []
    assert http.post("/keyword_search", json={"term": "Ann"}).json()["results"] == []


def test_deleted_memory_never_returns_after_a_crash(serve):
    first = serve()
    with first.client(tenant="t") as client:
        client.post("/store", json=BODY)
        client.delete("/memories/1,2")
    first.crash()
    with serve().client(tenant="t") as client:
        assert client.get("/memories/1,2").status_code == 404
        assert client.post("/recall", json={"query": "Ann moved to Lisbon"}).json()["matches"] == []


def test_acknowledged_memory_survives_a_crash(serve):
    first = serve()
    with first.client(tenant="t") as client:
        for number in range(20):
            assert client.post("/store", json={"coord": f"{number}", "payload": {"n": number}}).status_code == 200
    first.crash()
    with serve().client(tenant="t") as client:
        assert client.get("/stats").json()["total_memories"] == 20


SECRET = "xylophone-of-the-other-tenant"
COORD = "1.5,2.5"
ELSEWHERE = "-90210,-90211"
SHOWN = "-90210.0"
"""How answers show it. Negative, since no time in an answer is: of a time's digits any short number may be a part."""


@pytest.fixture(scope="module")
def other(server):
    """A tenant whose memories nobody else may see."""
    name = uuid.uuid4().hex
    with server.client(tenant=name) as client:
        payload = {"text": SECRET, "user": "ann"}
        assert client.post("/store", json={"coord": COORD, "payload": payload}).status_code == 200
        client.post("/store", json={"coord": ELSEWHERE, "payload": payload})
        client.post("/link", json={"from_coord": COORD, "to_coord": ELSEWHERE, "type": SECRET})
        assert SHOWN in client.get("/memories").text
    return name


READS = [
    ("POST", "/recall", {"query": SECRET, "top_k": 100}),
    ("POST", "/recall", {"query": SECRET, "filters": {"user": "ann"}, "hybrid": True}),
    ("POST", "/recall", {"query": SECRET, "half_life": "1d", "explain": True}),
    ("GET", f"/recall?query={SECRET}", None),
    ("POST", "/recall_batch", {"queries": [SECRET, "anything"], "top_k": 100}),
    ("POST", "/recall_with_scores", {"query": SECRET, "explain": True}),
    ("POST", "/recall_with_context", {"query": "x", "context": {"a": SECRET}}),
    ("POST", "/hybrid_recall_with_scores", {"query": SECRET, "terms": [SECRET]}),
    ("POST", "/keyword_search", {"term": "xylophone"}),
    ("POST", "/payloads_by_coords", {"coords": [COORD]}),
    ("GET", f"/memories/{COORD}", None),
    ("GET", "/memories?vectors=true", None),
    ("POST", "/memories/search", {"query": SECRET}),
    ("GET", f"/memories/search?query={SECRET}", None),
    ("GET", "/range?min=-100000,-100000&max=10,10", None),
    ("GET", f"/neighbors?coord={COORD}", None),
    ("GET", f"/graph/neighbors?coord={COORD}&k_hop=3", None),
    ("GET", f"/shortest_path?frm={COORD}&to={ELSEWHERE}", None),
    ("GET", f"/graph/path?from_coord={COORD}&to_coord={ELSEWHERE}", None),
    ("GET", "/stats", None),
]
EVASIONS = [{}, {"X-Soma-Namespace": "api_ns"}, {"X-Soma-Namespace": "other"}, {"X-Universe": "any"}]


@pytest.mark.parametrize(("method", "path", "body"), READS, ids=[f"{m} {p[:24]}" for m, p, _ in READS])
def test_no_route_shows_anything_of_another_tenant(server, http, other, method, path, body):
    """Defect 12 of the original: search ignored the tenant."""
    for headers in EVASIONS:
        answer = http.request(method, path, json=body, headers=headers)
        # What the caller sent may come back in the answer; what the other tenant stored may not.
        shown = answer.text.replace(json.dumps(body) if body else "", "")
        assert '"xylophone-of-the-other-tenant"' not in shown
        assert other not in shown
        assert SHOWN not in shown
    with server.client(tenant=other) as owner:
        assert owner.request(method, path, json=body).status_code == 200


def test_stranger_can_neither_delete_nor_change_nor_link_to_anothers_memory(server, http, other):
    """Defect 12 of the original: delete did not check the tenant."""
    assert http.delete(f"/memories/{COORD}").json()["deleted"] is False
    link = {"from_coord": COORD, "to_coord": ELSEWHERE, "type": "a-strangers"}
    assert http.post("/link", json=link).status_code == 200, "of the stranger's own coordinates, which hold nothing"
    assert http.delete("/graph/link", params={"from_coord": COORD, "to_coord": "1"}).json()["deleted"] == 0
    http.post("/store", json={"coord": COORD, "payload": {"text": "overwritten?"}})
    with server.client(tenant=other) as owner:
        assert "a-strangers" not in owner.get("/graph/links").text
        memory = owner.get(f"/memories/{COORD}").json()["memory"]
    assert (memory["payload"]["text"], memory["version"]) == (SECRET, 1)


def test_missing_and_foreign_memories_answer_alike(http, other):
    foreign, missing = http.get(f"/memories/{COORD}"), http.get("/memories/77,77")
    assert foreign.status_code == missing.status_code == 404
    assert foreign.json() == missing.json()


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(tenant=st.text(st.characters(min_codepoint=33, max_codepoint=126), min_size=1, max_size=300))
def test_no_spelling_of_a_tenant_reaches_another(http, other, tenant):
    if tenant.strip() == other:
        return
    answer = http.post("/recall", json={"query": SECRET, "top_k": 50}, headers={"X-Soma-Tenant": tenant})
    assert answer.status_code in {200, 400}
    assert answer.json().get("matches", []) == []
    spelled = http.post("/recall", json={"query": SECRET}, headers={"X-Soma-Namespace": f"api_ns:{tenant}"})
    assert spelled.json().get("matches", []) == []
