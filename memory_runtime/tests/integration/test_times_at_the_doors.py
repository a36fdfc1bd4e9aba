"""Every door takes the same times and refuses the same ones. Events: test_events_codec. All forms: test_timestamps."""

import json
import time

import grpc
import pytest

from memory_runtime.surfaces.grpc.generated.soma.memory.v2 import memory_pb2 as v2_pb2
from memory_runtime.surfaces.grpc.generated.soma.memory.v2 import memory_pb2_grpc as v2_grpc

pytestmark = pytest.mark.integration
AT = 1718000000.0
TEXTS = ["2024-06-10t06:13:20z", "20240610T061320Z", "1718000000", "2024-06-10T08:13:20+0200"]
REFUSED = [-9e10, 1e12, 253402300800, "1796040112345", "9999-12-31T24:00Z", "-90000000000", "2024"]
BODY = {"coord": "1,2", "payload": {"text": "tea"}, "type": "episodic"}
LINE = {"kind": "memory", "schema": 2, "coordinate": [1, 2], "payload": {"text": "tea"}, "memory_type": "episodic"}
LINE |= {"importance_norm": 1.0, "ingested": AT, "accessed": AT}


def stored(client):
    return client.get("/memories/1,2").json()["memory"]["timestamp"]


@pytest.fixture
def client(server, request):
    with server.client(tenant=f"times-{abs(hash(request.node.name))}") as opened:
        yield opened


@pytest.mark.parametrize("given", TEXTS)
def test_a_text_is_the_same_moment_everywhere(client, given):
    assert client.post("/store", json=BODY | {"timestamp": given}).is_success
    assert stored(client) == AT
    assert client.post("/memories", json={**BODY, "memory_type": "episodic", "timestamp": given}).is_success
    assert stored(client) == AT
    assert client.post("/store", json=BODY | {"payload": {"text": "tea", "timestamp": given}}).is_success
    assert stored(client) == AT
    items = [LINE | {"timestamp": given, "ingested": given, "accessed": given}]
    assert client.post("/memories/import", json={"items": items}).is_success
    assert stored(client) == AT
    assert client.post("/recall", json={"query": "tea", "as_of": given}).is_success
    assert client.get("/recall", params={"query": "tea", "as_of": given}).is_success


@pytest.mark.parametrize("given", REFUSED)
def test_what_is_no_time_is_refused_everywhere_by_name(client, given):
    doors = [
        ("/store", BODY | {"timestamp": given}, "timestamp"),
        ("/store_bulk", {"items": [BODY | {"timestamp": given}]}, "timestamp"),
        ("/remember", BODY | {"timestamp": given}, "timestamp"),
        ("/memories", {**BODY, "memory_type": "episodic", "timestamp": given}, "timestamp"),
        ("/recall", {"query": "tea", "as_of": given}, "as_of"),
        ("/memories/search", {"query": "tea", "as_of": given}, "as_of"),
        *(("/memories/import", {"items": [LINE | {name: given}]}, name) for name in ("timestamp", "ingested")),
        *(("/memories/import", {"items": [LINE | {name: given}]}, name) for name in ("accessed", "expires_at")),
    ]
    for path, body, field in doors:
        answer = client.post(path, json=body)
        assert answer.status_code == 400, (path, answer.text)
        assert field in answer.json()["field"], path
        assert answer.json()["remedy"]
    assert client.get("/recall", params={"query": "tea", "as_of": str(given)}).status_code == 400
    assert client.get("/memories/1,2").status_code == 404


@pytest.mark.parametrize("own", ["9999-12-31T23:59:59Z", 1e300, -9e10, 1796040112345, "last summer", True, ["x"]])
def test_a_payloads_own_field_refuses_no_store(client, own):
    for path in ("/store", "/memories"):
        body = BODY | {"payload": {"text": "tea", "timestamp": own}}
        assert client.post(path, json=body).is_success, path
        assert abs(stored(client) - time.time()) < 60
        assert client.get("/memories/1,2").json()["memory"]["payload"]["timestamp"] == own


def test_a_ttl_ends_before_the_year_10000(client):
    refused = client.post("/store", json=BODY | {"ttl": "9999y"})
    assert (refused.status_code, refused.json()["field"]) == (400, "ttl")
    assert client.post("/store", json=BODY | {"ttl": "7000y"}).is_success


@pytest.mark.parametrize("given", [-9e10, 1e12, float("nan"), float("inf"), 1e300])
def test_grpc_refuses_the_same(server, given):
    with server.channel() as channel:
        stub = v2_grpc.MemoryServiceStub(channel)
        metadata = (*server.metadata, ("x-soma-tenant", "times-grpc"))
        for more in ({"timestamp": given}, {"ttl_seconds": given}):
            item = v2_pb2.Item(coordinate=[1.0], payload_json="{}", **more)
            with pytest.raises(grpc.RpcError) as caught:
                stub.Store(v2_pb2.StoreRequest(item=item), metadata=metadata, timeout=20)
            assert caught.value.code() == grpc.StatusCode.INVALID_ARGUMENT, more


def test_a_file_may_say_times_as_text(server, tmp_path):
    file = tmp_path / "memories.jsonl"
    lines = [
        LINE | {"timestamp": "2024-06-10T06:13:20Z", "ingested": "2024-06-10T06:13:20Z", "expires_at": "2999-01-01"},
        {"kind": "memory", "coordinate": [2], "payload": {"text": "old"}, "timestamp": "20240610T061320Z"}
        | {"expires_at": "2999-01-01T00:00:00z"},
    ]
    file.write_text("".join(json.dumps(line) + "\n" for line in lines))
    done = server.soma("import-memories", "--path", str(file), "--tenant", "times-file")
    assert done.returncode == 0, done.stderr
    with server.client(tenant="times-file") as client:
        for coord in ("1,2", "2"):
            memory = client.get(f"/memories/{coord}").json()["memory"]
            assert memory["timestamp"] == AT
            assert abs(memory["expires_at"] - 32472144000) < 5
