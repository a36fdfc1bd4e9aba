"""Commands that move links: GraphML out and in."""

from __future__ import annotations

import argparse
import contextlib
import json
import shutil
import tempfile
import zlib
from collections.abc import Iterator
from typing import IO, TYPE_CHECKING, Any

from memory_runtime.surfaces.cli.client import Client
from memory_runtime.surfaces.cli.input_file import Fault, Line, reading_bytes
from memory_runtime.surfaces.cli.intake import Intake
from memory_runtime.surfaces.cli.old_lines import show_as
from memory_runtime.surfaces.cli.results import EXIT_USAGE, CommandFailed
from memory_runtime.surfaces.cli.transfer import links, writing

if TYPE_CHECKING:
    from memory_runtime.model.errors import InvalidArgument
    from memory_runtime.stores.graph.graphml import Refused


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
    intake = Intake(arguments.path, start_at=1, rejects=arguments.rejects, what="linked")
    missing = 0

    def send(links: list[dict[str, Any]]) -> None:
        nonlocal missing
        done = client.post("/graph/links", {"links": links, "skip_missing": arguments.skip_missing})
        missing += int(done["missing"])
        intake.count(int(done["linked"]))

    def refuse(number: int, told: dict[str, str], error: InvalidArgument) -> None:
        def fault(_: dict[str, Any]) -> None:
            raise Fault(error.message, error.remedy or "mend the link")

        intake.take(_as_line(number, told), fault)

    with _opened(arguments.path) as file:
        for _ in _edges(file, arguments.path, (lambda *_: None) if arguments.rejects else None):
            pass  # a fault anywhere in the file must not leave half of it linked
        file.seek(0)
        try:
            for number, edge in _edges(file, arguments.path, refuse if arguments.rejects else None):
                intake.take(_as_line(number, edge), lambda link: (send, link))
            intake.finish()
        except CommandFailed as failure:
            words = f"{arguments.path}: {failure}. {intake.stored:,} were linked before; the file may be repeated"
            raise CommandFailed(words, failure.exit_code) from None
    text = f"linked {intake.stored:,}"
    if missing:
        text += f"; {missing:,} were left out, as an end of theirs holds no memory"
    done = {"linked": intake.stored, "left_out": missing} | intake.counted_rejects()
    show_as(arguments, done, text + intake.told_rejects(), old="OK")
    return intake.exit_code


def _as_line(number: int, value: dict[str, Any]) -> Line:
    return Line(number, json.dumps(value, ensure_ascii=False).encode())


def _edges(file: IO[bytes], name: str, refused: Refused | None) -> Iterator[tuple[int, dict[str, Any]]]:
    """Each link with the line that it ends on."""
    from memory_runtime.model.coordinates import canonical_coordinate
    from memory_runtime.model.errors import InvalidArgument
    from memory_runtime.stores.graph.graphml import numbered_edges

    try:
        for line, edge in numbered_edges(file, refused):
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
