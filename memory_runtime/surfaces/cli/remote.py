"""Commands that ask a running server one thing."""

from __future__ import annotations

import argparse
import json
import urllib.parse
from typing import Any

from memory_runtime.surfaces.cli.client import Client, delete_at
from memory_runtime.surfaces.cli.input_file import Fault, parse
from memory_runtime.surfaces.cli.old_lines import show_as
from memory_runtime.surfaces.cli.results import EXIT_FAILED, EXIT_OK, EXIT_USAGE, CommandFailed


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
    return show_as(arguments, receipt, text, old="OK")


def recall(arguments: argparse.Namespace) -> int:
    """Recalls and prints a line for each memory: score, coordinate, payload. As JSON: the payloads, best first."""
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
    payloads = [hit["payload"] for hit in found["results"]]
    whole = arguments.full or arguments.explain
    return show_as(arguments, found if whole else payloads, "\n".join(lines) or "nothing was recalled")


def search(arguments: argparse.Namespace) -> int:
    """Recalls by meaning and by words, and prints a line for each memory. As JSON: the memories, best first."""
    body = _without_none(
        query=arguments.query,
        top_k=arguments.top_k,
        offset=arguments.offset,
        memory_type=arguments.memory_type,
        filters=parse_object(arguments.filters, "--filters"),
        hybrid=True,
    )
    found = Client(arguments).post("/memories/search", body)["memories"]
    lines = [
        f"{one['score']:.4f}  [{_coordinate(one['coordinate'])}] {json.dumps(one['payload'], ensure_ascii=False)}"
        for one in found
    ]
    return show_as(arguments, found, "\n".join(lines) or "nothing was found", indent=2)


def delete(arguments: argparse.Namespace) -> int:
    """Deletes what is at the coordinate."""
    deleted = delete_at(Client(arguments), arguments.coord, arguments.memory_type)
    return show_as(arguments, {"deleted": deleted}, "deleted" if deleted else "nothing was there")


def health(arguments: argparse.Namespace) -> int:
    """Prints which parts of the server are up; 1 where one is not."""
    parts = {name: up for name, up in Client(arguments).get("/health/basic").items() if isinstance(up, bool)}
    show_as(arguments, parts, "\n".join(f"{name}: {'up' if up else 'down'}" for name, up in parts.items()), indent=2)
    return EXIT_OK if all(parts.values()) else EXIT_FAILED


ADDED = {"coordinate", "memory_type", "timestamp", "importance", "importance_norm", "access_count"}


def _line(payload: dict[str, Any]) -> str:
    coordinate = ",".join(f"{value:g}" for value in payload["coordinate"])
    said = {name: value for name, value in payload.items() if name not in ADDED}
    return f"[{coordinate}] {json.dumps(said, ensure_ascii=False)}"


def get(arguments: argparse.Namespace) -> int:
    """Prints the memory at a coordinate, now or as it was at a past moment."""
    path = f"/memories/{urllib.parse.quote(arguments.coord, safe=',')}"
    found = Client(arguments).get(path, memory_type=arguments.memory_type, as_of=arguments.as_of)
    memory = found["memory"]
    return show_as(arguments, memory, json.dumps(memory, ensure_ascii=False, indent=2), indent=2)


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
    return show_as(arguments, results, "\n".join(map(_line, results)) or "nothing was found")


def coordinate_range(arguments: argparse.Namespace) -> int:
    """Prints the coordinates within a box."""
    found = Client(arguments).get("/range", min=arguments.low, max=arguments.high, type=arguments.memory_type)["coords"]
    return show_as(arguments, found, "\n".join(map(_coordinate, found)) or "nothing is there")


def _coordinate(values: list[float]) -> str:
    return ",".join(f"{value:g}" for value in values)


def stats(arguments: argparse.Namespace) -> int:
    """Prints counts and how the server is made."""
    found = Client(arguments).get("/stats")
    lines = [f"{name}: {json.dumps(value, ensure_ascii=False)}" for name, value in sorted(found.items())]
    return show_as(arguments, found, "\n".join(lines), indent=2)


def link(arguments: argparse.Namespace) -> int:
    """Links two coordinates."""
    body = {
        "from_coord": arguments.from_coord,
        "to_coord": arguments.to_coord,
        "type": arguments.link_type,
        "weight": arguments.weight,
    }
    return show_as(arguments, Client(arguments).post("/link", body), "linked", old="OK")


def unlink(arguments: argparse.Namespace) -> int:
    """Deletes the links from one coordinate to another, and prints how many there were."""
    query = {"from_coord": arguments.from_coord, "to_coord": arguments.to_coord, "link_type": arguments.link_type}
    given = urllib.parse.urlencode({name: value for name, value in query.items() if value is not None})
    done = Client(arguments).request("DELETE", f"/graph/link?{given}")
    return show_as(arguments, done, f"deleted {done['deleted']:,} links")


def path(arguments: argparse.Namespace) -> int:
    """Prints the shortest path, one coordinate a line."""
    found = Client(arguments).get(
        "/shortest_path", frm=arguments.from_coord, to=arguments.to_coord, link_type=arguments.link_type
    )["path"]
    return show_as(arguments, found, "\n".join(map(_coordinate, found)) or "there is no path")


def neighbors(arguments: argparse.Namespace) -> int:
    """Prints what a coordinate links to, with the link's type and weight. As JSON: the coordinates, each once."""
    found = Client(arguments).get(
        "/neighbors", coord=arguments.coord, link_type=arguments.link_type, limit=arguments.limit
    )["neighbors"]
    lines = [f"{_coordinate(coordinate)}  {edge['type']}  {edge['weight']:g}" for coordinate, edge in found]
    coordinates = [list(one) for one in dict.fromkeys(tuple(coordinate) for coordinate, _ in found)]
    return show_as(arguments, found if arguments.full else coordinates, "\n".join(lines) or "it links to nothing")
