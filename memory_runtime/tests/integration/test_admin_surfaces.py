"""Retention, gates and importance as their routes and commands show them, on a real server."""

import gzip
import json
import time
import uuid

import pytest

from memory_runtime.tests.integration.conftest import start

pytestmark = pytest.mark.integration


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    """A server that forgets beyond six memories a namespace, and may apply gates."""
    settings = {
        "SOMA_RETENTION_ENABLED": "true",
        "SOMA_RETENTION_MAX_ROWS": "6",
        "SOMA_RETENTION_INTERVAL_SECONDS": "3600",
        "SOMA_GATES_APPLY_ALLOWED": "true",
        "SOMA_RECALL_SAMPLE_RATE": "1",
    }
    running = start(tmp_path_factory.mktemp("admin"), [], settings)
    yield running
    running.crash()


@pytest.fixture
def tenant():
    return uuid.uuid4().hex


@pytest.fixture
def http(server, tenant):
    with server.client(tenant=tenant) as client:
        items = [{"coord": f"{n}", "payload": {"text": f"memory number {n}"}, "importance": n} for n in range(1, 11)]
        assert client.post("/store_bulk", json={"items": items}).status_code == 200
        yield client


@pytest.fixture
def soma(server, tenant):
    def run(*arguments):
        return server.soma(*arguments, "--tenant", tenant)

    return run


def test_plan_sweep_list_restore(http, soma):
    plan = http.get("/retention/plan", params={"limit": 3}).json()
    assert (plan["enabled"], plan["leaving"], len(plan["listed"])) == (True, {"rows": 4}, 3)
    printed = soma("retention", "plan")
    assert "4 would go" in printed.stdout
    assert printed.stdout.count("R ") == 4
    assert "1 would go" in soma("retention", "plan", "--max-rows", "9").stdout
    assert "archived and purged 4" in soma("retention", "sweep").stdout
    (archive,) = http.get("/retention/archives").json()["archives"]
    assert archive["memories"] == 4
    assert archive["name"] in soma("archive", "list").stdout
    assert len(http.get("/memories").json()["memories"]) == 6
    assert "restored 4 memories" in soma("archive", "restore", archive["name"], "--pin").stdout
    memories = http.get("/memories").json()["memories"]
    assert (len(memories), sum(one["pinned"] for one in memories)) == (10, 4)


def test_an_archive_can_be_imported_too(http, soma, server, tenant):
    soma("retention", "sweep")
    (path,) = [one for one in server.data_dir.glob("archive/*/*.gz") if tenant in _head(one)]
    other = uuid.uuid4().hex
    assert "imported 4" in server.soma("import-memories", "--path", str(path), "--tenant", other).stdout


def _head(path):
    with gzip.open(path, "rt") as file:
        return file.readline()


def test_what_is_held_can_be_neither_forgotten_nor_deleted(http, soma):
    doomed = http.get("/retention/plan").json()["listed"][0]["memory"]["coordinate"][0]
    coord = f"{doomed:g}"
    assert soma("retention", "hold", "--coord", coord).stdout == "1 memories held\n"
    soma("retention", "sweep")
    assert http.get(f"/memories/{coord}").status_code == 200
    assert http.delete(f"/memories/{coord}").status_code == 409
    stored = http.post("/store", json={"coord": coord, "payload": {"text": "again"}, "type": "episodic"})
    assert stored.status_code == 200
    assert http.delete(f"/memories/{coord}").status_code == 409
    assert soma("retention", "hold", "--coord", coord, "--end").returncode == 0
    assert http.delete(f"/memories/{coord}").status_code == 200


def test_gates_are_listed_tried_applied_and_reverted(http, soma):
    http.post("/recall", json={"query": "memory number 3", "top_k": 5})
    listed = http.get("/gates").json()
    assert listed["apply_allowed"]
    assert [one["gate"] for one in listed["gates"]] == ["G1", "G2", "G3", "G4", "G5", "G6"]
    assert "G6" in soma("gates", "list").stdout
    tried = http.post("/gates/g6/dry-run", json={"value": "7d"}).json()
    assert tried["change"] == {"half_life": 7 * 86400}
    assert tried["effect"]["queries"] >= 1
    assert soma("gates", "apply", "G6", "--value", "7d").returncode == 0
    assert http.get("/stats").json()["half_life"] == 7 * 86400
    assert http.post("/gates/G6/apply", json={"value": "7d"}).status_code == 409
    assert http.post("/gates/G6/revert").status_code == 200
    assert http.get("/stats").json()["half_life"] is None


def test_importance_is_previewed_rebuilt_undone_and_confirmed(http, soma):
    assert http.post("/importance/preview").json()["memories"] == 10
    assert http.get("/importance").json() == {"pending": None}
    assert http.post("/importance/rebuild").status_code == 200
    assert json.loads(soma("importance", "status", "--json").stdout)["pending"]["memories"] == 10
    assert soma("importance", "rebuild").returncode == 1
    assert soma("importance", "undo").returncode == 0
    assert soma("importance", "confirm").returncode == 1
    assert http.post("/importance/rebuild").status_code == 200
    assert soma("importance", "confirm").returncode == 0


@pytest.mark.parametrize(
    ("method", "path", "body", "field"),
    [
        ("GET", "/retention/plan?limit=0", None, "limit"),
        ("GET", "/retention/plan?ttl=soon", None, "ttl"),
        ("GET", "/retention/plan?max_rows=-1", None, "max_rows"),
        ("POST", "/retention/archives/x/restore", {}, "archive"),
        ("POST", "/retention/hold", {"coord": "x"}, "coord"),
        ("POST", "/retention/hold", {"coord": "77"}, "coord"),
        ("POST", "/gates/G9/apply", {}, "gate"),
        ("POST", "/gates/G6/apply", {"value": "soon"}, "value"),
        ("POST", "/gates/G2/apply", {"value": -1}, "value"),
        ("POST", "/importance/undo", None, "importance"),
    ],
)
def test_bad_input_is_told_its_field_and_remedy(http, method, path, body, field):
    answer = http.request(method, path, json=body)
    assert 400 <= answer.status_code < 500
    error = answer.json()
    assert field in error["field"]
    assert error["remedy"]


@pytest.mark.parametrize("path", ["/retention/plan", "/retention/archives", "/gates", "/importance"])
def test_nobody_without_a_token_sees_any_of_it(server, path):
    with server.client(token=None) as client:
        assert client.get(path).status_code in {401, 403}


def test_recall_at_k_is_scraped(http, server):
    for _ in range(50):
        http.post("/recall", json={"query": "memory number 3", "top_k": 5})
        scraped = http.get("/metrics").text
        if 'soma_recall_at_k{k="5"} 1.0' in scraped:
            break
        time.sleep(0.1)
    assert 'soma_recall_at_k{k="5"} 1.0' in scraped
    for name in ("soma_memory_eviction_count_total", "soma_memory_hot_tier_hit_ratio", "soma_memory_archive_bytes"):
        assert name in scraped
