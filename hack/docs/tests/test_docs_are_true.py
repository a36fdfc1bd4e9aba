"""What the documentation names is there: files, settings, metrics, routes, options, targets, fields, examples.

A page that promises what the code does not have fails here. What is no name of ours goes into the short lists below.
"""

from __future__ import annotations

import argparse
import functools
import json
import re
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from fastapi.routing import APIRoute
from prometheus_client import Metric

from hack.docs.pages import PAGES, ROOT, anchors, blocks, code, commands, links, spans
from kubectl_soma.main import parser as kubectl_soma_parser
from memory_runtime.access import admission
from memory_runtime.engine import graphing
from memory_runtime.flags.table import FLAGS
from memory_runtime.model.canonical import MAX_DEPTH
from memory_runtime.model.errors import STATUS_TABLE
from memory_runtime.settings import SMFSettings
from memory_runtime.settings.aliases import ALIASES
from memory_runtime.stores import walking
from memory_runtime.surfaces import shared_rate
from memory_runtime.surfaces.cli import documents, input_file
from memory_runtime.surfaces.cli.parser import build_parser
from memory_runtime.surfaces.http import (
    context,
    routes_admin,
    routes_flags,
    routes_graph,
    routes_memories,
    routes_probes,
    routes_verbs,
)
from memory_runtime.telemetry.metrics import Metrics

each_page = pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)

FOREIGN_PATHS = ("/etc/", "/var/", "/proc/", "/dev/", "/opt/", "/usr/", "/tmp/", "/soma", "/data", "/run/", "/sys/")
FOREIGN_WORDS = {"WaitForFirstConsumer", "ReadWriteMany"}
FOREIGN_VARIABLES = {"SOMA_SERVICE_HOST", "SOMA_PORT_9595_TCP_ADDR", "SOMA_X_Y"}
"""Those that Kubernetes sets for a Service named soma, and a pattern."""
NOT_ROUTES = {"/api-keys", "/usage", "/test-stats", "/"}
"""Routes of the replaced service of which docs/api.md says that they are not served."""


@functools.cache
def source() -> str:
    """Everything that is tracked and is no page: what code, manifests and tests say."""
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, check=True, capture_output=True, text=True).stdout
    kept = [name for name in listed.split("\0") if name and not name.endswith((".md", ".svg"))]
    texts = []
    for name in kept:
        try:
            texts.append(name + "\n" + (ROOT / name).read_text(encoding="utf-8"))
        except (UnicodeDecodeError, OSError):
            continue
    return "\n".join(texts)


@functools.cache
def words() -> frozenset[str]:
    return frozenset(re.findall(r"[A-Za-z_][A-Za-z0-9_]*", source()))


def text_of(page: Path) -> str:
    return page.read_text(encoding="utf-8")


def complain(page: Path, wrong: list[str]) -> None:
    assert not wrong, f"{page.name} names what is not there:\n" + "\n".join(wrong)


@each_page
def test_links_lead_somewhere(page: Path) -> None:
    wrong = []
    for said in links(text_of(page)):
        if said.text.startswith(("http://", "https://", "mailto:")):
            continue
        name, _, anchor = said.text.partition("#")
        target = page if not name else (page.parent / name).resolve()
        if not target.exists():
            wrong.append(f"line {said.line}: {said.text}: no such file")
        elif anchor and target.suffix == ".md" and anchor not in anchors(text_of(target)):
            wrong.append(f"line {said.line}: {said.text}: no such heading")
    complain(page, wrong)


@each_page
def test_files_of_the_tree_exist(page: Path) -> None:
    rooms = {path.name for path in ROOT.iterdir()} - {"spec", "status"}
    wrong = []
    for said in code(text_of(page)):
        for name in re.findall(r"(?<![\w/.~$-])[\w.-]+(?:/[\w.-]+)+(?![\w/{*<…])", said.text):
            top = name.split("/")[0]
            if top in rooms and not (ROOT / name.rstrip(".")).exists() and not _command_of(name):
                wrong.append(f"line {said.line}: {name}")
        tests = re.findall(r"\btest_\w+\.py\b", said.text)
        wrong += [f"line {said.line}: {name}" for name in tests if f"/{name}\n" not in source()]
    complain(page, wrong)


def _command_of(name: str) -> bool:
    # `hack/bench/NAME` stands for each of them
    return name.split("/")[-1].isupper()


@each_page
def test_settings_exist_and_have_the_defaults_that_are_told(page: Path) -> None:
    fields = SMFSettings.model_fields
    wrong = []
    for said in code(text_of(page)):
        for name in re.findall(r"\bSOMA_[A-Z0-9_]+\b(?![…*])", said.text):
            known = name.removeprefix("SOMA_").lower() in fields or name in ALIASES or name in words()
            operators = name.removeprefix("SOMA_OPERATOR_") in words() and name.startswith("SOMA_OPERATOR_")
            if not (known or operators or name.endswith("_") or name in FOREIGN_VARIABLES):
                wrong.append(f"line {said.line}: {name}")
    for name, told in re.findall(r"`SOMA_([A-Z0-9_]+)` \(([\d,.]+)", text_of(page)):
        field = fields.get(name.lower())
        if field is not None and isinstance(field.default, int | float):
            number = float(told.rstrip(".,").replace(",", ""))
            if number != float(field.default):
                wrong.append(f"SOMA_{name}: told {told}, is {field.default}")
    complain(page, wrong)


def default(setting: str) -> Any:
    return SMFSettings.model_fields[setting].default


def settings_of(cell: str, names_before: str = "") -> list[str]:
    """The settings that a table's cell names: `SOMA_X`, `X` below a heading of `SOMA_…`, an old name, or `…_Y`."""
    found: list[str] = []
    for name in re.findall(r"`(…?[A-Za-z0-9_]+)`", cell):
        if name.startswith("…") and found:
            head = found[-1]
            ends = [f"{head[: head.rindex(part)]}{name[1:].lower()}" for part in ("_",) if part in head]
            ends += [f"{head.rsplit('_', cut)[0]}{name[1:].lower()}" for cut in (2, 3)]
            found += [one for one in ends if one in SMFSettings.model_fields][:1]
            continue
        plain = ALIASES.get(name, name.removeprefix("SOMA_").lower())
        if plain in SMFSettings.model_fields:
            found.append(plain)
    return found


def told_default(text: str) -> Any:
    """A default as a table tells it; None where it is told in words."""
    plain = text.strip().strip("`").replace(",", "")
    if re.fullmatch(r"-?[\d.]+", plain):
        return float(plain)
    return {"true": True, "false": False}.get(plain)


@each_page
def test_tables_tell_the_defaults_of_the_code(page: Path) -> None:
    wrong = []
    for table in re.findall(r"(?:^\|.*\n)+", text_of(page), re.MULTILINE):
        rows = [[cell.strip() for cell in row.strip().strip("|").split(" | ")] for row in table.splitlines()]
        if "default" not in rows[0] or len(rows) < 3:
            continue
        at = rows[0].index("default")
        for row in rows[2:]:
            names = settings_of(row[0])
            if len(row) <= at or not names:
                continue
            parts = re.split(r", (?=[\d`.])", row[at]) if len(names) > 1 else [row[at].split(" (")[0]]
            if len(parts) != len(names):
                continue
            for name, part in zip(names, parts, strict=True):
                told, real = told_default(part), default(name)
                if told is not None and isinstance(real, int | float) and float(real) != float(told):
                    wrong.append(f"{name}: told {part}, is {real}")
    complain(page, wrong)


def test_the_table_of_flags_is_the_one_in_the_code() -> None:
    told = set(re.findall(r"^\| `(\w+)` \|", text_of(ROOT / "docs/flags.md"), re.MULTILINE))
    assert told == {flag.name for flag in FLAGS}


@functools.cache
def metric_names() -> frozenset[str]:
    """What a scrape of the runtime or the operator can show, labels aside."""
    names: set[str] = set()
    for family in Metrics().registry.collect():
        assert isinstance(family, Metric)
        ends = {"counter": ["_total"], "histogram": ["_bucket", "_sum", "_count", ""], "info": ["_info"]}
        names |= {family.name + end for end in ends.get(family.type, [""])}
    operators = re.findall(r'"(soma_operator_\w+)"', source())
    return frozenset(names | set(operators) | {f"{one}{end}" for one in operators for end in ("_total", "_bucket")})


@each_page
def test_metrics_exist(page: Path) -> None:
    wrong = []
    prefixes = "soma_memory_|soma_recall_|soma_backend_|soma_cache_|soma_graph_|soma_vector_|soma_consumer_|soma_event_"
    prefixes += "|soma_requests_|soma_rate_|soma_approximate_|soma_operator_|sfm_|api_re|api_delete|consumer_|http_404"
    for said in code(text_of(page)):
        named = re.findall(rf"(?<![\w/.-])(?:{prefixes})[a-z0-9_]+\b(?![/.(*-])", said.text)
        unknown = [name for name in named if name not in metric_names() and not _setting_or_module(name)]
        wrong += [f"line {said.line}: {name}" for name in unknown]
    complain(page, wrong)


def _setting_or_module(name: str) -> bool:
    """What looks like a metric and is another name of ours: a setting, a package, a key of an answer."""
    return f'"{name}": ' in source() or name in SMFSettings.model_fields or (ROOT / "operator" / name).exists()


@functools.cache
def routes() -> tuple[APIRoute, ...]:
    rooms = (routes_verbs, routes_memories, routes_graph, routes_probes, routes_admin, routes_flags)
    return tuple(one for room in rooms for one in room.router.routes if isinstance(one, APIRoute))


def route(path: str, method: str | None = None) -> APIRoute | None:
    """The route that answers there; a segment in braces takes anything."""
    parts = path.rstrip("/").split("/")
    for one in routes():
        mine = one.path.rstrip("/").split("/")
        fits = len(mine) == len(parts) and all(a == b or a.startswith("{") for a, b in zip(mine, parts, strict=True))
        if fits and (method is None or method in one.methods):
            return one
    return None


def test_routes_and_their_query_parameters_exist() -> None:
    wrong = []
    asks = r"\b(GET|POST|PUT|DELETE) (/[\w{}/,.-]*)(?:\?([\w=&,]*))?"
    for page in PAGES:
        for said in code(text_of(page)):
            for method, path, query in re.findall(asks, said.text):
                if path in NOT_ROUTES or path.startswith(FOREIGN_PATHS) or path.startswith("/openapi"):
                    continue
                found = route(path, method)
                if found is None:
                    wrong.append(f"{page.name}: line {said.line}: {method} {path}")
                    continue
                known = {one.alias for one in found.dependant.query_params} | {"receipt"}
                asked = [part.partition("=")[0] for part in query.split("&") if part]
                wrong += [f"{page.name}: line {said.line}: {path}?{one}" for one in asked if one not in known]
    assert not wrong, "\n".join(wrong)


def test_paths_of_the_api_page_are_served() -> None:
    wrong = []
    for said in spans(text_of(ROOT / "docs/api.md")):
        if not re.fullmatch(r"/[a-z][\w/-]*", said.text) or said.text in NOT_ROUTES:
            continue
        if route(said.text) is None and not any(one.path.startswith(f"{said.text}/") for one in routes()):
            wrong.append(f"line {said.line}: {said.text}")
    complain(ROOT / "docs/api.md", wrong)


def test_every_served_route_is_on_a_page() -> None:
    told = "\n".join(map(text_of, PAGES))
    hidden = {
        "/events",
        "/retention",
        "/gates",
        "/importance",
        "/vectors",
    }  # the command line's; their pages name the commands
    missing = [
        one.path
        for one in routes()
        if one.include_in_schema
        and one.path.split("{")[0].rstrip("/") not in told
        and not one.path.startswith(tuple(hidden))
    ]
    assert not missing


def test_the_table_of_errors_is_the_one_in_the_code() -> None:
    rows = re.findall(r"^\| (\d+) \| ([A-Z_]+) \| `([A-Z_]+)` \|", text_of(ROOT / "docs/api.md"), re.MULTILINE)
    told = {code_: (int(http), grpc) for http, grpc, code_ in rows}
    assert told == {name: (status.http, status.grpc) for name, status in STATUS_TABLE.items()}


def subparser(parser: argparse.ArgumentParser, words_: list[str]) -> tuple[argparse.ArgumentParser, list[str]]:
    """The parser of a command line, and the words after the command."""
    rest = list(words_)
    while rest and not rest[0].startswith(("-", "[")):
        choices: Any = next((one.choices for one in parser._actions if one.choices and one.nargs == "A..."), None)
        if not choices or rest[0] not in choices:
            break
        parser, rest = choices[rest[0]], rest[1:]
    return parser, rest


def options_of(parser: argparse.ArgumentParser) -> set[str]:
    return {option for action in parser._actions for option in action.option_strings}


def wrong_commands(page: Path, program: str, whole: argparse.ArgumentParser) -> list[str]:
    """Command lines of the page with a command or an option that the program does not have."""
    wrong = []
    for said, given in commands(text_of(page), program):
        if not given or given[0] in {"…", "COMMAND"} or not re.match(r"[\[\w-]", given[0]):
            continue
        parser, rest = subparser(whole, given)
        if parser is whole and not given[0].startswith("-"):
            wrong.append(f"line {said.line}: no command {given[0]!r}: {said.text}")
            continue
        options = [re.sub(r"[\]=,].*$", "", one.lstrip("[")) for one in rest if one.lstrip("[").startswith("--")]
        known = options_of(parser)
        wrong += [f"line {said.line}: no option {one}: {said.text}" for one in options if one not in known]
    return wrong


@each_page
def test_commands_of_soma_exist_with_their_options(page: Path) -> None:
    complain(page, wrong_commands(page, "soma", build_parser()))


@each_page
def test_commands_of_kubectl_soma_exist_with_their_options(page: Path) -> None:
    complain(page, wrong_commands(page, "kubectl soma", kubectl_soma_parser()))


@each_page
def test_targets_of_make_exist(page: Path) -> None:
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    wrong = [
        f"line {said.line}: make {target}"
        for said in code(text_of(page))
        for target in re.findall(r"(?:^|\$\(|\s)make ([a-z][a-z-]*)\b", said.text)
        if target not in targets
    ]
    complain(page, wrong)


@each_page
def test_fields_of_the_resources_exist(page: Path) -> None:
    reference = text_of(ROOT / "docs/reference.md")
    known = set(re.findall(r"`((?:spec|status)(?:\.[\w\[\]]+)+)`", reference))
    known |= {one.replace("[]", "") for one in known}
    parents = {".".join(one.split(".")[:end]) for one in known for end in range(1, one.count(".") + 2)}
    wrong = []
    for said in spans(text_of(page)):
        named = re.findall(r"(?<![\w.-])(?:spec|status)(?:\.[a-z]\w*)+", said.text)
        wrong += [f"line {said.line}: {name}" for name in named if name not in known | parents]
    complain(page, wrong)


@each_page
def test_names_of_reasons_and_classes_exist(page: Path) -> None:
    """A word of two humps, such as a condition's reason, is a name of ours or of Kubernetes that our code uses."""
    wrong = [
        f"line {said.line}: {said.text}"
        for said in spans(text_of(page))
        if re.fullmatch(r"(?:[A-Z][a-z0-9]+){2,}", said.text) and said.text not in words() | FOREIGN_WORDS
    ]
    complain(page, wrong)


def test_fields_that_are_not_built_say_so_in_the_reference() -> None:
    """What the operator answers by NotImplemented is not told as if it worked: neither on the page nor in the CRD."""
    rows = dict(re.findall(r"^\| `(spec[\w.\[\]]*)` \| [^|]*(?:\\\|[^|]*)*\| (.*) \|$", reference_page(), re.MULTILINE))
    readiness = (ROOT / "operator/soma_operator/plan/readiness.py").read_text(encoding="utf-8")
    refused = set(re.findall(r'"(spec\.[\w.]+)"', readiness))
    refused |= {f"spec.endpoints.{name}.tls.mode" for name in ("redis", "qdrant", "kafka", "graph")}
    told = {"spec.externalSecret", "spec.topics", "spec.topics.mode", "spec.events.enabled"}
    told |= {"spec.observability.serviceMonitor", "spec.observability.tracing"}
    assert len(refused) >= 8, "readiness.py names its fields otherwise now"
    silent = [name for name in sorted(refused | told) if not re.search(r"\b(?:not|are) built\b", rows[name], re.I)]
    assert not silent
    assert "Not built yet: a SomaMemoryBackup makes no snapshot" in reference_page()


def reference_page() -> str:
    return text_of(ROOT / "docs/reference.md")


def curls() -> Iterator[tuple[Path, str, str, str]]:
    """Every curl of a page: the path it asks, and the JSON that it sends."""
    for page in PAGES:
        for said in blocks(text_of(page)):
            for line in re.split(r"\bcurl\b", said.text)[1:]:
                path = re.search(r"(?:localhost|127\.0\.0\.1)(?::\d+|:\$\w+)?(/[\w/]*)", line)
                body = re.search(r"--json '(.*?)'", line)
                if path is not None:
                    yield page, f"line {said.line}", path[1], body[1] if body else ""


def test_examples_with_curl_are_what_the_routes_take() -> None:
    wrong, seen = [], 0
    for page, where, path, body in curls():
        found = route(path, "POST" if body else "GET")
        if found is None:
            wrong.append(f"{page.name}: {where}: {path}")
        elif body and found.body_field is not None:
            seen += 1
            model: Any = found.body_field.field_info.annotation
            value = json.loads(body)
            model.model_validate(value)
            unknown = set(value) - set(model.model_fields)
            wrong += [f"{page.name}: {where}: {path} takes no {one}" for one in unknown]
    assert not wrong, "\n".join(wrong)
    assert seen >= 2


def test_examples_in_yaml_are_what_the_api_takes() -> None:
    import yaml

    from soma_operator.api import SomaMemorySpec  # the model behind the CRD

    seen = 0
    for page in PAGES:
        for match in re.finditer(r"^```yaml\n(.*?)^```", text_of(page), re.MULTILINE | re.DOTALL):
            for document in yaml.safe_load_all(match[1]):
                if isinstance(document, dict) and document.get("kind") == "SomaMemory":
                    seen += 1
                    SomaMemorySpec.model_validate(document["spec"])
    assert seen


FIGURES = [
    ("api.md", r"At most (\d+) requests are in flight", admission.MOST_IN_FLIGHT),
    ("api.md", r"nests deeper than (\d+) levels", MAX_DEPTH),
    ("api.md", r"`Idempotency-Key` \(at most (\d+) characters\)", context.LONGEST_KEY),
    ("api.md", r"A line may have (\d+) MiB", input_file.LONGEST_LINE >> 20),
    ("api.md", r"given to `store-bulk` (\d+) GiB", documents.LARGEST_DOCUMENT >> 30),
    ("graph.md", r"(\d+) hops, 10,000 answers", graphing.MAX_HOPS),
    ("graph.md", r"16 hops, ([\d,]+) answers", graphing.MAX_NEIGHBORS),
    ("graph.md", r"\| (\d+) coordinates \|", graphing.MAX_LENGTH),
    ("graph.md", r"A walk that passes ([\d,]+) coordinates", walking.MAX_VISITED),
    (
        "graph.md",
        r"`SOMA_NEO4J_TIMEOUT_SECONDS`, ([\d.]+)\)",
        default("neo4j_timeout_seconds"),
    ),
    ("runbook.md", r": (\d+) requests, or 64 MiB of bodies", admission.MOST_IN_FLIGHT),
    ("runbook.md", r"256 requests, or (\d+) MiB of bodies", admission.MOST_BUFFERED_BYTES >> 20),
    ("stores.md", r"does not answer within (\d+) ms, or its circuit", shared_rate.PATIENCE_SECONDS * 1000),
    ("stores.md", r"waits `cache_timeout_ms` \((\d+) ms\)", default("cache_timeout_ms")),
]


@pytest.mark.parametrize(("name", "pattern", "value"), FIGURES, ids=lambda one: str(one)[:40])
def test_figures_are_those_of_the_code(name: str, pattern: str, value: float) -> None:
    """A figure whose sentence was changed is to be found anew, or taken out of the list with the sentence."""
    told = re.findall(pattern, " ".join(text_of(ROOT / "docs" / name).split()))
    assert told, f"{name} does not say {pattern!r} any more"
    assert {float(one.replace(",", "")) for one in told} == {float(value)}


def test_a_page_that_lies_is_found(tmp_path: Path) -> None:
    """The checks themselves: each finds a lie of its kind."""
    lies: dict[str, Callable[[Path], None]] = {
        "`hack/no-such-file`": test_files_of_the_tree_exist,
        "[x](no-such-page.md)": test_links_lead_somewhere,
        "`SOMA_NO_SUCH_" + "SETTING`": test_settings_exist_and_have_the_defaults_that_are_told,
        "`SOMA_GRAPH_MAX_EDGES` (7)": test_settings_exist_and_have_the_defaults_that_are_told,
        "| setting | default |\n|---|---|\n| `SOMA_TOP_K_MAX` | 7 |\n": test_tables_tell_the_defaults_of_the_code,
        "`soma_memory_" + "no_such_thing`": test_metrics_exist,
        "`soma recall --no-such-option`": test_commands_of_soma_exist_with_their_options,
        "`soma no-such-command`": test_commands_of_soma_exist_with_their_options,
        "`make no-such-target`": test_targets_of_make_exist,
        "`spec.noSuchField`": test_fields_of_the_resources_exist,
        "`NoSuch" + "Reason`": test_names_of_reasons_and_classes_exist,
    }
    page = tmp_path / "page.md"
    for lie, check in lies.items():
        page.write_text(f"# A page\n\n{lie} is there.\n", encoding="utf-8")
        with pytest.raises(AssertionError, match="names what is not there"):
            check(page)
