"""GraphML out and in: a scope's links as a file that NetworkX, Gephi, yEd and the service we replace read and wrote.

Both ways are streams: neither holds the graph. Nodes are canonical coordinates; an edge has `link_type`, `weight` and
`metadata`, the last as JSON in ASCII, since XML cannot carry every character that JSON can. What is read may also be
the old service's file (nodes like `(1.0, 2.0)`, further attributes beside, which become metadata). A document type
declaration is refused: with it comes everything that makes XML dangerous.
"""

from __future__ import annotations

import ast
import json
from collections.abc import Callable, Iterable, Iterator
from typing import IO, Any, Final
from xml.parsers import expat
from xml.sax.saxutils import escape, quoteattr

from memory_runtime.model.canonical import parse_json
from memory_runtime.model.coordinates import Coordinate, make_coordinate, parse_coordinate
from memory_runtime.model.errors import InvalidArgument
from memory_runtime.model.records import Edge, check_name
from memory_runtime.stores.walking import step_of

_CHUNK: Final = 1 << 16
_LONGEST_TEXT: Final = 16 << 20
_HEAD: Final = """<?xml version="1.0" encoding="UTF-8"?>
<graphml xmlns="http://graphml.graphdrawing.org/xmlns">
  <key id="link_type" for="edge" attr.name="link_type" attr.type="string"/>
  <key id="weight" for="edge" attr.name="weight" attr.type="double"/>
  <key id="metadata" for="edge" attr.name="metadata" attr.type="string"/>
  <graph edgedefault="directed">
"""
_TAIL: Final = "  </graph>\n</graphml>\n"
_TYPES: Final[dict[str, Callable[[str], Any]]] = {
    "boolean": lambda text: text.strip().lower() == "true",
    "int": int,
    "long": int,
    "float": float,
    "double": float,
    "string": str,
}


def write_graphml(file: IO[str], edges: Iterable[Edge]) -> int:
    """Writes the edges; returns how many. Nodes are declared before the first edge that names them.

    Keeps the nodes' names in memory, no edges.
    """
    file.write(_HEAD)
    known: set[str] = set()
    count = 0
    for edge in edges:
        count += 1
        step = step_of(edge)
        for node in (step.source, step.target):
            if node not in known:
                known.add(node)
                file.write(f"    <node id={quoteattr(node)}/>\n")
        metadata = json.dumps(edge.metadata, sort_keys=True, separators=(",", ":"), allow_nan=False)
        file.write(
            f"    <edge source={quoteattr(step.source)} target={quoteattr(step.target)}>\n"
            f'      <data key="link_type">{escape(edge.link_type)}</data>\n'
            f'      <data key="weight">{edge.weight!r}</data>\n'
            f'      <data key="metadata">{escape(metadata)}</data>\n    </edge>\n'
        )
    file.write(_TAIL)
    return count


Refused = Callable[[int, dict[str, str], InvalidArgument], None]


def read_graphml(file: IO[bytes]) -> Iterator[Edge]:
    """The edges of a GraphML file, in its order. Raises InvalidArgument with the line where it is none."""
    return (edge for _, edge in numbered_edges(file))


def numbered_edges(file: IO[bytes], refused: Refused | None = None) -> Iterator[tuple[int, Edge]]:
    """The edges, each with the line where its element ends, from 1. Raises InvalidArgument with the line.

    An edge that is none goes to `refused`, if given: line, its attributes and data as texts, and what is wrong.
    """
    reading = _Reading(refused)
    while data := file.read(_CHUNK):
        reading.feed(data, last=False)
        yield from reading.taken()
    reading.feed(b"", last=True)
    yield from reading.taken()
    if not reading.rooted:
        raise _wrong("it holds no graphml element", 1)


class _Reading:
    """One pass of an expat parser over a file."""

    def __init__(self, refused: Refused | None) -> None:
        self.rooted = False
        self._refused = refused
        self._parser = expat.ParserCreate(namespace_separator=" ")
        self._parser.StartElementHandler = self._start
        self._parser.EndElementHandler = self._end
        self._parser.CharacterDataHandler = self._text
        self._parser.StartDoctypeDeclHandler = self._doctype
        self._keys: dict[str, tuple[str, str, str]] = {}
        self._defaults: dict[str, str] = {}
        self._default_of: str | None = None
        self._undirected = False
        self._edge: dict[str, str] | None = None
        self._values: dict[str, str] = {}
        self._key: str | None = None
        self._parts: list[str] = []
        self._length = 0
        self._edges: list[tuple[int, Edge]] = []

    def feed(self, data: bytes, *, last: bool) -> None:
        try:
            self._parser.Parse(data, last)
        except expat.ExpatError as error:
            raise _wrong(expat.errors.messages.get(error.code, "malformed"), error.lineno) from None

    def taken(self) -> list[tuple[int, Edge]]:
        edges, self._edges = self._edges, []
        return edges

    def _doctype(self, *_: Any) -> None:
        raise _wrong("a document type declaration is not taken", self._parser.CurrentLineNumber)

    def _start(self, name: str, attributes: dict[str, str]) -> None:
        tag = name.rpartition(" ")[2]
        self._parts, self._length = [], 0
        if not self.rooted:
            if tag != "graphml":
                raise _wrong(f"its root is {tag}, not graphml", self._parser.CurrentLineNumber)
            self.rooted = True
        elif tag == "key":
            self._keys[attributes.get("id", "")] = (
                attributes.get("for", "all"),
                attributes.get("attr.name", attributes.get("id", "")),
                attributes.get("attr.type", "string"),
            )
            self._default_of = attributes.get("id", "")
        elif tag == "graph":
            self._undirected = attributes.get("edgedefault") == "undirected"
        elif tag == "edge":
            self._edge, self._values = dict(attributes), {}
        elif tag == "data":
            self._key = attributes.get("key")

    def _text(self, data: str) -> None:
        self._length += len(data)
        if self._length > _LONGEST_TEXT:
            raise _wrong("a text in it is longer than 16 MiB", self._parser.CurrentLineNumber)
        self._parts.append(data)

    def _end(self, name: str) -> None:
        tag = name.rpartition(" ")[2]
        text = "".join(self._parts)
        if tag == "default" and self._default_of is not None:
            self._defaults[self._default_of] = text
        elif tag == "key":
            self._default_of = None
        elif tag == "data" and self._edge is not None and self._key is not None:
            self._values[self._key] = text
        elif tag == "edge" and self._edge is not None:
            try:
                self._finish(self._edge)
            except InvalidArgument as error:
                if self._refused is None:
                    raise
                self._refused(self._parser.CurrentLineNumber, self._edge | self._values, error)
            self._edge = None

    def _finish(self, attributes: dict[str, str]) -> None:
        line = self._parser.CurrentLineNumber
        defaults = {key: text for key, text in self._defaults.items() if self._keys[key][0] in {"edge", "all"}}
        values = {}
        for key, text in (defaults | self._values).items():
            _, name, kind = self._keys.get(key, ("edge", key, "string"))
            try:
                values[name] = _TYPES.get(kind, str)(text)
            except ValueError:
                raise _wrong(f"{name}: {text[:80]!r} is no {kind}", line) from None
        edge = _edge(attributes, values, line)
        self._edges.append((line, edge))
        directed = attributes.get("directed", "false" if self._undirected else "true") != "false"
        if not directed and edge.source != edge.target:
            turned = Edge(edge.target, edge.source, edge.link_type, edge.weight, edge.metadata)
            self._edges.append((line, turned))


def _edge(attributes: dict[str, str], values: dict[str, Any], line: int) -> Edge:
    source, target = (_node(attributes, end, line) for end in ("source", "target"))
    link_type = values.pop("link_type", None) or values.pop("type", None) or "related"
    weight = values.pop("weight", None)
    strength = values.pop("strength", None)
    found = next((one for one in (weight, strength) if one is not None), 1.0)
    metadata = values.pop("metadata", "{}")
    try:
        check_name(link_type, field="link_type")
        held = parse_json(metadata, field="metadata") if isinstance(metadata, str) else None
        number = float(found)
    except (InvalidArgument, ValueError, OverflowError) as error:
        raise _wrong(str(error), line) from None
    if not isinstance(held, dict):
        raise _wrong("metadata: not a JSON object", line)
    if not 0.0 <= number < float("inf"):
        raise _wrong(f"weight: {number!r} is not a finite number ≥ 0", line)
    return Edge(source, target, link_type, number, held | values)


def _node(attributes: dict[str, str], end: str, line: int) -> Coordinate:
    text = attributes.get(end, "")
    try:
        if text[:1] in {"(", "["}:  # Python's own text of a tuple, as the service we replace wrote it
            return make_coordinate(ast.literal_eval(text), field=end)
        return parse_coordinate(text, field=end)
    except (InvalidArgument, ValueError, SyntaxError, TypeError, MemoryError, RecursionError):
        raise _wrong(f"{end}: {text[:80]!r} is not a coordinate", line) from None


def _wrong(reason: str, line: int) -> InvalidArgument:
    return InvalidArgument(
        f"GraphML, line {line}: {reason}",
        field="path",
        remedy="write it with `soma export-graph`, or nodes as coordinates such as 1,2,3",
    )
