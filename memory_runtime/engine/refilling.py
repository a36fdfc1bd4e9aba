"""Another index in the place of the one in use, filled from the ledger, with no change in between."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable

from memory_runtime.engine.following import Follower
from memory_runtime.scoring import ExactIndex
from memory_runtime.settings import SMFSettings
from memory_runtime.stores.sessions import Ledger, LedgerView

log = logging.getLogger(__name__)


async def refill(ledger: Ledger, follower: Follower, settings: SMFSettings, clock: Callable[[], float]) -> None:
    """Fills an index with the follower's parameters and puts it in place in one step.

    No change is applied meanwhile: searches go on with the old index, writes wait. Both indexes are in memory while
    it lasts. Where it fails, readiness says that the index is behind.
    """

    def run(view: LedgerView) -> None:
        began = time.monotonic()
        index = ExactIndex(settings.vector_dim, follower.params, clock)
        for rows in view.scan(settings.vector_dim):
            follower.fill(index, rows)
        index.compact()
        index.set_hot_tier(settings.hot_tier_mb * 2**20)
        follower.replace_index(index, view.facts())
        log.info("index replaced: %d rows in %.2f s", len(index), time.monotonic() - began)

    try:
        await ledger.exclusively(run)
    except BaseException:
        follower.in_step = False
        raise
