"""`soma audit`: shows the audit chain, and proves that it is whole. Reads the ledger itself, beside its server."""

from __future__ import annotations

import argparse
import json
import re
import time
from collections import deque
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from memory_runtime.surfaces.cli.results import EXIT_FAILED, EXIT_UNREACHABLE, EXIT_USAGE, CommandFailed, show

if TYPE_CHECKING:
    from memory_runtime.stores.audit import Anchor, AuditLine

T = TypeVar("T")


def listing(arguments: argparse.Namespace) -> int:
    """Prints the newest lines, oldest first."""
    since = _moment(arguments.since)

    def wanted(line: AuditLine) -> bool:
        return line.at >= since and arguments.tenant in (None, line.tenant)

    found = _read(arguments, lambda lines: deque(filter(wanted, lines), maxlen=arguments.limit))
    shown = [line._asdict() | {"detail": json.loads(line.detail)} for line in found]
    text = "\n".join(
        f"{line.number:>8}  {time.strftime('%Y-%m-%dT%H:%M:%SZ', time.gmtime(line.at))}  {line.actor}  {line.action}"
        f"  {line.tenant}/{line.subject}" + ("" if line.detail == "{}" else f"  {line.detail}")
        for line in found
    )
    return show({"lines": shown}, text or "no such lines", as_json=arguments.json)


def verify(arguments: argparse.Namespace) -> int:
    """Reads the whole chain; exit code 1 where it is broken."""
    from memory_runtime.stores.audit import BrokenChainError
    from memory_runtime.stores.audit import verify as check

    anchor = _anchor(arguments.anchor)
    try:
        last = _read(arguments, lambda lines: check(lines, anchor))
    except BrokenChainError as error:
        text = f"the audit chain is broken at {error}"
        show({"whole": False, "line": error.number, "why": error.why}, text, as_json=arguments.json)
        return EXIT_FAILED
    noted = f"{last.number}:{last.hash}"
    text = f"the audit chain is whole: {last.number:,} lines; note {noted} elsewhere, for --anchor"
    return show({"whole": True, "lines": last.number, "anchor": noted}, text, as_json=arguments.json)


def _read(arguments: argparse.Namespace, use: Callable[[Iterable[AuditLine]], T]) -> T:
    from memory_runtime.model.errors import SomaError
    from memory_runtime.settings import SettingsError
    from memory_runtime.surfaces.cli.local import load

    settings = load(arguments).settings
    try:
        return use(_lines(settings))
    except SettingsError as error:
        raise CommandFailed(str(error), error.exit_code) from None
    except SomaError as error:
        words = f"{error.message}; {error.remedy}" if error.remedy else error.message
        raise CommandFailed(words, EXIT_UNREACHABLE if error.code == "UNAVAILABLE" else EXIT_FAILED) from None


def _lines(settings: Any) -> Iterable[AuditLine]:
    if settings.mode == "distributed":
        from memory_runtime.stores.postgres import auditing

        return auditing.lines(settings)
    from memory_runtime.stores.sqlite import auditing as embedded
    from memory_runtime.stores.sqlite import opening

    return embedded.lines(Path(settings.data_dir) / opening.FILE_NAME)


def _moment(text: str | None) -> float:
    from memory_runtime.model.errors import InvalidArgument
    from memory_runtime.model.timestamps import parse_timestamp

    if text is None:
        return float("-inf")
    try:
        return parse_timestamp(text, field="--since")
    except InvalidArgument as error:
        raise CommandFailed(f"{error.message}; {error.remedy}", EXIT_USAGE) from None


def _anchor(text: str | None) -> Anchor | None:
    from memory_runtime.stores.audit import Anchor

    if text is None:
        return None
    if not re.fullmatch(r"[1-9][0-9]*:[0-9a-f]{64}", text):
        raise CommandFailed("--anchor: write NUMBER:HASH, as `soma audit verify` printed it", EXIT_USAGE)
    number, _, found = text.partition(":")
    return Anchor(int(number), found)
