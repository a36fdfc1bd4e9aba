"""`as_of` over HTTP, gRPC and the command line: the memory as it was at a moment, of a running server and a new one."""

from __future__ import annotations

import json
import time
import uuid
from typing import Any

import grpc
import pytest

from memory_runtime.surfaces.grpc.generated.soma.memory.v2 import memory_pb2 as pb
from memory_runtime.surfaces.grpc.generated.soma.memory.v2 import memory_pb2_grpc as stubs
from memory_runtime.tests.integration.conftest import Server

pytestmark = pytest.mark.integration
FAR = 4102444800.0
REFUSED = [1e12, -9e10, float("nan"), float("inf")]


class Doors:
    """One tenant of a running server, asked through each door."""

    def __init__(self, server: Server, tenant: str) -> None:
        self.server = server
        self.tenant = tenant
        self.http = server.client(tenant=tenant)
        self.channel = server.channel()
        self.v2 = stubs.MemoryServiceStub(self.channel)
        self.metadata = (*server.metadata, ("x-soma-tenant", tenant))

    def __enter__(self) -> Doors:
        return self

    def __exit__(self, *_: object) -> None:
        self.http.close()
        self.channel.close()

    def store(self, coordinate: str, text: str) -> None:
        body = {"coord": coordinate, "payload": {"text": text}, "type": "episodic"}
        assert self.http.post("/store", json=body).is_success

    def got(self, coordinate: float, **moment: float) -> str | None:
        """The text at the coordinate, the same through each door; None where nothing is there."""
        answer = self.http.get(f"/memories/{coordinate:g}", params=moment)
        assert answer.status_code in (200, 404), answer.text
        found = answer.json()["memory"]["payload"]["text"] if answer.is_success else None
        assert self._got_by_grpc(coordinate, **moment) == found
        named = [f"--as-of={moment['as_of']!r}"] if moment else []
        done = self.server.soma("get", "--tenant", self.tenant, "--coord", f"{coordinate:g}", "--json", *named)
        assert (json.loads(done.stdout)["payload"]["text"] if done.returncode == 0 else None) == found, done.stderr
        return found

    def _got_by_grpc(self, coordinate: float, **moment: float) -> str | None:
        try:
            request = pb.GetRequest(coordinate=[coordinate], **moment)
            record = self.v2.Get(request, metadata=self.metadata, timeout=20).record
        except grpc.RpcError as error:
            if error.code() != grpc.StatusCode.NOT_FOUND:
                raise
            return None
        return str(json.loads(record.payload_json)["text"])

    def recalled(self, **moment: float) -> dict[str, float]:
        """Texts with their ages in seconds, which the explanations say, the same through both doors."""
        asked: dict[str, Any] = {"query": "where does Ann live", "top_k": 10, "explain": True, **moment}
        answer = self.http.post("/recall_with_scores", json=asked)
        assert answer.is_success, answer.text
        found = {hit["payload"]["text"]: hit["explanation"]["age_seconds"] for hit in answer.json()["results"]}
        request = pb.RecallRequest(text=asked["query"], top_k=10, explain=True, **moment)
        hits = self.v2.Recall(request, metadata=self.metadata, timeout=20).hits
        also = {
            json.loads(hit.record.payload_json)["text"]: json.loads(hit.explanation_json)["age_seconds"] for hit in hits
        }
        assert also.keys() == found.keys()
        if moment:
            assert also == found
        return found


def test_every_door_tells_what_was_there_at_the_moment(serve: Any) -> None:
    tenant = f"past-{uuid.uuid4().hex}"
    server: Server = serve()
    before = time.time()
    with Doors(server, tenant) as doors:
        doors.store("1", "Ann lives in Porto")
        doors.store("2", "Ann lives in a secret place")
        between = time.time()
        doors.store("1", "Ann lives in Lisbon")
        assert doors.http.delete("/memories/2").is_success
        after = time.time()
        tell(doors, before, between, after)
    assert server.stop() == 0
    with Doors(serve(), tenant) as doors:
        tell(doors, before, between, after)
        # a delete erases every version, now and in the past
        assert doors.http.delete("/memories/1").is_success
        assert [doors.got(1, as_of=moment) for moment in (before, between, after)] == [None, None, None]
        assert doors.recalled(as_of=between) == {}


def tell(doors: Doors, before: float, between: float, after: float) -> None:
    assert [doors.got(1, as_of=moment) for moment in (before, between, after)] == [
        None,
        "Ann lives in Porto",
        "Ann lives in Lisbon",
    ]
    assert [doors.got(2, as_of=moment) for moment in (before, between, after)] == [None, None, None]
    assert (doors.got(1), doors.got(2)) == ("Ann lives in Lisbon", None)
    # the future: what is there now, as old as it will be
    assert doors.got(1, as_of=FAR) == "Ann lives in Lisbon"
    assert doors.recalled(as_of=before) == {}
    (then,) = doors.recalled(as_of=between).items()
    assert then[0] == "Ann lives in Porto"
    assert 0 <= then[1] <= between - before
    (now,) = doors.recalled(as_of=after).items()
    assert now[0] == "Ann lives in Lisbon"
    assert 0 <= now[1] <= after - between
    (later,) = doors.recalled(as_of=FAR).items()
    assert later[0] == "Ann lives in Lisbon"
    assert later[1] == pytest.approx(FAR - after, abs=after - between + 1e-3)
    assert list(doors.recalled()) == ["Ann lives in Lisbon"]


@pytest.mark.parametrize("given", ["yesterday", "", "2024", *REFUSED])
def test_what_is_no_time_is_refused_by_name(server: Server, given: str | float) -> None:
    with Doors(server, "past-refused") as doors:
        doors.store("1", "Ann lives in Porto")
        answers = [
            doors.http.get("/memories/1", params={"as_of": given}),
            doors.http.get("/recall", params={"query": "Ann", "as_of": given}),
        ]
        if given == given and given not in (float("inf"), float("-inf")):  # JSON has no others
            answers.append(doors.http.post("/recall_with_scores", json={"query": "Ann", "as_of": given}))
        for answer in answers:
            assert (answer.status_code, answer.json()["field"]) == (400, "as_of"), answer.text
            assert answer.json()["remedy"]
        done = server.soma("get", "--tenant", "past-refused", "--coord", "1", f"--as-of={given}")
        assert done.returncode == 1
        assert "as_of" in done.stderr


@pytest.mark.parametrize("given", REFUSED)
def test_grpc_refuses_the_same_by_name(server: Server, given: float) -> None:
    with Doors(server, "past-refused") as doors:
        doors.store("1", "Ann lives in Porto")
        for call, request in (
            (doors.v2.Get, pb.GetRequest(coordinate=[1.0], as_of=given)),
            (doors.v2.Recall, pb.RecallRequest(text="Ann", as_of=given)),
        ):
            with pytest.raises(grpc.RpcError) as caught:
                call(request, metadata=doors.metadata, timeout=20)
            assert caught.value.code() == grpc.StatusCode.INVALID_ARGUMENT
            assert "as_of" in caught.value.details()
        assert doors._got_by_grpc(1, as_of=0.0) is None
