"""Commands that ask a running server one thing."""

from __future__ import annotations

import argparse
import json
import urllib.parse
from typing import Any

from memory_runtime.surfaces.cli.client import Client
from memory_runtime.surfaces.cli.input_file import Fault, parse
from memory_runtime.surfaces.cli.results import EXIT_USAGE, CommandFailed, show


def parse_object(text: str | None, option: str) -> dict[str, Any] | None:
    """The JSON object of an option. Raises CommandFailed."""
    if text is None:
        return None
    try:
        value = parse(text)
    except Fault as fault:
        raise CommandFailed(f"{option}: {fault.reason}", EXIT_USAGE) from None
    if not isinstance(value, dict):
        raise CommandFailed(f"{option}: expected a JSON object", EXIT_USAGE)
    return value


def _without_none(**values: Any) -> dict[str, Any]:
    return {name: value for name, value in values.items() if value is not None}


def store(arguments: argparse.Namespace) -> int:
    """Stores a memory and prints its id, version and sequence."""
    payload = {"text": arguments.text} if arguments.text is not None else parse_object(arguments.payload, "--payload")
    body = _without_none(
        coord=arguments.coord,
        payload=payload,
        type=arguments.memory_type,
        timestamp=arguments.timestamp,
        importance=arguments.importance,
        ttl=arguments.ttl,
        pinned=arguments.pinned or None,
    )
    receipt = Client(arguments).post("/store?receipt=true", body)["receipt"]
    done = "stored" if receipt["created"] else "updated"
    text = f"{done} {receipt['id']} (version {receipt['version']}, seq {receipt['seq']})"
    return show(receipt, text, as_json=arguments.json)


def recall(arguments: argparse.Namespace) -> int:
    """Recalls and prints a line for each memory: score, coordinate, payload."""
    body = _without_none(
        query=arguments.query,
        top_k=arguments.top_k,
        type=arguments.memory_type,
        filters=parse_object(arguments.filters, "--filters"),
        half_life=arguments.half_life,
        as_of=arguments.as_of,
        hybrid=arguments.hybrid,
        explain=arguments.explain or None,
    )
    found = Client(arguments).post("/recall_with_scores", body)
    lines = []
    for hit in found["results"]:
        lines.append(f"{hit['score']:.4f}  {_line(hit['payload'])}")
        if arguments.explain:
            lines.append(f"        {json.dumps(hit['explanation'], ensure_ascii=False)}")
    lines.extend(f"suppressed  {json.dumps(one)}" for one in found.get("suppressed", ()))
    return show(found, "\n".join(lines) or "nothing was recalled", as_json=arguments.json)


ADDED = {"coordinate", "memory_type", "timestamp", "importance", "importance_norm", "access_count"}


def _line(payload: dict[str, Any]) -> str:
    coordinate = ",".join(f"{value:g}" for value in payload["coordinate"])
    said = {name: value for name, value in payload.items() if name not in ADDED}
    return f"[{coordinate}] {json.dumps(said, ensure_ascii=False)}"


def get(arguments: argparse.Namespace) -> int:
    """Prints the memory at a coordinate."""
    path = f"/memories/{urllib.parse.quote(arguments.coord, safe=',')}"
    memory = Client(arguments).get(path, memory_type=arguments.memory_type)["memory"]
    return show(memory, json.dumps(memory, ensure_ascii=False, indent=2), as_json=arguments.json)


def keyword_search(arguments: argparse.Namespace) -> int:
    """Prints a line for each memory that holds the term."""
    body = _without_none(
        term=arguments.term,
        exact=not arguments.words,
        case_sensitive=arguments.case_sensitive,
        top_k=arguments.top_k,
        type=arguments.memory_type,
    )
    results = Client(arguments).post("/keyword_search", body)["results"]
    return show(results, "\n".join(map(_line, results)) or "nothing was found", as_json=arguments.json)


def coordinate_range(arguments: argparse.Namespace) -> int:
    """Prints the coordinates within a box."""
    found = Client(arguments).get("/range", min=arguments.low, max=arguments.high, type=arguments.memory_type)["coords"]
    return show(found, "\n".join(map(_coordinate, found)) or "nothing is there", as_json=arguments.json)


def _coordinate(values: list[float]) -> str:
    return ",".join(f"{value:g}" for value in values)


def stats(arguments: argparse.Namespace) -> int:
    """Prints counts and how the server is made."""
    found = Client(arguments).get("/stats")
    lines = [f"{name}: {json.dumps(value, ensure_ascii=False)}" for name, value in sorted(found.items())]
    return show(found, "\n".join(lines), as_json=arguments.json)


def link(arguments: argparse.Namespace) -> int:
    """Links two coordinates."""
    body = {
        "from_coord": arguments.from_coord,
        "to_coord": arguments.to_coord,
        "type": arguments.link_type,
        "weight": arguments.weight,
    }
    return show(Client(arguments).post("/link", body), "linked", as_json=arguments.json)


def unlink(arguments: argparse.Namespace) -> int:
    """Deletes the links from one coordinate to another, and prints how many there were."""
    query = {"from_coord": arguments.from_coord, "to_coord": arguments.to_coord, "link_type": arguments.link_type}
    given = urllib.parse.urlencode({name: value for name, value in query.items() if value is not None})
    done = Client(arguments).request("DELETE", f"/graph/link?{given}")
    return show(done, f"deleted {done['deleted']:,} links", as_json=arguments.json)


def path(arguments: argparse.Namespace) -> int:
    """Prints the shortest path, one coordinate a line."""
    found = Client(arguments).get(
        "/shortest_path", frm=arguments.from_coord, to=arguments.to_coord, link_type=arguments.link_type
    )["path"]
    return show(found, "\n".join(map(_coordinate, found)) or "there is no path", as_json=arguments.json)


def neighbors(arguments: argparse.Namespace) -> int:
    """Prints what a memory links to, with the link's type and weight."""
    found = Client(arguments).get(
        "/neighbors", coord=arguments.coord, link_type=arguments.link_type, limit=arguments.limit
    )["neighbors"]
    lines = [f"{_coordinate(coordinate)}  {edge['type']}  {edge['weight']:g}" for coordinate, edge in found]
    return show(found, "\n".join(lines) or "it links to nothing", as_json=arguments.json)
