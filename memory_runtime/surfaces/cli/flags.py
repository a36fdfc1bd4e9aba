"""Commands on feature flags: they talk to a server, which talks to etcd."""

from __future__ import annotations

import argparse
import json
from typing import Any

from memory_runtime.surfaces.cli.client import Client
from memory_runtime.surfaces.cli.results import EXIT_USAGE, CommandFailed, show


def flags(arguments: argparse.Namespace) -> int:
    """Shows the flags, or reads, sets or removes one."""
    from memory_runtime.flags.table import flag_named
    from memory_runtime.model.errors import SomaError

    name = getattr(arguments, "flag", None)
    if name is not None:
        try:
            flag_named(name)
        except SomaError as error:
            raise CommandFailed(f"{error.message}; {error.remedy}", EXIT_USAGE) from None
    client = Client(arguments)
    if arguments.action == "list":
        found = client.get("/flags")
        return show(found, "\n".join(map(_line, found["flags"])), as_json=arguments.json)
    path = f"/flags/{name}"
    if arguments.action == "get":
        found = client.get(path)
    elif arguments.action == "set":
        found = client.request("PUT", path, {"value": _value(arguments.value)})
    else:
        found = client.request("DELETE", path)
    return show(found, _line(found), as_json=arguments.json)


def _value(text: str) -> Any:
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        return text
    return value if isinstance(value, bool | int | float | str) else text


def _line(flag: dict[str, Any]) -> str:
    age = "" if flag["age_seconds"] is None else f", {flag['age_seconds']:.0f} s old"
    problem = f"  ({flag['problem']})" if flag["problem"] else ""
    return f"{flag['name']} = {json.dumps(flag['value'])}  [{flag['source']}{age}]  {flag['text']}{problem}"
