"""Commands of the event pipeline: consume, and the dead-letter queue. They talk to Kafka, not to a server."""

from __future__ import annotations

import argparse
import asyncio
import base64
import sys
import time
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

from memory_runtime.surfaces.cli.results import EXIT_FAILED, EXIT_OK, EXIT_UNREACHABLE, EXIT_USAGE, CommandFailed, show

T = TypeVar("T")


def consume(arguments: argparse.Namespace) -> int:
    """Consumes until SIGTERM or Ctrl-C."""
    from memory_runtime.surfaces.cli.local import load

    loaded = load(arguments)

    import logging

    try:
        from memory_runtime.surfaces.consume import consume as run
    except ImportError:
        raise _extra_missing() from None
    from memory_runtime.telemetry.logs import configure_logging

    settings = loaded.settings
    if "log_format" not in loaded.origins and sys.stderr.isatty():
        settings = settings.model_copy(update={"log_format": "text"})
    configure_logging(settings.log_level, settings.log_format)
    log = logging.getLogger("memory_runtime.consume")
    for warning in loaded.warnings:
        log.warning(warning)
    log.info("settings", extra={"settings": loaded.summary()})
    _asked(lambda: run(settings, dead_letters=arguments.dead_letters))
    return EXIT_OK


def _extra_missing() -> CommandFailed:
    from memory_runtime.events.brokers import without_the_extra

    return CommandFailed(str(without_the_extra("kafka_bootstrap_servers")), EXIT_USAGE)


def _asked(ask: Callable[[], Awaitable[T]]) -> T:
    """What was asked for; failures as one sentence with its exit code."""
    from aiokafka.errors import KafkaError

    from memory_runtime.model.errors import SomaError
    from memory_runtime.settings import SettingsError

    async def run() -> T:
        return await ask()

    try:
        return asyncio.run(run())
    except SettingsError as error:
        raise CommandFailed(str(error), error.exit_code) from None
    except SomaError as error:
        words = f"{error.message}; {error.remedy}" if error.remedy else error.message
        codes = {"UNAVAILABLE": EXIT_UNREACHABLE, "INVALID_ARGUMENT": EXIT_USAGE}
        raise CommandFailed(words, codes.get(error.code, EXIT_FAILED)) from None
    except (KafkaError, OSError) as error:
        message = f"Kafka did not do it: {type(error).__name__}: {error}; see that the brokers are well, and try again"
        raise CommandFailed(message, EXIT_UNREACHABLE) from None


def _queue(arguments: argparse.Namespace) -> Any:
    try:
        from memory_runtime.events.dlq import DeadLetterQueue
    except ImportError:
        raise _extra_missing() from None
    from memory_runtime.surfaces.cli.local import load
    from memory_runtime.telemetry.logs import configure_logging

    configure_logging("WARNING", "text")
    return DeadLetterQueue(load(arguments).settings)


def dlq_list(arguments: argparse.Namespace) -> int:
    """Prints a line for each letter."""
    queue = _queue(arguments)
    entries = _asked(queue.entries)
    found = [_described(entry) for entry in entries if arguments.all or entry.state == "waiting"]
    lines = [
        f"{one['letter']:>10}  {one['failed_at']}  {one['state']:8}  {one['reason']:14}"
        f"  {one['source']} {one['topic']}/{one['partition']}:{one['offset']}  {one['error'][:100]}"
        for one in found
    ]
    rest = f"; {len(entries) - len(found)} more are settled (--all)" if len(entries) > len(found) else ""
    text = "\n".join([*lines, f"{len(found)} letters{rest}"])
    return show({"letters": found}, text, as_json=arguments.json)


def dlq_show(arguments: argparse.Namespace) -> int:
    """Prints one letter in full."""
    from memory_runtime.events.dlq import position_of

    queue = _queue(arguments)

    async def ask() -> Any:
        return await queue.entry(position_of(arguments.letter))

    entry = _asked(ask)
    letter = entry.letter
    body = _described(entry) | {
        "key": _text(letter.key),
        "headers": [[name, _text(value)] for name, value in letter.headers],
        "value": _text(letter.value),
        "value_base64": None if letter.value is None else base64.b64encode(letter.value).decode(),
    }
    plain = {name: value for name, value in body.items() if name not in {"headers", "value", "value_base64"}}
    lines = [f"{name}: {value}" for name, value in plain.items()]
    lines += [f"header {name}: {value}" for name, value in body["headers"]]
    lines += ["", body["value"] if letter.value is not None else "(the bytes are not here; they are where it says)"]
    return show(body, "\n".join(lines), as_json=arguments.json)


def dlq_replay(arguments: argparse.Namespace) -> int:
    """Puts letters back; exit code 1 where some cannot be."""
    from memory_runtime.events.dlq import position_of

    if bool(arguments.letters) == arguments.all:
        raise CommandFailed("name the letters to put back, or say --all; nothing was changed", EXIT_USAGE)
    queue = _queue(arguments)

    async def ask() -> Any:
        return await queue.replay(None if arguments.all else [position_of(text) for text in arguments.letters])

    done, left = _asked(ask)
    body = {"replayed": [str(one.position) for one in done], "left": [str(one.entry.position) for one in left]}
    if left:
        body["reasons"] = [one.reason for one in left]
    text = f"put back {len(done)} letters"
    if left:
        text += "".join(f"\nnot put back: {one.entry.position}: {one.reason}" for one in left)
    show(body, text, as_json=arguments.json)
    return EXIT_FAILED if left else EXIT_OK


def dlq_purge(arguments: argparse.Namespace) -> int:
    """Deletes letters for good."""
    if not arguments.yes:
        raise CommandFailed("purge deletes letters for good: say --yes; nothing was changed", EXIT_USAGE)
    queue = _queue(arguments)
    gone = _asked(lambda: queue.purge(settled_only=arguments.settled))
    return show({"purged": gone}, f"deleted {gone} letters", as_json=arguments.json)


def _described(entry: Any) -> dict[str, Any]:
    letter = entry.letter
    stamp = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(letter.failed_at))
    return {
        "letter": str(entry.position),
        "state": str(entry.state),
        "failed_at": stamp,
        "reason": letter.reason,
        "error": letter.error,
        "source": letter.source,
        "topic": letter.topic,
        "partition": letter.partition,
        "offset": letter.offset,
        "attempts": letter.attempts,
        "bytes": None if letter.value is None else len(letter.value),
    }


def _text(value: bytes | None) -> str | None:
    return None if value is None else value.decode("utf-8", errors="backslashreplace")
