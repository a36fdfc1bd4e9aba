"""The start: open the ledger, check that its vectors are of this embedding's space, and fill the index. Blocking."""

from __future__ import annotations

import itertools
import sqlite3
from collections.abc import Callable
from typing import Final

from memory_runtime.embedding.switching import SwitchingProvider
from memory_runtime.engine.following import Follower
from memory_runtime.engine.reembed import choose
from memory_runtime.settings import SettingsError, SMFSettings
from memory_runtime.stores.sqlite import SQLiteLedger, following

DIMENSION_FACT: Final = "vector_dim"


def open_and_load(
    ledger: SQLiteLedger,
    follower: Follower,
    provider: SwitchingProvider,
    settings: SMFSettings,
    abandoned: Callable[[], bool],
) -> tuple[str, ...]:
    """Leaves ledger and index ready, and returns what the user should hear about; ends early once `abandoned`.

    Raises SettingsError where the settings contradict the ledger, Unavailable where it is damaged.
    """
    ledger.open()
    try:
        _load(ledger, follower, provider, settings, abandoned)
    except BaseException:
        ledger.close()
        raise
    return _notes(settings)


def _load(
    ledger: SQLiteLedger,
    follower: Follower,
    provider: SwitchingProvider,
    settings: SMFSettings,
    abandoned: Callable[[], bool],
) -> None:
    facts = ledger.read_now(following.facts)
    _check_dimension(facts, settings)
    choose(facts, provider, settings)
    follower.rebuild(
        itertools.takewhile(lambda _: not abandoned(), ledger.scan(settings.vector_dim)),
        ledger.read_now(following.coordinate_rows),
        ledger.read_now(following.counts),
        ledger.head_seq,
    )
    if DIMENSION_FACT not in facts:
        ledger.write_now(
            lambda transaction: _remember(transaction.connection, DIMENSION_FACT, str(settings.vector_dim))
        )


def _check_dimension(facts: dict[str, str], settings: SMFSettings) -> None:
    kept = facts.get(DIMENSION_FACT)
    if kept is not None and kept != str(settings.vector_dim):
        raise SettingsError(
            f"vector_dim: this memory holds vectors of {kept} numbers, the settings say {settings.vector_dim}",
            setting="vector_dim",
            remedy=f"set SOMA_VECTOR_DIM={kept}, or another SOMA_DATA_DIR for a new memory",
        )


def _remember(connection: sqlite3.Connection, key: str, value: str) -> None:
    connection.execute("INSERT OR IGNORE INTO facts (key, value) VALUES (?, ?)", (key, value))


def _notes(settings: SMFSettings) -> tuple[str, ...]:
    if settings.retention_enabled:
        return ()
    bounds = ("retention_ttl", "retention_max_rows", "retention_max_bytes")
    return tuple(
        f"{name} has no effect until retention_enabled is true: nothing is forgotten"
        for name in bounds
        if getattr(settings, name)
    )
