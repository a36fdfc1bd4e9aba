"""Files that users hand to `soma`: every fault is a sentence with file, line and remedy, and says how far it came."""

from __future__ import annotations

import gzip
import json
import subprocess
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from memory_runtime.tests.integration.conftest import COMMAND, Server, clean_environment

pytestmark = pytest.mark.integration

Run = Callable[..., subprocess.CompletedProcess[str]]


def line(number: int, text: str = "fact") -> bytes:
    """A memory that both commands take."""
    return json.dumps({"coord": str(number), "coordinate": [number], "payload": {"text": f"{text} {number}"}}).encode()


@pytest.fixture
def soma(server: Server) -> Run:
    """Runs commands in a tenant of the test's own; standard input is bytes."""
    tenant = uuid.uuid4().hex

    def run(command: str, *arguments: str, stdin: bytes = b"") -> subprocess.CompletedProcess[str]:
        environment = clean_environment(SOMA_URL=server.url, SOMA_DATA_DIR=str(server.data_dir))
        done = subprocess.run(
            [*COMMAND, command, *arguments[:1], "--tenant", tenant, *arguments[1:]]
            if command in {"flags", "retention"}
            else [*COMMAND, command, "--tenant", tenant, *arguments],
            env=environment,
            input=stdin,
            capture_output=True,
            timeout=60,
        )
        assert b"Traceback" not in done.stderr
        assert b"internal error" not in done.stderr
        return subprocess.CompletedProcess(done.args, done.returncode, done.stdout.decode(), done.stderr.decode())

    return run


def total(soma: Run) -> int:
    return int(json.loads(soma("stats", "--json").stdout)["total_memories"])


def test_a_mark_of_utf8_crlf_and_separators_inside_text_are_no_faults(soma: Run, tmp_path: Path) -> None:
    text = "one\u2028two\u2029three\x85four"
    whole = json.dumps({"coordinate": [1], "payload": {"text": text}}, ensure_ascii=False).encode()
    for name, data in {
        "bom": b"\xef\xbb\xbf" + whole + b"\n",
        "crlf": whole + b"\r\n\r\n",
        "unended": whole,
        "gzip whatever its name": gzip.compress(b"\xef\xbb\xbf" + whole),
    }.items():
        path = tmp_path / f"{name}.jsonl"
        path.write_bytes(data)
        done = soma("import-memories", "--path", str(path))
        assert (done.returncode, done.stdout) == (0, "imported 1 memories\n"), (name, done.stderr)
        assert json.loads(soma("get", "--coord", "1", "--json").stdout)["payload"] == {"text": text}
        item = json.dumps({"coord": "2", "payload": {"text": text}}, ensure_ascii=False).encode()
        done = soma("store-bulk", "--file", "-", stdin=b"\xef\xbb\xbf" + item + b"\r\n")
        assert (done.returncode, done.stdout) == (0, "stored 1 memories\n"), done.stderr


BROKEN: dict[str, tuple[bytes, str]] = {
    "not json": (b'{"coordinate": [2], ', "not JSON at column"),
    "latin-1": (b'{"coordinate": [2], "payload": {"text": "Gr\xfc\xdfe"}}', "byte 0xfc at column 44 is not UTF-8"),
    "nul": (b'{"coordinate": [2], "payload": {}}\0', "a NUL byte at column 35"),
    "no object": (b"[1, 2]", "expected a JSON object"),
    "nan": (b'{"coordinate": [2], "payload": {"n": NaN}}', "NaN is no JSON number"),
    "no coordinate": (b'{"payload": {}}', "no coordinate"),
    "coordinate text": (b'{"coordinate": "2", "payload": {}}', "coordinate: not a list of numbers"),
    "payload": (b'{"coordinate": [2], "payload": 7}', "payload"),
    "time": (b'{"coordinate": [2], "payload": {}, "timestamp": "soon"}', "timestamp"),
    "type": (b'{"coordinate": [2], "payload": {}, "memory_type": 7}', "type"),
    "infinite": (b'{"coordinate": [1e999], "payload": {}}', "coord"),
    "deep": (b'{"coordinate": [2], "payload": {"a": ' + b"[" * 80 + b"]" * 80 + b"}}", "nested"),
    "very deep": (b'{"coordinate": [2], "payload": {"a": ' + b"[" * 99999 + b"]" * 99999 + b"}}", "nested"),
    "surrogate": (b'{"coordinate": [2], "payload": {"a": "\\ud800"}}', "surrogate"),
    "digits": (b'{"coordinate": [2], "payload": {"a": ' + b"9" * 5000 + b"}}", "digits"),
    "expiry": (b'{"coordinate": [2], "payload": {}, "expires_at": "never"}', "expires_at"),
    "newer": (b'{"kind": "memory", "schema": 99, "coordinate": [2]}', "newer version"),
    "too large": (b'{"coordinate": [2], "payload": {"a": "' + b"x" * (6 << 20) + b'"}}', "5242880 bytes"),
    "whole": (b'{"kind": "memory", "schema": 2, "coordinate": [2], "payload": {}}', "memory_type"),
    "link": (b'{"kind": "link", "schema": 2, "from_coord": "x", "to_coord": "1"}', "from_coord"),
}


@pytest.mark.parametrize("kind", BROKEN)
def test_a_broken_line_is_named_and_all_before_it_is_stored(soma: Run, tmp_path: Path, kind: str) -> None:
    broken, words = BROKEN[kind]
    path = tmp_path / "memories.jsonl"
    path.write_bytes(b"\n".join([line(10), b"", line(11), line(12), broken, line(13), line(14)]) + b"\n")
    done = soma("import-memories", "--path", str(path))
    assert done.returncode == 2, done.stderr
    assert f"{path}: line 5: " in done.stderr
    assert words in done.stderr
    assert "3 stored, everything before line 5; go on with --start-at 5" in done.stderr.replace("\n", "")
    assert total(soma) == 3
    on = soma("import-memories", "--path", str(path), "--start-at", "6")
    assert (on.returncode, on.stdout) == (0, "imported 2 memories\n"), on.stderr
    assert total(soma) == 5


def test_rejected_lines_are_set_aside_with_their_reasons(soma: Run, tmp_path: Path) -> None:
    path, rejects = tmp_path / "memories.jsonl", tmp_path / "rejects.jsonl"
    lines = []
    for at, (broken, _) in enumerate(BROKEN.values()):
        lines += [line(100 + at), broken]
    path.write_bytes(b"\n".join([*lines, line(999)]))
    done = soma("import-memories", "--path", str(path), "--rejects", str(rejects))
    assert done.returncode == 1, done.stderr
    stored = len(BROKEN) + 1
    left_out = f"{len(BROKEN)} lines were left out, each with its reason in {rejects}"
    assert done.stdout == f"imported {stored} memories; {left_out}\n"
    assert total(soma) == stored
    told = [json.loads(one) for one in rejects.read_text(encoding="utf-8").split("\n") if one]
    assert [one["line"] for one in told] == [2 * at + 2 for at in range(len(BROKEN))]
    for one, (broken, words) in zip(told, BROKEN.values(), strict=True):
        assert words in f"{one['reason']}; {one['remedy']}"
        assert one.get("text", "").encode() == broken or "base64" in one or one["bytes"] == len(broken)
    assert rejects.stat().st_mode & 0o077 == 0
    again = soma("import-memories", "--path", str(path), "--rejects", str(rejects))
    assert again.returncode == 2
    assert "is there already" in again.stderr


FILES: dict[str, tuple[bytes, str]] = {
    "utf-16": ('{"coordinate": [1]}'.encode("utf-16"), "iconv -f utf-16"),
    "zip": (b"PK\x03\x04rest", "is a ZIP archive"),
    "zstd": (b"\x28\xb5\x2f\xfdrest", "zstd -dc"),
    "gzip that is cut off": (gzip.compress(b"\n".join(map(line, range(3000))))[:-40], "gzip data is cut off"),
    "gzip that is damaged": (gzip.compress(line(1))[:12] + b"\xff\xff\xff\xff\xff" + b"\0" * 20, "gzip data is"),
}


@pytest.mark.parametrize("kind", FILES)
@pytest.mark.parametrize("command", [("import-memories", "--path"), ("store-bulk", "--file")])
def test_a_file_that_is_no_text_is_named_with_the_remedy(
    soma: Run, tmp_path: Path, kind: str, command: tuple[str, str]
) -> None:
    data, words = FILES[kind]
    path = tmp_path / "file.jsonl"
    path.write_bytes(data)
    for name, stdin in ((str(path), b""), ("-", data)):
        done = soma(command[0], command[1], name, stdin=stdin)
        assert done.returncode == 2, done.stderr
        assert words in done.stderr
        assert ("standard input" if name == "-" else name) in done.stderr


@pytest.mark.parametrize(
    "command", [("import-memories", "--path"), ("store-bulk", "--file"), ("import-graph", "--path")]
)
def test_a_path_that_cannot_be_read_is_named(soma: Run, tmp_path: Path, command: tuple[str, str]) -> None:
    for path, words in ((str(tmp_path), "directory"), (str(tmp_path / "none"), "No such file")):
        done = soma(command[0], command[1], path)
        assert (done.returncode, words in done.stderr) == (2, True), done.stderr
        assert f"cannot read {path}" in done.stderr


def test_a_line_without_end_does_not_fill_the_memory(soma: Run, tmp_path: Path) -> None:
    path, rejects = tmp_path / "long.jsonl", tmp_path / "rejects.jsonl"
    with path.open("wb") as file:
        file.write(line(1) + b"\n")
        file.truncate(200 << 20)  # a hole of NUL bytes, without a line's end
        file.seek(0, 2)
        file.write(b"\n" + line(2) + b"\n")
    done = soma("import-memories", "--path", str(path), "--rejects", str(rejects))
    assert (done.returncode, done.stdout[:19]) == (1, "imported 2 memories"), done.stderr
    (told,) = [json.loads(one) for one in rejects.read_text().splitlines()]
    assert (told["line"], told["reason"]) == (2, "longer than 64 MiB")


DOCUMENTS: dict[str, bytes] = {
    "list": b'[\n {"coord": "1", "payload": {"text": "a"}},\n {"coord": "2", "payload": {}}\n]',
    "items": b'{"items": [{"coord": "1", "payload": {}}, {"coord": "2", "payload": {}}], "version": 1}',
    "items last": b'{"version": 1, "items": [{"coord": "1", "payload": {}}, {"coord": "2", "payload": {}}]}',
    "spread": b'\n\n{\n "items": [\n{"coord": "1",\n"payload": {}}, {"coord": "2", "payload": {}}\n]\n}\n',
    "lines": b'{"coord": "1", "payload": {}}\n\n{"coord": "2", "payload": {}}\n',
}


@pytest.mark.parametrize("kind", DOCUMENTS)
def test_store_bulk_takes_lists_objects_and_lines(soma: Run, kind: str) -> None:
    for mark in (b"", b"\xef\xbb\xbf"):
        done = soma("store-bulk", "--file", "-", stdin=mark + DOCUMENTS[kind])
        assert (done.returncode, done.stdout) == (0, "stored 2 memories\n"), done.stderr
    assert total(soma) == 2


@pytest.mark.parametrize(
    ("document", "words"),
    [
        (b'[{"coord": "1", "payload": {}},\n{"coord": "2", "payload": {}}\n', "line 3: the file ends early"),
        (b'[{"coord": "1", "payload": {}},\n7]', "line 2: expected a list of objects"),
        (b'[{"coord": "1", "payload": {}},\n\n{"coord": nope}]', "line 3: not JSON"),
        (b'[{"coord": "1", "payload": {"t": "\xe4"}}]', "line 1: byte 0xe4 at column"),
        (b'[{"coord": "1", "payload": {}}] more', "something follows the end"),
    ],
)
def test_a_broken_document_is_named_by_line_and_nothing_is_stored(soma: Run, document: bytes, words: str) -> None:
    done = soma("store-bulk", "--file", "-", stdin=document)
    assert done.returncode == 2
    assert words in done.stderr
    assert "othing was stored" in done.stderr
    assert total(soma) == 0


def test_an_item_of_a_list_is_named_by_number_and_line(soma: Run, tmp_path: Path) -> None:
    items = [{"coord": str(at), "payload": {}} for at in range(500)]
    items[321]["coord"] = "1,x"
    document = json.dumps(items, indent=0).encode()
    where = document.split(b'"1,x"')[0].count(b"\n")
    done = soma("store-bulk", "--file", "-", stdin=document)
    assert done.returncode == 2
    assert f"item 322 (line {where}): coord: '1,x' is not a coordinate" in done.stderr
    assert "321 stored, everything before item 322; go on with --start-at 322" in done.stderr
    assert total(soma) == 321
    rejects = tmp_path / "rejects"
    rest = soma("store-bulk", "--file", "-", "--start-at", "322", "--rejects", str(rejects), "--json", stdin=document)
    assert (rest.returncode, json.loads(rest.stdout)) == (1, {"stored": 178, "rejected": 1})
    assert total(soma) == 499


def test_a_server_that_stops_in_between_leaves_a_place_to_go_on(soma: Run, tmp_path: Path) -> None:
    path = tmp_path / "memories.jsonl"
    path.write_bytes(b"\n".join(map(line, range(3))))
    done = soma("import-memories", "--path", str(path), "--url", "http://127.0.0.1:9")
    assert done.returncode == 3
    assert "Nothing was stored; go on with --start-at 1" in done.stderr


def test_replace_that_goes_on_keeps_what_the_first_run_stored(soma: Run, tmp_path: Path) -> None:
    path = tmp_path / "memories.jsonl"
    first = b'{"coordinate": [1], "payload": {"n": 1}}'
    second = b'{"coordinate": [1], "memory_type": "semantic", "payload": {"n": 2}}'
    path.write_bytes(b"\n".join([first, b"broken", second]))
    assert soma("import-memories", "--replace", "--path", str(path)).returncode == 2
    path.write_bytes(b"\n".join([first, b"", second]))
    assert soma("import-memories", "--replace", "--path", str(path), "--start-at", "2").returncode == 0
    assert total(soma) == 2


WHOLE: dict[str, Any] = {
    "kind": "memory",
    "schema": 2,
    "memory_type": "episodic",
    "payload": {"n": "new"},
    "importance_norm": 0.5,
    "ingested": 1.0,
    "accessed": 1.0,
}
REFUSED: dict[str, dict[str, Any]] = {
    "a line that says all": WHOLE | {"coordinate": [1], "importance_norm": 1.5},
    "a line of an earlier version": {"coordinate": [1], "payload": {"n": "new"}, "features": {"f": "many"}},
}


@pytest.mark.parametrize("refused", REFUSED.values(), ids=REFUSED)
def test_a_line_refused_under_replace_leaves_what_was_there(soma: Run, tmp_path: Path, refused: Any) -> None:
    path = tmp_path / "memories.jsonl"
    path.write_text(json.dumps(refused) + "\n" + json.dumps(WHOLE | {"coordinate": [2]}))
    for coord, kind in (("1", "episodic"), ("1", "semantic"), ("2", "semantic")):
        assert soma("store", "--coord", coord, "--type", kind, "--text", "old").returncode == 0
    before = everything(soma)
    assert soma("import-memories", "--replace", "--path", str(path)).returncode == 2
    assert everything(soma) == before
    rejects = str(tmp_path / "rejects")
    done = soma("import-memories", "--replace", "--path", str(path), "--rejects", rejects)
    assert done.returncode == 1
    assert done.stdout.startswith("imported 1 memories; 1 lines were left out")
    assert "memories of other types at their coordinates stay" in done.stdout
    assert [one for one in everything(soma) if one["payload"] != {"n": "new"}] == before


def test_replace_deletes_what_no_line_names_once_every_line_is_stored(soma: Run, tmp_path: Path) -> None:
    path, held = tmp_path / "memories.jsonl", tmp_path / "held.jsonl"
    path.write_text(json.dumps(WHOLE | {"coordinate": [1.0]}) + "\n" + json.dumps(WHOLE | {"coordinate": [2]}))
    for coord, kind in (("1", "episodic"), ("1", "semantic"), ("2", "semantic"), ("3", "semantic")):
        assert soma("store", "--coord", coord, "--type", kind, "--text", "old").returncode == 0
    assert soma("link", "--from", "1", "--to", "3").returncode == 0
    done = soma("import-memories", "--replace", "--path", str(path))
    assert (done.returncode, done.stdout) == (0, "imported 2 memories\n")
    there = [(one["coordinate"], one["memory_type"], one["payload"].get("n")) for one in everything(soma)]
    assert sorted(there) == [([1.0], "episodic", "new"), ([2.0], "episodic", "new"), ([3.0], "semantic", None)]
    held.write_text(json.dumps(WHOLE | {"coordinate": [3]}))
    assert soma("retention", "hold", "--coord", "3").returncode == 0
    done = soma("import-memories", "--replace", "--path", str(held))
    assert done.returncode == 1
    assert "at 1 coordinates memories of other types stay, as one is under a legal hold" in done.stdout
    assert total(soma) == 4


def test_replace_does_not_delete_for_a_line_that_has_expired(soma: Run, tmp_path: Path) -> None:
    path = tmp_path / "memories.jsonl"
    path.write_text(json.dumps(WHOLE | {"coordinate": [1], "expires_at": 2.0}))
    for kind in ("episodic", "semantic"):
        assert soma("store", "--coord", "1", "--type", kind, "--text", "old").returncode == 0
    assert soma("import-memories", "--replace", "--path", str(path)).returncode == 0
    assert total(soma) == 2


def everything(soma: Run) -> list[dict[str, Any]]:
    """Every memory, as an export says it."""
    lines = map(json.loads, soma("export-memories", "--path", "-").stdout.splitlines())
    return [one for one in lines if one["kind"] == "memory"]


def test_a_token_file_may_begin_with_a_mark_and_end_with_a_line(server: Server, tmp_path: Path) -> None:
    path = tmp_path / "token"
    path.write_bytes(b"\xef\xbb\xbf" + server.token.encode() + b"\r\n")
    done = server.soma("stats", "--token-file", str(path))
    assert (done.returncode, done.stderr) == (0, "")
    path.write_bytes(b"\xff\xfea\0b\0")
    done = server.soma("stats", "--token-file", str(path))
    assert done.returncode == 2
    assert "--token-file" in done.stderr


def test_a_refused_link_of_a_graph_is_named_by_line(soma: Run, tmp_path: Path) -> None:
    soma("store", "--coord", "1", "--text", "a")
    head = '<graphml>\n<key id="weight" for="edge" attr.name="weight" attr.type="double"/>\n<graph>\n'
    path = tmp_path / "graph.graphml"
    for edge, words in {
        '<edge source="1" target="1">\n<data key="weight">-1</data></edge>': "line 5: weight: -1.0 is not",
        '<edge source="1" target="ü"/>': "line 4: target: 'ü' is not a coordinate",
        '<edge source="1" target="1"': "line 5: ",
    }.items():
        path.write_text(f"{head}{edge}\n</graph></graphml>", encoding="utf-8")
        done = soma("import-graph", "--path", str(path))
        assert done.returncode == 2, done.stderr
        assert words in done.stderr
        assert str(path) in done.stderr
        assert "Nothing was linked" in done.stderr


def test_a_link_that_is_none_is_left_out_with_its_line(soma: Run, tmp_path: Path) -> None:
    path, rejects = tmp_path / "graph.graphml", tmp_path / "rejects"
    kind = '<key id="k" for="edge" attr.name="link_type" attr.type="string"/>'
    edges = [f'<edge source="{n}" target="{n + 1}"><data key="k">{name}</data></edge>' for n, name in enumerate(TYPES)]
    path.write_text("\n".join(["<graphml>", kind, "<graph>", *edges, "</graph></graphml>"]), encoding="utf-8")
    done = soma("import-graph", "--path", str(path))
    assert done.returncode == 2
    assert "line 5: link_type:" in done.stderr
    assert "Nothing was linked" in done.stderr
    done = soma("import-graph", "--path", str(path), "--rejects", str(rejects), "--json")
    assert (done.returncode, json.loads(done.stdout)) == (1, {"linked": 2, "left_out": 0, "rejected": 1})
    (told,) = map(json.loads, rejects.read_text(encoding="utf-8").splitlines())
    assert told["line"] == 5
    assert "link_type" in told["reason"]
    assert json.loads(told["text"]) == {"source": "1", "target": "2", "k": TYPES[1]}


TYPES = ("cites", "x" * 3000, "follows")
"""Of links; the second one is too long a name."""


def test_a_flag_is_a_word_where_it_is_no_json(soma: Run) -> None:
    done = soma("flags", "set", "recall_sample_rate", "[" * 99_999)
    assert done.returncode == 1, "refused by the server"


def test_options_that_hold_json_are_refused_in_words(soma: Run) -> None:
    for text in ("[" * 99_999, "{", "7", '{"a": NaN}', "\ud800".encode("utf-8", "surrogatepass").decode("latin-1")):
        done = soma("recall", "--query", "x", "--filters", text)
        assert done.returncode == 2
        assert "--filters" in done.stderr


def test_a_terminal_of_another_encoding_ends_nothing(server: Server, tmp_path: Path) -> None:
    tenant = uuid.uuid4().hex

    def run(*arguments: str | bytes, encoding: str = "ascii") -> subprocess.CompletedProcess[bytes]:
        environment = clean_environment(SOMA_URL=server.url, SOMA_DATA_DIR=str(server.data_dir))
        line = [*COMMAND, arguments[0], "--tenant", tenant, *arguments[1:]]
        return subprocess.run(line, env=environment | {"PYTHONIOENCODING": encoding}, capture_output=True, timeout=60)

    assert run("store", "--coord", "1", "--text", "Grüße \u2028 拉面").returncode == 0
    shown = run("recall", "--query", "Grüße")
    assert (shown.returncode, b"Gr\\xfc\\xdfe" in shown.stdout) == (0, True), shown
    assert json.loads(run("recall", "--query", "Grüße", "--json").stdout)[0]["text"] == "Grüße \u2028 拉面"
    lines = run("export-memories", "--path", "-", encoding="latin-1").stdout
    assert json.loads(lines.decode("utf-8"))["payload"] == {"text": "Grüße \u2028 拉面"}
    path = bytes(tmp_path) + b"/\xff.jsonl"
    assert run("export-memories", "--path", path).returncode == 0
    assert run("import-memories", "--path", path).returncode == 0
    for broken in (
        ("get", "--coord", b"\xff"),
        ("recall", "--query", b"\xff"),
        ("store", "--coord", "1", "--text", b"\xff"),
    ):
        done = run(*broken)
        assert done.returncode in {1, 2}
        assert b"internal error" not in done.stderr
        assert b"Traceback" not in done.stderr
