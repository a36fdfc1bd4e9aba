"""What is exported, imported elsewhere and exported there is the same, bit for bit: memories, holds, links (R18)."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import httpx
import pytest

from memory_runtime.tests.integration.conftest import Serve, Server

pytestmark = pytest.mark.integration

ITEMS: list[dict[str, Any]] = [
    {"coord": "1,2", "payload": {"text": "Ann moved to Lisbon", "ü": [1, None]}, "timestamp": 1.6e9, "importance": 2.5},
    {"coord": "1,2", "payload": {"text": "Bo"}, "type": "semantic", "pinned": True, "features": {"f": 0.5}},
    {"coord": "-0.1,1e30", "payload": {}, "vector": [1.0] + [0.1] * 383, "importance": 0.0, "timestamp": 0},
    {"coord": "7", "payload": {"text": "for ninety days"}, "ttl": "90d"},
    {"coord": "8", "payload": {"text": "held"}, "importance": 9.0},
]
LINKS = [
    {
        "from_coord": "1.0,2.0",
        "to_coord": "8.0",
        "link_type": "cites",
        "strength": 0.25,
        "metadata": {"why": "Grüße 🌱"},
    },
    {"from_coord": "8.0", "to_coord": "-0.1,1e+30", "link_type": "related", "strength": 1.0, "metadata": {}},
]


def filled(http: httpx.Client) -> None:
    """Memories of every kind, one held, some of them recalled, and links between them."""
    assert http.post("/store_bulk", json={"items": ITEMS}).json() == {"stored": len(ITEMS)}
    assert http.post("/retention/hold", json={"coord": "8", "hold": True}).status_code == 200
    assert http.post("/graph/links", json={"links": LINKS}).json() == {"linked": 2, "missing": 0}
    for _ in range(3):
        assert http.post("/recall", json={"query": "Ann Lisbon", "top_k": 2}).status_code == 200


def exported(server: Server, path: Path) -> list[dict[str, Any]]:
    done = server.soma("export-memories", "--tenant", "acme", "--path", str(path))
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for line in path.read_text().splitlines()]


def accessed(server: Server, path: Path) -> list[dict[str, Any]]:
    """An export once the counts of accesses have been flushed, which takes a moment."""
    import time

    for _ in range(100):
        lines = exported(server, path)
        if any(line.get("access_count", 0) >= 3 for line in lines):
            return lines
        time.sleep(0.2)
    pytest.fail("accesses were never flushed")


def test_a_memory_that_moves_is_the_same_memory(serve: Serve, server: Server, tmp_path: Path) -> None:
    first, second = tmp_path / "first.jsonl", tmp_path / "second.jsonl"
    with server.client(tenant="acme") as http:
        filled(http)
        before = http.post("/recall_with_scores", json={"query": "Ann Lisbon held", "as_of": 2e9, "half_life": "10y"})
    lines = accessed(server, first)
    held = [line["coordinate"] for line in lines if line.get("hold")]
    assert held == [[8.0]]
    assert sum(line["kind"] == "link" for line in lines) == 2
    fresh = serve()
    done = fresh.soma("import-memories", "--tenant", "acme", "--path", str(first))
    assert (done.returncode, done.stdout) == (0, "imported 5 memories and 2 links\n"), done.stderr
    exported(fresh, second)
    assert second.read_bytes() == first.read_bytes()
    with fresh.client(tenant="acme") as http:
        after = http.post("/recall_with_scores", json={"query": "Ann Lisbon held", "as_of": 2e9, "half_life": "10y"})
        shown = [{**one, "payload": {**one["payload"], "access_count": 0}} for one in after.json()["results"]]
        wanted = [{**one, "payload": {**one["payload"], "access_count": 0}} for one in before.json()["results"]]
        assert shown == wanted, "importance and times moved with them, so the order and the scores did too"
        assert http.delete("/memories/8").status_code == 409, "the hold moved with it"
        found = http.get("/graph/neighbors", params={"coord": "1,2", "k_hop": 2}).json()["neighbors"]
        assert [one["coordinate"] for one in found] == [[8.0], [-0.1, 1e30]]
    # its own export over itself: nothing changes but versions, which an export does not tell
    own, after_own = tmp_path / "own.jsonl", tmp_path / "after-own.jsonl"
    # in a tenant that nobody recalls from: an access counted meanwhile would be a change
    for source, target in ((first, own), (own, after_own)):
        done = fresh.soma("import-memories", "--tenant", "still", "--path", str(source))
        assert done.stdout == "imported 5 memories and 2 links\n", done.stderr
        fresh.soma("export-memories", "--tenant", "still", "--path", str(target))
    assert after_own.read_bytes() == own.read_bytes()
    # another tenant's ids are others, and so is their order
    assert sorted(own.read_text().splitlines()) == sorted(first.read_text().splitlines())
    # once more over what lives: updates, no doubles, no growing counts
    again = fresh.soma("import-memories", "--tenant", "acme", "--path", str(first))
    assert again.stdout == "imported 5 memories and 2 links\n"
    third = exported(fresh, tmp_path / "third.jsonl")
    assert [line.get("access_count") for line in third] == [
        max(line["access_count"], other["access_count"]) if "access_count" in line else None
        for line, other in zip(lines, third, strict=True)
    ]
    assert [line.get("hold") for line in third] == [line.get("hold") for line in lines]


def test_links_move_as_graphml(server: Server, tmp_path: Path) -> None:
    with server.client(tenant="graphml") as http:
        assert http.post("/store_bulk", json={"items": ITEMS}).status_code == 200
        assert http.post("/graph/links", json={"links": LINKS}).status_code == 200
        path, again = tmp_path / "graph.graphml", tmp_path / "again.graphml"
        assert "exported 2 links" in server.soma("export-graph", "--tenant", "graphml", "--path", str(path)).stdout
        with server.client(tenant="graphml-2") as other:
            assert other.post("/store_bulk", json={"items": ITEMS[:3]}).status_code == 200
        with server.client(tenant="graphml-2") as other:
            partly = server.soma("import-graph", "--tenant", "graphml-2", "--path", str(path), "--skip-missing")
            assert partly.stdout == "linked 0; 2 were left out, as an end of theirs holds no memory\n"
            assert other.get("/graph/links").json() == {"links": [], "next": None}
            assert other.post("/store_bulk", json={"items": ITEMS[3:]}).status_code == 200
        stdin = path.read_text(encoding="utf-8")
        done = server.soma("import-graph", "--tenant", "graphml-2", "--path", "-", stdin=stdin)
        assert (done.returncode, done.stdout) == (0, "linked 2\n"), done.stderr
        server.soma("export-graph", "--tenant", "graphml-2", "--path", str(again))
        assert again.read_bytes() == path.read_bytes()
    broken = tmp_path / "broken.graphml"
    broken.write_text(path.read_text(encoding="utf-8").replace("</graphml>", "<edge source='x' target='1'/></graphml>"))
    said = server.soma("import-graph", "--tenant", "graphml-2", "--path", str(broken))
    assert said.returncode == 2
    assert "source: 'x' is not a coordinate" in said.stderr


def test_pages_of_links_are_whole_and_a_bad_cursor_is_named(http: httpx.Client) -> None:
    items = [{"coord": str(n), "payload": {"n": n}} for n in range(8)]
    assert http.post("/store_bulk", json={"items": items}).status_code == 200
    links = [{"from_coord": str(a), "to_coord": str(b)} for a in range(8) for b in range(8) if a != b]
    assert http.post("/graph/links", json={"links": links}).json() == {"linked": 56, "missing": 0}
    seen, after = [], None
    while True:
        page = http.get("/graph/links", params={"limit": 10} | ({"after": after} if after else {})).json()
        seen += [(one["from_coord"], one["to_coord"]) for one in page["links"]]
        after = page["next"]
        if after is None:
            break
    assert len(seen) == len(set(seen)) == 56
    for wrong in ("nonsense", "[1,2,3]", '["a","b","c"]'):
        refused = http.get("/graph/links", params={"after": wrong})
        assert (refused.status_code, refused.json()["field"]) == (400, "after")
    refused = http.post("/graph/links", json={"links": [{"from_coord": "1", "to_coord": "2", "link_type": "a\nb"}]})
    assert (refused.status_code, refused.json()["field"]) == (400, "links[0].link_type")


def test_an_import_that_cannot_be_right_changes_nothing(http: httpx.Client) -> None:
    line = {"payload": {}, "memory_type": "episodic", "importance_norm": 0.5, "ingested": 1.0, "accessed": 1.0}
    items = [line | {"coordinate": [1.0]}, line | {"coordinate": [2.0], "importance_norm": 1.5}]
    refused = http.post("/memories/import", json={"items": items})
    assert (refused.status_code, refused.json()["field"]) == (400, "items[1].importance_norm")
    late = http.post("/memories/import", json={"items": [items[0], items[0] | {"timestamp": "soon"}]})
    assert (late.status_code, late.json()["field"]) == (400, "items[1].timestamp"), "an item is named wherever it fails"
    assert http.get("/memories").json()["memories"] == []
    expired = line | {"coordinate": [3.0], "expires_at": 10.0}
    done = http.post("/memories/import", json={"items": [items[0], expired]}).json()
    assert done == {"restored": 1, "updated": 0, "expired": 1}


def test_a_file_of_a_newer_version_is_refused(server: Server) -> None:
    said = server.soma("import-memories", "--path", "-", stdin='{"kind":"memory","schema":3,"coordinate":[1]}\n')
    assert said.returncode == 2
    assert "newer version" in said.stderr


def test_links_of_coordinates_without_memory_move_too_and_those_of_expired_memories_do_not(
    server: Server, serve: Serve, tmp_path: Path
) -> None:
    path = tmp_path / "exported.jsonl"
    with server.client(tenant="loose") as http:
        for source, target in (("1", "2"), ("2", "3"), ("7", "1")):
            linked = http.post("/graph/link", json={"from_coord": source, "to_coord": target, "metadata": {"k": 1}})
            assert linked.status_code == 200
        http.post("/store", json={"coord": "7", "payload": {"text": "for a while"}, "ttl": "100d"})
    assert server.soma("export-memories", "--tenant", "loose", "--path", str(path)).returncode == 0
    lines = [json.loads(one) for one in path.read_text().splitlines()]
    assert [one["kind"] for one in lines] == ["memory", "link", "link", "link"]
    fresh = serve()
    for expired, links in ((False, 3), (True, 2)):
        tenant = f"loose-{expired}"
        if expired:
            lines[0]["expires_at"] = 10.0
        path.write_text("".join(json.dumps(one) + "\n" for one in lines))
        done = fresh.soma("import-memories", "--tenant", tenant, "--path", str(path), "--json")
        wanted = {"imported": 0 if expired else 1, "links": links, "links_left_out": 3 - links}
        assert json.loads(done.stdout) == wanted, done.stderr
        with fresh.client(tenant=tenant) as http:
            assert len(http.get("/graph/links").json()["links"]) == links
    gone = fresh.soma("unlink", "--tenant", "loose-True", "--from", "1", "--to", "2")
    assert (gone.returncode, gone.stdout) == (0, "deleted 1 links\n"), gone.stderr
