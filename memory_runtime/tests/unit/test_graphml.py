"""GraphML: what is written comes back, what others wrote is read, what is none is refused with its line."""

from __future__ import annotations

import io
from pathlib import Path

import networkx as nx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from memory_runtime.model.errors import InvalidArgument
from memory_runtime.model.records import Edge
from memory_runtime.stores.graph.graphml import read_graphml, write_graphml

numbers = st.floats(allow_nan=False, allow_infinity=False).map(lambda value: value + 0.0)
coordinates = st.lists(numbers, min_size=1, max_size=4).map(tuple)
names = st.text(min_size=1, max_size=20).filter(str.isprintable)
values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**53), 2**53)
    | numbers
    | st.text(st.characters(exclude_categories=["Cs"])),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)
edges = st.builds(
    Edge, coordinates, coordinates, names, numbers.map(abs), st.dictionaries(st.text(max_size=8), values, max_size=3)
)


def written(found: list[Edge]) -> str:
    file = io.StringIO()
    assert write_graphml(file, found) == len(found)
    return file.getvalue()


def read(text: str | bytes) -> list[Edge]:
    return list(read_graphml(io.BytesIO(text.encode() if isinstance(text, str) else text)))


@settings(max_examples=60, deadline=None)
@given(st.lists(edges, max_size=5))
def test_every_edge_comes_back_as_it_was(found: list[Edge]) -> None:
    assert read(written(found)) == found


def test_control_characters_and_markup_in_metadata_survive() -> None:
    edge = Edge((1.0,), (2.0,), 'a<b>&"c" ü🌱', 1e-300, {"\x00\x1f]]>": "\ud7ff\ufffe\n\r\t", "<&>": {"'": '"'}})
    assert read(written([edge])) == [edge]


def test_networkx_reads_what_is_written_and_its_own_file_is_read(tmp_path: Path) -> None:
    sent = [Edge((1.0, 2.0), (3.0,), "cites", 0.5, {"n": 1}), Edge((3.0,), (3.0,), "self", 2.0, {})]
    path = tmp_path / "graph.graphml"
    path.write_text(written(sent), encoding="utf-8")
    graph = nx.read_graphml(path)
    assert set(graph.nodes) == {"1.0,2.0", "3.0"}
    assert graph.edges["1.0,2.0", "3.0"]["weight"] == 0.5

    # as the service we replace kept it: nodes are tuples, the time of the link stands beside
    theirs = nx.DiGraph()
    theirs.add_edge((1.0, 2.0), (3.0,), link_type="related", weight=0.25, timestamp=1.5e9, strong=True, count=3)
    nx.write_graphml(theirs, path)
    metadata = {"timestamp": 1.5e9, "strong": True, "count": 3}
    assert read(path.read_bytes()) == [Edge((1.0, 2.0), (3.0,), "related", 0.25, metadata)]


def test_an_undirected_edge_is_two_links_and_defaults_count() -> None:
    text = """<graphml><key id="d0" for="edge" attr.name="weight" attr.type="double"><default>3</default></key>
    <graph edgedefault="undirected"><edge source="1" target="2"/><edge source="2" target="2" directed="true"/></graph>
    </graphml>"""
    found = [(one.source, one.target, one.weight) for one in read(text)]
    assert found == [((1.0,), (2.0,), 3.0), ((2.0,), (1.0,), 3.0), ((2.0,), (2.0,), 3.0)]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "line 1"),
        ("not xml", "line 1"),
        ("<html/>", "html"),
        ("<graphml>\n<graph>\n<edge source='a' target='1'/></graph></graphml>", "line 3: source: 'a'"),
        ("<graphml><graph><edge source='1' target='(1, __import__(1))'/></graph></graphml>", "target"),
        ("<graphml><graph><edge source='1' target='nan'/></graph></graphml>", "target"),
        ("<graphml><graph><edge source='1' target='2'><data key='weight'>-1</data></edge></graph></graphml>", "weight"),
        ("<graphml><graph><edge source='1' target='2'><data key='weight'>x</data></edge></graph></graphml>", "x"),
        (
            "<graphml><graph><edge source='1' target='2'><data key='metadata'>[]</data></edge></graph></graphml>",
            "object",
        ),
        ("<graphml><graph><edge source='1'", "line 1"),
        ("<!DOCTYPE g [<!ENTITY a 'aaa'>]><graphml>&a;</graphml>", "document type"),
    ],
)
def test_what_is_no_graph_of_memories_is_refused(text: str, said: str) -> None:
    with pytest.raises(InvalidArgument) as refused:
        read(text)
    assert said in refused.value.message
    assert refused.value.remedy
