"""The start: open the ledger, check that its vectors are of this embedding's space, and fill the index. Blocking."""

from __future__ import annotations

import itertools
import logging
import time
from collections.abc import Callable
from typing import Final

from memory_runtime.embedding.switching import SwitchingProvider
from memory_runtime.engine.following import Follower
from memory_runtime.engine.reembed import choose
from memory_runtime.engine.snapshots import Snapshots
from memory_runtime.model.errors import Unavailable
from memory_runtime.settings import SettingsError, SMFSettings
from memory_runtime.stores.sessions import Ledger
from memory_runtime.stores.values import Facts

log = logging.getLogger(__name__)

OPEN_RETRY_SECONDS: Final = 1.0


def open_and_load(
    ledger: Ledger,
    follower: Follower,
    provider: SwitchingProvider,
    settings: SMFSettings,
    snapshots: Snapshots,
    abandoned: Callable[[], bool],
) -> tuple[str, ...]:
    """Leaves ledger and index ready, and returns what the user should hear about; ends early once `abandoned`.

    Raises SettingsError where the settings contradict the ledger, Unavailable where it is damaged.
    """
    _open(ledger, settings, abandoned)
    try:
        _load(ledger, follower, provider, settings, snapshots, abandoned)
    except BaseException:
        ledger.close()
        raise
    if ledger.note:
        log.warning("%s", ledger.note)
    return (*filter(None, (ledger.note,)), *_notes(settings))


def _open(ledger: Ledger, settings: SMFSettings, abandoned: Callable[[], bool]) -> None:
    """Opens it; a database that is away is waited for, as a replica that ends would only be started again."""
    while True:
        try:
            ledger.open()
        except Unavailable as error:
            if settings.mode == "embedded" or abandoned():
                raise
            log.warning("the ledger cannot be opened yet: %s", error.message)
            time.sleep(OPEN_RETRY_SECONDS)
        else:
            return


def _load(
    ledger: Ledger,
    follower: Follower,
    provider: SwitchingProvider,
    settings: SMFSettings,
    snapshots: Snapshots,
    abandoned: Callable[[], bool],
) -> None:
    facts = ledger.read_now(lambda view: view.facts())
    _check_dimension(facts, settings)
    choose(facts, provider, settings)
    with ledger.load(settings.vector_dim) as loaded:
        if not snapshots.restore(loaded, facts):
            rows = itertools.takewhile(lambda _: not abandoned(), loaded.rows)
            follower.rebuild(loaded._replace(rows=rows), facts)
    _remember_dimension(ledger, facts, settings)


def open_without_index(ledger: Ledger, provider: SwitchingProvider, settings: SMFSettings) -> None:
    """Leaves the ledger open and checked, for a process that only writes. Blocking; errors as of `open_and_load`."""
    ledger.open()
    try:
        facts = ledger.read_now(lambda view: view.facts())
        _check_dimension(facts, settings)
        choose(facts, provider, settings)
        _remember_dimension(ledger, facts, settings)
    except BaseException:
        ledger.close()
        raise


def _remember_dimension(ledger: Ledger, facts: dict[str, str], settings: SMFSettings) -> None:
    if Facts.DIMENSION not in facts:
        dimension = str(settings.vector_dim)
        ledger.write_now(lambda transaction: transaction.remember(Facts.DIMENSION, dimension, replace=False))


def _check_dimension(facts: dict[str, str], settings: SMFSettings) -> None:
    kept = facts.get(Facts.DIMENSION)
    if kept is not None and kept != str(settings.vector_dim):
        raise SettingsError(
            f"vector_dim: this memory holds vectors of {kept} numbers, the settings say {settings.vector_dim}",
            setting="vector_dim",
            remedy=f"set SOMA_VECTOR_DIM={kept}, or another SOMA_DATA_DIR for a new memory",
        )


def _notes(settings: SMFSettings) -> tuple[str, ...]:
    if settings.retention_enabled:
        return ()
    bounds = ("retention_ttl", "retention_max_rows", "retention_max_bytes")
    return tuple(
        f"{name} has no effect until retention_enabled is true: nothing is forgotten"
        for name in bounds
        if getattr(settings, name)
    )
