"""`soma migrate`: brings the ledger to this version's schema, and takes over what the old service has stored."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from memory_runtime.surfaces.cli.local import load
from memory_runtime.surfaces.cli.results import (
    EXIT_FAILED,
    EXIT_OK,
    EXIT_UNREACHABLE,
    EXIT_USAGE,
    CommandFailed,
    Progress,
    show,
)

Answer = dict[str, Any]


def migrate(arguments: argparse.Namespace) -> int:
    """Migrates, or with --check says whether that is needed: exit 0 where it is not, 1 where it is."""
    settings = load(arguments).settings

    from memory_runtime.model.errors import SomaError
    from memory_runtime.settings import SettingsError

    shared = settings.mode == "distributed"
    _known(arguments.to, shared=shared)
    try:
        if arguments.check:
            return _check(_revisions(settings, shared=shared), as_json=arguments.json)
        answer = _shared(settings, arguments) if shared else _embedded(settings, arguments.to)
    except SettingsError as error:
        raise CommandFailed(str(error), error.exit_code) from None
    except SomaError as error:
        words = f"{error.message}; {error.remedy}" if error.remedy else error.message
        raise CommandFailed(words, EXIT_UNREACHABLE if error.code == "UNAVAILABLE" else EXIT_FAILED) from None
    return show(answer, _told(answer), as_json=arguments.json)


def _known(target: str, *, shared: bool) -> None:
    if shared:
        from memory_runtime.stores.postgres.schema import KNOWN
    else:
        from memory_runtime.stores.migrating import KNOWN
    if target not in {"head", "base", *KNOWN}:
        names = ", ".join(sorted(KNOWN))
        raise CommandFailed(
            f"--to: {target!r} is no revision of this version; name one of {names}, head, base", EXIT_USAGE
        )


def _told(answer: Answer) -> str:
    text = f"the ledger at {answer['ledger']} is at schema {answer['after']} (was {answer['before'] or 'not there'})"
    if "imported" in answer:
        text += f"; taken over from the old service: {answer['imported']}, there already: {answer['present']}"
    for one in answer.get("refused", ()):
        text += f"\nnot taken over: {one['row']}: {one['reason']}"
    return text


def _check(answer: Answer, *, as_json: bool) -> int:
    state = "is needed" if answer["pending"] else "is not needed"
    text = f"the ledger at {answer['ledger']} is at schema {answer['before'] or 'none'}, this version's is"
    show(answer, f"{text} {answer['head']}: a migration {state}", as_json=as_json)
    return EXIT_FAILED if answer["pending"] else EXIT_OK


def _revisions(settings: Any, *, shared: bool) -> Answer:
    if shared:
        from memory_runtime.stores.postgres import migrating, schema

        found, head, known, ledger = migrating.current(settings), schema.HEAD, schema.KNOWN, "PostgreSQL"
        migrating.refuse_newer(found)
    else:
        from memory_runtime.stores import migrating as embedded

        path = _file(settings)
        found, head, known, ledger = embedded.found_in(path), embedded.HEAD, embedded.KNOWN, str(path)
        embedded.refuse_newer(found, path)
    pending = not found.may_be_served(head, known)
    return {"ledger": ledger, "before": found.revision, "head": head, "pending": pending}


def _file(settings: Any) -> Path:
    from memory_runtime.stores.sqlite import opening

    return Path(settings.data_dir) / opening.FILE_NAME


def _embedded(settings: Any, target: str) -> Answer:
    from memory_runtime.stores import migrating
    from memory_runtime.stores.sqlite import opening

    path = _file(settings)
    opening.prepare_directory(settings.data_dir)
    with opening.lock_directory(settings.data_dir):
        before = migrating.migrate(path, target)
    return {"ledger": str(path), "before": before, "after": migrating.revision_of(path) or "none"}


def _shared(settings: Any, arguments: argparse.Namespace) -> Answer:
    from memory_runtime.stores.postgres import migrating

    done = migrating.migrate(settings, arguments.to)
    answer: Answer = {"ledger": "PostgreSQL", "before": done.before, "after": done.after}
    if arguments.to == "head" and not arguments.schema_only:
        answer |= _take_over(settings)
    return answer


def _take_over(settings: Any) -> Answer:
    """Imports what the old service has stored, where there is any. Resumable; the old tables are only read."""
    import asyncio
    import time

    from memory_runtime.engine.build import build_intake
    from memory_runtime.events.legacy import TakeOver
    from memory_runtime.stores.postgres import legacy

    if not legacy.waiting(settings):
        return {}
    intake = build_intake(settings)
    intake.open()
    progress = Progress("rows of the old service read")
    try:
        source = legacy.Source(intake.ledger)
        work = TakeOver(source, intake.ledger, intake.ingestor, settings.default_tenant, time.time, progress.at)
        facts = intake.ledger.read_now(lambda view: view.facts())
        report = asyncio.run(work.run(facts, legacy.KEY_VALUES, legacy.EVENTS))
    finally:
        intake.close()
    progress.done(report.read)
    refused = [one._asdict() for one in report.refused]
    return {"imported": report.imported, "present": report.present, "refused": refused}
