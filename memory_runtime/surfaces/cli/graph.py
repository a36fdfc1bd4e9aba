"""Commands that move links: GraphML out and in."""

from __future__ import annotations

import argparse
import contextlib
import itertools
import shutil
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

from memory_runtime.surfaces.cli.client import Client
from memory_runtime.surfaces.cli.results import EXIT_USAGE, CommandFailed, Progress, show
from memory_runtime.surfaces.cli.transfer import BATCH, links, writing


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
        show({"exported": count}, f"exported {count:,} links to {arguments.path}", as_json=arguments.json)
    return 0


def import_graph(arguments: argparse.Namespace) -> int:
    """Links as the file says, in batches that are each all or nothing. The whole file is read before the first."""
    client = Client(arguments)
    progress = Progress("linked")
    linked = missing = 0
    with _opened(arguments.path) as file:
        for _ in _edges(file):
            pass  # a fault anywhere in the file must not leave half of it linked
        file.seek(0)
        edges = _edges(file)
        while batch := list(itertools.islice(edges, BATCH)):
            done = client.post("/graph/links", {"links": batch, "skip_missing": arguments.skip_missing})
            linked += int(done["linked"])
            missing += int(done["missing"])
            progress.at(linked)
    progress.done(linked)
    text = f"linked {linked:,}" + (f"; {missing:,} join memories that are not there" if missing else "")
    return show({"linked": linked, "left_out": missing}, text, as_json=arguments.json)


def _edges(file: IO[bytes]) -> Iterator[dict[str, Any]]:
    from memory_runtime.model.coordinates import canonical_coordinate
    from memory_runtime.model.errors import InvalidArgument
    from memory_runtime.stores.graph.graphml import read_graphml

    try:
        for edge in read_graphml(file):
            yield {
                "from_coord": canonical_coordinate(edge.source),
                "to_coord": canonical_coordinate(edge.target),
                "link_type": edge.link_type,
                "strength": edge.weight,
                "metadata": edge.metadata,
            }
    except InvalidArgument as error:
        raise CommandFailed(f"{error.message}; {error.remedy}", EXIT_USAGE) from None


@contextlib.contextmanager
def _opened(path: str) -> Iterator[IO[bytes]]:
    """The file, which can be read twice; standard input is kept aside for that."""
    try:
        file = tempfile.TemporaryFile() if path == "-" else Path(path).open("rb")  # noqa: SIM115 -- closed below
    except OSError as error:
        raise CommandFailed(f"cannot read {path}: {error.strerror}", EXIT_USAGE) from None
    with file:
        if path == "-":
            shutil.copyfileobj(sys.stdin.buffer, file)
            file.seek(0)
        yield file
