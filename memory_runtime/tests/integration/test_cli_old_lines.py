"""Command lines as scripts of the service we replace have them, and what those scripts read: one test a command."""

from __future__ import annotations

import json
import subprocess
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from memory_runtime.tests.integration.conftest import Server

pytestmark = pytest.mark.integration

Run = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def namespace() -> str:
    return f"cli_{uuid.uuid4().hex}"


@pytest.fixture
def old(server: Server, namespace: str, tmp_path: Path) -> Run:
    """Runs `soma --mode … --namespace … --config-json … COMMAND …`, and expects it to end well without a word."""
    config = tmp_path / "cfg.json"
    config.write_text("{}")

    def run(*arguments: str, code: int = 0) -> subprocess.CompletedProcess[str]:
        line = ["--mode", "evented_enterprise", "--namespace", namespace, "--config-json", str(config), *arguments]
        done = server.soma(*line)
        assert (done.returncode, done.stderr) == (code, ""), (line, done.stderr)
        return done

    return run


@pytest.fixture
def three(old: Run) -> Run:
    """Three memories in a row, linked by two types of link."""
    for coord, said in (("0,0,0", "nought"), ("1,1,1", "one"), ("2,2,2", "two")):
        old("store", "--coord", coord, "--payload", json.dumps({"d": said}), "--type", "episodic")
    old("link", "--from", "0,0,0", "--to", "1,1,1")
    old("link", "--from", "1,1,1", "--to", "2,2,2", "--type", "next", "--weight", "2.0")
    return old


def test_store_says_ok(old: Run, server: Server, namespace: str) -> None:
    done = old("store", "--coord", "1, 2, 3,", "--payload", '{"d": 1}', "--type", "semantic")
    assert done.stdout == "OK\n"
    ours = json.loads(server.soma("get", "--namespace", namespace, "--coord", "1,2,3", "--json").stdout)
    assert (ours["payload"], ours["memory_type"]) == ({"d": 1}, "semantic")


def test_recall_prints_a_list_of_payloads(three: Run) -> None:
    found = json.loads(three("recall", "--query", "one", "--top-k", "1", "--type", "episodic").stdout)
    assert [(one["d"], one["coordinate"], one["memory_type"]) for one in found] == [("one", [1.0] * 3, "episodic")]
    assert json.loads(three("recall", "--query", "one", "--type", "semantic").stdout) == []


def test_link_says_ok(three: Run) -> None:
    assert three("link", "--from", "2,2,2", "--to", "9,9,9", "--type", "related", "--weight", "0.5").stdout == "OK\n"


def test_path_prints_a_list_of_coordinates(three: Run) -> None:
    line = ("path", "--from", "0,0,0", "--to", "2,2,2")
    assert three(*line).stdout == "[[0.0, 0.0, 0.0], [1.0, 1.0, 1.0], [2.0, 2.0, 2.0]]\n"
    assert three(*line, "--type", "next").stdout == "[]\n"


def test_neighbors_prints_a_list_of_coordinates(three: Run) -> None:
    three("link", "--from", "0,0,0", "--to", "1,1,1", "--type", "twice")
    assert three("neighbors", "--coord", "0,0,0").stdout == "[[1.0, 1.0, 1.0]]\n"
    assert three("neighbors", "--coord", "1,1,1", "--type", "next", "--limit", "5").stdout == "[[2.0, 2.0, 2.0]]\n"
    assert three("neighbors", "--coord", "2,2,2").stdout == "[]\n"


def test_stats_prints_counts_over_lines(three: Run) -> None:
    text = three("stats").stdout
    assert text.startswith('{\n  "')
    counts = json.loads(text)
    assert (counts["total_memories"], counts["episodic"], counts["semantic"]) == (3, 3, 0)


def test_graphs_are_exported_and_imported(three: Run, tmp_path: Path) -> None:
    path = tmp_path / "graph.graphml"
    assert three("export-graph", "--path", str(path)).stdout == "OK\n"
    assert three("import-graph", "--path", str(path)).stdout == "OK\n"


def test_memories_are_exported_imported_and_deleted(three: Run, tmp_path: Path) -> None:
    path = tmp_path / "memories.jsonl"
    assert json.loads(three("export-memories", "--path", str(path)).stdout) == {"exported": 3}
    assert json.loads(three("delete-many", "--coords", "0,0,0; 1,1,1;9,9,9").stdout) == {"deleted": 2}
    assert json.loads(three("import-memories", "--path", str(path), "--replace").stdout) == {"imported": 3}
    assert json.loads(three("stats").stdout)["total_memories"] == 3


def test_the_old_services_export_is_imported(old: Run, tmp_path: Path) -> None:
    """One payload a line, with what the server had added among its fields."""
    path = tmp_path / "old.jsonl"
    lines = [
        {"d": n, "memory_type": "semantic", "coordinate": [n, 0.0], "timestamp": 1.6e9 + n, "importance_norm": 0.5}
        for n in range(3)
    ]
    path.write_text("\n".join(map(json.dumps, lines)))
    assert json.loads(old("import-memories", "--path", str(path)).stdout) == {"imported": 3}
    assert json.loads(old("stats").stdout)["semantic"] == 3


def test_store_bulk_takes_a_list_and_says_how_many(old: Run, tmp_path: Path) -> None:
    path = tmp_path / "items.json"
    items = [{"coord": f"{n},0", "payload": {"d": n}, "type": "semantic" if n else "episodic"} for n in range(5)]
    path.write_text(json.dumps(items))
    assert json.loads(old("store-bulk", "--file", str(path)).stdout) == {"stored": 5}


def test_range_prints_a_list_of_coordinates(three: Run) -> None:
    assert three("range", "--min", "0,0,0", "--max", "1,1,1").stdout == "[[0.0, 0.0, 0.0], [1.0, 1.0, 1.0]]\n"
    assert three("range", "--min", "0,0,0", "--max", "9,9,9", "--type", "semantic").stdout == "[]\n"


def test_the_later_eras_search_get_delete_and_health(three: Run, server: Server, namespace: str) -> None:
    line = ("--namespace", namespace, "--tenant", "default")
    found = json.loads(server.soma(*line, "search", "--query", "one", "--top-k", "2", "--offset", "0").stdout)
    assert found[0]["payload"] == {"d": "one"}
    assert json.loads(server.soma(*line, "get", "--coord", "1,1,1").stdout)["payload"] == {"d": "one"}
    assert json.loads(server.soma(*line, "delete", "--coord", "1,1,1").stdout) == {"deleted": True}
    assert json.loads(server.soma(*line, "delete", "--coord", "1,1,1").stdout) == {"deleted": False}
    parts = json.loads(server.soma(*line, "health").stdout)
    assert parts == {"kv_store": True, "vector_store": True, "graph_store": True, "prediction_provider": True}


def test_json_gives_the_old_shapes_without_an_old_line(three: Run, server: Server, namespace: str) -> None:
    def ours(*arguments: str) -> Any:
        return json.loads(server.soma(arguments[0], "--namespace", namespace, *arguments[1:], "--json").stdout)

    (payload,) = ours("recall", "--query", "one", "--top-k", "1")
    assert payload["d"] == "one"
    assert ours("neighbors", "--coord", "0,0,0") == [[1.0, 1.0, 1.0]]
    assert ours("path", "--from", "0,0,0", "--to", "1,1,1") == [[0.0] * 3, [1.0] * 3]
    whole = ours("recall", "--query", "one", "--top-k", "1", "--full")
    assert whole["results"][0]["payload"]["d"] == "one"
    ((coordinate, edge),) = ours("neighbors", "--coord", "0,0,0", "--full")
    assert (coordinate, edge["type"]) == ([1.0, 1.0, 1.0], "related")


def test_an_old_line_has_the_old_default_namespace(server: Server) -> None:
    text = uuid.uuid4().hex
    done = server.soma("--mode", "evented_enterprise", "store", "--coord", "5,5", "--payload", json.dumps({"t": text}))
    assert (done.returncode, done.stdout) == (0, "OK\n"), done.stderr
    found = json.loads(server.soma("get", "--namespace", "cli_ns", "--coord", "5,5", "--json").stdout)
    assert found["payload"] == {"t": text}
    # an option after the command is ours, and counts
    there = server.soma("--namespace", "elsewhere", "get", "--namespace", "cli_ns", "--coord", "5,5")
    assert json.loads(there.stdout)["payload"] == {"t": text}


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b'{"redis": {"testing": true}, "qdrant": {"path": "x"}}', "qdrant, redis: the server's own settings count"),
        (b'\xef\xbb\xbf{"redis": {}}', "redis: the server's own settings count"),
        (b"{", "not JSON at column"),
        (b"[]", "expected a JSON object"),
        (b'{"a": "\xfc"}', "byte 0xfc at column"),
        ('{"a": 1}'.encode("utf-16"), "is UTF-16"),
        (None, "No such file"),
    ],
)
def test_the_configuration_file_is_read_and_named(
    server: Server, tmp_path: Path, content: bytes | None, words: str
) -> None:
    path = tmp_path / "cfg.json"
    if content is not None:
        path.write_bytes(content)
    done = server.soma("--config-json", str(path), "stats")
    assert words in done.stderr
    assert done.returncode == (0 if "settings count" in words else 2)
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("line", "words"),
    [
        (["--mode", "nonsense", "stats"], "invalid choice"),
        (["--namespace", "a", "serve"], "go with commands that ask a server"),
        (["--namespace", "a\nb", "stats"], "HTTP cannot carry"),
    ],
)
def test_what_an_old_line_cannot_mean_is_said(server: Server, line: list[str], words: str) -> None:
    done = server.soma(*line)
    assert (done.returncode, words in done.stderr) == (2, True), done.stderr
