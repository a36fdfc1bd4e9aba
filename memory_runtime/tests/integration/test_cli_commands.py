"""The command line against a real server: what is typed, what is printed, which code is returned."""

import json
import uuid

import pytest

pytestmark = pytest.mark.integration


@pytest.fixture
def soma(server):
    """Runs commands in a tenant of the test's own."""
    tenant = uuid.uuid4().hex

    def run(command, *arguments, **more):
        return server.soma(command, "--tenant", tenant, *arguments, **more)

    return run


def test_store_recall_get_and_delete(soma):
    stored = soma("store", "--coord", "1,2,3", "--text", "Ann moved to Lisbon", "--timestamp", "2024-06-10T06:13:20Z")
    assert (stored.returncode, stored.stderr) == (0, "")
    assert stored.stdout.startswith("stored ")
    assert soma("store", "--coord", "1,2,3", "--text", "Ann moved to Lisbon").stdout.startswith("updated ")
    recalled = soma("recall", "--query", "Ann Lisbon")
    assert '[1,2,3] {"text": "Ann moved to Lisbon"}' in recalled.stdout
    explained = json.loads(soma("recall", "--query", "Ann", "--half-life", "30d", "--explain", "--json").stdout)
    assert explained["results"][0]["explanation"]["half_life_seconds"] == 30 * 86400
    assert json.loads(soma("get", "--coord", "1,2,3", "--json").stdout)["version"] == 2
    assert "deleted 1 of 2" in soma("delete-many", "--coords", "1,2,3;4,5,6").stdout
    assert soma("recall", "--query", "Ann Lisbon").stdout == "nothing was recalled\n"


def test_links_paths_ranges_and_keywords(soma):
    for coord in ("1,1", "2,2"):
        soma("store", "--coord", coord, "--payload", json.dumps({"text": f"chess at {coord}"}))
    assert soma("link", "--from", "1,1", "--to", "2,2", "--weight", "0.5").stdout == "linked\n"
    assert soma("neighbors", "--coord", "1,1").stdout == "2,2  related  0.5\n"
    assert soma("path", "--from", "1,1", "--to", "2,2").stdout == "1,1\n2,2\n"
    assert soma("range", "--min", "0,0", "--max", "1,1").stdout == "1,1\n"
    assert len(soma("keyword-search", "--term", "chess").stdout.splitlines()) == 2
    assert "total_memories: 2" in soma("stats").stdout


def test_export_and_import_round_trip(soma, server, tmp_path):
    items = [
        {"coord": "1,2", "payload": {"text": "Ann", "ü": [1, None]}, "timestamp": 1_600_000_000.25, "importance": 2.5},
        {"coord": "1,2", "payload": {"text": "Bo"}, "type": "semantic", "pinned": True, "features": {"f": 0.5}},
        {"coord": "-0.1,1e30", "payload": {}, "vector": [1.0] + [0.0] * 383},
    ]
    assert "stored 3" in soma("store-bulk", "--file", "-", stdin=json.dumps({"items": items})).stdout
    first, second = tmp_path / "first.jsonl", tmp_path / "second.jsonl"
    assert "exported 3" in soma("export-memories", "--path", str(first)).stdout
    assert first.stat().st_mode & 0o077 == 0
    tenant = uuid.uuid4().hex
    assert "imported 3" in server.soma("import-memories", "--tenant", tenant, "--path", str(first)).stdout
    server.soma("export-memories", "--tenant", tenant, "--path", str(second))
    assert sorted(second.read_text().splitlines()) == sorted(first.read_text().splitlines())


def test_import_takes_the_old_services_export_and_replace_clears_the_coordinate(soma):
    old = {
        "coordinate": [1.0, 2.0],
        "memory_type": "semantic",
        "text": "Ann",
        "importance_norm": 0.4,
        "timestamp": 1.6e9,
    }
    soma("store", "--coord", "1,2", "--text", "to be replaced")
    done = soma("import-memories", "--replace", "--path", "-", stdin=json.dumps(old) + "\n\n")
    assert done.stdout == "imported 1 memories\n"
    memory = json.loads(soma("get", "--coord", "1,2", "--json").stdout)
    assert (memory["payload"], memory["memory_type"]) == ({"text": "Ann", "timestamp": 1.6e9}, "semantic")
    assert memory["timestamp"] == 1.6e9
    assert json.loads(soma("stats", "--json").stdout)["total_memories"] == 1


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["store", "--coord", "1,x", "--text", "a"], 1, "coord: '1,x' is not a coordinate"),
        (["store", "--coord", "1", "--payload", "{"], 2, "--payload: not JSON"),
        (["recall", "--query", "a", "--half-life", "soon"], 1, "half_life"),
        (["get", "--coord", "404,404"], 1, "no memory"),
        (["stats", "--token", "wrong"], 1, "Invalid token"),
        (["stats", "--token-file", "/no/such/file"], 2, "--token-file"),
        (["stats", "--url", "ftp://a"], 2, "--url"),
        (["stats", "--url", "http://127.0.0.1:9"], 3, "is `soma serve` running"),
        (["import-memories", "--path", "/no/such/file"], 2, "cannot read /no/such/file"),
        (["export-memories", "--path", "/no/such/folder/file"], 2, "cannot write"),
        (["recall"], 2, "--query"),
        (["no-such-command"], 2, "invalid choice"),
    ],
)
def test_failure_is_one_sentence_and_a_documented_code(soma, arguments, code, words):
    done = soma(*arguments) if arguments[0] != "no-such-command" else soma("no-such-command")
    assert done.returncode == code, done.stderr
    assert words in done.stderr
    assert "Traceback" not in done.stderr
    assert "wrong" not in done.stderr or "Invalid token" in done.stderr


def test_broken_line_of_an_import_is_named(soma):
    done = soma("import-memories", "--path", "-", stdin='{"coordinate": [1], "payload": {}}\nnot json\n')
    assert (done.returncode, "line 2: not JSON" in done.stderr) == (2, True)


def test_healthcheck_tells_serving_from_unreachable(server):
    serving = server.soma("healthcheck", "--address", f"127.0.0.1:{server.grpc_port}")
    assert (serving.returncode, serving.stdout) == (0, "SERVING\n")
    assert server.soma("healthcheck", SOMA_GRPC_PORT=str(server.grpc_port)).returncode == 0
    away = server.soma("healthcheck", "--address", "127.0.0.1:9", "--timeout", "2")
    assert away.returncode == 3
    assert "Traceback" not in away.stderr


def test_migrate_makes_a_ledger_and_may_be_repeated(server, tmp_path):
    for _ in range(2):
        done = server.soma("migrate", "--data-dir", str(tmp_path / "new"))
        assert (done.returncode, done.stderr) == (0, "")
    busy = server.soma("migrate", "--data-dir", str(server.data_dir))
    assert busy.returncode == 2
    assert "in use by another process" in busy.stderr
