"""Command lines of the service we replace: `soma --mode M --namespace N --config-json F COMMAND …`.

An option of theirs before the command marks such a line. It then prints what the old command printed, byte for byte
where that was fixed, and its namespace is `cli_ns` unless one is named, as it was. Their engine ran inside the
command; ours is a server, so mode and configuration are its own, and what the file says about stores changes nothing.
"""

from __future__ import annotations

import argparse
import json
import sys
from typing import Any, Final

from memory_runtime.surfaces.cli.input_file import Fault, parse, reading
from memory_runtime.surfaces.cli.results import EXIT_OK, EXIT_USAGE, CommandFailed, show

NAMESPACE: Final = "cli_ns"
MODES: Final = (
    *("evented_enterprise", "on_demand", "local_agent", "enterprise", "cloud_managed", "development", "test"),
    *("embedded", "distributed"),
)
_LARGEST_CONFIG: Final = 16 << 20


def add_options(parser: argparse.ArgumentParser) -> None:
    """The old service's options, which stood before the command."""
    group = parser.add_argument_group("as the service before this one was called")
    add = group.add_argument
    add("--mode", dest="old_mode", metavar="MODE", type=str.lower, choices=MODES, help="such as evented_enterprise")
    add("--namespace", dest="old_namespace", metavar="NAME", help=f"which namespace (default here: {NAMESPACE})")
    add("--tenant", dest="old_tenant", metavar="NAME", help="whose memories")
    add("--config-json", dest="old_config", metavar="FILE", help="read and checked; the server's settings count")


def settle(arguments: argparse.Namespace) -> None:
    """Says in `arguments.old` whether this is an old line, and then fills in what it meant. Raises CommandFailed."""
    given = [vars(arguments).pop(name) for name in ("old_mode", "old_namespace", "old_tenant", "old_config")]
    _, namespace, tenant, config = given
    arguments.old = any(one is not None for one in given)
    if not arguments.old:
        return
    if config is not None:
        _check_config(config)
    if hasattr(arguments, "namespace"):
        # an option after the command is ours, and the nearer one
        arguments.namespace = arguments.namespace or namespace or NAMESPACE
        arguments.tenant = arguments.tenant or tenant
    else:
        named = "--mode, --namespace, --tenant and --config-json"
        raise CommandFailed(f"{named} before the command go with commands that ask a server", EXIT_USAGE)
    for name in ("coord", "from_coord", "to_coord", "low", "high"):
        if isinstance(text := getattr(arguments, name, None), str):
            setattr(arguments, name, _coordinate(text))
    if isinstance(coords := getattr(arguments, "coords", None), str):
        arguments.coords = ";".join(map(_coordinate, coords.split(";")))


def _coordinate(text: str) -> str:
    """The old service passed over spaces and a comma too many."""
    return ",".join(part.strip() for part in text.split(",") if part.strip())


def _check_config(name: str) -> None:
    with reading(name) as file:
        text = file.read_all(_LARGEST_CONFIG)
    try:
        value = parse(text)
    except Fault as fault:
        raise CommandFailed(f"--config-json: {name}: {fault}", EXIT_USAGE) from None
    if not isinstance(value, dict):
        raise CommandFailed(f"--config-json: {name}: expected a JSON object", EXIT_USAGE)
    if value:
        print(f"soma: --config-json: {', '.join(sorted(value))}: the server's own settings count", file=sys.stderr)


def show_as(arguments: argparse.Namespace, value: Any, text: str, *, old: Any = None, indent: int | None = None) -> int:
    """Prints a result: as the old command did for an old line, else as JSON or as text. The exit code is 0.

    `old` is text that is printed as it stands, or a value that is printed as JSON; None stands for `value`.
    """
    shown = value if old is None else old
    if not arguments.old or (arguments.json and isinstance(shown, str)):
        return show(value, text, as_json=arguments.json)
    print(shown if isinstance(shown, str) else json.dumps(shown, indent=indent))
    return EXIT_OK
