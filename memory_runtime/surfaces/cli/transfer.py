"""Commands that move many memories: bulk store, export, delete. JSON lines in and out, progress meanwhile."""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

from memory_runtime.surfaces.cli.client import Client, delete_at
from memory_runtime.surfaces.cli.documents import items_of
from memory_runtime.surfaces.cli.input_file import reading
from memory_runtime.surfaces.cli.intake import Intake
from memory_runtime.surfaces.cli.old_lines import show_as
from memory_runtime.surfaces.cli.results import EXIT_USAGE, CommandFailed, Progress

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
    """Stores the items of a file, in order."""
    client = Client(arguments)
    intake = Intake(arguments.file, start_at=arguments.start_at, rejects=arguments.rejects, what="stored")

    def send(items: list[dict[str, Any]]) -> None:
        intake.count(int(client.post("/store_bulk", {"items": items})["stored"]))

    with intake.telling(), reading(arguments.file) as file:
        for one in items_of(file):
            intake.take(one, lambda value: (send, value))
        intake.finish()
    text = f"stored {intake.stored:,} memories{intake.told_rejects()}"
    show_as(arguments, {"stored": intake.stored} | intake.counted_rejects(), text)
    return intake.exit_code


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
        show_as(arguments, {"exported": count, "links": linked}, text, old={"exported": count})
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
    return show_as(arguments, {"deleted": deleted}, f"deleted {deleted:,} of {len(coords):,}")


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


@contextlib.contextmanager
def writing(name: str) -> Iterator[IO[str]]:
    if name == "-":
        # UTF-8 whatever the terminal's encoding is: it is a file that import reads
        with open(sys.stdout.fileno(), "w", encoding="utf-8", closefd=False) as stream:
            yield stream
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
