"""No door takes a number that is none; and a ledger that holds one, of an older version, answers all the same."""

import sqlite3
from contextlib import closing

import grpc
import pytest

from memory_runtime.surfaces.grpc.generated.soma.memory.v2 import memory_pb2 as v2_pb2
from memory_runtime.surfaces.grpc.generated.soma.memory.v2 import memory_pb2_grpc as v2_grpc

pytestmark = pytest.mark.integration
NONE = ["NaN", "Infinity", "-Infinity", "1e999", "-1e999", "9" * 400]
STORE = '{"coord": "1,2", "payload": {"text": "tea"}, "type": "episodic", '
LINE = (
    '{"items": [{"coordinate": [1, 2], "payload": {"text": "tea"}, "memory_type": "episodic", "importance_norm": 1,'
    ' "ingested": 1, "accessed": 1, '
)
LINK = '"from_coord": "1", "to_coord": "2", '
DOORS = [
    ("/store", STORE + '"timestamp": %s}'),
    ("/store", STORE + '"importance": %s}'),
    ("/store", STORE + '"vector": [%s, 1]}'),
    ("/store", STORE + '"features": {"mood": %s}}'),
    ("/store", '{"coord": "1,%s", "payload": {"text": "tea"}}'),
    ("/memories/import", LINE + '"expires_at": %s}]}'),
    ("/memories/import", LINE + '"importance": %s}]}'),
    ("/memories/import", LINE + '"timestamp": %s}]}'),
    ("/memories/import", LINE.replace('"ingested": 1', '"ingested": %s') + '"hold": false}]}'),
    ("/memories/import", LINE.replace('"accessed": 1', '"accessed": %s') + '"hold": false}]}'),
    ("/memories/import", LINE.replace('"importance_norm": 1', '"importance_norm": %s') + '"hold": false}]}'),
    ("/memories/import", LINE.replace("[1, 2]", "[1, %s]") + '"hold": false}]}'),
    ("/graph/link", "{" + LINK + '"strength": %s}'),
    ("/graph/links", '{"links": [{' + LINK + '"strength": %s}]}'),
    ("/link", "{" + LINK + '"weight": %s}'),
    ("/recall", '{"query": "tea", "as_of": %s}'),
    ("/recall", '{"vector": [%s, 1]}'),
]
OBJECTS = [
    ("/store", '{"coord": "1,2", "payload": {"text": "tea", "deep": [{"n": %s}]}}'),
    ("/memories", '{"coord": "1,2", "payload": {"n": %s}}'),
    ("/remember", '{"payload": {"n": %s}}'),
    ("/memories/import", LINE.replace('"text": "tea"', '"n": %s') + '"hold": false}]}'),
    ("/graph/link", "{" + LINK + '"metadata": {"n": %s}}'),
    ("/graph/links", '{"links": [{' + LINK + '"metadata": {"n": [%s]}}]}'),
    ("/recall", '{"query": "tea", "filters": {"n": %s}}'),
]
"""Where JSON of the caller's own stands: a whole number of 400 digits is one there."""


@pytest.mark.parametrize("number", NONE)
def test_every_door_refuses_them(server, number):
    with server.client(tenant="finite") as client:
        for coord in ("1", "2"):
            client.post("/store", json={"coord": coord, "payload": {"text": "tea"}})
        for path, body in (*DOORS, *OBJECTS):
            answer = client.post(path, content=body % number, headers={"Content-Type": "application/json"})
            if number.isdigit() and (path, body) in OBJECTS:
                assert answer.is_success, (path, body, answer.text)
            else:
                assert answer.status_code in {400, 422}, (path, body, answer.text)
        assert client.get("/memories", params={"full": True, "vectors": True}).status_code == 200
        assert all(one["strength"] == 1.0 for one in client.get("/graph/links").json()["links"])


@pytest.mark.parametrize("number", [float("nan"), float("inf"), float("-inf")])
def test_grpc_refuses_them(server, number):
    with server.channel() as channel:
        stub = v2_grpc.MemoryServiceStub(channel)
        metadata = (*server.metadata, ("x-soma-tenant", "finite-grpc"))
        for more in (
            {"timestamp": number},
            {"ttl_seconds": number},
            {"importance": number},
            {"features": {"mood": number}},
            {"vector": [number, 1.0]},
            {"coordinate": [number]},
            {"payload_json": '{"n": 1e999}'},
            {"payload_json": '{"n": NaN}'},
        ):
            item = v2_pb2.Item(**({"coordinate": [1.0], "payload_json": "{}"} | more))
            with pytest.raises(grpc.RpcError) as caught:
                stub.Store(v2_pb2.StoreRequest(item=item), metadata=metadata, timeout=20)
            assert caught.value.code() == grpc.StatusCode.INVALID_ARGUMENT, more


def test_a_graph_file_cannot_bring_them(server, tmp_path):
    with server.client(tenant="finite-graph") as client:
        for coord in ("1.0", "2.0"):
            client.post("/store", json={"coord": coord, "payload": {"text": "tea"}})
        for weight in ("NaN", "inf", "-inf", "1e999"):
            file = tmp_path / f"{weight}.graphml"
            file.write_text(
                '<graphml><key id="w" for="edge" attr.name="weight" attr.type="double"/><graph edgedefault="directed">'
                f'<edge source="1.0" target="2.0"><data key="w">{weight}</data></edge></graph></graphml>'
            )
            done = server.soma("import-graph", "--path", str(file), "--tenant", "finite-graph")
            assert done.returncode == 2, done.stderr
            assert "weight" in done.stderr
        assert client.get("/graph/links").json()["links"] == []


def test_a_ledger_that_holds_them_answers_all_the_same(serve):
    server = serve()
    with server.client(tenant="finite") as client:
        for coord in ("1", "2"):
            client.post("/store", json={"coord": coord, "payload": {"text": "tea"}})
        client.post("/link", json={"from_coord": "1", "to_coord": "2"})
        (path,) = server.data_dir.glob("*.sqlite3")
        with closing(sqlite3.connect(path)) as connection:
            connection.execute("UPDATE memories SET expires_at = 9e999, event_time = 9e999, ingest_time = -9e999")
            connection.execute("UPDATE memories SET importance_raw = -9e999")
            connection.execute("UPDATE edges SET weight = 9e999")
            connection.commit()
        for path in ("/memories", "/memories?full=true&vectors=true", "/memories/1", "/memories/search?query=tea"):
            assert client.get(path).status_code == 200, path
        for path in ("/recall?query=tea", "/graph/links", "/graph/neighbors?coord=1", "/stats"):
            assert client.get(path).status_code == 200, path
        for path in ("/recall", "/recall_with_scores", "/memories/search", "/hybrid_recall_with_scores"):
            assert client.post(path, json={"query": "tea", "explain": True}).status_code == 200, path
        assert client.post("/keyword_search", json={"term": "tea"}).status_code == 200
        assert client.post("/payloads_by_coords", json={"coords": ["1"]}).status_code == 200
    done = server.soma("export-memories", "--path", "-", "--tenant", "finite")
    assert done.returncode == 0, done.stderr
    assert server.stop() == 0
