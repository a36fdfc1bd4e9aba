"""Commands for whoever runs a server: retention, archives, gates, importance, the vector store."""

from __future__ import annotations

import argparse
import json
import time
import urllib.parse
from typing import Any

from memory_runtime.surfaces.cli.client import Client
from memory_runtime.surfaces.cli.results import EXIT_FAILED, show


def retention_plan(arguments: argparse.Namespace) -> int:
    """Prints what would be forgotten, lowest score first, and why."""
    found = Client(arguments).get(
        "/retention/plan",
        limit=arguments.limit,
        ttl=arguments.ttl,
        max_rows=arguments.max_rows,
        max_bytes=arguments.max_bytes,
    )
    state = "is on" if found["enabled"] else "is off: nothing goes until SOMA_RETENTION_ENABLED=true"
    leaving = sum(found["leaving"].values())
    lines = [f"retention {state}", f"{found['extent']['rows']:,} memories, {found['extent']['bytes']:,} bytes"]
    lines.append(f"{leaving:,} would go ({found['leaving_bytes']:,} bytes): {json.dumps(found['leaving'])}")
    for one in found["listed"]:
        memory = one["memory"]
        coordinate = ",".join(f"{value:g}" for value in memory["coordinate"])
        lines.append(
            f"R {one['score']:.4f}  {one['reason']:5}  {one['bytes']:,} B  [{coordinate}] {memory['memory_type']}"
        )
    return show(found, "\n".join(lines), as_json=arguments.json)


def retention_sweep(arguments: argparse.Namespace) -> int:
    """Sweeps now, and prints how many memories went."""
    found = Client(arguments).post("/retention/sweep", {})
    text = f"archived and purged {found['evicted']:,} memories in {len(found['archives'])} archives"
    return show(found, text, as_json=arguments.json)


def retention_hold(arguments: argparse.Namespace) -> int:
    """Puts a memory under a legal hold, or ends it."""
    body = {"coord": arguments.coord, "hold": not arguments.end}
    if arguments.memory_type:
        body["memory_type"] = arguments.memory_type
    found = Client(arguments).post("/retention/hold", body)
    word = "no longer held" if arguments.end else "held"
    return show(found, f"{found['memories']} memories {word}", as_json=arguments.json)


def archive_list(arguments: argparse.Namespace) -> int:
    """Prints a line for each archive."""
    found = Client(arguments).get("/retention/archives")["archives"]
    lines = [
        f"{one['name']}  {time.strftime('%Y-%m-%dT%H:%M:%SZ', time.gmtime(one['written_at']))}  {one['bytes']:,} B  "
        + ("damaged" if one["memories"] < 0 else f"{one['memories']:,} memories")
        for one in found
    ]
    return show(found, "\n".join(lines) or "there are no archives", as_json=arguments.json)


def archive_restore(arguments: argparse.Namespace) -> int:
    """Restores an archive."""
    name = urllib.parse.quote(arguments.name, safe="")
    found = Client(arguments).post(f"/retention/archives/{name}/restore", {"pin": arguments.pin})
    text = f"restored {found['restored']:,} memories and {found['links']:,} links; {found['present']:,} were there"
    return show(found, text, as_json=arguments.json)


def gates(arguments: argparse.Namespace) -> int:
    """Prints the gates, or tries, applies or reverts one."""
    client = Client(arguments)
    if arguments.action == "list":
        found = client.get("/gates")
        return show(found, "\n".join(map(_gate, found["gates"])), as_json=arguments.json)
    path = f"/gates/{urllib.parse.quote(arguments.gate, safe='')}/{arguments.action}"
    found = client.post(path, {"value": _value(getattr(arguments, "value", None))})
    return show(found, json.dumps(found, indent=2), as_json=arguments.json)


def _value(text: str | None) -> float | str | None:
    try:
        return None if text is None else float(text)
    except ValueError:
        return text


def _gate(one: dict[str, Any]) -> str:
    state = "applied" if one["applied"] else "TRIPPED" if one["tripped"] else "quiet"
    change = json.dumps(one["change"]) if one["change"] else "nothing to change"
    return f"{one['gate']}  {state:8} {one['condition']}\n    measured {json.dumps(one['measured'])}\n    {change}"


def importance(arguments: argparse.Namespace) -> int:
    """Shows, previews, rebuilds, undoes or confirms."""
    client = Client(arguments)
    if arguments.action == "status":
        found = client.get("/importance")
    else:
        found = client.post(f"/importance/{arguments.action}", {})
    return show(found, json.dumps(found, indent=2), as_json=arguments.json)


def republish(arguments: argparse.Namespace) -> int:
    """Has the server publish all that the ledger holds."""
    found = Client(arguments).post("/events/republish", {})
    return show(found, "publishing every memory and every delete again: the log says when", as_json=arguments.json)


def vectors(arguments: argparse.Namespace) -> int:
    """Compares the vector store with the ledger, or fills it again. Exit status 1 where they differ."""
    client = Client(arguments)
    if arguments.action == "rebuild":
        found = client.post("/vectors/rebuild", {})
        text = "the rebuild has begun" if found["begun"] else "a rebuild is under way"
        return show(found, f"{text}: see it through with `soma vectors reconcile`", as_json=arguments.json)
    found = client.post("/vectors/reconcile", {"repair": arguments.repair})
    counts = ", ".join(f"{found[kind]:,} {kind}" for kind in ("missing", "stale", "foreign", "pending", "repaired"))
    verdict = "equal" if found["equal"] else "DIFFERENT: run it again with --repair"
    sides = "  ".join(f"{side} {found[f'{side}_rows']:,} {found[f'{side}_hash']}" for side in ("ledger", "store"))
    show(found, "\n".join([sides, counts, verdict]), as_json=arguments.json)
    return 0 if found["equal"] else EXIT_FAILED
