"""Every route of the published document, fed what its schema allows and what it does not: no 5xx, one error body.

The examples are derived from the server's own OpenAPI document, so that a new route is fuzzed without a new test.
"""

import json
import socket
import string
import urllib.parse

import pytest
from hypothesis import HealthCheck, given, seed, settings
from hypothesis import strategies as st

pytestmark = pytest.mark.integration

BODY = {"detail", "code", "field", "remedy"}
EXAMPLES = 25
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=10,
)
COORDS = st.sampled_from(["1,2,3", "0", "-1.5,2e3", "nan", "", "1,,2", "9" * 400, "1,x", "\u0661,2", "1 , 2", "," * 50])
WORDS = st.sampled_from(["30d", "none", "0s", "1e9y", "2024-06-10", "episodic", "\x00", "\ud83e", "%", "a\x1fb", "'"])
TEXTS = COORDS | WORDS | st.text(max_size=30)
NUMBERS = st.sampled_from([0, 1, -1, 5, 2**31, 2**63, 2**64, -(2**63), 10**400, 1e308, 5e-324, 1.5]) | st.integers()
SETTINGS = settings(
    max_examples=EXAMPLES,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow, HealthCheck.data_too_large],
)


def values(schema, document, depth=0):
    """A strategy of JSON values for a schema: mostly what it describes, sometimes anything."""
    if "$ref" in schema:
        return values(document["components"]["schemas"][schema["$ref"].rpartition("/")[2]], document, depth)
    if "anyOf" in schema:
        return st.one_of(*(values(one, document, depth) for one in schema["anyOf"]))
    kinds = {"string": TEXTS, "number": NUMBERS, "integer": NUMBERS, "boolean": st.booleans(), "null": st.none()}
    kind = schema.get("type")
    if kind in kinds:
        return kinds[kind] | (JSON if depth else st.nothing())
    if kind == "array":
        return st.lists(values(schema["items"], document, depth + 1), max_size=3)
    if kind == "object" and "properties" in schema:
        wanted = {name: values(inner, document, depth + 1) for name, inner in schema["properties"].items()}
        required = {name: wanted[name] for name in schema.get("required", ())}
        return st.fixed_dictionaries(required, optional={n: s for n, s in wanted.items() if n not in required})
    return st.dictionaries(st.text(max_size=8), JSON, max_size=4)


def dumped(value):
    return json.dumps(value).encode()


def check(answer):
    assert answer.status_code < 500, f"{answer.request.method} {answer.request.url}: {answer.text}"
    assert answer.headers["X-Request-ID"]
    if answer.status_code >= 400:
        body = answer.json()
        assert body.keys() == BODY
        assert isinstance(body["detail"], str)
        assert body["detail"]
        assert body["code"]


@pytest.fixture(scope="module")
def document(server):
    with server.client() as client:
        return client.get("/openapi.json").json()


@pytest.fixture(scope="module")
def fuzzed(server):
    with server.client(tenant="fuzz") as client:
        yield client


def test_bodies_of_every_route(document, fuzzed):
    routes = [
        (path, operation["requestBody"]["content"]["application/json"]["schema"])
        for path, operations in document["paths"].items()
        for method, operation in operations.items()
        if "requestBody" in operation
    ]
    assert len(routes) >= 14

    for path, schema in routes:
        feed_bodies(fuzzed, path, values(schema, document) | JSON)


def feed_bodies(fuzzed, path, bodies):
    @seed(3)
    @SETTINGS
    @given(body=bodies)
    def feed(body):
        check(fuzzed.post(path, content=dumped(body), headers={"Content-Type": "application/json"}))

    feed()


def test_parameters_of_every_route(document, fuzzed):
    routes = [
        (method.upper(), path, operation.get("parameters", []))
        for path, operations in document["paths"].items()
        for method, operation in operations.items()
        if method in {"get", "delete"}
    ]
    assert len(routes) >= 15
    texts = TEXTS.map(lambda text: text.encode("utf-8", "replace").decode())
    numbers = NUMBERS.map(str) | st.sampled_from(["true", "1.5", "", "NaN"])

    for method, path, parameters in routes:
        names = [parameter["name"] for parameter in parameters if parameter["in"] == "query"]
        queries = st.dictionaries(st.sampled_from(names), texts | numbers) if names else st.just({})
        feed_parameters(fuzzed, method, path, queries, texts.filter(lambda text: text not in {"", ".", ".."}))


def feed_parameters(fuzzed, method, path, queries, coords):
    @seed(4)
    @SETTINGS
    @given(query=queries, coord=coords)
    def feed(query, coord):
        quoted = urllib.parse.quote(coord, safe="")
        check(fuzzed.request(method, path.replace("{coord}", quoted), params=query))

    feed()


@seed(5)
@SETTINGS
@given(
    body=st.binary(max_size=300),
    kind=st.sampled_from(["application/json", "text/plain", "application/vnd.a+json", "multipart/form-data", "x", ""]),
)
def test_bytes_of_any_kind(fuzzed, body, kind):
    check(fuzzed.post("/store", content=body, headers={"Content-Type": kind}))


@seed(6)
@SETTINGS
@given(
    name=st.sampled_from(
        ["X-Soma-Tenant", "X-Soma-Namespace", "Idempotency-Key", "X-Request-ID", "Authorization", "X-API-Key", "Expect"]
    ),
    value=st.text(string.printable.strip() + " ", max_size=400).map(str.strip) | st.binary(max_size=40),
)
def test_headers_of_any_content(fuzzed, name, value):
    raw = value if isinstance(value, bytes) else value.encode()
    if any(byte < 32 or byte == 127 for byte in raw):
        return  # what HTTP itself does not allow is sent below
    check(fuzzed.post("/store", json={"coord": "1", "payload": {"a": 1}}, headers={name: raw}))


@pytest.mark.parametrize(
    "head",
    [
        b"GARBAGE\r\n\r\n",
        b"GET /stats HTTP/9.9\r\n\r\n",
        b"POST /store HTTP/1.1\r\nHost: a\r\nContent-Length: -1\r\n\r\n",
        b"POST /store HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
        b"GET / HTTP/1.1\r\nHost: a\r\nX-Long: " + b"a" * 200_000 + b"\r\n\r\n",
        b"\x16\x03\x01\x02\x00",
    ],
)
def test_broken_http_is_answered_with_400_or_closed_and_the_server_goes_on(server, fuzzed, head):
    with socket.create_connection(("127.0.0.1", server.http_port)) as connection:
        connection.settimeout(10)
        try:
            connection.sendall(head)
            connection.shutdown(socket.SHUT_WR)
            answer = connection.recv(65536)
        except OSError:
            answer = b""
    assert not answer or answer.split()[1] in {b"400", b"401", b"431", b"505"}
    assert fuzzed.get("/livez").status_code == 200


def test_server_logged_no_defect_during_all_this(server):
    # uvicorn's word for a connection that its own parser had already given up.
    closed = "ASGI callable returned without completing response."
    lines = (line for line in server.log_lines() if line["level"] in {"ERROR", "CRITICAL"})
    failures = [line for line in lines if line["message"] != closed]
    assert [(line["message"], line.get("exception", "")[-2000:]) for line in failures] == []
