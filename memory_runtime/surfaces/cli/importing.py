"""`import-memories`: what export-memories wrote, of this version or an earlier one, or the service we replace.

Lines that say all of a memory (schema 2) are put back as they were; older ones are stored like new ones. Links come
after the memories that they join, as they stand in the file.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable
from typing import Any

from memory_runtime.surfaces.cli.client import Client
from memory_runtime.surfaces.cli.results import EXIT_USAGE, CommandFailed, Progress, show
from memory_runtime.surfaces.cli.transfer import BATCH, BATCH_BYTES, KEPT, SCHEMA, delete_at, lines_of, reading

OLD = ("timestamp", "importance", "features", "pinned", "vector")
LINK = ("from_coord", "to_coord", "link_type", "strength", "metadata")


def import_memories(arguments: argparse.Namespace) -> int:
    """Stores exported memories and their links; what has expired meanwhile is left out."""
    importing = _Import(Client(arguments), replace=arguments.replace)
    with reading(arguments.path) as file:
        for number, line in lines_of(file):
            importing.take(line, number)
    importing.finish()
    done = {"imported": importing.memories, "links": importing.links, "links_left_out": importing.left_out}
    text = f"imported {importing.memories:,} memories" + (f" and {importing.links:,} links" if importing.links else "")
    if importing.left_out:
        text += f"; {importing.left_out:,} links join memories that are not there"
    return show(done, text, as_json=arguments.json)


class _Batch:
    """Items of one kind, sent when there are enough of them."""

    def __init__(self, send: Callable[[list[dict[str, Any]]], None]) -> None:
        self._send = send
        self._items: list[dict[str, Any]] = []
        self._size = 0

    def add(self, item: dict[str, Any]) -> None:
        weight = len(json.dumps(item))
        if self._items and (len(self._items) >= BATCH or self._size + weight > BATCH_BYTES):
            self.flush()
        self._items.append(item)
        self._size += weight

    def flush(self) -> None:
        items, self._items, self._size = self._items, [], 0
        if items:
            self._send(items)


class _Import:
    """One file on its way to a server."""

    def __init__(self, client: Client, *, replace: bool) -> None:
        self.memories = 0
        self.links = 0
        self.left_out = 0
        self._client = client
        self._replace = replace
        self._gone: set[str] = set()
        self._progress = Progress("imported")
        self._new = _Batch(self._store)
        self._whole = _Batch(self._restore)
        self._linked = _Batch(self._link)

    def take(self, line: dict[str, Any], number: int) -> None:
        """Takes one line of the file."""
        if line.get("kind") in {"archive", "end"}:
            return  # the first and the last line of an archive of retention
        schema = line.get("schema", 1)
        if not isinstance(schema, int) or schema > SCHEMA:
            raise CommandFailed(f"line {number}: schema {schema!r} is of a newer version; upgrade soma", EXIT_USAGE)
        if line.get("kind") == "link":
            self._flush_memories()
            self._linked.add({name: line[name] for name in LINK if name in line})
            return
        coordinate = line.get("coordinate")
        if not isinstance(coordinate, list):
            raise CommandFailed(f"line {number}: no coordinate; was this written by export-memories?", EXIT_USAGE)
        coord = ",".join(repr(float(value)) for value in coordinate)
        if line.get("kind") == "memory" and schema >= 2:
            self._delete(coord)
            self._whole.add({name: line[name] for name in KEPT if name in line})
        elif (item := _old_item(line, coord)) is not None:
            self._delete(coord)
            self._new.add(item)

    def finish(self) -> None:
        """Sends what is left."""
        self._flush_memories()
        self._linked.flush()
        self._progress.done(self.memories)

    def _flush_memories(self) -> None:
        self._new.flush()
        self._whole.flush()

    def _delete(self, coord: str) -> None:
        # once a coordinate: two memory types of the file may share one, and the first may still wait in its batch
        if self._replace and coord not in self._gone:
            self._gone.add(coord)
            delete_at(self._client, coord)

    def _store(self, items: list[dict[str, Any]]) -> None:
        self._count(int(self._client.post("/store_bulk", {"items": items})["stored"]))

    def _restore(self, items: list[dict[str, Any]]) -> None:
        done = self._client.post("/memories/import", {"items": items})
        self._count(int(done["restored"]) + int(done["updated"]))

    def _link(self, items: list[dict[str, Any]]) -> None:
        done = self._client.post("/graph/links", {"links": items, "skip_missing": True})
        self.links += int(done["linked"])
        self.left_out += int(done["missing"])

    def _count(self, more: int) -> None:
        self.memories += more
        self._progress.at(self.memories)


def _old_item(line: dict[str, Any], coord: str) -> dict[str, Any] | None:
    """A line that does not say all, as an item to store; None where it has expired."""
    payload = line["payload"] if line.get("kind") == "memory" or "payload" in line else _old_payload(line)
    item = {"coord": coord, "payload": payload, "type": line.get("memory_type") or "episodic"}
    item |= {name: line[name] for name in OLD if line.get(name) is not None}
    if line.get("expires_at") is not None:
        left = float(line["expires_at"]) - time.time()
        if left <= 0:
            return None
        item["ttl"] = f"{left:.3f}s"
    return item


def _old_payload(line: dict[str, Any]) -> dict[str, Any]:
    """The payload in a line of the old service, which wrote its own fields among the payload's."""
    added = {"coordinate", "memory_type", "importance_norm", "access_count", "links"}
    return {name: value for name, value in line.items() if name not in added}
