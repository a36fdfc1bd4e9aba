"""What can be typed after `soma`. Imports nothing slow: `soma --help` must answer at once."""

from __future__ import annotations

import argparse
import importlib
from collections.abc import Callable, Sequence
from typing import Any

from memory_runtime.surfaces.cli.old_lines import add_options
from memory_runtime.surfaces.cli.results import EXIT_CODES

Run = Callable[[argparse.Namespace], int]


def later(module: str, function: str) -> Run:
    """A command whose module is imported when it runs."""

    def run(arguments: argparse.Namespace) -> int:
        command: Run = getattr(importlib.import_module(f"memory_runtime.surfaces.cli.{module}"), function)
        return command(arguments)

    return run


def build_parser() -> argparse.ArgumentParser:
    """The parser of `soma`; the chosen command is in `run`."""
    parser = argparse.ArgumentParser(
        prog="soma",
        description="A memory that recalls by meaning, importance and time: serve one, or ask one that serves.",
        epilog=EXIT_CODES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add_options(parser)
    commands = parser.add_subparsers(title="commands", required=True, metavar="COMMAND")
    _local(commands)
    _dead_letters(commands)
    _audit(commands)
    connection = _connection()
    _memories(commands, connection)
    _graph(commands, connection)
    _many(commands, connection)
    _admin(commands, connection)
    _vectors(commands, connection)
    _events(commands, connection)
    return parser


def _connection() -> argparse.ArgumentParser:
    options = argparse.ArgumentParser(add_help=False)
    group = options.add_argument_group("server")
    group.add_argument("--url", help="where the server is (SOMA_URL; default http://127.0.0.1:9595)")
    group.add_argument(
        "--token-file", help="file with the bearer token (SOMA_API_TOKEN_FILE; default: DATA_DIR/api-token)"
    )
    group.add_argument("--token", help="the bearer token (SOMA_API_TOKEN); others can see it in the process list")
    group.add_argument("--tenant", help="whose memories (default: the server's default tenant)")
    group.add_argument("--namespace", help="which namespace (default: the server's default namespace)")
    group.add_argument("--json", action="store_true", help="print JSON")
    return options


class _Commands:
    def __init__(self, commands: Any, parents: Sequence[argparse.ArgumentParser]) -> None:
        self._commands = commands
        self._parents = list(parents)

    def add(self, name: str, text: str, run: Run) -> argparse.ArgumentParser:
        command: argparse.ArgumentParser = self._commands.add_parser(
            name,
            help=text,
            description=text,
            parents=self._parents,
            epilog=EXIT_CODES,
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        command.set_defaults(run=run)
        return command


def _local(commands: Any) -> None:
    add = _Commands(commands, ()).add
    serve = add("serve", "Serve HTTP and gRPC until told to stop", later("local", "serve"))
    serve.add_argument("--config", help="settings file, YAML or JSON (SOMA_CONFIG_FILE)")
    serve.add_argument("--data-dir", help="where the memories are kept (SOMA_DATA_DIR; default ./soma-data)")
    serve.add_argument("--http-host", help="address for HTTP (default 0.0.0.0)")
    serve.add_argument("--http-port", type=int, help="port for HTTP (default 9595; 0 takes a free one)")
    serve.add_argument("--grpc-host", help="address for gRPC (default 0.0.0.0)")
    serve.add_argument("--grpc-port", type=int, help="port for gRPC (default 50053; 0 takes a free one)")
    serve.add_argument("--half-life", help="half-life of every memory, such as 30d (default none)")
    serve.add_argument("--log-level", help="DEBUG, INFO, WARNING or ERROR")
    serve.add_argument("--log-format", choices=["json", "text"], help="default: text on a terminal, else json")
    serve.add_argument("--auth-disabled", action="store_true", default=None, help="serve without a token: open to all")
    consume = add("consume", "Apply the events of Kafka to the ledger until told to stop", later("events", "consume"))
    _configured(consume)
    consume.add_argument(
        "--dead-letters", action="store_true", help="try refused events of the dead-letter topic again instead"
    )
    consume.add_argument("--log-level", help="DEBUG, INFO, WARNING or ERROR")
    consume.add_argument("--log-format", choices=["json", "text"], help="default: text on a terminal, else json")
    migrate = add("migrate", "Bring the ledger to this version's schema", later("migration", "migrate"))
    _configured(migrate)
    migrate.add_argument("--check", action="store_true", help="only say whether it is needed: exit 1 where it is")
    migrate.add_argument("--to", default="head", metavar="REVISION", help="go back to a revision (default head)")
    migrate.add_argument(
        "--schema-only", action="store_true", help="do not take over what the service before this one has stored"
    )
    migrate.add_argument("--json", action="store_true", help="print JSON")
    check = add("healthcheck", "Ask a server's gRPC health service; exit 0 when serving", later("local", "healthcheck"))
    check.add_argument("--address", help="HOST:PORT (default 127.0.0.1 and SOMA_GRPC_PORT or 50053)")
    check.add_argument("--timeout", type=float, default=3.0, help="seconds to wait (default 3)")
    add("version", "Print the version", later("local", "version"))


def _configured(command: argparse.ArgumentParser) -> None:
    command.add_argument("--config", help="settings file, YAML or JSON (SOMA_CONFIG_FILE)")
    command.add_argument("--data-dir", help="where the memories are kept (SOMA_DATA_DIR; default ./soma-data)")


def _dead_letters(commands: Any) -> None:
    text = "Events that could not be applied or published: list, show, put back, clear away"
    group = commands.add_parser("dlq", help=text, description=text)
    add = _Commands(group.add_subparsers(title="actions", required=True, metavar="ACTION"), ()).add
    listing = add("list", "List the letters that wait", later("events", "dlq_list"))
    listing.add_argument("--all", action="store_true", help="those that were put back or applied, too")
    show = add("show", "Show a letter with its headers and bytes", later("events", "dlq_show"))
    show.add_argument("letter", help="partition:offset, from `soma dlq list`")
    replay = add("replay", "Put letters back on the topics they come from", later("events", "dlq_replay"))
    replay.add_argument("letters", nargs="*", metavar="LETTER", help="partition:offset, from `soma dlq list`")
    replay.add_argument("--all", action="store_true", help="every letter that waits")
    purge = add("purge", "Delete letters for good", later("events", "dlq_purge"))
    purge.add_argument("--yes", action="store_true", help="really; without it nothing is deleted")
    purge.add_argument("--settled", action="store_true", help="stop before the first letter that still waits")
    for command in (listing, show, replay, purge):
        command.add_argument("--config", help="settings file, YAML or JSON (SOMA_CONFIG_FILE)")
        command.add_argument("--json", action="store_true", help="print JSON")


def _audit(commands: Any) -> None:
    text = "The audit chain: who deleted, held, rebuilt, restored what; and whether it is whole"
    group = commands.add_parser("audit", help=text, description=text)
    add = _Commands(group.add_subparsers(title="actions", required=True, metavar="ACTION"), ()).add
    listing = add("list", "List the newest lines", later("audit", "listing"))
    listing.add_argument("--since", help="from this time on: epoch seconds or ISO 8601")
    listing.add_argument("--tenant", help="only this tenant's")
    listing.add_argument("--limit", type=_count, default=100, help="how many (default 100)")
    verify = add(
        "verify", "Prove that no line was changed or taken out; exit 1 where one was", later("audit", "verify")
    )
    verify.add_argument("--anchor", metavar="NUMBER:HASH", help="a line noted before: shows that no later one is gone")
    for command in (listing, verify):
        _configured(command)
        command.add_argument("--json", action="store_true", help="print JSON")


def _count(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError("must be a whole number from 1 on")
    return int(text)


def _memories(commands: Any, connection: argparse.ArgumentParser) -> None:
    add = _Commands(commands, [connection]).add
    store = add("store", "Store a memory", later("remote", "store"))
    store.add_argument("--coord", required=True, help="numbers separated by commas, such as 1,2,3")
    what = store.add_mutually_exclusive_group(required=True)
    what.add_argument("--payload", help="a JSON object")
    what.add_argument("--text", help='the same as --payload \'{"text": "…"}\'')
    store.add_argument("--type", dest="memory_type", default="episodic", help="memory type (default episodic)")
    store.add_argument("--timestamp", help="when it happened: epoch seconds or ISO 8601 (default now)")
    store.add_argument("--importance", type=float, help="raw importance (default 1)")
    store.add_argument("--ttl", help="forget it after this long, such as 90d")
    store.add_argument("--pinned", action="store_true", help="does not decay and is never forgotten")
    recall = add("recall", "Recall memories by meaning", later("remote", "recall"))
    recall.add_argument("--query", required=True, help="what to look for")
    recall.add_argument("--top-k", type=int, default=5, help="how many (default 5)")
    recall.add_argument("--type", dest="memory_type", help="only this memory type")
    recall.add_argument("--filters", help="equalities on payload fields, as a JSON object")
    recall.add_argument("--half-life", help="decay for this question, such as 30d, or none")
    recall.add_argument("--as-of", help="answer as the memory was at this time")
    recall.add_argument("--hybrid", action="store_true", default=None, help="mix in keyword hits")
    recall.add_argument("--explain", action="store_true", help="show the factors of each score")
    recall.add_argument("--full", action="store_true", help="with --json: scores beside payloads")
    search = add("search", "Recall memories by meaning and by words", later("remote", "search"))
    search.add_argument("--query", required=True, help="what to look for")
    search.add_argument("--top-k", type=int, default=5, help="how many (default 5)")
    search.add_argument("--offset", type=int, default=0, help="leave out so many of the best (default 0)")
    search.add_argument("--type", dest="memory_type", help="only this memory type")
    search.add_argument("--filters", help="equalities on payload fields, as a JSON object")
    get = add("get", "Show the memory at a coordinate", later("remote", "get"))
    get.add_argument("--coord", required=True)
    get.add_argument("--type", dest="memory_type", help="of this memory type")
    get.add_argument("--as-of", help="show it as it was at this time")
    delete = add("delete", "Delete the memory at a coordinate", later("remote", "delete"))
    delete.add_argument("--coord", required=True)
    delete.add_argument("--type", dest="memory_type", help="only of this memory type")
    search = add("keyword-search", "Find memories that hold a term", later("remote", "keyword_search"))
    search.add_argument("--term", required=True)
    search.add_argument("--top-k", type=int, default=50, help="how many (default 50)")
    search.add_argument("--case-sensitive", action="store_true")
    search.add_argument("--words", action="store_true", help="match single words rather than the term as it stands")
    search.add_argument("--type", dest="memory_type", help="only this memory type")
    box = add("range", "List the coordinates within a box", later("remote", "coordinate_range"))
    box.add_argument("--min", dest="low", required=True, help="its lower corner, such as 0,0,0")
    box.add_argument("--max", dest="high", required=True, help="its upper corner, such as 9,9,9")
    box.add_argument("--type", dest="memory_type", help="only this memory type")
    add("stats", "Show counts and how the server is made", later("remote", "stats"))
    add("health", "Show the parts of the server; exit 1 where one is down", later("remote", "health"))


def _graph(commands: Any, connection: argparse.ArgumentParser) -> None:
    add = _Commands(commands, [connection]).add
    link = add("link", "Link two coordinates", later("remote", "link"))
    link.add_argument("--from", dest="from_coord", required=True)
    link.add_argument("--to", dest="to_coord", required=True)
    link.add_argument("--type", dest="link_type", default="related", help="link type (default related)")
    link.add_argument("--weight", type=float, default=1.0, help="weight (default 1)")
    unlink = add("unlink", "Delete the links from one coordinate to another", later("remote", "unlink"))
    unlink.add_argument("--from", dest="from_coord", required=True)
    unlink.add_argument("--to", dest="to_coord", required=True)
    unlink.add_argument("--type", dest="link_type", help="only links of this type (default all)")
    path = add("path", "Find the shortest path between two coordinates", later("remote", "path"))
    path.add_argument("--from", dest="from_coord", required=True)
    path.add_argument("--to", dest="to_coord", required=True)
    path.add_argument("--type", dest="link_type", help="only links of this type")
    neighbors = add("neighbors", "List what a coordinate links to, by type", later("remote", "neighbors"))
    neighbors.add_argument("--coord", required=True)
    neighbors.add_argument("--type", dest="link_type", help="only links of this type")
    neighbors.add_argument("--limit", type=int, help="how many")
    neighbors.add_argument("--full", action="store_true", help="with --json: each link beside its coordinate")

    export = add("export-graph", "Write every link of the scope as GraphML", later("graph", "export_graph"))
    export.add_argument("--path", required=True, help="the file to write; - is standard output")
    load = add("import-graph", "Link coordinates as a GraphML file says", later("graph", "import_graph"))
    load.add_argument("--path", required=True, help="the file to read; - is standard input")
    load.add_argument("--skip-missing", action="store_true", help="leave out links whose ends hold no memory")
    load.add_argument(
        "--rejects", metavar="FILE", help="leave out links that are none; write each with its reason to FILE"
    )


def _many(commands: Any, connection: argparse.ArgumentParser) -> None:
    add = _Commands(commands, [connection]).add
    bulk = add("store-bulk", "Store the memories of a JSON or JSON-lines file", later("transfer", "store_bulk"))
    bulk.add_argument("--file", required=True, help="items of {coord, payload, type, …}; - is standard input")
    _lines(bulk)
    export = add(
        "export-memories",
        "Write every memory and link of the scope, JSON lines",
        later("transfer", "export_memories"),
    )
    export.add_argument("--path", required=True, help="the file to write; - is standard output")
    export.add_argument("--no-vectors", action="store_true", help="leave the vectors out: import embeds the text anew")
    load = add("import-memories", "Store what export-memories wrote", later("importing", "import_memories"))
    load.add_argument("--path", required=True, help="the file to read; - is standard input")
    load.add_argument(
        "--replace",
        action="store_true",
        help="put each memory in the place of what is there, then delete what else is at its coordinate",
    )
    _lines(load)
    delete = add("delete-many", "Delete the memories at coordinates", later("transfer", "delete_many"))
    delete.add_argument("--coords", required=True, help='coordinates separated by semicolons, such as "1,2,3;4,5,6"')
    delete.add_argument("--type", dest="memory_type", help="only of this memory type")


def _lines(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "--rejects", metavar="FILE", help="leave out lines that cannot be stored; write each with its reason to FILE"
    )
    command.add_argument(
        "--start-at", type=_count, default=1, metavar="N", help="begin with this line (of a JSON list: this item)"
    )


def _admin(commands: Any, connection: argparse.ArgumentParser) -> None:
    add = _group(commands, connection, "retention", "Show and do what is forgotten")
    plan = add("plan", "List what would be forgotten, and why; changes nothing", later("admin", "retention_plan"))
    plan.add_argument("--limit", type=int, default=100, help="how many to list (default 100)")
    plan.add_argument("--ttl", help="preview under this age, such as 90d, instead of the configured bounds")
    plan.add_argument("--max-rows", type=int, help="preview under this many memories")
    plan.add_argument("--max-bytes", type=int, help="preview under this many bytes")
    add("sweep", "Archive and purge now", later("admin", "retention_sweep"))
    hold = add("hold", "Put a memory under a legal hold", later("admin", "retention_hold"))
    hold.add_argument("--coord", required=True)
    hold.add_argument("--type", dest="memory_type", help="only this memory type")
    hold.add_argument("--end", action="store_true", help="end the hold")
    add = _group(commands, connection, "archive", "List and restore what was forgotten")
    add("list", "List the archives", later("admin", "archive_list"))
    restore = add("restore", "Put an archive's memories back", later("admin", "archive_restore"))
    restore.add_argument("name", help="a name from `soma archive list`")
    restore.add_argument("--pin", action="store_true", help="pin them, so that they are not forgotten again")
    add = _group(commands, connection, "gates", "Show what the gates advise; try, apply, revert")
    add("list", "Show each gate's condition and what was measured", later("admin", "gates")).set_defaults(action="list")
    for action, text in (("dry-run", "Try a gate's change on recent queries"), ("apply", "Put it in force")):
        change = add(action, text, later("admin", "gates"))
        change.add_argument("gate", help="G1 to G6")
        change.add_argument("--value", help="another value than the proposed one")
        change.set_defaults(action=action)
    revert = add("revert", "Take a gate's change back", later("admin", "gates"))
    revert.add_argument("gate", help="G1 to G6")
    revert.set_defaults(action="revert")
    add = _group(commands, connection, "flags", "Show and change feature flags; the whole fleet follows")
    add("list", "Show every flag: its value, where it is from, what it does", later("flags", "flags")).set_defaults(
        action="list"
    )
    for action, text in (("get", "Show a flag"), ("set", "Set a flag"), ("unset", "Remove it: its default counts")):
        flag = add(action, text, later("flags", "flags"))
        flag.add_argument("flag", help="a name from `soma flags list`")
        if action == "set":
            flag.add_argument("value", help="as its setting takes it, such as true, 0.5 or DEBUG")
        flag.set_defaults(action=action)
    add = _group(commands, connection, "importance", "Rebuild importances by a new normaliser version")
    for action, text in (
        ("status", "Show the rebuild that waits to be confirmed"),
        ("preview", "Show what a rebuild would change"),
        ("rebuild", "Rebuild, reversibly"),
        ("undo", "Take the rebuild back"),
        ("confirm", "Keep it for good"),
    ):
        add(action, text, later("admin", "importance")).set_defaults(action=action)


def _events(commands: Any, connection: argparse.ArgumentParser) -> None:
    add = _group(commands, connection, "events", "What is published to Kafka")
    help_text = "Publish every memory and every delete again, for consumers that have missed events"
    add("republish", help_text, later("admin", "republish"))


def _vectors(commands: Any, connection: argparse.ArgumentParser) -> None:
    add = _group(commands, connection, "vectors", "Compare the vector store (Qdrant) with the ledger, or fill it again")
    reconcile = add("reconcile", "Compare by range hashes; exit 1 where they differ", later("admin", "vectors"))
    reconcile.add_argument("--repair", action="store_true", help="mend what differs")
    reconcile.set_defaults(action="reconcile")
    add("rebuild", "Fill it again from the ledger", later("admin", "vectors")).set_defaults(action="rebuild")


def _group(commands: Any, connection: argparse.ArgumentParser, name: str, text: str) -> Callable[..., Any]:
    group = commands.add_parser(name, help=text, description=text)
    return _Commands(group.add_subparsers(title="actions", required=True, metavar="ACTION"), [connection]).add
