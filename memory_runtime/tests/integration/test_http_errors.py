"""Every refusal of the HTTP surface is the one body with the old status; nothing of a defect leaks."""

import json
import socket
import threading
import time

import pytest

pytestmark = pytest.mark.integration

BODY = {"detail", "code", "field", "remedy"}


def assert_error(answer, status, code, field=None):
    assert answer.status_code == status, answer.text
    body = answer.json()
    assert body.keys() == BODY
    assert isinstance(body["detail"], str)
    assert "Traceback" not in answer.text
    assert (body["code"], body["field"]) == (code, field)
    assert answer.headers["X-Request-ID"]


def test_missing_token_is_401_in_both_eras_and_names_the_scheme(server):
    with server.client(token=None) as client:
        for path in ("/stats", "/memories/1", "/graph/path", "/openapi.json", "/no/such/route"):
            answer = client.get(path)
            assert_error(answer, 401, "UNAUTHENTICATED", "authorization")
            assert answer.json()["detail"] == "Missing bearer token"
            assert answer.headers["WWW-Authenticate"] == "Bearer"


def test_wrong_token_is_403_on_the_verbs_and_401_on_resources(server):
    with server.client(token="wrong") as client:
        answer = client.post("/recall", json={"query": "a"})
        assert_error(answer, 403, "PERMISSION_DENIED", "authorization")
        assert answer.json()["detail"] == "Invalid token"
        assert_error(client.get("/memories/1"), 401, "UNAUTHENTICATED", "authorization")
        assert_error(client.get("/graph/neighbors?coord=1"), 401, "UNAUTHENTICATED", "authorization")


@pytest.mark.parametrize("header", ["X-API-Key", "X-Auth-Token"])
def test_token_opens_from_any_of_the_three_headers(server, header):
    with server.client(token=None) as client:
        assert client.get("/stats", headers={header: server.token}).status_code == 200


def test_unknown_route_and_method_have_the_body_too(http):
    answer = http.get("/no/such/route")
    assert_error(answer, 404, "NOT_FOUND")
    assert answer.json()["detail"] == "Not Found"
    wrong = http.put("/store", json={})
    assert_error(wrong, 405, "METHOD_NOT_ALLOWED")
    assert "POST" in wrong.headers["Allow"]


@pytest.mark.parametrize("coord", ["", "1,x", "nan", "1,inf", "1,,2", "1;2"])
def test_malformed_coordinate_is_400_and_names_the_field(http, coord):
    assert_error(http.post("/store", json={"coord": coord, "payload": {}}), 400, "INVALID_ARGUMENT", "coord")


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"payload": {}}, "coord"),
        ({"coord": "1"}, "payload"),
        ({"coord": "1", "payload": []}, "payload"),
        ({"coord": "1", "payload": {}, "ttl": "soon"}, "ttl"),
        ({"coord": "1", "payload": {}, "ttl": 30}, "ttl"),
        ({"coord": "1", "payload": {}, "importance": "high"}, "importance"),
        ({"coord": "1", "payload": {}, "vector": ["a"]}, "vector.0"),
    ],
)
def test_validation_is_422_and_names_the_field(http, body, field):
    assert_error(http.post("/store", json=body), 422, "UNPROCESSABLE", field)


@pytest.mark.parametrize(
    ("more", "field"),
    [
        ({"timestamp": "yesterday"}, "timestamp"),
        ({"timestamp": 1_718_000_000_000}, "timestamp"),
        ({"vector": [1.0, 2.0]}, "vector"),
        ({"vector": [0.0] * 384}, "vector"),
        ({"features": {"f": 2.0}}, "features.f"),
        ({"ttl": "0s"}, "ttl"),
    ],
)
def test_values_that_cannot_be_stored_are_400_with_a_remedy(http, more, field):
    answer = http.post("/store", json={"coord": "1", "payload": {"text": "a"}, **more})
    assert_error(answer, 400, "INVALID_ARGUMENT", field)
    assert answer.json()["remedy"]


@pytest.mark.parametrize(
    ("more", "status", "field"),
    [
        ({"top_k": -1}, 422, "top_k"),
        ({"half_life": "fortnight"}, 422, "half_life"),
        ({"half_life": "0d"}, 400, "half_life"),
        ({"min_seq": -1}, 422, "min_seq"),
        ({"vector": [1.0]}, 422, None),
    ],
)
def test_recall_refuses_what_it_cannot_mean(http, more, status, field):
    answer = http.post("/recall", json={"query": "a", **more})
    assert answer.status_code == status, answer.text
    assert answer.json()["field"] == field


def raw(http, body, content_type="application/json"):
    return http.post("/store", content=body, headers={"Content-Type": content_type})


@pytest.mark.parametrize("constant", ["NaN", "Infinity", "-Infinity"])
def test_constants_that_are_not_json_are_refused(http, constant):
    body = f'{{"coord": "1", "payload": {{"a": {constant}}}}}'
    assert_error(raw(http, body), 400, "INVALID_ARGUMENT", "body")


def test_broken_and_absent_bodies_are_told_apart(http):
    assert_error(raw(http, b"{"), 400, "INVALID_ARGUMENT", "body")
    assert_error(raw(http, b"\xff\xfe"), 400, "INVALID_ARGUMENT", "body")
    assert_error(raw(http, b""), 422, "UNPROCESSABLE")
    form = raw(http, b'{"coord": "1", "payload": {}}', "application/x-www-form-urlencoded")
    assert_error(form, 422, "UNPROCESSABLE")
    assert "Content-Type" in form.json()["remedy"]


@pytest.mark.parametrize("depth", [65, 500, 200_000])
def test_deep_json_is_refused_before_it_overflows_a_stack(http, depth):
    body = '{"coord": "1", "payload": {"a": ' + "[" * depth + "]" * depth + "}}"
    answer = raw(http, body)
    assert (answer.status_code, answer.json()["code"]) == (400, "INVALID_ARGUMENT")
    assert raw(http, '{"coord": "1", "payload": {"a": ' + "[" * 50 + "]" * 50 + "}}").status_code == 200


def test_text_that_utf8_cannot_carry_is_refused_and_any_other_text_round_trips(http):
    assert raw(http, b'{"coord": "1", "payload": {"text": "\\ud800"}}').status_code == 400
    assert http.post("/recall", content=b'{"query": "\\udfff"}').status_code in {400, 422}
    text = "日本語 \U0001f9e0 \u0000 \u202e \u00e9"
    assert http.post("/store", json={"coord": "1", "payload": {"text": text}}).status_code == 200
    assert http.get("/memories/1").json()["memory"]["payload"] == {"text": text}


def test_body_limit_holds_for_announced_and_for_streamed_bodies(http):
    large = b'{"coord": "1", "payload": {"text": "' + b"a" * (6 << 20) + b'"}}'
    announced = raw(http, large)
    assert_error(announced, 413, "PAYLOAD_TOO_LARGE", "body")
    assert announced.json()["detail"] == "Request entity too large"
    parts = (large[start : start + 65536] for start in range(0, len(large), 65536))
    assert_error(raw(http, parts), 413, "PAYLOAD_TOO_LARGE", "body")
    assert http.get("/stats").json()["total_memories"] == 0


def test_defect_answers_with_its_request_id_and_the_log_has_the_trace(serve):
    server = serve(SOMA_VECTOR_DIM="8")
    with server.client() as client:
        # The ledger's file goes away under the server: an outage that no route foresees.
        for path in server.data_dir.glob("ledger.sqlite3*"):
            path.write_bytes(b"not a database" * 1000)
        answer = client.post("/store", json={"coord": "1", "payload": {"text": "a"}})
        assert answer.status_code in {500, 503}
        assert answer.json().keys() == BODY
        assert "sqlite" not in answer.text.lower()
        assert client.get("/livez").status_code == 200


def test_request_id_is_echoed_and_a_wild_one_replaced(http):
    assert http.get("/stats", headers={"X-Request-ID": "trace-7"}).headers["X-Request-ID"] == "trace-7"
    replaced = http.get("/stats", headers={"X-Request-ID": "a b\tc"}).headers["X-Request-ID"]
    assert replaced != "a b\tc"


def test_rate_limit_is_per_caller_and_says_when_to_come_back(serve):
    """Defect 11 of the original: one caller's burst on a path locked out everybody."""
    server = serve(SOMA_RATE_LIMIT_MAX="3", SOMA_RATE_LIMIT_WINDOW_SECONDS="60")
    with server.client(tenant="greedy") as greedy, server.client(tenant="modest") as modest:
        statuses = [greedy.get("/stats").status_code for _ in range(5)]
        assert statuses == [200, 200, 200, 429, 429]
        refused = greedy.get("/stats")
        assert_error(refused, 429, "RATE_LIMITED")
        assert refused.json()["detail"] == "Rate limit exceeded"
        assert 1 <= int(refused.headers["Retry-After"]) <= 60
        assert modest.get("/stats").status_code == 200
        assert greedy.get("/livez").status_code == 200


def test_guessing_tokens_is_limited_too(serve):
    server = serve(SOMA_RATE_LIMIT_MAX="3")
    with server.client(token="guess") as client:
        assert [client.get("/memories/1").status_code for _ in range(5)] == [401, 401, 401, 429, 429]


def test_cors_is_closed_unless_an_origin_is_listed(serve):
    server = serve(SOMA_CORS_ORIGINS="https://app.example")
    with server.client(token=None) as client:
        asked = {"Access-Control-Request-Method": "POST", "Access-Control-Request-Headers": "authorization"}
        allowed = client.options("/recall", headers={"Origin": "https://app.example", **asked})
        assert allowed.headers["Access-Control-Allow-Origin"] == "https://app.example"
        other = client.options("/recall", headers={"Origin": "https://evil.example", **asked})
        assert "Access-Control-Allow-Origin" not in other.headers
        refused = client.get("/stats", headers={"Origin": "https://app.example"})
        assert refused.status_code == 401
        assert refused.headers["Access-Control-Allow-Origin"] == "https://app.example"


def test_deadline_ends_a_request_whose_body_never_comes(serve):
    server = serve(SOMA_REQUEST_TIMEOUT_SECONDS="1")
    with socket.create_connection(("127.0.0.1", server.http_port)) as connection:
        head = f"POST /store HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer {server.token}\r\nContent-Length: 100\r\n\r\n"
        connection.sendall(head.encode() + b"{")
        connection.settimeout(10)
        answer = b"".join(iter(lambda: connection.recv(65536), b"")).decode()
    assert answer.startswith("HTTP/1.1 504")
    assert json.loads(answer.partition("\r\n\r\n")[2])["code"] == "DEADLINE_EXCEEDED"


def test_client_that_leaves_frees_its_place(server, http):
    body = json.dumps({"queries": ["chess"] * 200, "top_k": 100}).encode()
    head = f"POST /recall_batch HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer {server.token}\r\n"
    head += f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    for _ in range(300):  # more than may be in flight at once
        with socket.create_connection(("127.0.0.1", server.http_port)) as connection:
            connection.sendall(head.encode() + body[:-1])
    deadline = time.monotonic() + 10
    while http.get("/stats").status_code != 200 and time.monotonic() < deadline:
        time.sleep(0.1)
    assert http.get("/stats").status_code == 200


def test_requests_beyond_the_bound_are_refused_at_once_and_probes_still_answer(server):
    """Slow bodies of two tenants hold every place; the next is told to come back, in the one body, without waiting."""
    head = f"POST /store HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer {server.token}\r\nContent-Length: 100\r\n"
    held = [socket.create_connection(("127.0.0.1", server.http_port)) for _ in range(256)]
    try:
        for number, connection in enumerate(held):
            connection.sendall(f"{head}X-Soma-Tenant: slow-{number % 2}\r\n\r\n{{".encode())
        with server.client() as client:
            answer = None
            for _ in range(50):
                answer = client.get("/stats")
                if answer.status_code == 503:
                    break
                time.sleep(0.1)
            assert_error(answer, 503, "UNAVAILABLE")
            assert answer.headers["Retry-After"]
            assert client.get("/livez").status_code == 200
            assert client.get("/readyz").status_code == 200
    finally:
        for connection in held:
            connection.close()
    with server.client() as client:
        deadline = time.monotonic() + 10
        while client.get("/stats").status_code != 200 and time.monotonic() < deadline:
            time.sleep(0.1)
        assert client.get("/stats").status_code == 200


def test_log_names_the_route_and_never_the_token_the_query_or_the_payload(server, http):
    http.post("/store", json={"coord": "1", "payload": {"text": "the-private-text"}})
    http.get("/recall", params={"query": "the-private-query"})
    threading.Event().wait(0.2)
    log = server.log_path.read_text()
    assert '"endpoint": "/store"' in log
    for secret in (server.token, "the-private-text", "the-private-query"):
        assert secret not in log
