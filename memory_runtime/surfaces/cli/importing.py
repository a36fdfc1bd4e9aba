"""`import-memories`: what export-memories wrote, of this version or an earlier one, or the service we replace.

Lines that say all of a memory (schema 2) are put back as they were; older ones are stored like new ones. Links come
after the memories that they join, as they stand in the file.
"""

from __future__ import annotations

import argparse
import time
from typing import Any

from memory_runtime.model.coordinates import canonical_coordinate, parse_coordinate
from memory_runtime.model.errors import InvalidArgument
from memory_runtime.model.timestamps import parse_timestamp
from memory_runtime.surfaces.cli.client import Client
from memory_runtime.surfaces.cli.input_file import Fault, Line, reading
from memory_runtime.surfaces.cli.intake import BATCH, Intake, Send
from memory_runtime.surfaces.cli.old_lines import show_as
from memory_runtime.surfaces.cli.results import EXIT_FAILED
from memory_runtime.surfaces.cli.transfer import KEPT, SCHEMA

OLD = ("timestamp", "importance", "features", "pinned", "vector")
ENDS = frozenset({"archive", "end"})
"""Kinds of the first and the last line of an archive of retention."""
NO_MEMORY = ENDS | {"link"}
LINK = ("from_coord", "to_coord", "link_type", "strength", "metadata")


def import_memories(arguments: argparse.Namespace) -> int:
    """Stores exported memories and their links; what has expired meanwhile is left out."""
    intake = Intake(arguments.path, start_at=arguments.start_at, rejects=arguments.rejects, what="imported")
    importing = _Import(Client(arguments), intake, replace=arguments.replace)
    with intake.telling(), reading(arguments.path) as file:
        for line in file.lines():
            importing.take(line)
        intake.finish()
        importing.prune()
    memories = intake.stored - importing.links
    done = {"imported": memories, "links": importing.links, "links_left_out": importing.left_out}
    done |= {"held": importing.held} if importing.held else {}
    text = f"imported {memories:,} memories" + (f" and {importing.links:,} links" if importing.links else "")
    if importing.left_out:
        text += f"; {importing.left_out:,} links ended with memories that have expired"
    told = text + intake.told_rejects() + importing.told_others()
    show_as(arguments, done | intake.counted_rejects(), told, old={"imported": memories} | intake.counted_rejects())
    return EXIT_FAILED if importing.held else intake.exit_code


class _Import:
    """One file on its way to a server.

    To replace is to delete, and nothing is deleted before what takes its place is durable: each line takes the place of
    the memory of its type in one transaction, and those of types that no line names go once every line is stored.
    """

    def __init__(self, client: Client, intake: Intake, *, replace: bool) -> None:
        self.links = 0
        self.left_out = 0
        self._client = client
        self._intake = intake
        self._replace = replace
        self.held = 0
        self._named: dict[str, set[str]] = {}
        self._stored: set[str] = set()
        self._all_named = True
        self._expired: set[str] = set()

    def take(self, line: Line) -> None:
        """Takes one line of the file."""
        if line.number < self._intake.start_at:
            self._pass_over(line)
        self._intake.take(line, self._prepare)

    def prune(self) -> None:
        """Deletes what else is at the coordinates, if every line was stored: one left out may be what names it."""
        if not self._prunes:
            return
        places = [{"coord": coord, "stay": sorted(self._named[coord])} for coord in sorted(self._stored)]
        for start in range(0, len(places), BATCH):
            done = self._client.post("/memories/prune", {"places": places[start : start + BATCH]})
            self.held += len(done["held"])

    @property
    def _prunes(self) -> bool:
        return self._replace and self._all_named and not self._intake.rejected

    def told_others(self) -> str:
        """What a summary adds about memories of types that no line names."""
        if self.held:
            return f"; at {self.held:,} coordinates memories of other types stay, as one is under a legal hold"
        if self._replace and not self._prunes:
            return "; memories of other types at their coordinates stay"
        return ""

    def _name(self, line: dict[str, Any], coord: str) -> str:
        """Notes that the file has a memory of this type at the coordinate; returns the coordinate's canonical text."""
        place = _place(coord)
        if self._replace:
            self._named.setdefault(place, set()).add(_type(line))
        return place

    def _prepare(self, line: dict[str, Any]) -> tuple[Send, dict[str, Any]] | None:
        if line.get("kind") in ENDS:
            return None
        schema = line.get("schema", 1)
        if not isinstance(schema, int) or schema > SCHEMA:
            raise Fault(f"schema {schema!r} is of a newer version", "upgrade soma")
        if line.get("kind") == "link":
            link = {name: line[name] for name in LINK if name in line}
            # a link ends with the last memory at either end
            ended = not self._expired.isdisjoint((str(line.get("from_coord")), str(line.get("to_coord"))))
            return (self._link_if_there if ended else self._link), link
        coord = _coord(line)
        self._name(line, coord)
        if _has_expired(line):
            self._expired.add(coord)
        if line.get("kind") == "memory" and schema >= 2:
            return self._restore, {name: line[name] for name in KEPT if name in line}
        item = _old_item(line, coord)
        return None if item is None else (self._store, item)

    def _pass_over(self, line: Line) -> None:
        # it is stored since the run before this one, and must not be deleted as one that no line names
        try:
            value = line.value()
            if value.get("kind") in NO_MEMORY:
                return
            coord = _coord(value)
            place = self._name(value, coord)
            if _has_expired(value):
                self._expired.add(coord)
            else:
                self._stored.add(place)
        except Fault:
            self._all_named = False

    def _store(self, items: list[dict[str, Any]]) -> None:
        done = self._client.post("/store_bulk", {"items": items, "replace": self._replace})
        self._stored.update(_place(item["coord"]) for item in items)
        self._intake.count(int(done["stored"]))

    def _restore(self, items: list[dict[str, Any]]) -> None:
        done = self._client.post("/memories/import", {"items": items, "replace": self._replace})
        self._stored.update(_place(_coord(item)) for item in items if not _has_expired(item))
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


def _place(coord: str) -> str:
    """The coordinate's canonical text; where it is none the text itself, which the server will refuse."""
    try:
        return canonical_coordinate(parse_coordinate(coord))
    except InvalidArgument:
        return coord


def _type(line: dict[str, Any]) -> str:
    return str(line.get("memory_type") or "episodic")


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
