"""Commands that move links: GraphML out and in."""

from __future__ import annotations

import argparse
import contextlib
import itertools
import shutil
import tempfile
import zlib
from collections.abc import Iterator
from typing import IO, Any

from memory_runtime.surfaces.cli.client import Client, Refused
from memory_runtime.surfaces.cli.input_file import reading_bytes
from memory_runtime.surfaces.cli.intake import AT, BATCH
from memory_runtime.surfaces.cli.old_lines import show_as
from memory_runtime.surfaces.cli.results import EXIT_USAGE, CommandFailed, Progress
from memory_runtime.surfaces.cli.transfer import links, writing


def export_graph(arguments: argparse.Namespace) -> int:
    """Writes every link of the scope. A file appears whole or not at all."""
    from memory_runtime.model.coordinates import parse_coordinate
    from memory_runtime.model.records import Edge
    from memory_runtime.stores.graph.graphml import write_graphml

    client = Client(arguments)
    edges = (
        Edge(
            parse_coordinate(one["from_coord"]),
            parse_coordinate(one["to_coord"]),
            one["link_type"],
            one["strength"],
            one["metadata"],
        )
        for one in links(client)
    )
    with writing(arguments.path) as file:
        count = write_graphml(file, edges)
    if arguments.path != "-":
        show_as(arguments, {"exported": count}, f"exported {count:,} links to {arguments.path}", old="OK")
    return 0


def import_graph(arguments: argparse.Namespace) -> int:
    """Links as the file says. The whole file is read before the first link is made."""
    client = Client(arguments)
    progress = Progress("linked")
    linked = missing = 0
    with _opened(arguments.path) as file:
        for _ in _edges(file, arguments.path):
            pass  # a fault anywhere in the file must not leave half of it linked
        file.seek(0)
        edges = _edges(file, arguments.path)
        while batch := list(itertools.islice(edges, BATCH)):
            try:
                body = {"links": [edge for _, edge in batch], "skip_missing": arguments.skip_missing}
                done = client.post("/graph/links", body)
            except CommandFailed as failure:
                where = f"lines {batch[0][0]} to {batch[-1][0]}"
                if isinstance(failure, Refused) and (match := AT.match(failure.field)) and int(match[1]) < len(batch):
                    where = f"line {batch[int(match[1])][0]}"
                words = f"{arguments.path}: {where}: {failure}. {linked:,} were linked before; the file may be repeated"
                raise CommandFailed(words, failure.exit_code) from None
            linked += int(done["linked"])
            missing += int(done["missing"])
            progress.at(linked)
    progress.done(linked)
    text = f"linked {linked:,}"
    if missing:
        text += f"; {missing:,} were left out, as an end of theirs holds no memory"
    return show_as(arguments, {"linked": linked, "left_out": missing}, text, old="OK")


def _edges(file: IO[bytes], name: str) -> Iterator[tuple[int, dict[str, Any]]]:
    """Each link with the line that it ends on."""
    from memory_runtime.model.coordinates import canonical_coordinate
    from memory_runtime.model.errors import InvalidArgument
    from memory_runtime.stores.graph.graphml import numbered_edges

    try:
        for line, edge in numbered_edges(file):
            yield (
                line,
                {
                    "from_coord": canonical_coordinate(edge.source),
                    "to_coord": canonical_coordinate(edge.target),
                    "link_type": edge.link_type,
                    "strength": edge.weight,
                    "metadata": edge.metadata,
                },
            )
    except InvalidArgument as error:
        raise CommandFailed(f"{name}: {error.message}; {error.remedy}. Nothing was linked", EXIT_USAGE) from None
    except (OSError, EOFError, zlib.error) as error:
        raise CommandFailed(f"{name}: cannot be read: {error}. Nothing was linked", EXIT_USAGE) from None


@contextlib.contextmanager
def _opened(path: str) -> Iterator[IO[bytes]]:
    """The file, which can be read twice; standard input is kept aside for that."""
    with reading_bytes(path) as file:
        if path != "-":
            yield file
            return
        with tempfile.TemporaryFile() as kept:
            shutil.copyfileobj(file, kept)
            kept.seek(0)
            yield kept
