"""Commands that move many memories: bulk store, export, delete. JSON lines in and out, progress meanwhile."""

from __future__ import annotations

import argparse
import contextlib
import gzip
import json
import os
import sys
import urllib.parse
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import IO, Any

from memory_runtime.surfaces.cli.client import Client
from memory_runtime.surfaces.cli.results import EXIT_USAGE, CommandFailed, Progress, show

BATCH = 200
BATCH_BYTES = 2 << 20
SCHEMA = 2
KEPT = (
    *(
        "coordinate",
        "memory_type",
        "payload",
        "timestamp",
        "importance",
        "importance_norm",
        "features",
        "pinned",
        "hold",
    ),
    *("expires_at", "ingested", "accessed", "access_count", "model_revision", "vector"),
)


def store_bulk(arguments: argparse.Namespace) -> int:
    """Stores the items of a file, in batches that are each all or nothing."""
    with reading(arguments.file) as file:
        stored = _store(Client(arguments), _items(file, arguments.file), "stored")
    return show({"stored": stored}, f"stored {stored:,} memories", as_json=arguments.json)


def export_memories(arguments: argparse.Namespace) -> int:
    """Writes every memory of the scope, then its links. A file appears whole or not at all."""
    client = Client(arguments)
    progress = Progress("exported")
    count = linked = 0
    with writing(arguments.path) as file:
        for count, memory in enumerate(_pages(client, vectors=not arguments.no_vectors), start=1):
            file.write(_text(_exported(memory)))
            progress.at(count)
        for link in links(client):
            linked += 1
            file.write(_text({"kind": "link", "schema": SCHEMA} | link))
    progress.done(count)
    if arguments.path != "-":
        text = f"exported {count:,} memories and {linked:,} links to {arguments.path}"
        show({"exported": count, "links": linked}, text, as_json=arguments.json)
    return 0


def delete_many(arguments: argparse.Namespace) -> int:
    """Deletes at each coordinate, and prints how many there were."""
    client = Client(arguments)
    coords = [part.strip() for part in arguments.coords.split(";") if part.strip()]
    progress = Progress("deleted", len(coords))
    deleted = 0
    for count, coord in enumerate(coords, start=1):
        deleted += delete_at(client, coord, arguments.memory_type)
        progress.at(count)
    progress.done(len(coords))
    return show({"deleted": deleted}, f"deleted {deleted:,} of {len(coords):,}", as_json=arguments.json)


def delete_at(client: Client, coord: str, memory_type: str | None = None) -> bool:
    query = f"?memory_type={urllib.parse.quote(memory_type)}" if memory_type else ""
    path = f"/memories/{urllib.parse.quote(coord, safe=',')}{query}"
    return bool(client.request("DELETE", path)["deleted"])


def _store(client: Client, items: Iterable[dict[str, Any]], what: str) -> int:
    progress = Progress(what)
    stored = 0
    for batch in batches(items):
        stored += int(client.post("/store_bulk", {"items": batch})["stored"])
        progress.at(stored)
    progress.done(stored)
    return stored


def batches(items: Iterable[dict[str, Any]]) -> Iterator[list[dict[str, Any]]]:
    batch: list[dict[str, Any]] = []
    size = 0
    for item in items:
        weight = len(json.dumps(item))
        if batch and (len(batch) >= BATCH or size + weight > BATCH_BYTES):
            yield batch
            batch, size = [], 0
        batch.append(item)
        size += weight
    if batch:
        yield batch


def _pages(client: Client, *, vectors: bool) -> Iterator[dict[str, Any]]:
    after = None
    while True:
        page = client.get("/memories", after=after, limit=500, vectors=str(vectors).lower(), full="true")
        yield from page["memories"]
        after = page["next"]
        if after is None:
            return


def _text(line: dict[str, Any]) -> str:
    return json.dumps(line, ensure_ascii=False, sort_keys=True) + "\n"


def _exported(memory: dict[str, Any]) -> dict[str, Any]:
    line = {"kind": "memory", "schema": SCHEMA}
    return line | {name: memory[name] for name in KEPT if memory.get(name) is not None}


def links(client: Client) -> Iterator[dict[str, Any]]:
    """Every link of the scope, in order."""
    after = None
    while True:
        page = client.get("/graph/links", after=after, limit=1000)
        yield from page["links"]
        after = page["next"]
        if after is None:
            return


def lines_of(file: Iterable[str]) -> Iterator[tuple[int, dict[str, Any]]]:
    for number, text in enumerate(file, start=1):
        if not text.strip():
            continue
        try:
            value = json.loads(text)
        except ValueError as error:
            raise CommandFailed(f"line {number}: not JSON: {error}", EXIT_USAGE) from None
        if not isinstance(value, dict):
            raise CommandFailed(f"line {number}: expected a JSON object", EXIT_USAGE)
        yield number, value


def _items(file: IO[str], name: str) -> Iterator[dict[str, Any]]:
    """The items of a JSON list, of an object with `items`, or of JSON lines."""
    text = file.read()
    try:
        value = json.loads(text)
    except ValueError:
        yield from (line for _, line in lines_of(text.splitlines()))
        return
    if isinstance(value, dict):
        value = value.get("items", [value])
    if not isinstance(value, list) or not all(isinstance(item, dict) for item in value):
        raise CommandFailed(f"{name}: expected a list of objects with coord and payload", EXIT_USAGE)
    yield from value


@contextlib.contextmanager
def reading(name: str) -> Iterator[IO[str]]:
    if name == "-":
        yield sys.stdin
        return
    try:
        path = Path(name)
        packed = path.suffix == ".gz"
        file = gzip.open(path, "rt", encoding="utf-8") if packed else path.open(encoding="utf-8")  # noqa: SIM115 -- closed below; a failure to open is the user's to mend
    except OSError as error:
        raise CommandFailed(f"cannot read {name}: {error.strerror}", EXIT_USAGE) from None
    with file:
        yield file


@contextlib.contextmanager
def writing(name: str) -> Iterator[IO[str]]:
    if name == "-":
        yield sys.stdout
        return
    path = Path(name)
    draft = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with draft.open("w", encoding="utf-8") as file:
            # Memories are private: the export is its writer's alone.
            draft.chmod(0o600)
            yield file
            file.flush()
            os.fsync(file.fileno())
        draft.replace(path)
    except OSError as error:
        raise CommandFailed(f"cannot write {name}: {error.strerror}", EXIT_USAGE) from None
    finally:
        draft.unlink(missing_ok=True)
