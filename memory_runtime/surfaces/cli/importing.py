"""`import-memories`: what export-memories wrote, of this version or an earlier one, or the service we replace.

Lines that say all of a memory (schema 2) are put back as they were; older ones are stored like new ones. Links come
after the memories that they join, as they stand in the file.
"""

from __future__ import annotations

import argparse
import contextlib
import time
from collections.abc import Iterable
from typing import Any

from memory_runtime.model.errors import InvalidArgument
from memory_runtime.model.timestamps import parse_timestamp
from memory_runtime.surfaces.cli.client import Client, delete_at
from memory_runtime.surfaces.cli.input_file import Fault, Line, reading
from memory_runtime.surfaces.cli.intake import Intake, Send
from memory_runtime.surfaces.cli.old_lines import show_as
from memory_runtime.surfaces.cli.transfer import KEPT, SCHEMA

OLD = ("timestamp", "importance", "features", "pinned", "vector")
LINK = ("from_coord", "to_coord", "link_type", "strength", "metadata")


def import_memories(arguments: argparse.Namespace) -> int:
    """Stores exported memories and their links; what has expired meanwhile is left out."""
    intake = Intake(arguments.path, start_at=arguments.start_at, rejects=arguments.rejects, what="imported")
    importing = _Import(Client(arguments), intake, replace=arguments.replace)
    with intake.telling(), reading(arguments.path) as file:
        for line in file.lines():
            importing.take(line)
        intake.finish()
    memories = intake.stored - importing.links
    done = {"imported": memories, "links": importing.links, "links_left_out": importing.left_out}
    text = f"imported {memories:,} memories" + (f" and {importing.links:,} links" if importing.links else "")
    if importing.left_out:
        text += f"; {importing.left_out:,} links ended with memories that have expired"
    told = text + intake.told_rejects()
    show_as(arguments, done | intake.counted_rejects(), told, old={"imported": memories} | intake.counted_rejects())
    return intake.exit_code


class _Import:
    """One file on its way to a server."""

    def __init__(self, client: Client, intake: Intake, *, replace: bool) -> None:
        self.links = 0
        self.left_out = 0
        self._client = client
        self._intake = intake
        self._replace = replace
        self._gone: set[str] = set()
        self._expired: set[str] = set()

    def take(self, line: Line) -> None:
        """Takes one line of the file."""
        if line.number < self._intake.start_at:
            self._pass_over(line)
        self._intake.take(line, self._prepare)

    def _prepare(self, line: dict[str, Any]) -> tuple[Send, dict[str, Any]] | None:
        if line.get("kind") in {"archive", "end"}:
            return None  # the first and the last line of an archive of retention
        schema = line.get("schema", 1)
        if not isinstance(schema, int) or schema > SCHEMA:
            raise Fault(f"schema {schema!r} is of a newer version", "upgrade soma")
        if line.get("kind") == "link":
            link = {name: line[name] for name in LINK if name in line}
            # a link ends with the last memory at either end
            ended = not self._expired.isdisjoint((str(line.get("from_coord")), str(line.get("to_coord"))))
            return (self._link_if_there if ended else self._link), link
        coord = _coord(line)
        if _has_expired(line):
            self._expired.add(coord)
        if line.get("kind") == "memory" and schema >= 2:
            return self._restore, {name: line[name] for name in KEPT if name in line}
        item = _old_item(line, coord)
        return None if item is None else (self._store, item)

    def _pass_over(self, line: Line) -> None:
        # it is stored since the run before this one: what is at its coordinate must not be deleted for a later line
        with contextlib.suppress(Fault):
            value = line.value()
            if value.get("kind") != "link":
                self._gone.add(_coord(value))
                if _has_expired(value):
                    self._expired.add(_coord(value))

    def _clear(self, coords: Iterable[str]) -> None:
        # once a coordinate: two memory types of the file may share one
        for coord in coords:
            if self._replace and coord not in self._gone:
                delete_at(self._client, coord)
                self._gone.add(coord)

    def _store(self, items: list[dict[str, Any]]) -> None:
        self._clear(item["coord"] for item in items)
        self._intake.count(int(self._client.post("/store_bulk", {"items": items})["stored"]))

    def _restore(self, items: list[dict[str, Any]]) -> None:
        self._clear(map(_coord, items))
        done = self._client.post("/memories/import", {"items": items})
        self._intake.count(int(done["restored"]) + int(done["updated"]))

    def _link(self, items: list[dict[str, Any]]) -> None:
        self._send_links(items, skip_missing=False)

    def _link_if_there(self, items: list[dict[str, Any]]) -> None:
        self._send_links(items, skip_missing=True)

    def _send_links(self, items: list[dict[str, Any]], *, skip_missing: bool) -> None:
        done = self._client.post("/graph/links", {"links": items, "skip_missing": skip_missing})
        self.links += int(done["linked"])
        self.left_out += int(done["missing"])
        self._intake.count(int(done["linked"]))


def _coord(line: dict[str, Any]) -> str:
    values = line.get("coordinate")
    if values is None:
        raise Fault("no coordinate", "was this written by export-memories?")
    wrong = Fault("coordinate: not a list of numbers", "write it as [1, 2, 3]")
    if not isinstance(values, list) or not values:
        raise wrong
    try:
        # an integer stays one: the server sees whether a float can hold it
        return ",".join([repr(value if isinstance(value, int) else float(value)) for value in values])
    except (TypeError, ValueError, OverflowError):
        raise wrong from None


def _old_item(line: dict[str, Any], coord: str) -> dict[str, Any] | None:
    """A line that does not say all, as an item to store; None where it has expired."""
    payload = line["payload"] if line.get("kind") == "memory" or "payload" in line else _old_payload(line)
    item = {"coord": coord, "payload": payload, "type": line.get("memory_type") or "episodic"}
    item |= {name: line[name] for name in OLD if line.get(name) is not None}
    if line.get("model_revision") not in (None, "", "client"):
        # a model's vector, and which model's is lost on the way: the server makes its own
        item.pop("vector", None)
    if _has_expired(line):
        return None
    if (expiry := _expiry(line)) is not None and (left := expiry - time.time()) > 0:
        item["ttl"] = f"{left:.3f}s"
    return item


def _expiry(line: dict[str, Any]) -> float | None:
    try:
        return None if line.get("expires_at") is None else parse_timestamp(line["expires_at"], field="expires_at")
    except InvalidArgument as error:
        raise Fault(error.message, error.remedy or "mend the line") from None


def _has_expired(line: dict[str, Any]) -> bool:
    """Whether its time is over; what is pinned or held outlives it."""
    expiry = _expiry(line)
    return expiry is not None and expiry <= time.time() and not (line.get("pinned") or line.get("hold"))


def _old_payload(line: dict[str, Any]) -> dict[str, Any]:
    """The payload in a line of the old service, which wrote its own fields among the payload's."""
    added = {"coordinate", "memory_type", "importance_norm", "access_count", "links"}
    return {name: value for name, value in line.items() if name not in added}
