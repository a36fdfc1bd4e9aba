"""The whole path: a resource becomes a pod that stores and recalls, and says in its status how it is."""

from __future__ import annotations

from collections.abc import Callable

from e2e.harness import Memory
from hack.kube import wait_until

DAY = 86_400.0
NOW = 1_750_000_000.0


def store(client, coordinate: str, text: str, age_days: float) -> None:
    body = {"coord": coordinate, "payload": {"text": text}, "type": "episodic", "timestamp": NOW - age_days * DAY}
    reply = client.post("/store", json=body)
    assert reply.status_code == 200, reply.text


def recalled(client, query: str, **more) -> list[str]:
    reply = client.post("/recall_with_scores", json={"query": query, "top_k": 3, "hybrid": False} | more)
    assert reply.status_code == 200, reply.text
    return [hit["payload"]["text"] for hit in reply.json()["results"]]


def test_applied_memory_becomes_ready_and_recalls_what_was_stored(memory: Callable[..., Memory]) -> None:
    agents = memory()
    agents.await_condition("Ready", "True")
    with agents.client() as client:
        store(client, "1,0,0", "The heat pump was serviced by Mira", 400)
        store(client, "2,0,0", "Mira prefers trains to planes", 3)
        assert recalled(client, "Who serviced the heat pump?")[0] == "The heat pump was serviced by Mira"


def test_half_life_of_one_request_prefers_the_recent_memory(memory: Callable[..., Memory]) -> None:
    agents = memory()
    agents.await_condition("Ready", "True")
    with agents.client() as client:
        store(client, "1,0,0", "Lena lives in Porto", 700)
        store(client, "2,0,0", "Lena lives in Ghent", 2)
        decayed = recalled(client, "Where does Lena live?", half_life="30d", as_of=NOW)
        assert decayed[0] == "Lena lives in Ghent"


def test_memories_survive_their_pod(memory: Callable[..., Memory]) -> None:
    agents = memory()
    agents.await_condition("Ready", "True")
    with agents.client() as client:
        store(client, "7,7,7", "The spare key is with the neighbour", 1)
    first = agents.pod()
    assert first is not None
    agents.kubectl("delete", "pod", first["metadata"]["name"], "--wait=true")
    wait_until(
        lambda: (pod := agents.pod()) and pod["metadata"]["uid"] != first["metadata"]["uid"], "a new pod", timeout=30
    )
    agents.await_condition("Ready", "True")
    with agents.client() as client:
        assert recalled(client, "Where is the spare key?") == ["The spare key is with the neighbour"]


def test_requests_without_the_token_are_refused(memory: Callable[..., Memory]) -> None:
    agents = memory()
    agents.await_condition("Ready", "True")
    with agents.client() as client:
        del client.headers["Authorization"]
        refused = client.post("/recall", json={"query": "anything"})
        assert refused.status_code == 401
        assert refused.json()["remedy"]
        assert client.get("/livez").status_code == 200


def test_status_columns_and_describe_tell_how_it_is(memory: Callable[..., Memory]) -> None:
    agents = memory()
    agents.await_condition("Ready", "True")
    columns = agents.kubectl("get", "smem", "agents").splitlines()
    assert columns[0].split()[:2] == ["NAME", "READY"]
    assert columns[1].split()[:2] == ["agents", "True"]
    status = agents.resource()["status"]
    types = {c["type"] for c in status["conditions"]}
    assert {"Ready", "Available", "Synced", "Initialized", "RuntimeReady", "SecretsReady", "NetworkRestricted"} <= types
    assert "Reconciling" not in types
    assert "Stalled" not in types
    assert status["version"]["current"]
    assert agents.token() not in agents.kubectl("describe", "smem", "agents")
