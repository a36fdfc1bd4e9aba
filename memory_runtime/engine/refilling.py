"""Another index in the place of the one in use, filled from the ledger, with no change in between."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable

from memory_runtime.engine.following import Follower
from memory_runtime.scoring import ExactIndex
from memory_runtime.settings import SMFSettings
from memory_runtime.stores.sqlite import SQLiteLedger
from memory_runtime.stores.sqlite.writing import Transaction

log = logging.getLogger(__name__)


async def refill(ledger: SQLiteLedger, follower: Follower, settings: SMFSettings, clock: Callable[[], float]) -> None:
    """Fills an index with the follower's parameters and puts it in place in one step.

    It runs on the writer's thread: searches go on with the old index, writes wait. Both indexes are in memory while
    it lasts. Where it fails, readiness says that the index is behind.
    """

    def run(_: Transaction) -> None:
        began = time.monotonic()
        index = ExactIndex(settings.vector_dim, follower.params, clock)
        for rows in ledger.scan(settings.vector_dim):
            follower.fill(index, rows)
        index.compact()
        index.set_hot_tier(settings.hot_tier_mb * 2**20)
        follower.replace_index(index)
        log.info("index replaced: %d rows in %.2f s", len(index), time.monotonic() - began)

    try:
        await ledger.transact(run)
    except BaseException:
        follower.in_step = False
        raise
